//! How each client program is started: its files, its configuration, a file system of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::lease::END;
use super::{Kind, Manner};
use crate::access_node::{SUBSCRIBER_INTERFACE, Subscriber};
use crate::command;
use crate::link;

/// Debian's configuration of `dhclient`: what it asks for, and that it tells its host name.
const DHCLIENT_CONF: &str = "/etc/dhcp/dhclient.conf";
/// Not on anybody's PATH.
const NETWORKD: &str = "/lib/systemd/systemd-networkd";

/// Files of one client.
pub(super) struct Files {
    stem: PathBuf,
}

impl Files {
    pub(super) fn new(kind: Kind, subscriber: &Subscriber, directory: &Path) -> Self {
        let stem = format!("{}-{}", subscriber.namespace.name(), kind.name());
        Self {
            stem: directory.join(stem),
        }
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.stem.with_added_extension(ending)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.file("log")
    }

    pub(super) fn events(&self) -> PathBuf {
        self.file("events")
    }

    /// What the program keeps between its runs, and networkd while it runs.
    pub(super) fn state(&self) -> PathBuf {
        self.file("state")
    }

    fn script(&self) -> PathBuf {
        self.file("script")
    }
}

/// The command that runs the client in the foreground; what it needs is written.
pub(super) fn command(
    kind: Kind,
    subscriber: &Subscriber,
    files: &Files,
    manner: Manner,
) -> Result<Command> {
    let script = files.script();
    std::fs::write(&script, script_text(kind, &files.events(), manner))
        .context("cannot write a client's script")?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
        .context("cannot make a client's script executable")?;
    // A client that starts has no lease yet, whatever an earlier one wrote down.
    std::fs::write(files.events(), "").context("cannot write a client's events")?;
    std::fs::create_dir_all(files.state()).context("cannot make a client's directory")?;
    let mut command = subscriber.namespace.command("taskset");
    command.args(["-c", &link::line_cpu().to_string()]);
    match kind {
        Kind::Udhcpc => {
            realtime(&mut command);
            command.args(["udhcpc", "-f", "-t", "5", "-T", "2", "-A", "2"]);
            command.args(["-i", SUBSCRIBER_INTERFACE, "-s"]).arg(script);
            if manner == Manner::Suspicious {
                command.arg("-a");
            }
        }
        Kind::Dhclient => {
            realtime(&mut command);
            command.args(dhclient(files)?);
        }
        Kind::Dhcpcd => {
            let inform = match manner {
                Manner::Informs(address) => format!("--inform={address}/24"),
                Manner::Plain | Manner::Suspicious => String::new(),
            };
            let text = format!(
                "{OWN_RUN}\n\
                 mkdir /run/dhcpcd\n\
                 mount --bind '{}' /var/lib/dhcpcd\n\
                 exec dhcpcd -4 -B -d -c '{}' {inform} {SUBSCRIBER_INTERFACE}",
                files.state().display(),
                script.display(),
            );
            own_file_system(&mut command, &text);
        }
        Kind::Networkd => {
            let text = networkd(&files.state(), manner);
            own_file_system(&mut command, &text);
            command.env("SYSTEMD_LOG_LEVEL", "debug");
            command.env("SYSTEMD_LOG_TARGET", "console");
        }
    }
    Ok(command)
}

/// The program and its arguments.
fn dhclient(files: &Files) -> Result<Vec<String>> {
    let own = "timeout 20;\nretry 2;\ninitial-interval 1;\n";
    // Without the package's file it asks for little, and is still a client.
    let debian = std::fs::read_to_string(DHCLIENT_CONF).unwrap_or_default();
    let config = files.file("conf");
    std::fs::write(&config, debian + own).context("cannot write dhclient's configuration")?;
    let mut words = ["dhclient", "-4", "-d", "-v"].map(str::to_owned).to_vec();
    for (option, file) in [
        ("-cf", config),
        ("-sf", files.script()),
        ("-lf", files.file("leases")),
        ("-pf", files.file("pid")),
    ] {
        words.extend([option.to_owned(), file.display().to_string()]);
    }
    words.push(SUBSCRIBER_INTERFACE.to_owned());
    Ok(words)
}

/// The program and its arguments that make a running `dhclient` give back its lease and end.
pub(super) fn dhclient_release(files: &Files) -> Result<Vec<String>> {
    let mut words = dhclient(files)?;
    words.insert(1, "-r".to_owned());
    Ok(words)
}

/// For a shell in a mount and host name namespace: nothing of the host's services is seen, and
/// nothing of this stays behind. The name is what such a client tells of itself.
const OWN_RUN: &str = "set -e\n\
                       echo subscriber >/proc/sys/kernel/hostname\n\
                       mount -t tmpfs -o mode=755 tmpfs /run";

/// networkd wants udev only where it may write to sysfs; its identifier comes from the machine's.
fn networkd(state: &Path, manner: Manner) -> String {
    let decline = if manner == Manner::Suspicious {
        "yes"
    } else {
        "no"
    };
    format!(
        "{OWN_RUN}\n\
         mount -t sysfs sysfs /sys\n\
         mount -o remount,bind,ro /sys\n\
         mkdir -p /run/systemd/network /run/systemd/netif\n\
         mount --bind '{state}' /run/systemd/netif\n\
         mkdir -p /run/systemd/netif/leases /run/systemd/netif/links /run/systemd/netif/lldp\n\
         chown -R systemd-network:systemd-network /run/systemd/netif\n\
         echo 5c0d7a91c833206f9d1e4b7a60f2c385 >/run/machine-id\n\
         mount --bind /run/machine-id /etc/machine-id\n\
         cat >/run/systemd/network/10-subscriber.network <<end\n\
         [Match]\n\
         Name={SUBSCRIBER_INTERFACE}\n\
         [Network]\n\
         DHCP=ipv4\n\
         IPv6AcceptRA=no\n\
         LinkLocalAddressing=no\n\
         LLDP=no\n\
         [DHCPv4]\n\
         SendDecline={decline}\n\
         end\n\
         exec {NETWORKD}",
        state = state.display(),
    )
}

fn own_file_system(command: &mut Command, script: &str) {
    command.args(["unshare", "--mount", "--uts", "sh", "-c", script]);
}

/// A client is not interrupted by the delivery of a reply while it still sends the request; see
/// [`link::deliver_later`]. Its script runs as everybody else.
const REALTIME: [&str; 4] = ["chrt", "--reset-on-fork", "--fifo", "1"];

/// Some containers refuse it; a client may then have to ask twice.
fn realtime(command: &mut Command) {
    let mut probe = Command::new(REALTIME[0]);
    if command::output(probe.args(&REALTIME[1..]).arg("true")).is_ok() {
        command.args(REALTIME);
    }
}

/// The clients call their script with variables in the environment; `udhcpc` names the event in the
/// first argument, the others in `$reason`. `dhcpcd` sets addresses and routes itself. `dhclient`
/// leaves to its script whether the address is free, and declines it if the script fails.
fn script_text(kind: Kind, events: &Path, manner: Manner) -> String {
    let set = if kind == Kind::Dhcpcd {
        ""
    } else {
        r#"case "${1:-$reason}" in
deconfig | PREINIT)
    ip address flush dev "$interface"
    ip link set dev "$interface" up
    ;;
bound | renew | BOUND | RENEW | REBIND | REBOOT)
    ip address replace "${ip:-$new_ip_address}/${subnet:-$new_subnet_mask}" dev "$interface"
    for gateway in ${router:-$new_routers}; do
        ip route replace default via "$gateway" dev "$interface"
        break
    done
    ;;
esac
"#
    };
    let judge = if kind == Kind::Dhclient && manner == Manner::Suspicious {
        "[ \"$reason\" != BOUND ] || exit 1\n"
    } else {
        ""
    };
    format!(
        "#!/bin/sh\n{judge}{set}{{\n    echo \"event=${{1:-$reason}}\"\n    env\n    echo \"{END}\"\n}} >>'{}'\n",
        events.display()
    )
}
