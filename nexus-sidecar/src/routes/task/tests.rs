//! The task against a real kernel, in a namespace of its own.

use std::process::{Child, Command, Stdio};

use ipnet::IpNet;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::netns::{Namespace, unique_prefix};
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::shutdown::{self, Stopper};

/// Only a failing test waits so long.
const LIMIT: Duration = Duration::from_secs(60);

/// A host with the interfaces eth1 and eth2.
fn host() -> Namespace {
    let host = Namespace::create(&unique_prefix("routes"), "host").unwrap();
    for family in ["all", "default"] {
        let file = format!("/proc/sys/net/ipv6/conf/{family}/disable_ipv6");
        host.enter(|| std::fs::write(&file, "0")).unwrap().unwrap();
    }
    ip(&host, "link add eth1 type veth peer name eth2");
    ip(&host, "link set eth1 up");
    ip(&host, "link set eth2 up");
    host
}

fn ip(host: &Namespace, arguments: &str) -> String {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    host.run("ip", &arguments).unwrap()
}

/// Both families of table 179 as `ip` shows them: destination, type or device, protocol, metric.
fn table(host: &Namespace) -> Vec<String> {
    let mut lines = Vec::new();
    for family in ["-4", "-6"] {
        let mut command = host.command("ip");
        command.args([family, "-details", "route", "show", "table", "179"]);
        // Without a table ip fails, and there is nothing in it.
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        lines.extend(text.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let value = |name| {
                let at = words.iter().position(|word| *word == name)?;
                words.get(at + 1).copied()
            };
            let metric = value("metric").unwrap_or("0");
            let proto = value("proto").unwrap_or("boot");
            let device = value("dev").filter(|_| words[0] == "unicast");
            let what = device.unwrap_or(words[0]);
            format!("{} {what} {proto} {metric}", words[1])
        }));
    }
    lines.sort();
    lines
}

/// `100.64.0.0/18` is an aggregate, `100.64.0.7/32 eth1` a host.
fn wanted(routes: &[&str]) -> Arc<Wanted> {
    let read = |text: &&str| {
        let mut words = text.split(' ');
        let prefix: IpNet = words.next().unwrap().parse().unwrap();
        let target = words
            .next()
            .map_or(Target::Aggregate, |device| Target::Host(device.into()));
        (RouteKey { table: 179, prefix }, target)
    };
    Arc::new(Wanted {
        routes: routes.iter().map(read).collect(),
        ..Wanted::default()
    })
}

/// A running task; it works while one of the methods runs.
struct Running {
    runtime: Runtime,
    wanted: watch::Sender<Option<Arc<Wanted>>>,
    report: watch::Receiver<RoutesReport>,
    _stopper: Stopper,
}

impl Running {
    /// To be called inside the namespace.
    fn start(section: RoutesSection) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (wanted, wanted_receiver) = watch::channel(None);
        let (report, report_receiver) = watch::channel(RoutesReport::default());
        let task = RoutesTask {
            section,
            wanted: wanted_receiver,
            report,
            metrics: RouteMetrics::new(&Metrics::new().unwrap()).unwrap(),
        };
        let (stopper, shutdown) = shutdown::channel();
        runtime.spawn(task.run(shutdown));
        Self {
            runtime,
            wanted,
            report: report_receiver,
            _stopper: stopper,
        }
    }

    fn want(&self, routes: &[&str]) {
        self.wanted.send_replace(Some(wanted(routes)));
    }

    fn until(&mut self, what: &str, is: impl Fn(&RoutesReport) -> bool) -> RoutesReport {
        let report = &mut self.report;
        let found = self
            .runtime
            .block_on(async { timeout(LIMIT, report.wait_for(|report| is(report))).await });
        found
            .unwrap_or_else(|_| panic!("not {what}"))
            .unwrap()
            .clone()
    }

    /// All there.
    fn settled(&mut self, aggregates: u64, hosts: u64) {
        self.until("settled", |report| {
            let there = (report.aggregates, report.hosts, report.missing);
            there == (aggregates, hosts, 0) && report.last_error.is_none()
        });
    }
}

/// `ip monitor route`: what happens to routes from now on.
struct Monitor {
    child: Child,
    log: std::path::PathBuf,
}

impl Monitor {
    fn start(host: &Namespace, folder: &tempfile::TempDir) -> Self {
        let log = folder.path().join("monitor");
        let file = std::fs::File::create(&log).unwrap();
        let mut command = host.command("ip");
        command.args(["monitor", "route"]);
        let child = command.stdout(file).stderr(Stdio::null()).spawn().unwrap();
        let monitor = Self { child, log };
        // It listens once it shows a route that comes and goes.
        wait_until("ip monitor to listen", LIMIT, || {
            let probe = "192.0.2.1/32";
            ip(host, &format!("route replace unreachable {probe} table 7"));
            ip(host, &format!("route del unreachable {probe} table 7"));
            Ok(monitor.seen().contains("192.0.2.1").then_some(()))
        })
        .unwrap();
        monitor
    }

    fn seen(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Changes of table 179 so far; all that happened before is in it.
    fn changes(&self, host: &Namespace) -> Vec<String> {
        let count = || self.seen().matches("192.0.2.2").count();
        let before = count();
        ip(host, "route add unreachable 192.0.2.2/32 table 7");
        ip(host, "route del unreachable 192.0.2.2/32 table 7");
        wait_until("ip monitor to catch up", LIMIT, || {
            Ok((count() > before).then_some(()))
        })
        .unwrap();
        let seen = self.seen();
        let ours = seen.lines().filter(|line| line.contains("table 179"));
        ours.map(str::to_owned).collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs root: makes a network namespace"]
fn routes_come_and_go_by_difference_and_those_of_others_stay() {
    let host = host();
    ip(
        &host,
        "route add unreachable 100.64.128.0/18 table 179 proto static",
    );
    ip(
        &host,
        "route add unreachable 203.0.113.0/24 table 179 proto static metric 7",
    );
    host.enter(|| {
        let mut running = Running::start(RoutesSection::default());
        running.want(&[
            "100.64.0.0/18",
            "2001:db8::/44",
            "100.70.0.7/32 eth1",
            "2001:db8:9::/56 eth2",
        ]);
        running.settled(2, 2);
        let others = [
            "100.64.128.0/18 unreachable static 0",
            "203.0.113.0/24 unreachable static 7",
        ];
        assert_eq!(
            table(&host),
            [
                "100.64.0.0/18 unreachable 110 1024",
                others[0],
                "100.70.0.7 eth1 110 1024",
                "2001:db8:9::/56 eth2 110 1024",
                "2001:db8::/44 unreachable 110 1024",
                others[1],
            ]
        );
        // To the place of a stranger's, with another metric.
        running.want(&["100.64.128.0/18", "100.70.0.7/32 eth2"]);
        running.settled(1, 1);
        assert_eq!(
            table(&host),
            [
                "100.64.128.0/18 unreachable 110 1024",
                others[0],
                "100.70.0.7 eth2 110 1024",
                others[1],
            ]
        );
        running.want(&[]);
        running.settled(0, 0);
        assert_eq!(table(&host), others);
    })
    .unwrap();
}

#[test]
#[ignore = "needs root: makes a network namespace"]
fn a_restart_touches_nothing_that_is_right() {
    let host = host();
    let folder = tempfile::tempdir().unwrap();
    let routes = [
        "100.64.0.0/18",
        "2001:db8::/44",
        "100.70.0.7/32 eth1",
        "2001:db8:9::/56 eth2",
    ];
    host.enter(|| {
        let mut running = Running::start(RoutesSection::default());
        running.want(&routes);
        running.settled(2, 2);
        drop(running);
        let before = table(&host);
        assert_eq!(before.len(), 4, "they stay: {before:?}");

        let monitor = Monitor::start(&host, &folder);
        let mut running = Running::start(RoutesSection::default());
        running.want(&routes);
        running.settled(2, 2);
        assert_eq!(monitor.changes(&host), Vec::<String>::new());
        running.want(&routes[..3]);
        running.settled(2, 1);
        let changes = monitor.changes(&host);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert!(
            changes[0].starts_with("Deleted 2001:db8:9::/56 dev eth2"),
            "{changes:?}"
        );
    })
    .unwrap();
}

#[test]
#[ignore = "needs root: makes a network namespace"]
fn what_cannot_be_set_is_said_and_tried_again_until_it_can() {
    let host = host();
    ip(
        &host,
        "route add unreachable 100.64.64.0/18 table 179 proto static metric 1024",
    );
    host.enter(|| {
        let mut running = Running::start(RoutesSection::default());
        running.want(&["100.64.0.0/18", "100.64.64.0/18", "100.70.0.7/32 eth9"]);
        let report = running.until("refused", |report| report.last_error.is_some());
        assert_eq!((report.aggregates, report.hosts, report.missing), (1, 0, 2));
        let error = report.last_error.unwrap();
        assert!(error.contains("no interface eth9"), "{error}");

        ip(&host, "link set eth2 name eth9");
        let taken =
            "table 179 has a route to 100.64.64.0/18 with metric 1024 that is not of protocol 110";
        running.until("refused for the other reason", |report| {
            report.hosts == 1
                && report
                    .last_error
                    .as_ref()
                    .is_some_and(|error| error.starts_with(taken))
        });
        ip(
            &host,
            "route del unreachable 100.64.64.0/18 table 179 proto static",
        );
        running.settled(2, 1);
    })
    .unwrap();
}

#[test]
#[ignore = "needs root: makes a network namespace"]
fn a_route_that_somebody_has_removed_comes_back() {
    let host = host();
    host.enter(|| {
        let mut running = Running::start(RoutesSection::default());
        running.want(&["100.64.0.0/18", "100.70.0.7/32 eth1"]);
        running.settled(1, 1);
        ip(&host, "route flush table 179");
        // The kernel itself removes them when the interface goes down.
        ip(&host, "link set eth1 down");
        running.until("missing", |report| report.missing == 1);
        ip(&host, "link set eth1 up");
        running.settled(1, 1);
        assert_eq!(table(&host).len(), 2);
    })
    .unwrap();
}

#[test]
#[ignore = "needs root: makes a network namespace"]
fn switched_off_or_detached_nothing_of_ours_is_left() {
    let host = host();
    ip(
        &host,
        "route add unreachable 203.0.113.0/24 table 179 proto static",
    );
    host.enter(|| {
        for leave in ["off", "detach"] {
            let mut running = Running::start(RoutesSection::default());
            running.want(&["100.64.0.0/18", "2001:db8::/44"]);
            running.settled(2, 0);
            drop(running);
            assert_eq!(table(&host).len(), 3);
            if leave == "off" {
                let section = RoutesSection {
                    enabled: false,
                    ..RoutesSection::default()
                };
                let off = Running::start(section);
                off.want(&[]);
                wait_until("nothing left", LIMIT, || {
                    let pause = async { tokio::time::sleep(Duration::from_millis(20)).await };
                    off.runtime.block_on(pause);
                    Ok((table(&host).len() == 1).then_some(()))
                })
                .unwrap();
            } else {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                let removed = runtime.block_on(async { detach(&RoutesSection::default()).await });
                assert_eq!(removed.unwrap(), 2);
            }
            assert_eq!(table(&host), ["203.0.113.0/24 unreachable static 0"]);
        }
    })
    .unwrap();
}

#[test]
#[ignore = "needs root: makes a network namespace"]
fn a_table_beyond_a_byte_and_a_blackhole_work_as_well() {
    let host = host();
    host.enter(|| {
        let section = RoutesSection {
            table: 70_000,
            aggregates: AggregateKind::Blackhole,
            ..RoutesSection::default()
        };
        let mut running = Running::start(section);
        let mut there = Wanted::default();
        let prefix = "100.64.0.0/18".parse().unwrap();
        let key = RouteKey {
            table: 70_000,
            prefix,
        };
        there.routes.insert(key, Target::Aggregate);
        for _ in 0..2 {
            running.wanted.send_replace(Some(Arc::new(there.clone())));
            running.settled(1, 0);
        }
        let mut command: Command = host.command("ip");
        let shown = command
            .args(["route", "show", "table", "70000"])
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(
            shown.trim(),
            "blackhole 100.64.0.0/18 proto 110 metric 1024"
        );
    })
    .unwrap();
}
