//! The kernel's map as the edge task sees it: the interfaces that keys belong to, and making the map equal to the
//! rows.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nexus_abi::{Binding, BindingKey, NEVER_EXPIRES, Outcome, Profile};
use nexus_core::edge::{At, CIRCUIT_LIMIT, Circuit, MapEntry, Place, Policies, Vlans};
use nexus_core::id::PoolId;
use nexus_core::time::BootTime;

use crate::config::{Identity, XdpMode};
use crate::fastpath::{FastPath, FastPathError, Jiffies};

// Every circuit that may be a key, the kernel can hold.
const _: () = assert!(CIRCUIT_LIMIT == nexus_abi::CIRCUIT_CAPACITY);

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
    /// Writes a profile.
    ///
    /// # Errors
    /// If the kernel does not take it.
    fn put_profile(&mut self, id: u16, profile: &Profile) -> Result<(), FastPathError>;
    /// Packets by outcome.
    ///
    /// # Errors
    /// If the counters cannot be read.
    fn counters(&self) -> Result<Vec<(Outcome, u64)>, FastPathError>;
    /// The kernel's jiffies now.
    ///
    /// # Errors
    /// If they cannot be read.
    fn jiffies(&mut self) -> Result<Jiffies, FastPathError>;
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

    fn put_profile(&mut self, id: u16, profile: &Profile) -> Result<(), FastPathError> {
        Self::put_profile(self, id, profile)
    }

    fn counters(&self) -> Result<Vec<(Outcome, u64)>, FastPathError> {
        Self::counters(self)
    }

    fn jiffies(&mut self) -> Result<Jiffies, FastPathError> {
        Self::jiffies(self)
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

/// An interface towards the subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Its number, which it keeps over restarts; [`EdgeTask::start`](crate::edge_task::EdgeTask::start)
    /// gives it.
    pub number: u8,
    /// Its MAC address, which replies come from.
    pub mac: [u8; 6],
    /// How XDP is attached to it.
    pub mode: XdpMode,
    /// What subscribers are known by on it, in this order.
    pub identity: Vec<Identity>,
    /// What is done when a subscriber comes up elsewhere or with another MAC.
    pub policies: Policies,
    /// Server identifier and source address of replies; `None`: the router of the pool.
    pub server_id: Option<Ipv4Addr>,
    /// Pool of subscribers for whom nothing else names one.
    pub pool: Option<PoolId>,
}

/// The interfaces that this host serves, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    interfaces: BTreeMap<String, Interface>,
}

impl Access {
    /// All interfaces that are served.
    #[must_use]
    pub fn new(interfaces: impl IntoIterator<Item = Interface>) -> Self {
        let named = |interface: Interface| (interface.name.clone(), interface);
        Self {
            interfaces: interfaces.into_iter().map(named).collect(),
        }
    }

    /// With these numbers; who has none of them is not served.
    #[must_use]
    pub(crate) fn numbered(mut self, numbers: &BTreeMap<String, u8>) -> Self {
        self.interfaces.retain(|name, interface| {
            let number = numbers.get(name);
            interface.number = number.copied().unwrap_or_default();
            number.is_some()
        });
        self
    }

    /// In the order of their names.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.values()
    }

    /// The interface of a name.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.get(name)
    }

    /// The kernel's form of a place; `None`: of another interface, or no place at all.
    #[must_use]
    pub fn to_kernel(&self, place: &Place) -> Option<BindingKey> {
        let interface = self.interface(&place.interface)?.number;
        Some(match &place.at {
            At::Line(Vlans { outer, inner }) => BindingKey::Line {
                interface,
                outer_vid: *outer,
                inner_vid: *inner,
                mac: place.mac?,
            },
            At::Mac => BindingKey::Mac {
                interface,
                mac: place.mac?,
            },
            At::Vlan(Vlans { outer, inner }) => BindingKey::Vlan {
                interface,
                outer_vid: *outer,
                inner_vid: *inner,
            },
            At::Circuit(Circuit {
                circuit_id,
                remote_id,
            }) => BindingKey::Circuit {
                interface,
                circuit: nexus_abi::Circuit::new(circuit_id, remote_id).ok()?,
            },
        })
    }

    /// The place behind the kernel's form; `None`: of another interface.
    #[must_use]
    pub fn from_kernel(&self, key: &BindingKey) -> Option<Place> {
        let number = key.interface();
        let interface = self.interfaces().find(|one| one.number == number)?;
        let vlans = |outer: &u16, inner: &u16| Vlans {
            outer: *outer,
            inner: *inner,
        };
        let at = match key {
            BindingKey::Line {
                outer_vid,
                inner_vid,
                ..
            } => At::Line(vlans(outer_vid, inner_vid)),
            BindingKey::Mac { .. } => At::Mac,
            BindingKey::Vlan {
                outer_vid,
                inner_vid,
                ..
            } => At::Vlan(vlans(outer_vid, inner_vid)),
            BindingKey::Circuit { circuit, .. } => At::Circuit(Circuit {
                circuit_id: circuit.circuit_id().to_vec(),
                remote_id: circuit.remote_id().to_vec(),
            }),
        };
        Some(Place {
            interface: interface.name.clone(),
            at,
            mac: key.mac(),
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

/// When the kernel last heard the client of an entry, `jiffies` being what they are at `now`; `None`: not
/// yet. Longer ago than jiffies go round in (49 days at 1000 Hz) is not told apart from what is less.
#[must_use]
pub fn last_seen(binding: &Binding, jiffies: Jiffies, now: BootTime) -> Option<BootTime> {
    if binding.last_seen_jiffies == 0 {
        return None;
    }
    let ticks = u64::from(jiffies.now.wrapping_sub(binding.last_seen_jiffies));
    let ago = ticks.saturating_mul(1_000_000_000) / u64::from(jiffies.per_sec.max(1));
    Some(BootTime(now.0.saturating_sub(ago)))
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
    use nexus_core::edge::LineKey;

    use super::*;

    /// A map in memory that counts its writes.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct MemoryMap {
        pub(crate) entries: std::sync::Arc<std::sync::Mutex<BTreeMap<BindingKey, Binding>>>,
        pub(crate) profiles: std::sync::Arc<std::sync::Mutex<BTreeMap<u16, Profile>>>,
        pub(crate) writes: std::sync::Arc<std::sync::atomic::AtomicU64>,
        /// The kernel's jiffies, one each second.
        pub(crate) jiffies: std::sync::Arc<std::sync::atomic::AtomicU32>,
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

        fn put_profile(&mut self, id: u16, profile: &Profile) -> Result<(), FastPathError> {
            self.profiles.lock().unwrap().insert(id, *profile);
            Ok(())
        }

        fn jiffies(&mut self) -> Result<Jiffies, FastPathError> {
            let now = self.jiffies.load(std::sync::atomic::Ordering::Relaxed);
            Ok(Jiffies { now, per_sec: 1 })
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

    fn binding(last: u8, last_seen_jiffies: u32) -> Binding {
        Binding {
            valid_until_secs: NEVER_EXPIRES,
            last_seen_jiffies,
            address: [10, 0, 0, last],
            profile: 0,
            mac: [2, 0, 0, 0, 0, last],
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
        let interface = |name: &str, number| Interface {
            name: name.to_owned(),
            ifindex: 0,
            number,
            mac: [2, 0, 0, 0, 0, 9],
            mode: XdpMode::Native,
            identity: vec![Identity::Line],
            policies: Policies::default(),
            server_id: None,
            pool: None,
        };
        let access = Access::new([interface("eth1", 3), interface("eth2", 5)]);
        let place = |text: &str| text.parse::<LineKey>().unwrap().place();
        for text in [
            "eth1 100.7 02:00:00:00:00:01",
            "eth1 any 02:00:00:00:00:01",
            "eth2 any 02:00:00:00:00:01",
            "eth1 vlan 100.7 02:00:00:00:00:01",
            "eth2 circuit 302f31+0a 02:00:00:00:00:01",
        ] {
            let kernel = access.to_kernel(&place(text)).unwrap();
            assert_eq!(access.from_kernel(&kernel), Some(place(text)));
        }
        let other = place("eth3 any 02:00:00:00:00:01");
        assert_eq!(access.to_kernel(&other), None);
        let elsewhere = BindingKey::Mac {
            interface: 4,
            mac: [2; 6],
        };
        assert_eq!(access.from_kernel(&elsewhere), None);
    }
}
