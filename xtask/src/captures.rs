//! `cargo xtask captures`: Debian's DHCP clients and relays, made to say all they can, and what they sent.
//!
//! The frames go to `nexus-sidecar/tests/captures`, one file each, see [`nexus_testkit::captures`].
//! Addresses are always the same; transaction ids, and what clients make of the time and the kernel, are not.

mod hand_made;
mod responder;
mod scenario;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use nexus_testkit::access_node::{AccessNetwork, Line, OLT_INTERFACE, Subscriber, object_path};
use nexus_testkit::capture::Seen;
use nexus_testkit::captures::{self, ENDING};
use nexus_testkit::dhcp_client::Kind;
use nexus_testkit::link;
use nexus_testkit::netns::unique_prefix;
use nexus_testkit::packet::Mac;
use nexus_testkit::relay::{self, Relay};

use self::responder::{Responder, SERVER, address_of};
use self::scenario::{Part, Situation};
use crate::{console, prepare};

/// Where they are kept.
const FOLDER: &str = "nexus-sidecar/tests/captures";

const VLAN: Line = Line::Vlan(100);
const QINQ: Line = Line::QinQ {
    s_vlan: 200,
    c_vlan: 30,
};

/// Who plays what, on which line, behind which relay; each has a host of its own. networkd of Debian 12
/// drops a lease whose address is taken; its DECLINE fails with "network is unreachable".
const CAST: [(Kind, Part, Line, Option<relay::Kind>); 13] = [
    (Kind::Udhcpc, Part::Life, Line::Untagged, None),
    (Kind::Dhclient, Part::Life, Line::Untagged, None),
    (Kind::Dhcpcd, Part::Life, Line::Untagged, None),
    (Kind::Networkd, Part::Life, Line::Untagged, None),
    (Kind::Udhcpc, Part::Decline, Line::Untagged, None),
    (Kind::Dhclient, Part::Decline, Line::Untagged, None),
    (Kind::Dhcpcd, Part::Decline, Line::Untagged, None),
    (Kind::Dhcpcd, Part::Inform, Line::Untagged, None),
    (Kind::Dhclient, Part::Lease, VLAN, None),
    (Kind::Dhcpcd, Part::Lease, QINQ, None),
    (
        Kind::Dhclient,
        Part::Lease,
        Line::Untagged,
        Some(relay::Kind::Dhcrelay),
    ),
    (
        Kind::Udhcpc,
        Part::Lease,
        Line::Untagged,
        Some(relay::Kind::Dnsmasq),
    ),
    (
        Kind::Networkd,
        Part::Lease,
        Line::Untagged,
        Some(relay::Kind::DhcpHelper),
    ),
];

/// Makes them anew.
pub fn run(root: &Path) -> Result<()> {
    prepare::run()?;
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut made = real()?;
    made.extend(hand_made::all());
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|ending| ending == ENDING)
        {
            fs::remove_file(entry.path()).context("cannot remove an old capture")?;
        }
    }
    for capture in &made {
        let path = folder.join(&capture.name).with_extension(ENDING);
        fs::write(&path, captures::text(capture))
            .with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!(
            "{} {}: {}",
            console::tick(),
            capture.name,
            capture.about.join("; ")
        );
    }
    ensure!(
        captures::load(&folder)?.len() == made.len(),
        "two captures of one name"
    );
    Ok(())
}

/// Plays everything side by side, and takes from the uplink what is to be kept.
fn real() -> Result<Vec<captures::Capture>> {
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let directory = directory.path();
    let prefix = unique_prefix("captures");
    let lines = CAST.map(|(_, _, line, _)| line);
    let network = AccessNetwork::create(&prefix, &object_path(), &lines)?;
    let server = relay::Server {
        address: SERVER,
        mac: link::mac(&network.olt, OLT_INTERFACE)?,
    };
    let uplink = network.capture(directory)?;
    let cast = || CAST.into_iter().zip(&network.subscribers);
    let taken = cast()
        .filter(|((_, part, ..), _)| *part == Part::Decline)
        .map(|(_, at)| address_of(at.mac))
        .collect();
    let responder = Responder::start(&network, directory, taken)?;
    let mut relays: BTreeMap<Mac, Relay> = BTreeMap::new();
    for ((.., behind), at) in cast() {
        if let Some(kind) = behind {
            let [.., number] = at.mac;
            let address = (Ipv4Addr::new(10, 88, 0, 100 + number), 16);
            let relay = Relay::start(kind, at, &prefix, address, server, directory)?;
            relays.insert(at.mac, relay);
        }
    }
    let client_of = |at: &'_ Subscriber| relays.get(&at.mac).map(|relay| &relay.client);
    std::thread::scope(|scope| {
        let threads: Vec<_> = cast()
            .map(|((kind, part, line, behind), at)| {
                let client = client_of(at).unwrap_or(at);
                let uplink = &uplink;
                scope.spawn(move || {
                    let played = scenario::play(part, kind, client, uplink, server.mac, directory);
                    played
                        .with_context(|| format!("{} on {line}, {part:?}, {behind:?}", kind.name()))
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread panicked")))?;
        }
        anyhow::Ok(())
    })?;
    responder.stop()?;

    let frames = uplink.frames()?;
    let mut kept: BTreeMap<String, captures::Capture> = BTreeMap::new();
    for captured in &frames {
        let Some(seen) = Seen::of(captured) else {
            continue;
        };
        let Some(situation) = Situation::of(&seen).filter(|_| seen.message.op == 1) else {
            continue;
        };
        let from = cast().find(|(_, at)| client_of(at).unwrap_or(at).mac == seen.message.mac());
        let Some(((kind, _, line, behind), _)) = from else {
            continue;
        };
        // What a relay only bridges says nothing new.
        if behind.is_some() && seen.message.giaddr.is_unspecified() {
            continue;
        }
        let way = match (line, behind) {
            (_, Some(relay)) => format!("-{}", relay.name()),
            (Line::Untagged, None) => String::new(),
            (Line::Vlan(_), None) => "-vlan".to_owned(),
            (Line::QinQ { .. }, None) => "-qinq".to_owned(),
        };
        let name = format!("{}-{}{way}", kind.name(), situation.name());
        if kept.contains_key(&name) {
            continue;
        }
        let mut about = vec![
            format!("program: {}", scenario::package(kind.name())?),
            format!("situation: {}", situation.text()),
            format!("line: {line}"),
        ];
        if let Some(relay) = behind {
            about.push(format!("relay: {}", scenario::package(relay.name())?));
        }
        let frame = captured.bytes.clone();
        kept.insert(name.clone(), captures::Capture { name, about, frame });
    }
    Ok(kept.into_values().collect())
}
