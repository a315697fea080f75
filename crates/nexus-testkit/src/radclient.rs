//! A NAS for tests: Debian's `radclient`, which signs, sends and checks RADIUS packets.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::command;
use crate::netns::Namespace;
use crate::packet::{Mac, mac_text};

/// One Access-Request.
#[derive(Clone, Debug)]
pub struct AccessRequest {
    /// User-Name.
    pub user: String,
    /// User-Password (PAP).
    pub password: String,
    /// Calling-Station-Id.
    pub mac: Mac,
    /// NAS-Port-Id; absent if empty.
    pub port_id: String,
    /// More attributes, in `radclient`'s own writing: `NAS-Identifier = "olt"`.
    pub attributes: Vec<String>,
    /// Whether a Message-Authenticator is sent.
    pub signed: bool,
}

impl AccessRequest {
    /// A signed request of a subscriber.
    #[must_use]
    pub fn new(user: &str, password: &str, mac: Mac, port_id: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            mac,
            port_id: port_id.to_owned(),
            attributes: Vec::new(),
            signed: true,
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!("User-Name = \"{}\"", self.user),
            format!("User-Password = \"{}\"", self.password),
            format!("Calling-Station-Id = \"{}\"", mac_text(self.mac)),
            "NAS-Port-Type = Ethernet".to_owned(),
            "Service-Type = Framed-User".to_owned(),
        ];
        if !self.port_id.is_empty() {
            lines.push(format!("NAS-Port-Id = \"{}\"", self.port_id));
        }
        if self.signed {
            lines.push("Message-Authenticator = 0x00".to_owned());
        }
        lines.extend(self.attributes.iter().cloned());
        lines.join("\n") + "\n"
    }
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// `Access-Accept`, `Access-Reject`, ...; empty if nothing came back.
    pub kind: String,
    /// Attributes in the order of the packet.
    pub attributes: Vec<(String, String)>,
    /// Everything `radclient` printed.
    pub output: String,
}

impl Answer {
    /// The first attribute of that name, without quotes.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(at, _)| at == name)
            .map(|(_, value)| value.as_str())
    }

    fn parse(output: &str) -> Self {
        let mut answer = Self {
            output: output.to_owned(),
            ..Self::default()
        };
        let mut received = false;
        for line in output.lines() {
            if let Some(rest) = line.strip_prefix("Received ") {
                received = true;
                answer.kind = rest.split(' ').next().unwrap_or_default().to_owned();
            } else if !line.starts_with(['\t', ' ']) {
                received = false;
            } else if let (true, Some((name, value))) = (received, line.trim().split_once(" = ")) {
                let value = value.trim_matches('"').to_owned();
                answer.attributes.push((name.to_owned(), value));
            }
        }
        answer
    }
}

/// Sends one request from inside `namespace` to `server` ("127.0.0.1:1812"), each try 3 seconds, two
/// tries, and returns the answer; an empty one if there was none or its signature was wrong.
///
/// # Errors
/// If `radclient` cannot run or does not understand an attribute.
pub fn authenticate(
    namespace: &Namespace,
    server: &str,
    secret: &str,
    request: &AccessRequest,
) -> Result<Answer> {
    let mut radclient = namespace.command("radclient");
    radclient.args(["-x", "-r", "2", "-t", "3", server, "auth", secret]);
    let finished =
        command::run_with_input(&mut radclient, &request.text(), Duration::from_secs(20))?;
    let output = format!("{}{}", finished.stdout, finished.stderr);
    if !output.contains("Sent Access-Request") {
        bail!("radclient could not send the request: {}", output.trim());
    }
    Ok(Answer::parse(&output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attributes_of_the_answer_are_read_and_those_of_the_request_are_not() {
        let answer = Answer::parse(
            "Sent Access-Request Id 7 from 0.0.0.0:4 to 127.0.0.1:1812 length 99\n\
             \tUser-Name = \"a\"\n\
             Received Access-Accept Id 7 from 127.0.0.1:1812 to 0.0.0.0:4 length 44\n\
             \tFramed-IP-Address = 100.64.1.2\n\
             \tReply-Message = \"hello = you\"\n",
        );
        assert_eq!(answer.kind, "Access-Accept");
        assert_eq!(answer.get("Framed-IP-Address"), Some("100.64.1.2"));
        assert_eq!(answer.get("Reply-Message"), Some("hello = you"));
        assert_eq!(answer.get("User-Name"), None);
    }

    #[test]
    fn no_answer_has_no_kind() {
        assert_eq!(
            Answer::parse("Sent Access-Request Id 7 from\n\tUser-Name = \"a\"\n").kind,
            ""
        );
    }
}
