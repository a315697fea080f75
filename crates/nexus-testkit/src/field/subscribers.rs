//! The subscribers: account, line and MAC of each by its number.

use std::collections::BTreeMap;

use super::history::{OltAt, Who};
use crate::nas::Account;
use crate::packet::{Frame, Mac, Tag};

/// Password of everybody.
const PASSWORD: &str = "open-sesame";

/// Subscriber id, which is the user name as well.
#[must_use]
pub fn id(who: Who) -> String {
    format!("sub-{who}")
}

/// The number in a subscriber id.
#[must_use]
pub fn number(id: &str) -> Option<Who> {
    id.strip_prefix("sub-")?.parse().ok()
}

/// The MAC address of a subscriber's gateway.
#[must_use]
pub fn mac(who: Who) -> Mac {
    let [a, b, c, d] = who.to_be_bytes();
    [2, 0x5a, a, b, c, d]
}

/// Where a subscriber begins, out of so many OLTs.
#[must_use]
pub fn home(who: Who, olts: usize) -> OltAt {
    usize::try_from(who).unwrap_or(0) % olts.max(1)
}

/// Outer and inner tag of a line; every second one has none.
fn tags(who: Who) -> Option<(u16, u16)> {
    let outer = u16::try_from(who / 2 % 7).unwrap_or(0) + 100;
    let inner = u16::try_from(who % 4000).unwrap_or(0) + 2;
    (who % 2 == 1).then_some((outer, inner))
}

/// What its NAS says of it.
#[must_use]
pub fn account(who: Who) -> Account {
    let port_id = match tags(who) {
        None => "olt 1/1".to_owned(),
        Some((outer, inner)) => format!("olt 1/1:{outer}.{inner}"),
    };
    Account {
        user: id(who),
        password: PASSWORD.to_owned(),
        mac: mac(who),
        port_id,
    }
}

/// A frame as it leaves its line.
#[must_use]
pub fn on_line(who: Who, frame: Frame) -> Frame {
    match tags(who) {
        None => frame,
        Some((outer, inner)) => frame.tag(Tag::s_vlan(outer)).tag(Tag::c_vlan(inner)),
    }
}

/// Whose MAC it is.
#[must_use]
pub fn by_mac(count: Who) -> BTreeMap<Mac, Who> {
    (0..count).map(|who| (mac(who), who)).collect()
}

/// The users file of all sidecars.
#[must_use]
pub fn users_file(count: Who, pool: &str) -> String {
    let mut text = "users:\n".to_owned();
    for who in 0..count {
        let name = id(who);
        text += &format!(
            "- {{username: {name}, password: {PASSWORD}, subscriber_id: {name}, pool: {pool}}}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribers_are_told_apart_by_name_mac_and_line() {
        let macs = by_mac(5000);
        assert_eq!(macs.len(), 5000);
        assert_eq!(macs.get(&mac(4711)), Some(&4711));
        assert_eq!(number(&id(4711)), Some(4711));
        assert_eq!(account(8).port_id, "olt 1/1");
        assert_eq!(account(9).port_id, "olt 1/1:104.11");
    }
}
