//! The operator's command line, over the public API only.
fn main() {}
