//! What is shipped is what works: the examples load, the unit is sound.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{Place, run};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

#[test]
fn the_commented_examples_are_loaded_by_the_program_itself() {
    let place = Place::new();
    let users = deploy("examples/users.yaml");
    let text = std::fs::read_to_string(deploy("examples/sidecar.yaml")).unwrap();
    let installed = "/etc/nexus-sidecar/users.yaml";
    assert!(text.contains(installed));
    let config = place.config(|_| text.replace(installed, users.to_str().unwrap()));
    let output = run(&["check-config", "--config", config.to_str().unwrap()]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    // Where the program and its user are installed does not matter here.
    let place = Place::new();
    let unit = place.path("nexus-sidecar.service");
    let text = std::fs::read_to_string(deploy("systemd/nexus-sidecar.service")).unwrap();
    let program = "/usr/local/bin/nexus-sidecar";
    assert!(text.contains(program));
    let text = text.replace(program, env!("CARGO_BIN_EXE_nexus-sidecar"));
    std::fs::write(&unit, text).unwrap();
    let Ok(output) = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&unit)
        .output()
    else {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("nexus-sidecar"))
        .collect();
    assert!(output.status.success() && complaints.is_empty(), "{said}");
}
