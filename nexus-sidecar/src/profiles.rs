//! Which profile of the kernel belongs to which pool, and what stands in it.

use std::collections::{BTreeMap, BTreeSet};

use nexus_abi::{PROFILE_COUNT, Profile, Template};
use nexus_core::id::PoolId;
use nexus_core::pool::Pool;
use nexus_dhcp::profile::{ProfileParts, encode};

use crate::rows::ProfileChange;

/// A pool that no profile can be made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileProblem {
    /// All profiles are in use.
    #[error("pool {0} gets no DHCP profile: {PROFILE_COUNT} pools on one host are the most")]
    TooMany(PoolId),
    /// The pool's DHCP data do not fit.
    #[error("pool {pool} gets no DHCP profile: {why}")]
    Encode {
        /// The pool.
        pool: PoolId,
        /// Why.
        why: String,
    },
}

/// A profile that is to be written under an id, with its template.
pub type ProfileWrite = (u16, (Profile, Template));

/// The profile of each pool: the id stays the same as long as the pool is there, over restarts too.
#[derive(Clone, Debug)]
pub struct Profiles {
    gateway_mac: [u8; 6],
    ids: BTreeMap<PoolId, u16>,
    encoded: BTreeMap<u16, (Profile, Template)>,
}

impl Profiles {
    /// With the ids that the store has. `gateway_mac`: where replies come from.
    #[must_use]
    pub fn new(gateway_mac: [u8; 6], ids: BTreeMap<PoolId, u16>) -> Self {
        Self {
            gateway_mac,
            ids,
            encoded: BTreeMap::new(),
        }
    }

    /// The id of a pool's profile, if it has one.
    #[must_use]
    pub fn id(&self, pool: &PoolId) -> Option<u16> {
        self.ids
            .get(pool)
            .copied()
            .filter(|id| self.encoded.contains_key(id))
    }

    /// A profile, and its template with all options.
    #[must_use]
    pub fn get(&self, id: u16) -> Option<&(Profile, Template)> {
        self.encoded.get(&id)
    }

    /// Follows the pools: returns changes of ids (to be made durable first), profiles to write into the
    /// kernel afterwards, and pools that get none.
    pub fn follow<'a>(
        &mut self,
        pools: impl Iterator<Item = &'a Pool>,
    ) -> (Vec<ProfileChange>, Vec<ProfileWrite>, Vec<ProfileProblem>) {
        let (mut changes, mut writes, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        let pools: BTreeMap<&PoolId, &Pool> = pools
            .filter(|pool| pool.dhcp().is_some())
            .map(|pool| (pool.id(), pool))
            .collect();
        let gone: Vec<_> = self
            .ids
            .keys()
            .filter(|id| !pools.contains_key(id))
            .cloned()
            .collect();
        for pool in gone {
            if let Some(id) = self.ids.remove(&pool) {
                self.encoded.remove(&id);
            }
            changes.push(ProfileChange::Drop(pool));
        }
        for (id, pool) in pools {
            let profile = match self.encode(pool) {
                Ok(profile) => profile,
                Err(why) => {
                    let pool = id.clone();
                    problems.push(ProfileProblem::Encode { pool, why });
                    continue;
                }
            };
            let number = match self.ids.get(id) {
                Some(number) => *number,
                None => {
                    let used: BTreeSet<u16> = self.ids.values().copied().collect();
                    let Some(free) = (0..PROFILE_COUNT as u16).find(|n| !used.contains(n)) else {
                        problems.push(ProfileProblem::TooMany(id.clone()));
                        continue;
                    };
                    self.ids.insert(id.clone(), free);
                    changes.push(ProfileChange::Assign(id.clone(), free));
                    free
                }
            };
            if self.encoded.get(&number) != Some(&profile) {
                self.encoded.insert(number, profile);
                writes.push((number, profile));
            }
        }
        (changes, writes, problems)
    }

    fn encode(&self, pool: &Pool) -> Result<(Profile, Template), String> {
        let dhcp = pool.dhcp().ok_or("it has no DHCP data")?;
        let octets = |list: &[std::net::Ipv4Addr]| -> Vec<[u8; 4]> {
            list.iter().map(std::net::Ipv4Addr::octets).collect()
        };
        let (dns, ntp) = (octets(&dhcp.dns), octets(&dhcp.ntp));
        let custom: Vec<(u8, &[u8])> = dhcp
            .options
            .iter()
            .map(|(code, value)| (*code, value.as_slice()))
            .collect();
        encode(&ProfileParts {
            server_id: dhcp.router.octets(),
            next_server: [0; 4],
            gateway_mac: self.gateway_mac,
            lease_secs: u32::try_from(dhcp.lease_time.as_secs()).unwrap_or(u32::MAX),
            subnet_mask: dhcp.netmask().octets(),
            routers: &[dhcp.router.octets()],
            dns: &dns,
            domain_name: dhcp.domain_name.as_deref(),
            mtu: dhcp.mtu,
            ntp: &ntp,
            rapid_commit: false,
            custom: &custom,
        })
        .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use nexus_core::pool::PoolSpec;
    use nexus_core::resource::ResourceType;

    use super::*;

    fn pool(id: &str, cidr: &str) -> Pool {
        let id = PoolId::new(id).unwrap();
        Pool::new(PoolSpec::minimal(id, ResourceType::Ipv4, cidr)).unwrap()
    }

    #[test]
    fn a_pool_keeps_its_profile_and_a_free_one_is_given_again() {
        let (a, b, c) = (
            pool("a", "10.0.0.0/24"),
            pool("b", "10.1.0.0/24"),
            pool("c", "10.2.0.0/24"),
        );
        let mut profiles = Profiles::new([2; 6], BTreeMap::from([(b.id().clone(), 0)]));
        assert_eq!(profiles.id(b.id()), None, "not in the kernel yet");
        let (changes, writes, problems) = profiles.follow([&a, &b].into_iter());
        assert_eq!(changes, [ProfileChange::Assign(a.id().clone(), 1)]);
        assert_eq!(writes.len(), 2);
        assert!(problems.is_empty());
        assert_eq!(
            (profiles.id(a.id()), profiles.id(b.id())),
            (Some(1), Some(0))
        );
        let (changes, writes, _) = profiles.follow([&a, &b].into_iter());
        assert!(changes.is_empty() && writes.is_empty());
        let (changes, _, _) = profiles.follow([&a, &c].into_iter());
        assert_eq!(
            changes,
            [
                ProfileChange::Drop(b.id().clone()),
                ProfileChange::Assign(c.id().clone(), 0)
            ]
        );
        let (profile, _) = profiles.get(0).unwrap();
        assert_eq!((profile.present, profile.lease_secs), (1, 3600));
        assert_eq!(profile.server_id, [10, 2, 0, 1]);
        assert_eq!(profile.gateway_mac, [2; 6]);
    }
}
