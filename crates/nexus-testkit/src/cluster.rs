//! A cluster of nexus-servers, each in a network namespace of its own, and everything that can go wrong with it.
//!
//! ```text
//!  namespace {prefix}-n1      namespace {prefix}-switch            namespace {prefix}-n2
//!  nexus-server, eth0 ======== port1 \                    / port2 ======== eth0, nexus-server
//!    10.98.0.11                       bridge br0 10.98.0.1                   10.98.0.12
//!    nft: whom it does not hear       clients: REST, gRPC                    ...
//! ```
//!
//! A link is cut in the receiving node's own packet filter, so that either direction can be cut alone and nobody is
//! told: connections hang, as they do when a line breaks. Clients stand in the switch and reach every node always.

mod check;
mod clock;
mod config;
mod delay;
mod disk;
mod fleet;
mod flood;
mod follower;
mod history;
mod network;
mod node;
mod olt;
mod pools;
mod rest;
mod status;
mod workload;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

pub use self::check::{Listing, check, listing};
pub use self::clock::Clock;
pub use self::config::{ClusterKey, GRPC_PORT, HTTP_PORT, METRICS_PORT, NodePlan, P2P_PORT, Role};
pub use self::disk::SmallDisk;
pub use self::fleet::{Calls, Fleet, FleetPlan, FleetReport, run as fleet};
pub use self::flood::{FloodPlan, FloodReport, Spread, run as flood};
pub use self::follower::{Followed, Follower};
pub use self::history::{Action, History, Op, Outcome};
pub use self::network::{Network, address};
pub use self::node::Node;
pub use self::olt::{OltClient, Place, Refusal};
pub use self::pools::PoolPlan;
pub use self::rest::{Answer, Client, inside};
pub use self::status::{Member, Root, Status};
pub use self::workload::{Load, Workload, WorkloadReport};

use crate::{interrupt, netns};

/// Longest time that a cluster may take for anything that a test waits for; only a failing test takes it.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The cluster. Fields are dropped in this order: processes before namespaces, namespaces before the directory.
#[derive(Debug)]
pub struct ClusterBench {
    nodes: Vec<Node>,
    network: Network,
    directory: tempfile::TempDir,
}

impl ClusterBench {
    /// Makes namespaces, links, disks and configurations for these nodes; nothing of ours runs yet. Node 0 is the
    /// one that the others start from.
    ///
    /// # Errors
    /// If the caller is not root, the kernel refuses something, or a file cannot be written.
    pub fn create(base: &str, plans: Vec<NodePlan>) -> Result<Self> {
        netns::sweep();
        disk::sweep();
        let prefix = netns::unique_prefix(base);
        let directory = tempfile::Builder::new()
            .prefix(&format!("{prefix}-"))
            .tempdir()
            .context("cannot make a directory for the cluster")?;
        let network = Network::create(&prefix, plans.len())?;
        let mut nodes = Vec::new();
        for (index, plan) in plans.into_iter().enumerate() {
            nodes.push(Node::create(plan, network.host(index)?, directory.path())?);
        }
        Ok(Self {
            nodes,
            network,
            directory,
        })
    }

    /// Where configurations, logs and stores lie.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Who hears whom.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Number of nodes, running or not.
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// A node by its place in the plan.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn node(&self, index: usize) -> Result<&Node> {
        self.nodes
            .get(index)
            .with_context(|| format!("no node {index} in this cluster"))
    }

    /// A node by its place in the plan, to start and stop it.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn node_mut(&mut self, index: usize) -> Result<&mut Node> {
        self.nodes
            .get_mut(index)
            .with_context(|| format!("no node {index} in this cluster"))
    }

    /// Starts all nodes, the others once the first one takes writes, and waits until each serves REST.
    ///
    /// # Errors
    /// If one does not.
    pub fn start_all(&mut self) -> Result<()> {
        for place in 0..self.nodes.len() {
            let node = self.node_mut(place)?;
            node.start()?;
            if place == 0 {
                let client = self.client(0)?;
                interrupt::wait_until("the first node takes writes", LIMIT, || {
                    let ready = client.get("/ready");
                    Ok(ready.is_ok_and(|answer| answer.status == 200).then_some(()))
                })?;
            }
        }
        Ok(())
    }

    /// Starts all nodes at the same moment, as Kubernetes may do it, and waits until each serves REST.
    ///
    /// # Errors
    /// If one does not.
    pub fn start_at_once(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.launch()?;
        }
        for node in &mut self.nodes {
            node.wait_answers(LIMIT)?;
        }
        Ok(())
    }

    /// A client of a node, which stands in the switch.
    ///
    /// # Errors
    /// If there are not so many nodes.
    pub fn client(&self, index: usize) -> Result<Client> {
        let address = self.node(index)?.address();
        Ok(Client::new(self.network.switch_path(), address))
    }

    /// What a node says of the cluster.
    ///
    /// # Errors
    /// If it does not answer, or with something else.
    pub fn status(&self, index: usize) -> Result<Status> {
        Status::ask(&self.client(index)?)
    }

    /// Waits until these nodes know each other as members that are caught up and say that all is converged, all with
    /// the same root. Returns how long that took.
    ///
    /// # Errors
    /// If that does not happen within `timeout`; the text says what each node said last.
    pub fn wait_converged(&self, indexes: &[usize], timeout: Duration) -> Result<Duration> {
        let began = Instant::now();
        let mut last = String::new();
        let what = format!("nodes {indexes:?} agree");
        let result = interrupt::wait_until(&what, timeout, || {
            let said: Vec<Result<Status>> = indexes.iter().map(|at| self.status(*at)).collect();
            last = said
                .iter()
                .map(status::brief)
                .collect::<Vec<_>>()
                .join("; ");
            let good: Vec<&Status> = said
                .iter()
                .filter_map(|status| status.as_ref().ok())
                .filter(|status| status.converged)
                .collect();
            let roots: BTreeSet<&Root> = good.iter().map(|status| &status.root).collect();
            let agreed = good.len() == indexes.len() && roots.len() <= 1;
            if !agreed {
                // Asking costs a node time that it needs for the very thing waited for.
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(agreed.then_some(()))
        });
        result.with_context(|| format!("they said last: {last}"))?;
        Ok(began.elapsed())
    }

    /// Waits until each of these nodes is a full member, knows a leader and is connected to all others of them: as much
    /// as can be asked for while clients go on writing.
    ///
    /// # Errors
    /// If that does not happen within `timeout`; the text says what each node said last.
    pub fn wait_together(&self, indexes: &[usize], timeout: Duration) -> Result<()> {
        let mut last = String::new();
        let names: Vec<&str> = indexes
            .iter()
            .filter_map(|at| self.nodes.get(*at))
            .map(Node::name)
            .collect();
        let what = format!("nodes {indexes:?} reach each other");
        let result = interrupt::wait_until(&what, timeout, || {
            let said: Vec<Result<Status>> = indexes.iter().map(|at| self.status(*at)).collect();
            last = said
                .iter()
                .map(status::brief)
                .collect::<Vec<_>>()
                .join("; ");
            let together = said
                .iter()
                .all(|status| status.as_ref().is_ok_and(|status| status.reaches(&names)));
            if !together {
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(together.then_some(()))
        });
        result.with_context(|| format!("they said last: {last}"))
    }

    /// Waits until these nodes have the same root, whatever they say of others.
    ///
    /// # Errors
    /// If that does not happen within `timeout`.
    pub fn wait_same(&self, indexes: &[usize], timeout: Duration) -> Result<()> {
        interrupt::wait_until(&format!("nodes {indexes:?} hold the same"), timeout, || {
            let roots: BTreeSet<Root> = indexes
                .iter()
                .map(|at| Ok(self.status(*at)?.root))
                .collect::<Result<_>>()?;
            Ok((roots.len() <= 1).then_some(()))
        })
    }

    /// Waits until one of these nodes leads and all of them name it. Returns its place.
    ///
    /// # Errors
    /// If that does not happen within `timeout`.
    pub fn wait_leader(&self, indexes: &[usize], timeout: Duration) -> Result<usize> {
        let mut last = String::new();
        let what = format!("nodes {indexes:?} name one leader of theirs");
        let result = interrupt::wait_until(&what, timeout, || {
            let said: Vec<Result<Status>> = indexes.iter().map(|at| self.status(*at)).collect();
            last = said
                .iter()
                .map(status::brief)
                .collect::<Vec<_>>()
                .join("; ");
            let leaders: BTreeSet<Option<&str>> = said
                .iter()
                .map(|status| status.as_ref().ok()?.leader.as_deref())
                .collect();
            let [Some(leader)] = leaders.into_iter().collect::<Vec<_>>()[..] else {
                std::thread::sleep(Duration::from_millis(50));
                return Ok(None);
            };
            let place = indexes.iter().copied().find(|at| {
                self.nodes
                    .get(*at)
                    .is_some_and(|node| node.name() == leader)
            });
            Ok(place)
        });
        result.with_context(|| format!("they said last: {last}"))
    }

    /// Every node's log, its last lines, and whether it runs, for the message of a test that failed.
    #[must_use]
    pub fn logs(&mut self, lines: usize) -> String {
        let tails = self
            .nodes
            .iter_mut()
            .map(|node| format!("{}\n--- it {}", node.log_tail(lines), node.fate()));
        tails.collect::<Vec<_>>().join("\n")
    }

    /// Leaves the directory with stores and logs behind and says where; for a look at what went wrong.
    #[must_use]
    pub fn keep_directory(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.directory.path().to_owned()
    }
}

/// Fails unless every node in `listings` has the same allocations; the text names the first that differs.
///
/// # Errors
/// If they differ.
pub fn same_listings(listings: &[(String, Listing)]) -> Result<()> {
    let Some(((first, reference), others)) = listings.split_first() else {
        return Ok(());
    };
    for (name, listing) in others {
        let differs = check::first_difference(reference, listing);
        ensure!(
            differs.is_none(),
            "{first} and {name} differ: {}",
            differs.unwrap_or_default()
        );
    }
    Ok(())
}
