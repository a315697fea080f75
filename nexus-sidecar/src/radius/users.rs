//! The users file: subscribers that are known without an AAA server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nexus_core::id::{PoolId, SubscriberId};
use serde::Deserialize;

use super::config::SecretText;
use crate::edge_handle::MAX_NAMED_POOLS;
use crate::yaml;

/// Most octets of a users file: a file for a few ten thousand subscribers, not for a network.
const MAX_FILE_LEN: u64 = 16 * 1024 * 1024;

/// One subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User-Name, octet for octet.
    pub username: String,
    /// For PAP and CHAP.
    pub(super) password: SecretText,
    /// Default: by the template `radius.subscriber_id`.
    #[serde(default)]
    pub subscriber_id: Option<SubscriberId>,
    /// Default: `radius.default_pool`.
    #[serde(default)]
    pub pool: Option<PoolId>,
    /// Pools of other kinds that it gets a unit of, besides those that every session gets one of.
    #[serde(default)]
    pub pools: Vec<PoolId>,
    /// Goes into the record at the centre.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl User {
    /// The password, octet for octet.
    #[must_use]
    pub fn password(&self) -> &[u8] {
        self.password.0.as_bytes()
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Users {
    by_name: BTreeMap<Vec<u8>, User>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersFile {
    users: Vec<User>,
}

/// A users file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It cannot be read.
    #[error("cannot read {}: {error}; create it with a list `users:`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is too large.
    #[error("{} has {len} octets, the most is {MAX_FILE_LEN}; use an AAA server (radius.upstream)", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
    },
    /// It is not YAML of the right shape.
    #[error("{}: {problem}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// An entry is wrong.
    #[error("{}: users[{index}] ({username:?}): {problem}", path.display())]
    User {
        /// The file.
        path: PathBuf,
        /// Counted from 0.
        index: usize,
        /// Whose.
        username: String,
        /// What is wrong and what to do.
        problem: &'static str,
    },
}

impl Users {
    /// Reads a users file.
    ///
    /// # Errors
    /// If it cannot be read, or anything in it is not as it should be.
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        let read = |error| UsersError::Read {
            path: path.to_owned(),
            error,
        };
        let len = std::fs::metadata(path).map_err(read)?.len();
        if len > MAX_FILE_LEN {
            return Err(UsersError::TooLarge {
                path: path.to_owned(),
                len,
            });
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(read)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, UsersError> {
        let file: UsersFile = yaml::read(text).map_err(|problem| UsersError::Yaml {
            path: path.to_owned(),
            problem,
        })?;
        let mut users = Self::default();
        for (index, user) in file.users.into_iter().enumerate() {
            let username = user.username.clone();
            let wrong = |problem| {
                let username = username.clone();
                Err(UsersError::User {
                    path: path.to_owned(),
                    index,
                    username,
                    problem,
                })
            };
            if username.is_empty() {
                return wrong("the username is empty; give one");
            }
            if username.len() > 253 {
                return wrong("the username is longer than User-Name can be (253 octets)");
            }
            if user.password().is_empty() {
                return wrong("the password is empty, so anybody could log in; give one");
            }
            if user.password().len() > 128 {
                return wrong("the password is longer than User-Password can be (128 octets)");
            }
            if user.password().last() == Some(&0) {
                return wrong(
                    "the password ends in a zero octet, which User-Password cannot carry",
                );
            }
            if user.pools.len() > MAX_NAMED_POOLS {
                return wrong("more than 16 pools; a subscriber gets one unit of each kind");
            }
            if users
                .by_name
                .insert(username.clone().into_bytes(), user)
                .is_some()
            {
                return wrong("this username is there twice; keep one");
            }
        }
        Ok(users)
    }

    /// The user of this User-Name.
    #[must_use]
    pub fn get(&self, user_name: &[u8]) -> Option<&User> {
        self.by_name.get(user_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Users, String> {
        Users::parse(Path::new("users.yaml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn users_have_defaults_and_are_found_by_name() {
        let users = parse(
            "users:\n\
             - {username: alice, password: wonderland}\n\
             - username: bob\n  password: '12345'\n  subscriber_id: sub-12345\n  \
               pool: business\n  pools: [business-v6, ports]\n  metadata: {circuit_id: 0/1/5/32}\n",
        )
        .unwrap();
        let alice = users.get(b"alice").unwrap();
        assert_eq!(
            (alice.password(), &alice.subscriber_id),
            (&b"wonderland"[..], &None)
        );
        let bob = users.get(b"bob").unwrap();
        assert_eq!(
            bob.subscriber_id,
            Some(SubscriberId::new("sub-12345").unwrap())
        );
        assert_eq!(bob.pool, Some(PoolId::new("business").unwrap()));
        let pools: Vec<_> = bob.pools.iter().map(PoolId::as_str).collect();
        assert_eq!(pools, ["business-v6", "ports"]);
        assert_eq!(bob.metadata["circuit_id"], "0/1/5/32");
        assert!(users.get(b"Alice").is_none());
        assert!(!format!("{users:?}").contains("wonderland"));
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_name_and_the_place() {
        for (text, expected) in [
            ("users: [{username: a, password: b, pasword: c}]", "pasword"),
            ("users: [{username: a}]", "password"),
            ("people: []", "people"),
            (
                "users: [{username: a, password: b}, {username: a, password: c}]",
                "users[1] (\"a\")",
            ),
            ("users: [{username: '', password: b}]", "empty"),
            ("users: [{username: a, password: ''}]", "empty"),
            (
                "users: [{username: a, password: b, subscriber_id: 'a b'}]",
                "subscriber",
            ),
            ("users: [", "users.yaml"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains(expected) && error.contains("users.yaml"),
                "{text}: {error}"
            );
        }
        for text in [
            "users: [{username: a, password: wonderland, pasword: c}]",
            "users:\n- username: a\n  password: wonderland\n  pool: [x]\n",
            "users: [{username: a, password: [wonderland]}]",
            "users: [{username: a, password: 'wonderland}]",
            "users: [{username: a, password: *wonderland}]",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("wonderland"), "{text}: {error}");
        }
        let error = Users::load(Path::new("/nonexistent/users.yaml"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nonexistent/users.yaml"), "{error}");
    }
}
