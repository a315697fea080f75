//! Configurations, hosts and stores that will not do.

use nexus_store::{Options, Store};

use crate::program::{Place, complaint, run, run_as};

#[test]
fn broken_yaml_and_unknown_fields_are_named_with_their_file_and_line() {
    let place = Place::new();
    for (text, expected) in [
        ("olt: [", "sidecar.yaml"),
        (
            "olt: {id: a}\nnexus_endpoints: ['a:1']\ninterfaces: [{name: e}]\ncolour: blue\n",
            "colour",
        ),
        ("", "sidecar.yaml"),
    ] {
        let config = place.config(|_| text.to_owned());
        for command in ["check-config", "run", "detach"] {
            let said = complaint(&run(&[command, "--config", config.to_str().unwrap()]));
            assert!(said.contains(expected), "{command}: {said}");
        }
    }
    let said = complaint(&run(&["check-config", "--config", "/nonexistent.yaml"]));
    assert!(said.contains("/nonexistent.yaml"), "{said}");
}

#[test]
fn an_interface_that_is_not_there_is_named_and_nothing_is_left_behind() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: without root the missing capabilities are named first");
        return;
    }
    let place = Place::new();
    let config = place.config(|text| text);
    let said = complaint(&run(&["run", "--config", config.to_str().unwrap()]));
    assert!(said.contains("no network interface nosuch0"), "{said}");
    assert!(said.contains("interfaces[0].name"), "{said}");
    assert!(!place.path("store").exists());
    assert!(!place.path("control.sock").exists());
}

#[test]
fn missing_capabilities_are_named_with_how_to_give_them() {
    let place = Place::new();
    let config = place.config(|text| text);
    let arguments = ["run", "--config", config.to_str().unwrap()];
    let output = if nix::unistd::geteuid().is_root() {
        run_as(
            &["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
            &arguments,
        )
    } else {
        run(&arguments)
    };
    let said = complaint(&output);
    for name in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_NET_RAW"] {
        assert!(said.contains(name), "{said}");
    }
    assert!(said.contains("AmbientCapabilities="), "{said}");
}

#[test]
fn a_store_that_another_sidecar_has_open_is_said_so() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: without root the missing capabilities are named first");
        return;
    }
    let place = Place::new();
    let interface = Veth::new("nxcli0", "nxcli1");
    let config = place.config(|text| text.replace("nosuch0", interface.name));
    let store = Store::open(&place.path("store"), Options::default()).unwrap();
    let said = complaint(&run(&["run", "--config", config.to_str().unwrap()]));
    drop(store);
    let store = place.path("store");
    assert!(said.contains(store.to_str().unwrap()), "{said}");
    assert!(said.contains("storage.path"), "{said}");
    assert!(said.contains(&std::process::id().to_string()), "{said}");
}

#[test]
fn without_a_running_sidecar_status_and_bindings_say_so() {
    let place = Place::new();
    let socket = place.path("control.sock");
    for command in ["status", "bindings"] {
        let said = complaint(&run(&[command, "--socket", socket.to_str().unwrap()]));
        assert!(said.contains(socket.to_str().unwrap()), "{said}");
        assert!(said.contains("is it running"), "{said}");
        let config = place.config(|text| text);
        let said = complaint(&run(&[command, "--config", config.to_str().unwrap()]));
        assert!(said.contains(socket.to_str().unwrap()), "{said}");
    }
}

#[test]
fn detach_with_nothing_pinned_is_no_error() {
    let place = Place::new();
    let config = place.config(|text| text);
    let output = run(&["detach", "--config", config.to_str().unwrap()]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("nothing is pinned"));
}

/// A pair of interfaces that goes with the test.
struct Veth {
    name: &'static str,
}

impl Veth {
    fn new(name: &'static str, peer: &str) -> Self {
        ip(&["link", "add", name, "type", "veth", "peer", "name", peer]);
        Self { name }
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        ip(&["link", "del", self.name]);
    }
}

fn ip(arguments: &[&str]) {
    let output = std::process::Command::new("ip")
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
