//! Every task of this repository: build-ebpf, demo, test, lint.
fn main() {}
