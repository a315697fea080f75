//! Real DHCP clients: busybox `udhcpc` and ISC `dhclient`, with scripts that write down what they got.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::access_node::{SUBSCRIBER_INTERFACE, Subscriber};
use crate::command;
use crate::link;
use crate::process::Process;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// busybox `udhcpc`.
    Udhcpc,
    /// ISC `dhclient`.
    Dhclient,
}

impl Kind {
    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Udhcpc => "udhcpc",
            Self::Dhclient => "dhclient",
        }
    }
}

/// A lease as a client understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its address.
    pub address: Ipv4Addr,
    /// Option 1.
    pub mask: Ipv4Addr,
    /// Option 3, the first.
    pub router: Option<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 51.
    pub seconds: u32,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
}

/// One call of a client's script.
#[derive(Clone, Debug)]
pub struct Event {
    /// What the client said: `bound`, `renew`, `deconfig`; `BOUND`, `RENEW`, `PREINIT`.
    pub reason: String,
    variables: BTreeMap<String, String>,
}

impl Event {
    /// A variable of the client.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Whether the client has a lease now.
    #[must_use]
    pub fn has_lease(&self) -> bool {
        ["bound", "renew", "BOUND", "RENEW", "REBIND", "REBOOT"].contains(&self.reason.as_str())
    }

    /// The lease, if the event is about one.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        let first = |names: [&str; 2]| names.into_iter().find_map(|name| self.get(name));
        let addresses = |names: [&str; 2]| -> Vec<Ipv4Addr> {
            let text = first(names).unwrap_or_default();
            text.split_whitespace()
                .filter_map(|one| one.parse().ok())
                .collect()
        };
        Some(Lease {
            address: first(["ip", "new_ip_address"])?.parse().ok()?,
            mask: first(["subnet", "new_subnet_mask"])?.parse().ok()?,
            router: addresses(["router", "new_routers"]).first().copied(),
            dns: addresses(["dns", "new_domain_name_servers"]),
            seconds: first(["lease", "new_dhcp_lease_time"])?.parse().ok()?,
            server: first(["serverid", "new_dhcp_server_identifier"])?
                .parse()
                .ok(),
        })
    }
}

/// A running DHCP client in a subscriber's namespace.
#[derive(Debug)]
pub struct DhcpClient {
    kind: Kind,
    process: Process,
    events: PathBuf,
}

impl DhcpClient {
    /// Starts it in the foreground. Script, logs and lease files go to `directory`, which keeps them
    /// for a client that is started again: it then asks for the address it had.
    ///
    /// # Errors
    /// If a file cannot be written or the program cannot be started.
    pub fn start(kind: Kind, subscriber: &Subscriber, directory: &Path) -> Result<Self> {
        let stem = format!("{}-{}", subscriber.namespace.name(), kind.name());
        let file = |ending: &str| directory.join(format!("{stem}.{ending}"));
        let events = file("events");
        let script = file("script");
        std::fs::write(&script, script_text(&events)).context("cannot write a client's script")?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
            .context("cannot make a client's script executable")?;
        // A client that starts has no lease yet, whatever an earlier one wrote down.
        std::fs::write(&events, "").context("cannot write a client's events")?;
        let mut command = subscriber.namespace.command("taskset");
        command.args(["-c", &link::line_cpu().to_string()]);
        if realtime_allowed() {
            command.args(REALTIME);
        }
        command.arg(kind.name());
        match kind {
            Kind::Udhcpc => {
                command.args([
                    "-f",
                    "-t",
                    "5",
                    "-T",
                    "2",
                    "-A",
                    "2",
                    "-i",
                    SUBSCRIBER_INTERFACE,
                ]);
                command.arg("-s").arg(&script);
            }
            Kind::Dhclient => {
                let config = file("conf");
                let request = "request subnet-mask, routers, domain-name-servers, \
                               dhcp-lease-time, dhcp-server-identifier;\n\
                               timeout 20;\nretry 2;\ninitial-interval 1;\n";
                std::fs::write(&config, request)
                    .context("cannot write dhclient's configuration")?;
                command.args(["-4", "-d", "-v", "-cf"]).arg(&config);
                command
                    .arg("-sf")
                    .arg(&script)
                    .arg("-lf")
                    .arg(file("leases"));
                command
                    .arg("-pf")
                    .arg(file("pid"))
                    .arg(SUBSCRIBER_INTERFACE);
            }
        }
        let process = Process::spawn(kind.name(), &mut command, &file("log"))?;
        Ok(Self {
            kind,
            process,
            events,
        })
    }

    /// Which program it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What the client has told its script so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        parse_events(&std::fs::read_to_string(&self.events).unwrap_or_default())
    }

    /// Waits for the lease of the `count`th event that has one (1: the first lease; 2: the first
    /// renewal).
    ///
    /// # Errors
    /// If it does not come within `timeout`; with the end of the client's log.
    pub fn wait_for_lease(&mut self, count: usize, timeout: Duration) -> Result<Lease> {
        let path = self.events.clone();
        let what = format!("lease event {count}");
        let lease = self.process.wait_until(&what, timeout, || {
            let events = parse_events(&std::fs::read_to_string(&path).unwrap_or_default());
            let event = events
                .iter()
                .filter(|event| event.has_lease())
                .nth(count.saturating_sub(1));
            Ok(event.and_then(Event::lease))
        })?;
        if self.kind == Kind::Dhclient {
            // It calls its script first and then writes its lease file, which it needs when it is
            // started again.
            let bound = format!("bound to {}", lease.address);
            self.process.wait_for_line(&bound, timeout)?;
        }
        Ok(lease)
    }

    /// Makes `udhcpc` renew now, by unicast to its server.
    ///
    /// # Errors
    /// If the client is gone.
    pub fn renew_now(&self) -> Result<()> {
        self.process.signal(Signal::SIGUSR1)
    }

    /// Makes `udhcpc` release its lease and wait.
    ///
    /// # Errors
    /// If the client is gone.
    pub fn release_now(&self) -> Result<()> {
        self.process.signal(Signal::SIGUSR2)
    }
}

/// A client is not interrupted by the delivery of a reply while it still sends the request; see
/// [`link::deliver_later`]. Its script runs as everybody else.
const REALTIME: [&str; 4] = ["chrt", "--reset-on-fork", "--fifo", "1"];

/// Some containers refuse it; a client may then have to ask twice.
fn realtime_allowed() -> bool {
    let mut probe = Command::new(REALTIME[0]);
    command::output(probe.args(&REALTIME[1..]).arg("true")).is_ok()
}

const END: &str = "--- end of event";

/// Both clients call their script with variables in the environment; `udhcpc` names the event in the
/// first argument, `dhclient` in `$reason`.
fn script_text(events: &Path) -> String {
    format!(
        r#"#!/bin/sh
case "${{1:-$reason}}" in
deconfig | PREINIT)
    ip address flush dev "$interface"
    ip link set dev "$interface" up
    ;;
bound | renew | BOUND | RENEW | REBIND | REBOOT)
    ip address replace "${{ip:-$new_ip_address}}/${{subnet:-$new_subnet_mask}}" dev "$interface"
    for gateway in ${{router:-$new_routers}}; do
        ip route replace default via "$gateway" dev "$interface"
        break
    done
    ;;
esac
{{
    echo "event=${{1:-$reason}}"
    env
    echo "{END}"
}} >>'{}'
"#,
        events.display()
    )
}

fn parse_events(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut variables = BTreeMap::new();
    for line in text.lines() {
        if line == END {
            let mut variables = std::mem::take(&mut variables);
            let reason = variables.remove("event").unwrap_or_default();
            events.push(Event { reason, variables });
        } else if let Some((name, value)) = line.split_once('=') {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clients_leases_read_the_same() {
        let events = parse_events(&format!(
            "event=deconfig\ninterface=eth0\n{END}\n\
             event=bound\nip=100.64.1.2\nsubnet=255.192.0.0\nrouter=100.64.0.1\n\
             dns=9.9.9.9 1.1.1.1\nlease=3600\nserverid=100.64.0.1\n{END}\n\
             event=BOUND\nnew_ip_address=100.64.1.2\nnew_subnet_mask=255.192.0.0\n\
             new_routers=100.64.0.1\nnew_domain_name_servers=9.9.9.9 1.1.1.1\n\
             new_dhcp_lease_time=3600\nnew_dhcp_server_identifier=100.64.0.1\n{END}\n\
             event=half written\n"
        ));
        assert_eq!(events.len(), 3);
        assert!(!events[0].has_lease() && events[1].has_lease() && events[2].has_lease());
        let lease = events[1].lease().unwrap();
        assert_eq!(lease.seconds, 3600);
        assert_eq!(lease.dns.len(), 2);
        assert_eq!(Some(lease), events[2].lease());
    }
}
