//! libFuzzer around the target that the environment names; `cargo xtask fuzz` builds and starts it.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

/// Name of the variable with the target's name.
const TARGET: &str = "NEXUS_FUZZ_TARGET";

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    let name = std::env::var(TARGET).unwrap_or_default();
    match nexus_fuzz::target(&name) {
        Some(target) => target.run,
        None => {
            eprintln!("{TARGET} names no target: {name:?}");
            std::process::exit(2);
        }
    }
}

fuzz_target!(|data: &[u8]| RUN.get_or_init(chosen)(data));
