//! What can be typed.

use std::path::PathBuf;

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
    /// How the server, its pools and its OLT hosts are.
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
    },
    /// Remove a pool that nobody holds anything of.
    Delete {
        /// Pool.
        id: String,
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
    },
    /// Forget an OLT host that is drained and holds nothing.
    Delete {
        /// OLT.
        id: String,
    },
}
