//! Which profile of the kernel belongs to which pool on which interface, and what stands in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nexus_abi::{OPTION_BITS, OPTIONS_CAPACITY, PROFILE_COUNT, Profile};
use nexus_core::id::PoolId;
use nexus_core::pool::{Dhcp, MAX_OPTIONS, MAX_OPTIONS_LEN, Pool};
use nexus_dhcp::profile::{ProfileParts, encode};

use crate::rows::{PoolOn, ProfileChange};

// What a pool may say, the kernel can hold.
const _: () = assert!(MAX_OPTIONS == OPTION_BITS && MAX_OPTIONS_LEN == OPTIONS_CAPACITY);

/// The first id that there is not.
const PROFILES: u16 = PROFILE_COUNT as u16;

/// A pool that no profile can be made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileProblem {
    /// All profiles are in use.
    #[error(
        "pool {} gets no DHCP profile on {}: {PROFILE_COUNT} are the most, one for each pool on each interface where it is used",
        .0.pool, .0.interface
    )]
    TooMany(PoolOn),
    /// The pool's DHCP data do not fit.
    #[error("pool {} gets no DHCP profile on {}: {why}", on.pool, on.interface)]
    Encode {
        /// The pool.
        on: PoolOn,
        /// Why.
        why: String,
    },
}

/// What replies on an interface come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// MAC address.
    pub mac: [u8; 6],
    /// Server identifier and IP address; `None`: the router of the pool.
    pub server_id: Option<Ipv4Addr>,
}

/// The profile of each pool on each interface where it is used: the id stays the same as long as pool and
/// interface are there, over restarts too.
#[derive(Clone, Debug)]
pub struct Profiles {
    interfaces: BTreeMap<String, Gateway>,
    ids: BTreeMap<PoolOn, u16>,
    wanted: BTreeSet<PoolOn>,
    encoded: BTreeMap<u16, (Dhcp, Profile)>,
}

impl Profiles {
    /// With the ids that the store has.
    #[must_use]
    pub fn new(interfaces: BTreeMap<String, Gateway>, ids: BTreeMap<PoolOn, u16>) -> Self {
        Self {
            interfaces,
            ids,
            wanted: BTreeSet::new(),
            encoded: BTreeMap::new(),
        }
    }

    /// A pool is used on an interface; the next [`Profiles::follow`] makes its profile.
    pub fn want(&mut self, pool: &PoolId, interface: &str) {
        let on = on(pool, interface);
        if self.interfaces.contains_key(interface) && !self.ids.contains_key(&on) {
            self.wanted.insert(on);
        }
    }

    /// The id of a pool's profile on an interface, if it has one.
    #[must_use]
    pub fn id(&self, pool: &PoolId, interface: &str) -> Option<u16> {
        self.ids
            .get(&on(pool, interface))
            .copied()
            .filter(|id| self.encoded.contains_key(id))
    }

    /// A profile.
    #[must_use]
    pub fn get(&self, id: u16) -> Option<&Profile> {
        self.encoded.get(&id).map(|(_, profile)| profile)
    }

    /// Follows the pools: returns changes of ids (to be made durable first), profiles to write into the
    /// kernel afterwards, and what gets none.
    pub fn follow<'a>(
        &mut self,
        pools: impl Iterator<Item = &'a Pool>,
    ) -> (Vec<ProfileChange>, Vec<(u16, Profile)>, Vec<ProfileProblem>) {
        let (mut changes, mut writes, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        let pools: BTreeMap<&PoolId, &Dhcp> = pools
            .filter_map(|pool| Some((pool.id(), pool.dhcp()?)))
            .collect();
        // An id that becomes free now is not given at once: entries of the interface that is gone may
        // stand in the kernel until they have been compared.
        let used: BTreeSet<u16> = self.ids.values().copied().collect();
        let mut free = (0..PROFILES).filter(|id| !used.contains(id));
        let stays = |on: &PoolOn| {
            pools.contains_key(&on.pool) && self.interfaces.contains_key(&on.interface)
        };
        let gone: Vec<_> = self.ids.keys().filter(|on| !stays(on)).cloned().collect();
        self.wanted.retain(stays);
        for on in gone {
            if let Some(id) = self.ids.remove(&on) {
                self.encoded.remove(&id);
            }
            changes.push(ProfileChange::Drop(on));
        }
        let all: Vec<PoolOn> = self.ids.keys().chain(&self.wanted).cloned().collect();
        for on in all {
            let (Some(dhcp), Some(gateway)) =
                (pools.get(&on.pool), self.interfaces.get(&on.interface))
            else {
                continue;
            };
            let known = self.ids.get(&on).copied();
            let same = |id| {
                self.encoded
                    .get(&id)
                    .is_some_and(|(made_of, _)| made_of == *dhcp)
            };
            if known.is_some_and(same) {
                continue;
            }
            let profile = match encode_profile(dhcp, *gateway) {
                Ok(profile) => profile,
                Err(why) => {
                    problems.push(ProfileProblem::Encode { on, why });
                    continue;
                }
            };
            let Some(id) = known.or_else(|| free.next()) else {
                problems.push(ProfileProblem::TooMany(on));
                continue;
            };
            if known.is_none() {
                self.wanted.remove(&on);
                self.ids.insert(on.clone(), id);
                changes.push(ProfileChange::Assign(on, id));
            }
            self.encoded.insert(id, ((*dhcp).clone(), profile));
            writes.push((id, profile));
        }
        (changes, writes, problems)
    }
}

fn on(pool: &PoolId, interface: &str) -> PoolOn {
    PoolOn {
        pool: pool.clone(),
        interface: interface.to_owned(),
    }
}

/// The kernel's form of a pool's DHCP data on an interface.
fn encode_profile(dhcp: &Dhcp, gateway: Gateway) -> Result<Profile, String> {
    let octets =
        |list: &[Ipv4Addr]| -> Vec<[u8; 4]> { list.iter().map(Ipv4Addr::octets).collect() };
    let (dns, ntp) = (octets(&dhcp.dns), octets(&dhcp.ntp));
    let custom: Vec<(u8, &[u8])> = dhcp
        .options
        .iter()
        .map(|(code, value)| (*code, value.as_slice()))
        .collect();
    encode(&ProfileParts {
        server_id: gateway.server_id.unwrap_or(dhcp.router).octets(),
        next_server: dhcp.next_server.map_or([0; 4], |server| server.octets()),
        gateway_mac: gateway.mac,
        lease_secs: u32::try_from(dhcp.lease_time.as_secs()).unwrap_or(u32::MAX),
        subnet_mask: dhcp.netmask().octets(),
        routers: &[dhcp.router.octets()],
        dns: &dns,
        domain_name: dhcp.domain_name.as_deref(),
        mtu: dhcp.mtu,
        ntp: &ntp,
        rapid_commit: dhcp.rapid_commit,
        custom: &custom,
    })
    .map_err(|error| error.to_string())
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

    fn profiles(ids: &[(&PoolOn, u16)]) -> Profiles {
        let gateway = |last, server_id| Gateway {
            mac: [2, 0, 0, 0, 0, last],
            server_id,
        };
        let other = Ipv4Addr::new(192, 0, 2, 1);
        let interfaces = [
            ("eth1", gateway(1, None)),
            ("eth2", gateway(2, Some(other))),
        ];
        Profiles::new(
            interfaces.map(|(name, own)| (name.to_owned(), own)).into(),
            ids.iter().map(|(on, id)| ((*on).clone(), *id)).collect(),
        )
    }

    #[test]
    fn a_pool_keeps_its_profile_and_a_free_one_is_given_again() {
        let (a, b, c) = (
            pool("a", "10.0.0.0/24"),
            pool("b", "10.1.0.0/24"),
            pool("c", "10.2.0.0/24"),
        );
        let [on_a, on_b, on_c] = [&a, &b, &c].map(|pool| on(pool.id(), "eth1"));
        let mut profiles = profiles(&[(&on_b, 0)]);
        assert_eq!(profiles.id(b.id(), "eth1"), None, "not in the kernel yet");
        profiles.want(a.id(), "eth1");
        let (changes, writes, problems) = profiles.follow([&a, &b, &c].into_iter());
        assert_eq!(changes, [ProfileChange::Assign(on_a, 1)]);
        assert_eq!(writes.len(), 2, "c is not used");
        assert!(problems.is_empty());
        let id = |profiles: &Profiles, pool: &Pool| profiles.id(pool.id(), "eth1");
        assert_eq!((id(&profiles, &a), id(&profiles, &b)), (Some(1), Some(0)));
        let (changes, writes, _) = profiles.follow([&a, &b].into_iter());
        assert!(changes.is_empty() && writes.is_empty());
        profiles.want(c.id(), "eth1");
        let (changes, _, _) = profiles.follow([&a, &c].into_iter());
        let expected = [ProfileChange::Drop(on_b), ProfileChange::Assign(on_c, 2)];
        assert_eq!(changes, expected, "0 has only just become free");
        profiles.want(b.id(), "eth1");
        profiles.follow([&a, &b, &c].into_iter());
        assert_eq!(id(&profiles, &b), Some(0));
        let profile = profiles.get(2).unwrap();
        assert_eq!((profile.present, profile.lease_secs), (1, 3600));
        assert_eq!(profile.server_id, [10, 2, 0, 1]);
        assert_eq!(profile.gateway_mac, [2, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn each_interface_has_its_own_mac_and_server_id_for_a_pool() {
        let a = pool("a", "10.0.0.0/24");
        let mut profiles = profiles(&[]);
        for interface in ["eth1", "eth2", "eth2", "gone"] {
            profiles.want(a.id(), interface);
        }
        let (changes, writes, _) = profiles.follow([&a].into_iter());
        assert_eq!((changes.len(), writes.len()), (2, 2));
        let one = profiles.get(profiles.id(a.id(), "eth1").unwrap()).unwrap();
        assert_eq!(one.server_id, [10, 0, 0, 1]);
        let other = profiles.get(profiles.id(a.id(), "eth2").unwrap()).unwrap();
        assert_eq!(other.server_id, [192, 0, 2, 1]);
        assert_eq!(other.gateway_mac, [2, 0, 0, 0, 0, 2]);
        assert_eq!(profiles.id(a.id(), "gone"), None);
        let mut spec = a.spec().clone();
        spec.dhcp.mtu = Some(1400);
        let changed = Pool::new(spec).unwrap();
        let (changes, writes, _) = profiles.follow([&changed].into_iter());
        assert_eq!((changes.len(), writes.len()), (0, 2));
    }

    #[test]
    fn an_interface_that_is_gone_leaves_its_profiles() {
        let a = pool("a", "10.0.0.0/24");
        let gone = on(a.id(), "eth0");
        let mut profiles = profiles(&[(&gone, 0)]);
        profiles.want(a.id(), "eth1");
        let (changes, _, _) = profiles.follow([&a].into_iter());
        let new = ProfileChange::Assign(on(a.id(), "eth1"), 1);
        assert_eq!(changes, [ProfileChange::Drop(gone), new]);
    }
}
