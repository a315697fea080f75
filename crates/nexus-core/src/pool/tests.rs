//! Tests of pools: the customer's examples, bad input, and arithmetic as properties.

use super::*;

fn pool(yaml: &str) -> Result<Pool, String> {
    let spec: PoolSpec = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    Pool::new(spec).map_err(|error| error.to_string())
}

#[test]
fn the_customers_residential_pool_has_256_shards_of_18() {
    let pool = pool(
        "id: residential-ipv4\ntype: ipv4\ncidr: 100.64.0.0/10\nsharding_factor: 100\n\
         exclusions: [100.64.0.0/24]\nmetadata: {region: east, service_type: residential}\n",
    )
    .unwrap();
    assert_eq!(pool.shard_count(), 256);
    assert_eq!(
        pool.shard_range(ShardId(0)).unwrap().to_string(),
        "100.64.0.0/18"
    );
    assert_eq!(
        pool.shard_range(ShardId(3)).unwrap().to_string(),
        "100.64.192.0/18"
    );
    assert_eq!(pool.shard_range(ShardId(256)), None);
    assert_eq!(pool.units(ShardId(0)), 16_384);
    assert_eq!(pool.allocatable_units(ShardId(0)), 16_384 - 256);
    assert_eq!(pool.allocatable_units(ShardId(255)), 16_383);
    assert_eq!(pool.dhcp().unwrap().router.to_string(), "100.64.0.1");
    assert_eq!(pool.dhcp().unwrap().netmask().to_string(), "255.192.0.0");
    assert_eq!(pool.region(), Some("east"));
}
