//! Whether this server takes writes now, and if not, why. Reads go on in any case.

use std::sync::{Arc, PoisonError, RwLock};

use crate::refused::Refused;

/// Reasons against writes, shared by all who ask and all who know one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<RwLock<Reasons>>);

/// Each from another part of the server, so that one that ends does not end another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    /// Whether it was looked at all; until then no writes are taken.
    pub looked: bool,
    /// This is a read replica; where writes are taken.
    pub read_only: Option<Vec<String>>,
    /// It is not a full member yet, or not any more.
    pub member: Option<String>,
    /// Its disk is full.
    pub disk: Option<String>,
    /// Its clock is wrong.
    pub clock: Option<String>,
}

impl Standing {
    /// Notes or takes back reasons.
    pub fn set(&self, change: impl FnOnce(&mut Reasons)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The reasons of now.
    #[must_use]
    pub fn reasons(&self) -> Reasons {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether writes are taken.
    ///
    /// # Errors
    /// [`Refused::ReadOnly`] or [`Refused::NotNow`].
    pub fn check(&self) -> Result<(), Refused> {
        let reasons = self.reasons();
        if !reasons.looked {
            return Err(Refused::NotNow("it is starting".to_owned()));
        }
        if let Some(writers) = reasons.read_only {
            return Err(Refused::ReadOnly { writers });
        }
        match reasons.member.or(reasons.disk).or(reasons.clock) {
            Some(reason) => Err(Refused::NotNow(reason)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reason_that_ends_does_not_end_another() {
        let standing = Standing::default();
        assert!(standing.check().is_err(), "nobody has looked yet");
        standing.set(|reasons| reasons.looked = true);
        assert_eq!(standing.check(), Ok(()));
        standing.set(|reasons| reasons.disk = Some("full".into()));
        standing.set(|reasons| reasons.clock = Some("wrong".into()));
        standing.set(|reasons| reasons.disk = None);
        assert_eq!(standing.check(), Err(Refused::NotNow("wrong".into())));
        standing.set(|reasons| reasons.clock = None);
        assert_eq!(standing.check(), Ok(()));
    }

    #[test]
    fn a_read_replica_names_who_takes_writes() {
        let standing = Standing::default();
        standing.set(|reasons| reasons.looked = true);
        standing.set(|reasons| reasons.read_only = Some(vec!["http://a:9000".into()]));
        let refused = standing.check().unwrap_err();
        assert!(refused.to_string().contains("http://a:9000"), "{refused}");
    }
}
