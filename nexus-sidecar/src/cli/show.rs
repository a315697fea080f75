//! Reports as a person reads them.

use std::fmt::Write as _;
use std::time::Duration;

use crate::packet_events::PacketReport;
use crate::routes::RoutesReport;
use crate::status::{BindingReport, Mode, StatusReport};

/// `status` as text.
pub(super) fn status(status: &StatusReport) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_status(&mut text, status);
    text
}

fn write_status(text: &mut String, status: &StatusReport) -> std::fmt::Result {
    let mode = match status.mode {
        Mode::Connected => "connected",
        Mode::CutOff => "cut-off",
        Mode::LeaseEnded => "lease-ended",
    };
    writeln!(
        text,
        "OLT          {} (session {})",
        status.olt, status.session
    )?;
    write!(text, "Mode         {mode}")?;
    if let Some(secs) = status.lease_left_secs {
        write!(text, ", allocates for another {}", duration(secs))?;
    }
    writeln!(text)?;
    if let Some(why) = &status.cannot_allocate {
        writeln!(text, "             cannot allocate: {why}")?;
    }
    if let Some(why) = &status.second_host {
        writeln!(
            text,
            "             REFUSED as the second host with this olt.id; nothing is given or served here: {why}"
        )?;
    }
    if let Some(what) = &status.other_host {
        writeln!(
            text,
            "             ANOTHER HOST tries to be this OLT: {what}"
        )?;
    }
    writeln!(
        text,
        "Clock        {} since boot (the lease is counted on it), wall clock {}",
        duration(status.clock.boot_secs),
        status.clock.wall
    )?;
    if let Some(what) = &status.clock.apart {
        let how = if status.clock.stops {
            "STOPPED: clocks run APART"
        } else {
            "clocks have run apart"
        };
        writeln!(text, "             {how}: {what}")?;
    }
    writeln!(
        text,
        "Centre       {}, configuration revision {}",
        status.endpoint.as_deref().unwrap_or("not reached yet"),
        status.config_revision
    )?;
    for interface in &status.interfaces {
        let identity = interface.identity.join(", ");
        writeln!(
            text,
            "Interface    {} (number {}), XDP {}, subscribers known by {identity}",
            interface.name, interface.number, interface.xdp_mode
        )?;
    }
    writeln!(
        text,
        "Bindings     {} acknowledged, {} not yet, {} suspended; {} releases on their way",
        status.acked, status.unacked, status.suspended, status.pending_releases
    )?;
    if status.unread {
        writeln!(
            text,
            "             NOT SERVED until a nexus-server is reached and its records are read: others may have got them"
        )?;
    } else if let Some(secs) = status.kept_left_secs {
        writeln!(
            text,
            "             acknowledged ones end in {} if no nexus-server is reached",
            duration(secs)
        )?;
    }
    for pool in &status.pools {
        writeln!(
            text,
            "Pool         {} ({}): {} held, {} free",
            pool.pool, pool.kind, pool.allocated, pool.available
        )?;
    }
    writeln!(text, "Shards       {}", status.shards.len())?;
    for shard in &status.shards {
        writeln!(
            text,
            "  {} #{} {} epoch {} {}: {} held, {} free",
            shard.pool,
            shard.shard,
            shard.range,
            shard.epoch,
            shard.state,
            shard.allocated,
            shard.available
        )?;
    }
    write_routes(text, &status.routes)?;
    for (name, outcomes) in [
        ("DHCP in the kernel", &status.kernel_outcomes),
        ("DHCP slow path", &status.slow_outcomes),
    ] {
        let counts: Vec<String> = outcomes
            .iter()
            .map(|(label, count)| format!("{label} {count}"))
            .collect();
        let counts = if counts.is_empty() {
            "no packets".to_owned()
        } else {
            counts.join(", ")
        };
        writeln!(text, "{name}: {counts}")?;
    }
    Ok(())
}

fn write_routes(text: &mut String, routes: &RoutesReport) -> std::fmt::Result {
    let tables: Vec<String> = routes.tables.iter().map(u32::to_string).collect();
    if tables.is_empty() && routes.last_error.is_none() {
        return writeln!(text, "Routes       none are kept");
    }
    write!(
        text,
        "Routes       {} aggregates, {} hosts in table {}",
        routes.aggregates,
        routes.hosts,
        tables.join(", ")
    )?;
    if routes.missing > 0 {
        write!(text, "; {} missing", routes.missing)?;
    }
    writeln!(text)?;
    match &routes.last_error {
        Some(error) => writeln!(text, "             {error}"),
        None => Ok(()),
    }
}

/// `bindings` as a table.
pub(super) fn bindings(bindings: &[BindingReport]) -> String {
    let mut rows = vec![
        [
            "SUBSCRIBER",
            "TYPE",
            "RESOURCE",
            "POOL",
            "LINE",
            "STATE",
            "SEQ",
        ]
        .map(str::to_owned),
    ];
    for binding in bindings {
        let state = match (binding.acked, binding.suspended, binding.valid_for_secs) {
            (true, ..) => "acked".to_owned(),
            (false, true, _) => "suspended".to_owned(),
            (false, false, left) => format!("unacked {}", duration(left.unwrap_or(0))),
        };
        rows.push([
            binding.subscriber.clone(),
            binding.kind.clone(),
            binding.address.clone(),
            binding.pool.clone(),
            binding.line.clone(),
            state,
            binding.seq.to_string(),
        ]);
    }
    let mut widths = [0_usize; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `23h 59m`, `4m 10s`, `9s`.
fn duration(secs: u64) -> String {
    let (hours, minutes, seconds) = (secs / 3600, secs % 3600 / 60, secs % 60);
    if hours > 0 {
        format!("{hours}h {minutes:02}m")
    } else if minutes > 0 {
        format!("{minutes}m {seconds:02}s")
    } else {
        format!("{seconds}s")
    }
}

/// One packet of a trace: seconds of the boot time, interface, and what happened.
pub fn packet(packet: &PacketReport) -> String {
    let time = Duration::from_nanos(packet.boot_ns);
    let arrow = match packet.kind.as_str() {
        "request" => "<-",
        "verdict" => "->",
        _ => "!!",
    };
    let lost = match packet.lost {
        0 => String::new(),
        lost => format!(" ({lost} lost so far)"),
    };
    format!(
        "{}.{:06} {} {arrow} {}{lost}",
        time.as_secs(),
        time.subsec_micros(),
        packet.interface,
        packet.text
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::status::{ClockReport, InterfaceReport, PoolReport, ShardReport};

    #[test]
    fn a_status_shows_mode_time_left_shards_and_counts() {
        let text = status(&StatusReport {
            olt: "olt-east-01".to_owned(),
            session: "abc".to_owned(),
            mode: Mode::CutOff,
            cannot_allocate: None,
            lease_left_secs: Some(86_340),
            kept_left_secs: Some(180_000),
            unread: false,
            second_host: Some("session a is alive".to_owned()),
            other_host: Some("10.0.0.9 tried".to_owned()),
            clock: ClockReport {
                boot_secs: 7260,
                wall: "2026-11-22T08:00:00Z".to_owned(),
                apart: Some("slow against the clock of server n1".to_owned()),
                stops: true,
            },
            pools: vec![PoolReport {
                pool: "residential-ipv4".to_owned(),
                kind: "ipv4".to_owned(),
                allocated: 7,
                available: 16_377,
            }],
            endpoint: None,
            config_revision: 4,
            shards: vec![ShardReport {
                pool: "residential-ipv4".to_owned(),
                shard: 1,
                range: "100.64.64.0/18".to_owned(),
                epoch: 2,
                state: "owned".to_owned(),
                allocated: 7,
                available: 16_377,
            }],
            acked: 5,
            unacked: 2,
            suspended: 0,
            pending_releases: 1,
            interfaces: vec![InterfaceReport {
                name: "eth1".to_owned(),
                number: 3,
                xdp_mode: "native".to_owned(),
                identity: vec!["circuit-id".to_owned(), "mac".to_owned()],
            }],
            routes: RoutesReport {
                tables: vec![179, 180],
                aggregates: 2,
                hosts: 1,
                missing: 1,
                last_error: Some("there is no interface eth9".to_owned()),
            },
            kernel_outcomes: BTreeMap::from([("ack".to_owned(), 12)]),
            slow_outcomes: BTreeMap::new(),
        });
        for part in [
            "cut-off, allocates for another 23h 59m",
            "acknowledged ones end in 50h 00m if no nexus-server is reached",
            "residential-ipv4 #1 100.64.64.0/18 epoch 2 owned: 7 held, 16377 free",
            "REFUSED as the second host",
            "ANOTHER HOST tries to be this OLT: 10.0.0.9 tried",
            "2h 01m since boot",
            "STOPPED: clocks run APART: slow against the clock of server n1",
            "residential-ipv4 (ipv4): 7 held, 16377 free",
            "5 acknowledged, 2 not yet",
            "2 aggregates, 1 hosts in table 179, 180; 1 missing\n             there is no interface eth9",
            "DHCP in the kernel: ack 12",
            "DHCP slow path: no packets",
            "not reached yet",
            "eth1 (number 3), XDP native, subscribers known by circuit-id, mac",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn bindings_stand_in_columns() {
        let binding = |subscriber: &str, acked| BindingReport {
            subscriber: subscriber.to_owned(),
            pool: "p".to_owned(),
            kind: "ipv4".to_owned(),
            address: "10.0.0.2".to_owned(),
            line: "eth1 100.7 02:00:00:00:00:01".to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            shard: 0,
            epoch: 1,
            seq: 3,
            acked,
            valid_for_secs: (!acked).then_some(550),
            suspended: false,
        };
        let text = bindings(&[binding("s", true), binding("a-longer-one", false)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let column = lines[0].find("RESOURCE").unwrap();
        assert!(
            lines
                .iter()
                .skip(1)
                .all(|line| line[column..].starts_with("10.0.0.2"))
        );
        assert!(lines[2].contains("unacked 9m 10s"));
    }
}
