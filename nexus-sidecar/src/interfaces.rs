//! The numbers of the interfaces: they stand in the kernel's keys, so each interface keeps its own over restarts.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::MAX_INTERFACES;

/// What becomes of the number of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NumberChange {
    /// The interface gets this number.
    Assign(String, u8),
    /// The interface is not configured any more and has lost its number to another one.
    Drop(String),
}

/// Gives every configured interface a number below [`MAX_INTERFACES`]; those that are `stored` stay. An
/// interface that is not configured keeps its number as long as there are others, because what the
/// kernel has under that number may still be in use. Returns the changes as well, to be made durable
/// before any number is used. Names beyond [`MAX_INTERFACES`] get none.
#[must_use]
pub fn number(
    mut stored: BTreeMap<String, u8>,
    configured: &BTreeSet<String>,
) -> (BTreeMap<String, u8>, Vec<NumberChange>) {
    let mut changes = Vec::new();
    for name in configured {
        if stored.contains_key(name) {
            continue;
        }
        let used: BTreeSet<u8> = stored.values().copied().collect();
        let all = (0..=u8::MAX).take(MAX_INTERFACES);
        let free = all.into_iter().find(|number| !used.contains(number));
        let freed = || {
            let name = stored.keys().find(|name| !configured.contains(*name))?;
            Some((name.clone(), stored.get(name).copied()?))
        };
        let number = match free {
            Some(number) => number,
            None => {
                let Some((gone, number)) = freed() else { break };
                stored.remove(&gone);
                changes.push(NumberChange::Drop(gone));
                number
            }
        };
        stored.insert(name.clone(), number);
        changes.push(NumberChange::Assign(name.clone(), number));
    }
    stored.retain(|name, _| configured.contains(name));
    (stored, changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// One start after the other: what is durable goes from one to the next.
    #[derive(Default)]
    struct Disk(BTreeMap<String, u8>);

    impl Disk {
        fn start(&mut self, configured: &BTreeSet<String>) -> BTreeMap<String, u8> {
            let (numbers, changes) = number(self.0.clone(), configured);
            for change in changes {
                match change {
                    NumberChange::Assign(name, number) => self.0.insert(name, number),
                    NumberChange::Drop(name) => self.0.remove(&name),
                };
            }
            let different: BTreeSet<_> = numbers.values().collect();
            assert_eq!(different.len(), configured.len());
            assert!(numbers.keys().eq(configured));
            numbers
        }
    }

    #[test]
    fn an_interface_keeps_its_number_whatever_comes_and_goes_beside_it() {
        let mut disk = Disk::default();
        assert_eq!(disk.start(&names(&["eth2"]))["eth2"], 0);
        let numbers = disk.start(&names(&["eth1", "eth2", "eth3"]));
        assert_eq!(
            (numbers["eth1"], numbers["eth2"], numbers["eth3"]),
            (1, 0, 2)
        );
        assert_eq!(disk.start(&names(&["eth3", "eth4"]))["eth4"], 3);
        assert_eq!(disk.start(&names(&["eth1"]))["eth1"], 1, "it comes back");
        let (_, changes) = number(disk.0.clone(), &names(&["eth1", "eth4"]));
        assert!(changes.is_empty());
    }

    #[test]
    fn a_number_is_given_again_only_when_all_are_taken() {
        let mut disk = Disk::default();
        let all: Vec<String> = (0..64).map(|n| format!("eth{n:02}")).collect();
        disk.start(&all.iter().cloned().collect());
        let mut fewer: BTreeSet<String> = all.iter().skip(2).cloned().collect();
        fewer.insert("new".to_owned());
        let numbers = disk.start(&fewer);
        assert_eq!(numbers["new"], 0, "that of eth00");
        assert_eq!(numbers["eth02"], 2);
        assert!(!disk.0.contains_key("eth00") && disk.0.contains_key("eth01"));
    }
}
