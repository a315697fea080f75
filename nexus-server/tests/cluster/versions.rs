//! Servers and peers of other versions of the program: one that speaks ours as well is heard, one that does not is told why.

use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, ensure};
use nexus_p2p::{ClusterKey, Event, Hello, Link, Options, Reason};
use nexus_testkit::cluster::{ClusterBench, LIMIT, NodePlan, P2P_PORT, inside};

use super::formed::{on_formed, settle};
use super::stage::{goes_on, load};

/// What became of a peer of another version.
#[derive(Debug)]
enum Met {
    /// Both speak this version.
    Version(u16),
    /// It was not let in, or did not let the server in.
    Refused(String),
}

/// Connects to a server as the next version of the program would, which speaks `versions`.
fn meet(bench: &ClusterBench, place: usize, versions: RangeInclusive<u16>) -> Result<Met> {
    let address = bench.node(place)?.address();
    let files = bench.directory().join(format!("peer-{}", versions.end()));
    std::fs::create_dir_all(&files)?;
    let options = Options {
        hello: Hello {
            number: 77 + u32::from(*versions.end()),
            name: format!("next-{}", versions.end()),
            role: "core".to_owned(),
            versions,
            extra: Vec::new(),
        },
        key_file: files.join("node.key"),
        cluster_key: ClusterKey::from_hex(&"5a".repeat(32))?,
        listen: "0.0.0.0:0".parse()?,
        bootstrap: vec![format!("/ip4/{address}/tcp/{P2P_PORT}")],
        allowed_peers: Vec::new(),
        topic: "nexus-state".to_owned(),
        advertise: Vec::new(),
        channels: vec![1],
    };
    inside(&bench.network().switch_path(), || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let (link, mut events) = Link::start(options).await?;
            let met = tokio::time::timeout(LIMIT, async {
                loop {
                    match events.recv().await.context("the link has ended")? {
                        Event::Up(peer) => return Ok(Met::Version(peer.version)),
                        Event::Refused {
                            reason: Reason::Version,
                            why,
                            ..
                        } => {
                            return Ok(Met::Refused(why));
                        }
                        _ => {}
                    }
                }
            })
            .await
            .context("nothing came of it")?;
            link.stop().await;
            met
        })
    })?
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_server_meets_the_next_version_in_its_own_and_the_one_after_that_not_at_all() {
    on_formed(NodePlan::cluster(3, 0), |bench| {
        let workload = load(bench, &[0, 1, 2], &[])?;
        for place in 0..3 {
            let met = meet(bench, place, 1..=2)?;
            ensure!(matches!(met, Met::Version(1)), "{met:?}");
        }
        let met = meet(bench, 0, 2..=3)?;
        let Met::Refused(why) = &met else {
            anyhow::bail!("{met:?}");
        };
        ensure!(why.contains("no common protocol version"), "{why}");
        goes_on(&workload)?;
        settle(bench, workload, &[0, 1, 2]).map(drop)
    });
}
