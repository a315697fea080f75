//! Embeds the kernel program; says how to build it if it is not there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    println!("cargo:rerun-if-env-changed=NEXUS_EBPF_OBJECT");
    let object = std::env::var_os("NEXUS_EBPF_OBJECT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/nexus-ebpf"),
        PathBuf::from,
    );
    println!("cargo:rerun-if-changed={}", object.display());
    let Some(out) = std::env::var_os("OUT_DIR") else {
        eprintln!("OUT_DIR is not set: this is a build script, cargo runs it");
        return ExitCode::FAILURE;
    };
    match std::fs::copy(&object, Path::new(&out).join("nexus-ebpf.o")) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "nexus-sidecar embeds the kernel program, and {} cannot be read ({error}).\n\
                 Build it first: cargo xtask build-ebpf\n\
                 (or name one that is built already: NEXUS_EBPF_OBJECT=/path/to/nexus-ebpf)",
                object.display()
            );
            ExitCode::FAILURE
        }
    }
}
