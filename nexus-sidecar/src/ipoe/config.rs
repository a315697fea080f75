//! `interfaces[..].ipoe:` of the sidecar's YAML, and what it means once it has been checked.

use std::net::IpAddr;
use std::time::Duration;

use nexus_core::duration::HumanDuration;
use nexus_radius::identity::Template;
use serde::Deserialize;

use super::username::{UserName, UserNameError};
use crate::radius::SecretText;

/// Most clients that may wait for an answer, as configured.
const MAX_WAITING: usize = 65_536;
/// Longest time that a Reject may be remembered.
const MAX_REJECT_FOR: Duration = Duration::from_secs(3600);
/// Most octets of User-Password (RFC 2865 5.2).
const PASSWORD_MAX: usize = 128;

/// `ipoe:` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IpoeSection {
    /// User-Name of a client, with placeholders: `{mac}`, `{interface}`, `{outer-vid}`, `{inner-vid}`,
    /// `{circuit-id}`, `{remote-id}`, `{relay}`. A client whose packet lacks one of them is not answered.
    pub username: String,
    /// User-Password, the same for all; left out: none is sent, and in a users file the name is enough.
    pub password: Option<SecretText>,
    /// Subscriber id where the users file has none: text with attribute names in braces, out of the
    /// Access-Accept and the request. Default: `radius.subscriber_id`.
    pub subscriber_id: Option<String>,
    /// How long a client that was rejected is not asked about again.
    #[serde(default = "default_reject_for")]
    pub reject_for: HumanDuration,
    /// Most clients that wait for an answer; beyond it new ones are dropped, and repeat themselves.
    #[serde(default = "default_max_waiting")]
    pub max_waiting: usize,
    /// NAS-IP-Address or NAS-IPv6-Address; default: the address towards the first AAA server.
    pub nas_address: Option<IpAddr>,
}

const fn default_reject_for() -> HumanDuration {
    HumanDuration::from_secs(60)
}

const fn default_max_waiting() -> usize {
    8192
}

/// The section, checked.
#[derive(Clone, Debug)]
pub struct IpoeSettings {
    pub(super) username: UserName,
    pub(super) password: Option<Vec<u8>>,
    pub(super) subscriber_id: Option<Template>,
    pub(super) reject_for: Duration,
    pub(super) max_waiting: usize,
    pub(super) nas_address: Option<IpAddr>,
}

impl IpoeSection {
    /// Checks the section.
    ///
    /// # Errors
    /// The name of the field below `ipoe`, what is wrong with it, and what to do.
    pub fn check(&self) -> Result<IpoeSettings, (&'static str, String)> {
        let username: UserName = self
            .username
            .parse()
            .map_err(|error: UserNameError| ("username", error.to_string()))?;
        if self.username.is_empty()
            || (!username.tells_clients_apart() && self.subscriber_id.is_none())
        {
            let problem = format!(
                "with {:?} all clients would be one subscriber: write for example {{mac}} or {{circuit-id}}, or give subscriber_id",
                self.username
            );
            return Err(("username", problem));
        }
        let password = match &self.password {
            None => None,
            Some(password) if (1..=PASSWORD_MAX).contains(&password.octets().len()) => {
                Some(password.octets().to_vec())
            }
            Some(_) => {
                let problem = format!("give 1 to {PASSWORD_MAX} octets, or leave it out");
                return Err(("password", problem));
            }
        };
        let subscriber_id = self.subscriber_id.as_deref().map(str::parse).transpose();
        let reject_for = Duration::from(self.reject_for);
        if reject_for > MAX_REJECT_FOR {
            return Err(("reject_for", format!("{} is more than 1h", self.reject_for)));
        }
        if !(1..=MAX_WAITING).contains(&self.max_waiting) {
            let problem = format!("{} is outside 1..={MAX_WAITING}", self.max_waiting);
            return Err(("max_waiting", problem));
        }
        Ok(IpoeSettings {
            username,
            password,
            subscriber_id: subscriber_id.map_err(
                |error: nexus_radius::identity::TemplateError| ("subscriber_id", error.to_string()),
            )?,
            reject_for,
            max_waiting: self.max_waiting,
            nas_address: self.nas_address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str) -> Result<IpoeSettings, (&'static str, String)> {
        let section: IpoeSection = serde_saphyr::from_str(yaml).unwrap();
        assert!(!format!("{section:?}").contains("s3cret"));
        section.check()
    }

    #[test]
    fn a_username_is_enough() {
        let settings = check("username: '{mac}'").unwrap();
        assert_eq!(
            (settings.reject_for, settings.max_waiting),
            (Duration::from_secs(60), 8192)
        );
        assert_eq!((settings.password, settings.nas_address), (None, None));
        let settings = check("username: '{mac}'\npassword: s3cret").unwrap();
        assert_eq!(settings.password.unwrap(), b"s3cret");
    }

    #[test]
    fn each_mistake_names_its_field() {
        check("username: everybody\nsubscriber_id: '{Class}'").unwrap();
        for (yaml, field) in [
            ("username: '{vlan}'", "username"),
            ("username: ''\nsubscriber_id: '{Class}'", "username"),
            ("username: everybody", "username"),
            ("username: '{mac}'\npassword: ''", "password"),
            ("username: '{mac}'\nsubscriber_id: '{Usr}'", "subscriber_id"),
            ("username: '{mac}'\nreject_for: 2h", "reject_for"),
            ("username: '{mac}'\nmax_waiting: 0", "max_waiting"),
        ] {
            assert_eq!(check(yaml).unwrap_err().0, field, "{yaml}");
        }
        assert!(serde_saphyr::from_str::<IpoeSection>("user: x").is_err());
    }
}
