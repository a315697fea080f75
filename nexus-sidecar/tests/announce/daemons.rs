//! FRR and BIRD in namespaces, with files and sockets of their own: nothing of `/etc/frr` or `/run/frr` is used.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nexus_testkit::command;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::link::{self, End};
use nexus_testkit::netns::Namespace;
use nexus_testkit::process::Process;
use serde_json::Value;

use crate::world::LIMIT;

/// The link between host and neighbour.
pub const HOST: &str = "192.0.2.1";
pub const NEIGHBOUR: &str = "192.0.2.2";
const NEIGHBOUR_V6: &str = "fd00:9::2";
pub const HOST_V6: &str = "fd00:9::1";
/// AS numbers (RFC 6996: for private use).
pub const HOST_AS: u32 = 65001;
const NEIGHBOUR_AS: u32 = 65002;

/// `zebra` and `bgpd`. Dropped, they are killed.
pub struct Frr {
    folder: PathBuf,
    _daemons: [Process; 2],
}

impl Frr {
    /// Starts both in `namespace`: what concerns zebra stands in `zebra`, the rest in `bgp`.
    pub fn start(namespace: &Namespace, folder: &Path, zebra: &str, bgp: &str) -> Self {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join("zebra.conf"), zebra).unwrap();
        std::fs::write(folder.join("bgpd.conf"), bgp).unwrap();
        // The daemons give up root for the user frr, who has to reach the folder.
        for path in folder
            .ancestors()
            .filter(|path| path.starts_with(std::env::temp_dir()))
        {
            if path != std::env::temp_dir() {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let mut own = Command::new("chown");
        command::output(own.args(["-R", "frr:frr"]).arg(folder)).unwrap();
        let daemons = ["zebra", "bgpd"].map(|name| {
            let mut command = namespace.command(&format!("/usr/lib/frr/{name}"));
            command.arg("-i").arg(folder.join(format!("{name}.pid")));
            command.arg("--vty_socket").arg(folder);
            command.arg("-z").arg(folder.join("zserv.api"));
            command.arg("-f").arg(folder.join(format!("{name}.conf")));
            command.args(["-P", "0", "--log", "stdout"]);
            let log = folder.with_extension(format!("{name}.log"));
            let mut daemon = Process::spawn(name, &mut command, &log).unwrap();
            let socket = folder.join(format!("{name}.vty"));
            daemon
                .wait_until("its vty", LIMIT, || Ok(socket.exists().then_some(())))
                .unwrap();
            daemon
        });
        Self {
            folder: folder.to_owned(),
            _daemons: daemons,
        }
    }

    /// What a command of `vtysh` prints.
    pub fn show(&self, what: &str) -> String {
        let mut vtysh = Command::new("vtysh");
        vtysh
            .arg("--vty_socket")
            .arg(&self.folder)
            .args(["-c", what]);
        command::output(&mut vtysh).unwrap_or_default()
    }
}

/// The neighbour, who takes what the host announces.
pub struct Neighbour {
    frr: Frr,
    _namespace: Namespace,
}

impl Neighbour {
    /// Joins it to the host by a link of its own and starts it.
    pub fn start(prefix: &str, host: &Namespace, folder: &Path) -> Self {
        let namespace = Namespace::create(prefix, "neighbour").unwrap();
        link::veth(End::new(host, "up0"), End::new(&namespace, "down0")).unwrap();
        for (namespace, interface, v4, v6) in [
            (host, "up0", HOST, HOST_V6),
            (&namespace, "down0", NEIGHBOUR, NEIGHBOUR_V6),
        ] {
            // A link-local address is what FRR needs before it speaks of IPv6.
            for one in ["all", interface] {
                let file = format!("/proc/sys/net/ipv6/conf/{one}/disable_ipv6");
                namespace
                    .enter(|| std::fs::write(&file, "0"))
                    .unwrap()
                    .unwrap();
            }
            link::add_address(namespace, interface, &format!("{v4}/30")).unwrap();
            let address = [
                "-6",
                "address",
                "add",
                &format!("{v6}/64"),
                "dev",
                interface,
                "nodad",
            ];
            namespace.run("ip", &address).unwrap();
        }
        let bgp = format!(
            "hostname neighbour
router bgp {NEIGHBOUR_AS}
 bgp router-id {NEIGHBOUR}
 no bgp ebgp-requires-policy
 neighbor {HOST} remote-as {HOST_AS}
 neighbor {HOST} timers connect 1
 address-family ipv6 unicast
  neighbor {HOST} activate
 exit-address-family
"
        );
        let frr = Frr::start(
            &namespace,
            &folder.join("neighbour"),
            "hostname neighbour\n",
            &bgp,
        );
        Self {
            frr,
            _namespace: namespace,
        }
    }

    /// The prefixes that it has from the host, of `ipv4` or `ipv6`.
    pub fn has(&self, family: &str) -> BTreeSet<String> {
        let text = self.frr.show(&format!("show bgp {family} unicast json"));
        let Ok(table) = serde_json::from_str::<Value>(&text) else {
            return BTreeSet::new();
        };
        let routes = table["routes"].as_object().into_iter().flatten();
        routes.map(|(prefix, _)| prefix.clone()).collect()
    }

    /// Waits until it has exactly these.
    #[track_caller]
    pub fn wait_for(&self, family: &str, expected: &BTreeSet<String>) {
        let waited = wait_until("the neighbour to have what is owned", LIMIT, || {
            Ok((self.has(family) == *expected).then_some(()))
        });
        if let Err(error) = waited {
            panic!("{error:#}: it has {:?}, not {expected:?}", self.has(family));
        }
    }
}

/// FRR on the host as docs/ROUTING.md has it.
pub fn frr_on(host: &Namespace, folder: &Path) -> Frr {
    let bgp = format!(
        "hostname olt
router bgp {HOST_AS}
 bgp router-id {HOST}
 no bgp ebgp-requires-policy
 neighbor {NEIGHBOUR} remote-as {NEIGHBOUR_AS}
 neighbor {NEIGHBOUR} timers connect 1
 address-family ipv4 unicast
  redistribute table 179
 exit-address-family
"
    );
    let zebra = "hostname olt\nip import-table 179\n";
    Frr::start(host, &folder.join("host"), zebra, &bgp)
}

/// BIRD on the host as docs/ROUTING.md has it.
pub fn bird_on(host: &Namespace, folder: &Path) -> Process {
    let config = folder.join("bird.conf");
    let text = format!(
        "router id {HOST};
ipv4 table nexus4;
ipv6 table nexus6;
protocol device {{ scan time 10; }}
protocol kernel nexus_ipv4 {{
  kernel table 179;
  learn;
  scan time 10;
  ipv4 {{ table nexus4; import where krt_source = 110; export none; }};
}}
protocol kernel nexus_ipv6 {{
  kernel table 179;
  learn;
  scan time 10;
  ipv6 {{ table nexus6; import where krt_source = 110; export none; }};
}}
protocol bgp upstream {{
  local {HOST} as {HOST_AS};
  neighbor {NEIGHBOUR} as {NEIGHBOUR_AS};
  connect delay time 1;
  ipv4 {{ table nexus4; import none; export all; }};
  ipv6 {{ table nexus6; import none; export all; next hop address {HOST_V6}; }};
}}
"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = host.command("/usr/sbin/bird");
    command.arg("-f").arg("-c").arg(&config);
    command.arg("-s").arg(folder.join("bird.ctl"));
    Process::spawn("bird", &mut command, &folder.join("bird.log")).unwrap()
}
