//! What stands on record of pools that are gone: it is in the way of new ones, and the audit sees what overlaps.

use nexus_clset::Fence;
use nexus_core::resource::{Resource, ResourceType};

use super::*;

impl Bench {
    /// Puts an allocation on record as another server or an older pool could have left it there.
    fn leave(&mut self, kind: ResourceType, text: &str, who: u8, state: AllocationState) {
        let at = crate::allocation::to_millisecond(self.now.wall);
        let allocation = Allocation {
            place: Place {
                vrf: "default".into(),
                resource: Resource::parse(kind, text).unwrap(),
            },
            pool: PoolId::new("gone").unwrap(),
            subscriber: subscriber(who),
            olt: olt("olt-9"),
            session: None,
            shard: nexus_core::id::ShardId(0),
            epoch: Epoch(1),
            seq: Seq(u64::from(who)),
            state,
            made_at: at,
            changed_at: at,
            metadata: BTreeMap::new(),
        };
        let now = self.now;
        self.centre.save(&now, Fence::epoch(1), allocation).unwrap();
        self.settle();
    }

    fn refused(&self, spec: PoolSpec) -> Option<u64> {
        match self.centre.prepare_create(spec) {
            Ok(_) => None,
            Err(Refused::PoolHasAllocations { count, .. }) => Some(count),
            Err(other) => panic!("{other}"),
        }
    }
}

fn prefixes(cidr: &str, length: u8) -> PoolSpec {
    let mut spec = PoolSpec::minimal(PoolId::new("new").unwrap(), ResourceType::Ipv6, cidr);
    spec.delegated_length = Some(length);
    spec
}

fn blocks(range: &str, addresses: Option<&str>) -> PoolSpec {
    let mut spec = PoolSpec::minimal(PoolId::new("new").unwrap(), ResourceType::Port, range);
    spec.addresses = addresses.map(ToOwned::to_owned);
    spec
}

#[test]
fn what_is_still_held_is_in_the_way_of_a_pool_whatever_the_size_of_its_units() {
    let mut bench = Bench::new();
    let held = AllocationState::Active;
    bench.leave(ResourceType::Ipv6, "2001:db8:0:100::/56", 1, held);
    for (cidr, length, expected) in [
        ("2001:db8::/48", 56, Some(1)),
        ("2001:db8::/48", 64, Some(1)),
        // The new pool lies inside what is held, and begins behind where that begins.
        ("2001:db8:0:180::/57", 64, Some(1)),
        ("2001:db8::/56", 64, None),
        ("2001:db8:0:200::/56", 64, None),
    ] {
        assert_eq!(bench.refused(prefixes(cidr, length)), expected, "{cidr}");
    }
    bench.leave(ResourceType::Port, "192.0.2.1:1024-2047", 2, held);
    let near = Some("192.0.2.0/24");
    for (range, addresses, expected) in [
        ("2000-2999", near, Some(1)),
        ("2000-2999", None, Some(1)),
        ("2048-2999", near, None),
        ("1024-2999", Some("192.0.3.0/24"), None),
    ] {
        assert_eq!(bench.refused(blocks(range, addresses)), expected, "{range}");
    }
}

#[test]
fn what_rests_is_in_the_way_only_of_a_pool_with_other_units() {
    let mut bench = Bench::new();
    let rests = AllocationState::Released;
    bench.leave(ResourceType::Ipv6, "2001:db8:0:100::/56", 1, rests);
    assert_eq!(bench.refused(prefixes("2001:db8::/48", 56)), None);
    assert_eq!(bench.refused(prefixes("2001:db8::/48", 60)), Some(1));
    bench.pass(REST);
    assert_eq!(bench.refused(prefixes("2001:db8::/48", 60)), None);
}

#[test]
fn the_audit_finds_on_record_what_lies_in_one_another() {
    let mut bench = Bench::new();
    let held = AllocationState::Active;
    bench.leave(ResourceType::Ipv6, "2001:db8::/48", 1, held);
    bench.leave(ResourceType::Ipv6, "2001:db8:0:1::/64", 2, held);
    bench.leave(ResourceType::Ipv6, "2001:db8:1::/48", 3, held);
    let audit = bench.centre.audit();
    assert_eq!((audit.checked, audit.duplicates.len()), (3, 1));
    let who: Vec<&str> = audit.duplicates[0]
        .holders
        .iter()
        .map(|(subscriber, _)| subscriber.as_str())
        .collect();
    assert_eq!(who, ["sub-1", "sub-2"]);
    assert_eq!(bench.centre.gauges("core").duplicates, 1);
    assert_eq!(audit.walked, None);
    bench.pass(Duration::from_secs(1));
    let walked = bench.centre.audit().walked.unwrap();
    assert_eq!((walked.at, walked.checked), (bench.now.wall, 3));
    bench.restart();
    assert_eq!(bench.centre.audit().duplicates, audit.duplicates);
}
