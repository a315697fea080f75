//! A writer that is killed in the middle of a write: what it leaves serves, and is put right by the next one.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nexus_abi::{Binding, BindingKey, Circuit, NEVER_EXPIRES};
use nexus_sidecar::fastpath::FastPath;

use crate::bench::Bench;
use crate::home::{POOL, address, binding, by_mac, config, discover, mac};
use crate::world::is_slow_machine;

/// Tells the test program that it is the writer, and where.
const WRITER: &str = "NEXUS_TEST_WRITER";
/// What it says when it has written for a while.
const WRITES: &str = "the writer writes";
/// So many that entries have to move all the time.
const MOST: u32 = 256;
/// Clients whose bindings nobody changes.
const STEADY: u32 = 64;

/// Keys that the writer puts, changes and removes.
fn changing(number: u32) -> BindingKey {
    match number % 2 {
        0 => by_mac(0, number),
        _ => BindingKey::Circuit {
            interface: 0,
            circuit: Circuit::new(format!("olt 1/{number}").as_bytes(), b"").unwrap(),
        },
    }
}

/// What it may write: the address is always the client's own, and end and profile belong together.
fn version(number: u32, version: u32) -> Binding {
    Binding {
        valid_until_secs: NEVER_EXPIRES - version,
        profile: (version % 3) as u16,
        ..binding(number)
    }
}

/// Not a test: the writer that another test starts and kills.
#[test]
#[ignore = "needs root and the kernel"]
fn write_until_killed() {
    let Some(root) = std::env::var_os(WRITER) else {
        return;
    };
    let mut fast_path = FastPath::open(&config(&PathBuf::from(root), MOST)).unwrap();
    let mut random = u64::from(std::process::id());
    for count in 0_u32.. {
        if count == 2 * MOST {
            eprintln!("{WRITES}");
        }
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let number = 1000 + (random >> 40) as u32 % (MOST * 2);
        if random >> 33 & 1 == 0 {
            fast_path.remove_binding(&changing(number));
        } else {
            // It is full again and again.
            let _ = fast_path.put_binding(&changing(number), &version(number, count % 1000));
        }
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn what_a_killed_writer_leaves_serves_at_once_and_is_whole_after_the_next_start() {
    let bench = Bench::new("kill");
    let mut fast_path = bench.home.with_pool(MOST);
    for number in 1..=STEADY {
        fast_path
            .put_binding(&by_mac(0, number), &binding(number))
            .unwrap();
    }
    bench.native(&mut fast_path);
    drop(fast_path);
    let client = bench.client();
    let mut left = BTreeMap::new();
    for round in 0..if is_slow_machine() { 3 } else { 10_u32 } {
        // This program, even if its file has been replaced meanwhile.
        let mut writer = Command::new("/proc/self/exe")
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("killed::write_until_killed")
            .env(WRITER, bench.home.root())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(writer.stderr.take().unwrap()).lines();
        let mut said = said.map_while(Result::ok);
        assert!(said.any(|line| line.contains(WRITES)));
        // When it is killed does not matter, only that it is never at the same place.
        std::thread::sleep(Duration::from_micros(3_000 + 5_113 * u64::from(round)));
        writer.kill().unwrap();
        writer.wait().unwrap();
        // The kernel reads what there is, and nobody has put it right yet.
        for number in 1..=STEADY {
            let xid = round * STEADY + number;
            client.send(&discover(number, xid)).unwrap();
            assert_eq!(client.offer(xid).unwrap(), Some(address(number)));
        }
        let fast_path = bench.home.open(MOST);
        let all: BTreeMap<_, _> = fast_path.bindings().into_iter().collect();
        assert_eq!(
            all.len(),
            fast_path.bindings().len(),
            "a key is there twice"
        );
        for number in 1..=STEADY {
            let found = fast_path.binding(&by_mac(0, number)).unwrap();
            assert_eq!(
                (found.address, found.profile),
                (address(number).octets(), POOL)
            );
        }
        let changed = (1000..1000 + MOST * 2).filter_map(|number| {
            let found = fast_path.binding(&changing(number))?;
            assert_eq!(found.mac, mac(number));
            let right = version(number, NEVER_EXPIRES - found.valid_until_secs);
            assert_eq!(found, right);
            Some(number)
        });
        assert_eq!(changed.count() + STEADY as usize, all.len());
        left.insert(round, all.len());
    }
    // It has got somewhere each time.
    assert!(left.values().all(|count| *count > STEADY as usize));
}
