//! `olt.reclaim_after`: a duration, or `never`.

use std::time::Duration;

use nexus_core::duration::{DurationError, HumanDuration};
use nexus_core::lease::DEFAULT_RECLAIM_AFTER;
use serde::Deserialize;

/// How it is written if there is no end.
const NEVER: &str = "never";

/// How long what the centre has acknowledged outlives the lease of an OLT that is not heard any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ReclaimAfter(Option<Duration>);

impl ReclaimAfter {
    /// `None`: without an end.
    #[must_use]
    pub const fn get(self) -> Option<Duration> {
        self.0
    }
}

impl Default for ReclaimAfter {
    fn default() -> Self {
        Self(Some(DEFAULT_RECLAIM_AFTER))
    }
}

impl TryFrom<String> for ReclaimAfter {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, DurationError> {
        if text == NEVER {
            return Ok(Self(None));
        }
        let after: HumanDuration = text.parse()?;
        Ok(Self(Some(after.get())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_duration_or_never() {
        let read = |text: &str| ReclaimAfter::try_from(text.to_owned()).map(ReclaimAfter::get);
        assert_eq!(read("never"), Ok(None));
        assert_eq!(read("2d"), Ok(Some(Duration::from_secs(2 * 86_400))));
        assert!(read("soon").is_err());
        assert_eq!(ReclaimAfter::default().get(), Some(DEFAULT_RECLAIM_AFTER));
    }
}
