//! Names and counters that identify things across the system, each a type of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name in bytes.
pub const MAX_ID_LEN: usize = 128;

/// Why a text is not a valid name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// The text is empty.
    #[error("a {kind} id must not be empty: give 1 to {MAX_ID_LEN} visible ASCII characters")]
    Empty {
        /// What the name was for.
        kind: &'static str,
    },
    /// The text is longer than [`MAX_ID_LEN`].
    #[error("a {kind} id of {len} bytes is too long: use at most {MAX_ID_LEN}")]
    TooLong {
        /// What the name was for.
        kind: &'static str,
        /// Length that was given, in bytes.
        len: usize,
    },
    /// The text holds a character that would have to be escaped somewhere.
    #[error(
        "{kind} id `{value}` contains {character:?}: use visible ASCII without space and without / ? # % \" \\"
    )]
    Character {
        /// What the name was for.
        kind: &'static str,
        /// The text that was given, escaped so that it can be printed.
        value: String,
        /// First character that is not allowed.
        character: char,
    },
}

fn validate(kind: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    if text.len() > MAX_ID_LEN {
        return Err(IdError::TooLong {
            kind,
            len: text.len(),
        });
    }
    let refused =
        |c: char| !c.is_ascii_graphic() || matches!(c, '/' | '?' | '#' | '%' | '"' | '\\');
    match text.chars().find(|c| refused(*c)) {
        None => Ok(()),
        Some(character) => Err(IdError::Character {
            kind,
            value: text.escape_default().to_string(),
            character,
        }),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        ///
        /// 1 to 128 bytes of visible ASCII without space and without `/ ? # % " \`, so that it can
        /// stand unescaped in a URL path, a store key and a log line.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and takes it as a name.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                validate($kind, &text)?;
                Ok(Self(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// Name of a pool, such as `residential-ipv4`.
    PoolId,
    "pool"
);
name_type!(
    /// Name of an OLT host, such as `olt-east-01`.
    OltId,
    "OLT"
);
name_type!(
    /// Name of a subscriber, such as `sub-12345`.
    SubscriberId,
    "subscriber"
);
name_type!(
    /// Name of one life of an OLT's store: made at random when the store is created, so that a
    /// lost or copied store is told from a restart.
    SessionId,
    "session"
);
name_type!(
    /// Name of a server of the cluster, such as `nexus-0`.
    NodeName,
    "node"
);

impl OltId {
    /// The owner of shards that the cluster keeps for allocations it makes itself.
    #[must_use]
    pub fn cluster() -> Self {
        Self("nexus".to_owned())
    }

    /// Whether this is [`OltId::cluster`], a name that no OLT may register under.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.0 == "nexus"
    }
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number_type!(
    /// Index of a shard in its pool, from 0.
    ShardId,
    u32
);
number_type!(
    /// How often a shard has changed its owner; 0: it never had one.
    Epoch,
    u64
);
number_type!(
    /// Number of a command of one (OLT, session), from 1; 0: none was sent yet.
    Seq,
    u64
);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Seq {
    /// The sequence number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_customers_document_are_accepted() {
        assert_eq!(
            PoolId::new("residential-ipv4").unwrap().as_str(),
            "residential-ipv4"
        );
        assert_eq!(
            "olt-east-01".parse::<OltId>().unwrap().to_string(),
            "olt-east-01"
        );
        assert!(SubscriberId::new("user@example.net").is_ok());
        assert!(SubscriberId::new("aa:bb:cc:dd:ee:ff").is_ok());
        assert!(SubscriberId::new("x".repeat(128)).is_ok());
    }

    #[test]
    fn names_that_would_need_escaping_are_refused_with_the_character() {
        for bad in [
            "a/b", "a?b", "a#b", "a%b", "a\"b", "a\\b", "a b", "a\nb", "ä", "a\u{7f}",
        ] {
            let error = OltId::new(bad).unwrap_err();
            assert!(
                matches!(error, IdError::Character { .. }),
                "{bad:?}: {error}"
            );
        }
        assert_eq!(OltId::new(""), Err(IdError::Empty { kind: "OLT" }));
        assert!(matches!(
            OltId::new("x".repeat(129)),
            Err(IdError::TooLong { len: 129, .. })
        ));
    }

    #[test]
    fn deserialising_checks_a_name_as_parsing_does() {
        assert_eq!(
            serde_json::from_str::<PoolId>("\"vlans\"").unwrap(),
            PoolId::new("vlans").unwrap()
        );
        let error = serde_json::from_str::<PoolId>("\"a/b\"").unwrap_err();
        assert!(
            error.to_string().contains("pool id `a/b` contains '/'"),
            "{error}"
        );
        assert_eq!(serde_json::to_string(&ShardId(3)).unwrap(), "3");
    }
}
