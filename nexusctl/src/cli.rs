//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Looks after a Nexus cluster through its public API.
#[derive(Debug, Parser)]
#[command(name = "nexusctl", version)]
pub struct Cli {
    /// URL of a nexus-server.
    #[arg(
        long,
        global = true,
        env = "NEXUS_SERVER",
        default_value = "http://127.0.0.1:9000"
    )]
    pub server: String,
    /// Print the answer as JSON instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is handed out.
    #[command(subcommand)]
    Pools(Pools),
    /// Who has what.
    #[command(subcommand)]
    Allocations(Allocations),
    /// Allocate a resource for a subscriber.
    Allocate(Allocate),
    /// End what a subscriber holds.
    Deallocate {
        /// Subscriber.
        subscriber: String,
        /// Only in this pool.
        #[arg(long)]
        pool: Option<String>,
    },
    /// The OLT hosts.
    #[command(subcommand)]
    Nodes(Nodes),
    /// Who owns which part of which pool.
    #[command(subcommand, visible_alias = "shards")]
    Shard(Shard),
    /// The servers of the cluster.
    #[command(subcommand)]
    Cluster(Cluster),
    /// How the server, its cluster, its pools and its OLT hosts are.
    Status,
}

/// What to do with pools.
#[derive(Debug, Subcommand)]
pub enum Pools {
    /// All pools.
    List,
    /// One pool.
    Get {
        /// Pool.
        id: String,
    },
    /// Create pools from a file: one pool, a list, or a document with `pools:`, as YAML or JSON.
    Create {
        /// The file; - reads standard input.
        #[arg(short, long)]
        file: PathBuf,
    },
    /// Change a pool to what a file says.
    Update {
        /// Pool.
        id: String,
        /// The file; - reads standard input.
        #[arg(short, long)]
        file: PathBuf,
        /// Only if the pool still has this ETag (`nexusctl pools get` shows it).
        #[arg(long)]
        if_match: Option<String>,
        /// Say what the change would do, and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Have what subscribers hold of the resources that go asked back.
        #[arg(long)]
        drain: bool,
    },
    /// Remove a pool that nobody holds anything of.
    Delete {
        /// Pool.
        id: String,
        /// Say what the removal would do, and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Have everything that subscribers hold of the pool asked back first.
        #[arg(long)]
        force: bool,
    },
    /// How full a pool is.
    Stats {
        /// Pool.
        id: String,
    },
}

/// What to do with allocations.
#[derive(Debug, Subcommand)]
pub enum Allocations {
    /// All allocations, or those that the filters leave.
    List(ListFilter),
    /// What a subscriber holds.
    Get {
        /// Subscriber.
        subscriber: String,
    },
}

/// Filters of a list.
#[derive(Debug, Default, Args)]
pub struct ListFilter {
    /// Of this pool.
    #[arg(long)]
    pub pool: Option<String>,
    /// On this OLT.
    #[arg(long)]
    pub olt: Option<String>,
    /// Of this subscriber.
    #[arg(long)]
    pub subscriber: Option<String>,
    /// active, releasing, released or all; active and releasing if not given.
    #[arg(long)]
    pub state: Option<String>,
    /// This resource.
    #[arg(long)]
    pub resource: Option<String>,
    /// At most so many; all if not given.
    #[arg(long)]
    pub limit: Option<usize>,
}

/// Who gets something.
#[derive(Debug, Args)]
pub struct Allocate {
    /// Subscriber.
    pub subscriber: String,
    /// Pool to take it from.
    #[arg(long)]
    pub pool: String,
    /// OLT that the subscriber is on.
    #[arg(long)]
    pub olt: Option<String>,
    /// A label, name=value; can be given several times.
    #[arg(long = "metadata", value_name = "NAME=VALUE")]
    pub metadata: Vec<String>,
}

/// What to do with OLT hosts.
#[derive(Debug, Subcommand)]
pub enum Nodes {
    /// All OLT hosts.
    List,
    /// One OLT host.
    Get {
        /// OLT.
        id: String,
    },
    /// Ask all shards of an OLT host back.
    Drain {
        /// OLT.
        id: String,
        /// Wait until the host is empty, at most so many seconds (a day if not given), and show how far it has
        /// come. Exit code 0: empty, 2: not yet.
        #[arg(
            long,
            value_name = "SECONDS",
            num_args = 0..=1,
            default_missing_value = "86400",
            value_parser = seconds
        )]
        wait: Option<Duration>,
    },
    /// Let an OLT host that is drained go on after all.
    Activate {
        /// OLT.
        id: String,
    },
    /// State that the host of an OLT is dead or cut off from its subscribers: its shards are free at once.
    Fence {
        /// OLT.
        id: String,
        /// How that is known; kept in the server's log.
        #[arg(long)]
        reason: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Forget an OLT host that is drained and holds nothing, or that is fenced.
    Delete {
        /// OLT.
        id: String,
    },
}

/// What to do with shards.
#[derive(Debug, Subcommand)]
pub enum Shard {
    /// All shards, or those that the filters leave.
    List(ShardFilter),
    /// What OLT hosts that come or go, or a new or changed pool, would move. Changes nothing.
    Plan(ShardPlan),
}

/// Filters of a list of shards.
#[derive(Debug, Args)]
pub struct ShardFilter {
    /// Of this pool.
    #[arg(long)]
    pub pool: Option<String>,
    /// Of this OLT; nexus for those that the cluster keeps.
    #[arg(long)]
    pub olt: Option<String>,
    /// free, owned, draining or frozen.
    #[arg(long)]
    pub state: Option<String>,
}

/// Changes to plan.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct ShardPlan {
    /// An OLT host that comes, or that gets another capacity or region; can be given several times.
    #[arg(long, value_name = "ID:CAPACITY[:REGION]")]
    pub join: Vec<String>,
    /// An OLT host that is drained; can be given several times.
    #[arg(long, value_name = "ID")]
    pub leave: Vec<String>,
    /// A file with a new pool, or with another specification of one that is there; - reads standard input.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub pool: Option<PathBuf>,
}

/// What to do with the servers of the cluster.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Whether all servers have the same record, and if not, what is missing. Exit code 0: converged, 2: not.
    Status(ClusterStatus),
    /// All servers, with their lag as seen from the one that is asked.
    Members,
    /// Let a server in that waits.
    Add {
        /// Its name.
        name: String,
    },
    /// Take a server out of the cluster, for good.
    Remove {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Found a cluster on the server that is asked: once in the life of a cluster.
    Init {
        /// URLs of the other servers that the cluster will have. Nothing is founded if one of them does not
        /// answer, or belongs to a cluster already.
        #[arg(long, value_delimiter = ',', value_name = "URL,...")]
        others: Vec<String>,
    },
    /// Print a fresh cluster key: 64 hexadecimal digits. Asks no server.
    Key,
}

/// How to show the health of the cluster.
#[derive(Debug, Args)]
pub struct ClusterStatus {
    /// Show it again and again, every so many seconds (2 if not given), until it is stopped.
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = seconds
    )]
    pub watch: Option<Duration>,
    /// Wait until the cluster is converged, at most so many seconds, then show it.
    #[arg(
        long,
        value_name = "SECONDS",
        conflicts_with = "watch",
        value_parser = seconds
    )]
    pub wait: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let expected = || "expected 0.1 to 86400 seconds".to_owned();
    let seconds: f64 = text.parse().map_err(|_| expected())?;
    if (0.1..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(expected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_number_of_seconds_within_bounds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "NaN", "1e9", "two", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn watching_needs_no_number() {
        let watch = |arguments: &[&str]| {
            let all = ["nexusctl", "cluster", "status"].iter().chain(arguments);
            match Cli::try_parse_from(all).map(|cli| cli.command) {
                Ok(Command::Cluster(Cluster::Status(status))) => status.watch,
                _ => None,
            }
        };
        assert_eq!(watch(&[]), None);
        assert_eq!(watch(&["--watch"]), Some(Duration::from_secs(2)));
        assert_eq!(watch(&["--watch", "10"]), Some(Duration::from_secs(10)));
    }
}
