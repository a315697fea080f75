//! What the edge task has made durable and serves now, for readers that must not wait for its disk.
//!
//! The edge task is the only writer and writes here where it writes the kernel's map: an entry that begins
//! after its row is on disk, one that ends before. So whoever reads here sees nothing that a crash undoes.
//! It is as large as the bindings of this host, no queue stands before it, and no reader holds a lock
//! longer than one look-up.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nexus_abi::{Binding, BindingKey, Profile};
use nexus_core::time::BootTime;

/// The entries and profiles that are served now. Cheap to clone; all clones see the same.
#[derive(Clone, Debug, Default)]
pub struct Served(Arc<Tables>);

#[derive(Debug, Default)]
struct Tables {
    entries: RwLock<BTreeMap<BindingKey, Binding>>,
    profiles: RwLock<BTreeMap<u16, Arc<Profile>>>,
    /// Whom the slow path has served since it was last asked.
    seen: RwLock<BTreeMap<BindingKey, BootTime>>,
}

impl Served {
    /// The entry under a key, its profile. It may have ended: compare `valid_until_secs` with
    /// `CLOCK_BOOTTIME`. `None`: no such entry, or none that has a profile.
    #[must_use]
    pub fn get(&self, key: &BindingKey) -> Option<(Binding, Arc<Profile>)> {
        let binding = *read(&self.0.entries).get(key)?;
        let profile = read(&self.0.profiles).get(&binding.profile).cloned()?;
        Some((binding, profile))
    }

    /// The slow path has served the client of this key.
    pub(crate) fn seen(&self, key: BindingKey, at: BootTime) {
        write(&self.0.seen).insert(key, at);
    }

    /// Whom the slow path has served since the last call: to be called every minute or so, because it grows
    /// with every client that is served meanwhile, up to all of them.
    pub(crate) fn take_seen(&self) -> BTreeMap<BindingKey, BootTime> {
        std::mem::take(&mut *write(&self.0.seen))
    }

    pub(crate) fn put(&self, key: BindingKey, binding: Binding) {
        write(&self.0.entries).insert(key, binding);
    }

    pub(crate) fn remove(&self, key: &BindingKey) {
        write(&self.0.entries).remove(key);
    }

    /// In place of all entries.
    pub(crate) fn replace(&self, entries: BTreeMap<BindingKey, Binding>) {
        *write(&self.0.entries) = entries;
    }

    pub(crate) fn put_profile(&self, id: u16, profile: &Profile) {
        write(&self.0.profiles).insert(id, Arc::new(*profile));
    }
}

// No operation under these locks stops half-way, so what a panicking thread has left is whole.

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use nexus_abi::{NEVER_EXPIRES, Profile};
    use zerocopy::FromZeros as _;

    use super::*;

    #[test]
    fn all_clones_see_an_entry_with_its_profile_until_it_is_removed() {
        let (served, reader) = (Served::default(), Served::default());
        let reader = [served.clone(), reader];
        let mac = [2, 0, 0, 0, 0, 1];
        let key = BindingKey::Mac { interface: 3, mac };
        let binding = Binding {
            valid_until_secs: NEVER_EXPIRES,
            last_seen_jiffies: 0,
            address: [10, 0, 0, 1],
            profile: 4,
            mac,
        };
        served.put(key, binding);
        assert!(reader[0].get(&key).is_none(), "it has no profile yet");
        let profile = Profile::new_zeroed();
        served.put_profile(4, &profile);
        let (found, its_profile) = reader[0].get(&key).unwrap();
        assert_eq!((found, *its_profile), (binding, profile));
        assert!(reader[1].get(&key).is_none(), "of another edge");
        served.remove(&key);
        assert!(reader[0].get(&key).is_none());
    }
}
