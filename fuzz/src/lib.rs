//! What a fuzzer feeds to the parsers and the reply writer: one function per target, which panics where a rule
//! is broken.
//!
//! `cargo xtask fuzz` runs them under libFuzzer; the inputs that it has found worth keeping lie in `corpus/`
//! and are replayed by a plain `cargo test`. Each target holds the code against something slower and
//! plainer written for it here, not only against panics.

mod circuit;
mod exchange;
mod frame;
mod mend;
mod options;
mod radius;
mod seeds;

/// Something that takes any bytes.
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Most bytes of an input that make sense.
    pub max_len: usize,
    /// Panics if the code under test breaks a rule.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "options",
        max_len: 1300,
        run: options::run,
        seeds: seeds::options,
    },
    Target {
        name: "frame",
        max_len: 1600,
        run: frame::run,
        seeds: seeds::frames,
    },
    Target {
        name: "exchange",
        max_len: 1600,
        run: exchange::run,
        seeds: seeds::exchanges,
    },
    Target {
        name: "circuit",
        max_len: 260,
        run: circuit::run,
        seeds: seeds::circuits,
    },
    Target {
        name: "radius",
        max_len: 4100,
        run: radius::run,
        seeds: seeds::radius,
    },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
