//! What the verifier needs for the program: budgets that hold for every identity setting.

use std::path::Path;
use std::process::Command;

use nexus_abi::{BindingKey, PROGRAM, SETTINGS, Settings, TRACE_COUNT};
use nexus_testkit::bpf::Pinned;
use nexus_testkit::command;
use nexus_testkit::netns::unique_prefix;
use zerocopy::IntoBytes as _;

use crate::home::{Home, mac};
use crate::world::{interface, is_slow_machine};

/// Instructions that a verifier walks through at most; the kernel's own limit is a million. Older kernels
/// remember less of what they have seen, and walk further.
const MOST_INSTRUCTIONS: u32 = 150_000;
const MOST_INSTRUCTIONS_BEFORE_6_18: u32 = 400_000;
/// Bytes of stack of one function; the kernel's own limit is 512 for all that are called within each
/// other.
const MOST_STACK: u32 = 400;

fn most_instructions() -> u32 {
    let release = nix::sys::utsname::uname().unwrap();
    let release = release.release().to_str().unwrap().to_owned();
    let mut parts = release.split(['.', '-']).map(|part| part.parse::<u32>());
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        panic!("no kernel release: {release}");
    };
    if (major, minor) < (6, 18) {
        MOST_INSTRUCTIONS_BEFORE_6_18
    } else {
        MOST_INSTRUCTIONS
    }
}

/// Every choice of kinds in every order.
fn orders() -> Vec<Vec<u8>> {
    let kinds = [
        BindingKey::KIND_LINE,
        BindingKey::KIND_MAC,
        BindingKey::KIND_VLAN,
        BindingKey::KIND_CIRCUIT,
    ];
    let mut all: Vec<Vec<u8>> = vec![Vec::new()];
    let mut begun = 0;
    while begun < all.len() {
        let order = all[begun].clone();
        let others = kinds.iter().filter(|kind| !order.contains(kind));
        all.extend(others.map(|kind| [&order[..], &[*kind]].concat()));
        begun += 1;
    }
    all.split_off(1)
}

#[test]
#[ignore = "needs root and the kernel"]
fn the_verifier_is_done_within_its_budget_for_every_identity() {
    let home = Home::new("budgets");
    let mut kernel = home.open(16);
    let orders = orders();
    assert_eq!(orders.len(), 4 + 12 + 24 + 24);
    let most = most_instructions();
    let step = if is_slow_machine() { 9 } else { 1 };
    let mut counts = Vec::new();
    for order in orders.iter().rev().step_by(step) {
        kernel.load_only(&interface(0, order, true)).unwrap();
        let count = kernel.verified_instructions(0).unwrap().unwrap();
        assert!(count > 1000, "{count} is not believable");
        assert!(
            count < most,
            "{count} instructions for {order:?}, {most} are the budget"
        );
        counts.push(count);
    }
    // With all that can be switched on every packet has two ways through the program: traced or not. This
    // order of three kinds needed most.
    kernel.load_only(&interface(0, &[3, 2, 4], true)).unwrap();
    let traced = [mac(1); TRACE_COUNT];
    kernel.set_switches(0, true, &traced).unwrap();
    let count = kernel.verified_instructions(0).unwrap().unwrap();
    assert!(count < 2 * most, "{count} instructions, traced");
    let (least, largest) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    eprintln!("{least} to {largest} instructions, {most} are the budget; traced {count}");
}

/// The stack is laid out when the program is compiled; settings only leave out what is never reached.
#[test]
#[ignore = "needs root and the kernel"]
fn the_stack_of_the_program_with_everything_switched_on_is_within_its_budget() {
    let settings = Settings {
        bucket_mask: 1,
        circuit_mask: 1,
        remote_id: 1,
        events: 1,
        traced: TRACE_COUNT as u8,
        identity: [4, 3, 1, 2],
        ..Settings::default()
    };
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/nexus-ebpf");
    let object = with_settings(&std::fs::read(object).unwrap(), &settings);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nexus-ebpf");
    std::fs::write(&file, object).unwrap();
    let loaded = Pinned::load(&file, &unique_prefix("stack")).unwrap();
    let mut dump = Command::new("bpftool");
    dump.args(["prog", "dump", "xlated", "pinned"]);
    let text = command::output(dump.arg(loaded.program(PROGRAM))).unwrap();
    let depth = stack_depth(&text);
    eprintln!("{depth} bytes of stack, {MOST_STACK} are the budget");
    assert!(depth < MOST_STACK, "{depth}");
    assert!(depth > 64, "{depth} is not believable");
}

/// The lowest place that instructions reach below the frame pointer, r10, by themselves or by a pointer
/// that they make of it.
fn stack_depth(dump: &str) -> u32 {
    let mut depth = 0;
    let mut pointers = Vec::new();
    for line in dump.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some((_, behind)) = line.split_once("(r10 -") {
            let (bytes, _) = behind.split_once(')').unwrap();
            depth = depth.max(bytes.parse().unwrap());
        }
        if let [.., pointer, "=", "r10"] = words.as_slice() {
            pointers.push((*pointer).to_owned());
        }
        if let [.., pointer, "+=", bytes] = words.as_slice()
            && let Some(at) = pointers.iter().position(|known| known == pointer)
            && let Ok(bytes) = bytes.parse::<i32>()
        {
            pointers.swap_remove(at);
            depth = depth.max(bytes.unsigned_abs());
        }
    }
    depth
}

#[test]
fn the_depth_of_a_stack_is_read_from_accesses_and_from_pointers() {
    let dump = "   0: (7b) *(u64 *)(r10 -24) = r1\n   1: (bf) r2 = r10\n   2: (07) r2 += -40\n\
                3: (07) r3 += -500\n   4: (79) r1 = *(u64 *)(r10 -8)\n";
    assert_eq!(stack_depth(dump), 40);
}

/// The object with these settings as its constants: `bpftool` cannot set them.
fn with_settings(object: &[u8], settings: &Settings) -> Vec<u8> {
    // ELF-64, little-endian: the section headers, and in them the table of symbols and its strings.
    let number = |at: usize, len: usize| {
        let bytes = object[at..at + len].iter().rev();
        bytes.fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    let section = |index: usize| number(0x28, 8) + index * number(0x3a, 2);
    let offset = |index: usize| number(section(index) + 0x18, 8);
    let count = number(0x3c, 2);
    let symbols = (0..count)
        .find(|index| number(section(*index) + 4, 4) == 2)
        .unwrap();
    let names = offset(number(section(symbols) + 0x28, 4));
    let end = offset(symbols) + number(section(symbols) + 0x20, 8);
    let is_it = |symbol: &usize| {
        let name = &object[names + number(*symbol, 4)..];
        name.starts_with(SETTINGS.as_bytes()) && name[SETTINGS.len()] == 0
    };
    let symbol = (offset(symbols)..end).step_by(24).find(is_it).unwrap();
    assert_eq!(number(symbol + 16, 8), size_of::<Settings>());
    let at = offset(number(symbol + 6, 2)) + number(symbol + 8, 8);
    let mut object = object.to_vec();
    object[at..at + size_of::<Settings>()].copy_from_slice(settings.as_bytes());
    object
}
