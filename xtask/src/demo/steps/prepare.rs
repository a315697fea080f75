//! Step 1: the machine has what is needed, everything is built.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nexus_testkit::{access_node, bpf, command, programs};

use crate::demo::Stage;
use crate::demo::report::Report;
use crate::{build_ebpf, prepare, shell};

/// Plays it.
pub fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    prepare::ensure(prepare::TOOLS)?;
    bpf::ensure_bpffs()?;
    let kernel = command::output(Command::new("uname").arg("-r"))?;
    let tools: Vec<&str> = prepare::TOOLS.iter().map(|tool| tool.program).collect();
    report.evidence(format!(
        "kernel {}, tools: {}",
        kernel.trim(),
        tools.join(", ")
    ));

    let began = Instant::now();
    build_ebpf::run(&stage.root)?;
    let object = access_node::object_path();
    report.expect(
        object.is_file(),
        "kernel programs compiled to BPF: nexus-ebpf, access node",
    )?;
    let mut build = shell::cargo(&stage.root);
    build.args([
        "build",
        "--locked",
        "-p",
        "nexus-server",
        "-p",
        "nexus-sidecar",
        "-p",
        "nexusctl",
    ]);
    shell::show(&mut build)?;
    for name in ["nexus-server", "nexus-sidecar", "nexusctl"] {
        programs::path(name)?;
    }
    let seconds = began.elapsed().as_secs_f32();
    report.evidence(format!(
        "nexus-server, nexus-sidecar, nexusctl built ({seconds:.1} s)"
    ));

    std::fs::create_dir_all(&stage.left.directory)
        .with_context(|| format!("cannot make {}", stage.left.directory.display()))?;
    stage.left.write_down()
}
