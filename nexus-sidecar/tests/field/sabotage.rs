//! Proof that the run can fail: what the product never does is done to it by hand, and is found.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nexus_testkit::bpf;
use nexus_testkit::field::bench::{BenchPlan, Field};
use nexus_testkit::field::host::read_map;
use nexus_testkit::field::plan::FieldPlan;
use nexus_testkit::field::run;
use nexus_testkit::field::subscribers::mac;

/// What was written.
struct Forged {
    address: String,
    map: u64,
    key: Vec<u8>,
}

/// Writes an address of the first host into the map of the second one, for a subscriber of its own: into a bucket that
/// nothing stands in, as the sidecar would not.
fn forge(field: &Field) -> Result<Forged> {
    let (_, _, entries) = read_map(&field.hosts[0].map())?;
    let entry = entries.first().context("nobody is bound")?;
    let map = field.hosts[1].map();
    let rows = bpf::map_dump(&map)?;
    let empty = |row: &&serde_json::Value| {
        let bytes = row
            .get("value")
            .and_then(bpf::raw_bytes)
            .unwrap_or_default();
        bytes.iter().all(|byte| *byte == 0)
    };
    let row = rows.iter().find(empty).context("no empty bucket")?;
    let key = row.get("key").and_then(bpf::raw_bytes).context("no key")?;
    let mut bucket = vec![0; 64];
    bucket[..6].copy_from_slice(&mac(199));
    bucket[6] = nexus_abi::BindingKey::KIND_MAC;
    let held = nexus_abi::Entry::HELD;
    bucket[held..held + 4].copy_from_slice(&entry.address.octets());
    bucket[held + 4..held + 8].copy_from_slice(&nexus_abi::NEVER_EXPIRES.to_ne_bytes());
    let map = bpf::map_id(&map)?;
    bpf::map_update(map, &key, &bucket)?;
    Ok(Forged {
        address: entry.address.to_string(),
        map,
        key,
    })
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn a_foreign_entry_in_a_map_is_found() {
    let plan = FieldPlan::calm(1);
    let mut field = Field::start(&BenchPlan::field(plan.subscribers)).unwrap();
    let mut forged = String::new();
    let report = run::on(&mut field, &plan, |field, journal| {
        let written = forge(field)?;
        journal.tell(&format!(
            "{} was forged into the map of OLT 1",
            written.address
        ));
        forged.clone_from(&written.address);
        // More than two rounds of samples, on a busy machine as well.
        std::thread::sleep(Duration::from_secs(10));
        bpf::map_update(written.map, &written.key, &[0; 64])
    });
    let report = report.unwrap_or_else(|error| panic!("{error:#}\n{}", field.logs(20)));
    let found: Vec<_> = report
        .found
        .iter()
        .filter(|one| one.rule == "one holder")
        .collect();
    assert!(!found.is_empty(), "nothing was found: {}", report.brief());
    assert!(
        found.iter().all(|one| one.what.starts_with(&forged)),
        "{found:?}"
    );
}
