//! `nexus-server`: reads its configuration and runs the centre.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Args, Parser, Subcommand};
use nexus_server::config::Config;
use nexus_server::run::Ended;
use tracing_subscriber::EnvFilter;

/// The centre of Nexus: pools, shard leases, the OLT registry and the record of all allocations.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Task>,
    #[command(flatten)]
    options: ServerOptions,
}

#[derive(Args)]
struct ServerOptions {
    /// Configuration file.
    #[arg(
        long,
        global = true,
        default_value = "/etc/nexus/nexus.yaml",
        env = "NEXUS_CONFIG"
    )]
    config: PathBuf,
    /// File that gets the real listening addresses as JSON once the server is ready.
    #[arg(long)]
    ready_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Task {
    /// Checks the configuration file and says what is wrong with it.
    CheckConfig,
    /// For a stopped server, when the disks of a majority are gone for good, or its data directory is an old copy: says how much
    /// this server has, or goes on alone from that. See docs/CLUSTER.md.
    Recover {
        /// Make this server the only one of a new cluster. The others must not come back but with empty data directories.
        #[arg(long, requires = "reason")]
        go_on_alone: bool,
        /// Why; kept in the log of decisions.
        #[arg(long, requires = "go_on_alone")]
        reason: Option<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nexus-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let ServerOptions { config, ready_file } = cli.options;
    let path = config;
    let config = Config::load(&path)?;
    match cli.command {
        Some(Task::CheckConfig) => {
            println!("{}: ok, {} pools", path.display(), config.pools.len());
            return Ok(());
        }
        Some(Task::Recover { reason, .. }) => {
            print!(
                "{}",
                nexus_server::recover::run(&config, reason.as_deref())?
            );
            return Ok(());
        }
        None => {}
    }
    let filter = EnvFilter::try_from_env("NEXUS_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,openraft=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(nexus_server::run::run(config, ready_file))?;
    match ended {
        Ended::Stopped => Ok(()),
        Ended::StartOver => {
            let program = std::env::current_exe()?;
            let arguments = std::env::args_os().skip(1);
            // Comes back only if it fails.
            Err(Command::new(program).args(arguments).exec().into())
        }
    }
}
