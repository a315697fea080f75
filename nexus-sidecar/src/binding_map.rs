//! The kernel's map as the edge task sees it: keys of one interface, and making the map equal to the rows.

use std::collections::BTreeMap;

use nexus_abi::{Binding, BindingKey, NEVER_EXPIRES, Outcome, Profile, Template};
use nexus_core::edge::{LineKey, MapEntry, Vlans};
use nexus_core::time::BootTime;

use crate::config::Identity;
use crate::edge_handle::AuthorizedSubscriber;
use crate::fastpath::{FastPath, FastPathError};

/// What the edge task needs of the kernel; [`FastPath`] is it.
pub trait BindingMap: Send + 'static {
    /// Writes an entry, over whatever stands there. When the client was last seen is kept.
    ///
    /// # Errors
    /// If the kernel does not take it.
    fn put(&mut self, key: &BindingKey, binding: &Binding) -> Result<(), FastPathError>;
    /// Removes an entry; none is no error.
    ///
    /// # Errors
    /// If the kernel does not let it go.
    fn remove(&mut self, key: &BindingKey) -> Result<(), FastPathError>;
    /// All entries.
    ///
    /// # Errors
    /// If the map cannot be read.
    fn all(&self) -> Result<Vec<(BindingKey, Binding)>, FastPathError>;
    /// Writes a profile and the template with all of its options.
    ///
    /// # Errors
    /// If the kernel does not take it.
    fn put_profile(
        &mut self,
        id: u16,
        profile: &Profile,
        template: &Template,
    ) -> Result<(), FastPathError>;
    /// Packets by outcome.
    ///
    /// # Errors
    /// If the counters cannot be read.
    fn counters(&self) -> Result<Vec<(Outcome, u64)>, FastPathError>;
    /// Switches rare events, and the tracing of clients, on or off for an interface.
    ///
    /// # Errors
    /// If the kernel does not take the program that does so.
    fn switch(
        &mut self,
        interface: u8,
        events: bool,
        trace: &[[u8; 6]],
    ) -> Result<(), FastPathError>;
}

impl BindingMap for FastPath {
    fn put(&mut self, key: &BindingKey, binding: &Binding) -> Result<(), FastPathError> {
        self.put_binding(key, binding)
    }

    fn remove(&mut self, key: &BindingKey) -> Result<(), FastPathError> {
        self.remove_binding(key);
        Ok(())
    }

    fn all(&self) -> Result<Vec<(BindingKey, Binding)>, FastPathError> {
        Ok(self.bindings())
    }

    fn put_profile(
        &mut self,
        id: u16,
        profile: &Profile,
        template: &Template,
    ) -> Result<(), FastPathError> {
        Self::put_profile(self, id, profile, template)
    }

    fn counters(&self) -> Result<Vec<(Outcome, u64)>, FastPathError> {
        Self::counters(self)
    }

    fn switch(
        &mut self,
        interface: u8,
        events: bool,
        trace: &[[u8; 6]],
    ) -> Result<(), FastPathError> {
        self.set_switches(interface, events, trace)
    }
}

/// The interface that the keys belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Its name.
    pub interface: String,
    /// Its number in the kernel's keys.
    pub number: u8,
    /// Its MAC address, which replies come from.
    pub mac: [u8; 6],
    /// What subscribers are known by on it.
    pub identity: Vec<Identity>,
}

impl Access {
    /// The key under which DHCP will see a subscriber: its line, if the VLANs are known and lines are
    /// an identity here; else its MAC address.
    ///
    /// # Errors
    /// Which part of the configuration or of the request does not allow it.
    pub fn key_of(&self, subscriber: &AuthorizedSubscriber) -> Result<LineKey, String> {
        let by_line = self.identity.contains(&Identity::Line);
        let vlans = match subscriber.vlans {
            Some((outer, inner)) if by_line => Some(Vlans { outer, inner }),
            _ if self.identity.contains(&Identity::Mac) => None,
            _ => {
                return Err(format!(
                    "the request does not say on which VLANs the subscriber is, and {} knows subscribers by line only: send NAS-Port-Id, or add `mac` to interfaces[0].identity",
                    self.interface
                ));
            }
        };
        Ok(LineKey {
            interface: self.interface.clone(),
            vlans,
            mac: subscriber.mac,
        })
    }

    /// The kernel's form of a key; `None`: of another interface.
    #[must_use]
    pub fn to_kernel(&self, key: &LineKey) -> Option<BindingKey> {
        (key.interface == self.interface).then_some(match key.vlans {
            Some(Vlans { outer, inner }) => BindingKey::Line {
                interface: self.number,
                outer_vid: outer,
                inner_vid: inner,
                mac: key.mac,
            },
            None => BindingKey::Mac {
                interface: self.number,
                mac: key.mac,
            },
        })
    }

    /// The key behind the kernel's form; `None`: of another interface or no key at all.
    #[must_use]
    pub fn from_kernel(&self, key: &BindingKey) -> Option<LineKey> {
        if key.interface() != self.number {
            return None;
        }
        let vlans = match key {
            BindingKey::Line {
                outer_vid,
                inner_vid,
                ..
            } => Some(Vlans {
                outer: *outer_vid,
                inner: *inner_vid,
            }),
            _ => None,
        };
        Some(LineKey {
            interface: self.interface.clone(),
            vlans,
            mac: key.mac()?,
        })
    }
}

/// The kernel's form of an entry. Its end is rounded down to a second: it never outlives the right to it.
#[must_use]
pub fn to_binding(entry: &MapEntry, profile: u16) -> Binding {
    let secs = |end: BootTime| u32::try_from(end.0 / 1_000_000_000).unwrap_or(NEVER_EXPIRES - 1);
    Binding {
        address: entry.address.octets(),
        valid_until_secs: entry.valid_until.map_or(NEVER_EXPIRES, secs),
        mac: entry.key.mac,
        profile,
        last_seen_jiffies: 0,
    }
}

/// What [`reconcile`] has done.
#[derive(Debug, Default)]
pub struct Repairs {
    /// Entries that were right and stayed untouched.
    pub kept: u64,
    /// Entries that were missing.
    pub added: u64,
    /// Entries that said something else.
    pub replaced: u64,
    /// Entries that nobody holds.
    pub removed: u64,
    /// What the kernel does not take, and why; it has nothing under these keys.
    pub failed: Vec<(BindingKey, FastPathError)>,
}

/// Makes the map equal to `wanted` and touches nothing that is right. When a client was last seen is the
/// kernel's own and does not count. A full map is no error: what it does not take is listed.
///
/// # Errors
/// If the map cannot be read or a wrong entry cannot be removed.
pub fn reconcile(
    map: &mut impl BindingMap,
    wanted: &BTreeMap<BindingKey, Binding>,
) -> Result<Repairs, FastPathError> {
    let mut repairs = Repairs::default();
    let present: BTreeMap<BindingKey, Binding> = map.all()?.into_iter().collect();
    // Room first: a full map takes nothing new.
    for key in present.keys().filter(|key| !wanted.contains_key(key)) {
        map.remove(key)?;
        repairs.removed += 1;
    }
    for (key, binding) in wanted {
        let same = |there: &Binding| {
            Binding {
                last_seen_jiffies: 0,
                ..*there
            } == Binding {
                last_seen_jiffies: 0,
                ..*binding
            }
        };
        let there = present.get(key);
        if there.is_some_and(same) {
            repairs.kept += 1;
            continue;
        }
        match map.put(key, binding) {
            Ok(()) if there.is_some() => repairs.replaced += 1,
            Ok(()) => repairs.added += 1,
            Err(error) => {
                // None is better than a wrong one.
                map.remove(key)?;
                repairs.failed.push((*key, error));
            }
        }
    }
    Ok(repairs)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A map in memory that counts its writes.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct MemoryMap {
        pub(crate) entries: std::sync::Arc<std::sync::Mutex<BTreeMap<BindingKey, Binding>>>,
        pub(crate) profiles: std::sync::Arc<std::sync::Mutex<BTreeMap<u16, Profile>>>,
        pub(crate) writes: std::sync::Arc<std::sync::atomic::AtomicU64>,
        /// Takes no entry, as a full one.
        pub(crate) full: std::sync::Arc<std::sync::atomic::AtomicBool>,
        /// Lets no entry go.
        pub(crate) stuck: std::sync::Arc<std::sync::atomic::AtomicBool>,
    }

    fn refusal() -> FastPathError {
        FastPathError::NotBpffs {
            path: "/nowhere".into(),
        }
    }

    impl BindingMap for MemoryMap {
        fn put(&mut self, key: &BindingKey, binding: &Binding) -> Result<(), FastPathError> {
            self.writes
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if self.full.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(refusal());
            }
            let mut entries = self.entries.lock().unwrap();
            let last_seen_jiffies = entries.get(key).map_or(0, |there| there.last_seen_jiffies);
            entries.insert(
                *key,
                Binding {
                    last_seen_jiffies,
                    ..*binding
                },
            );
            Ok(())
        }

        fn remove(&mut self, key: &BindingKey) -> Result<(), FastPathError> {
            self.writes
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if self.stuck.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(refusal());
            }
            self.entries.lock().unwrap().remove(key);
            Ok(())
        }

        fn all(&self) -> Result<Vec<(BindingKey, Binding)>, FastPathError> {
            let entries = self.entries.lock().unwrap();
            Ok(entries.iter().map(|(k, v)| (*k, *v)).collect())
        }

        fn put_profile(
            &mut self,
            id: u16,
            profile: &Profile,
            _: &Template,
        ) -> Result<(), FastPathError> {
            self.profiles.lock().unwrap().insert(id, *profile);
            Ok(())
        }

        fn switch(&mut self, _: u8, _: bool, _: &[[u8; 6]]) -> Result<(), FastPathError> {
            self.writes
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        }

        fn counters(&self) -> Result<Vec<(Outcome, u64)>, FastPathError> {
            Ok(vec![(Outcome::Ack, 7)])
        }
    }

    fn binding(last: u8, seen: u32) -> Binding {
        Binding {
            valid_until_secs: NEVER_EXPIRES,
            last_seen_jiffies: seen,
            address: [10, 0, 0, last],
            mac: [2, 0, 0, 0, 0, last],
            profile: 0,
        }
    }

    #[test]
    fn only_what_is_wrong_is_written_and_last_seen_does_not_count() {
        let key = |n: u8| BindingKey::Mac {
            interface: 3,
            mac: [2, 0, 0, 0, 0, n],
        };
        let mut map = MemoryMap::default();
        map.entries.lock().unwrap().extend([
            (key(1), binding(1, 55)),
            (key(2), binding(9, 66)),
            (key(3), binding(3, 77)),
        ]);
        let wanted = BTreeMap::from([
            (key(1), binding(1, 0)),
            (key(2), binding(2, 0)),
            (key(4), binding(4, 0)),
        ]);
        let repairs = reconcile(&mut map, &wanted).unwrap();
        let Repairs {
            kept,
            added,
            replaced,
            removed,
            failed,
        } = repairs;
        assert_eq!((kept, added, replaced, removed), (1, 1, 1, 1));
        assert!(failed.is_empty());
        let entries = map.entries.lock().unwrap().clone();
        assert_eq!(entries[&key(1)], binding(1, 55));
        assert_eq!(entries[&key(2)], binding(2, 66));
        assert_eq!(entries.len(), 3);
    }

    #[test]
    fn keys_go_to_the_kernel_and_back() {
        let access = Access {
            interface: "eth1".to_owned(),
            number: 3,
            mac: [2, 0, 0, 0, 0, 9],
            identity: vec![Identity::Line],
        };
        for text in ["eth1 100.7 02:00:00:00:00:01", "eth1 any 02:00:00:00:00:01"] {
            let key: LineKey = text.parse().unwrap();
            let kernel = access.to_kernel(&key).unwrap();
            assert_eq!(access.from_kernel(&kernel), Some(key));
        }
        let other: LineKey = "eth2 any 02:00:00:00:00:01".parse().unwrap();
        assert_eq!(access.to_kernel(&other), None);
        let elsewhere = BindingKey::Mac {
            interface: 4,
            mac: [2; 6],
        };
        assert_eq!(access.from_kernel(&elsewhere), None);
    }

    #[test]
    fn a_subscriber_without_vlans_needs_the_mac_as_an_identity() {
        let mut access = Access {
            interface: "eth1".to_owned(),
            number: 3,
            mac: [2, 0, 0, 0, 0, 9],
            identity: vec![Identity::Line],
        };
        let mut subscriber = AuthorizedSubscriber {
            subscriber: nexus_core::id::SubscriberId::new("s").unwrap(),
            mac: [2, 0, 0, 0, 0, 1],
            vlans: None,
            pool: None,
            metadata: BTreeMap::new(),
        };
        assert!(access.key_of(&subscriber).unwrap_err().contains("identity"));
        access.identity.push(Identity::Mac);
        assert_eq!(access.key_of(&subscriber).unwrap().vlans, None);
        subscriber.vlans = Some((0, 0));
        assert!(access.key_of(&subscriber).unwrap().vlans.is_some());
        access.identity.remove(0);
        assert_eq!(access.key_of(&subscriber).unwrap().vlans, None);
    }
}
