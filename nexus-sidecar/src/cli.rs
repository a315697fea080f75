//! The command line: what can be asked, and how the answers look.

mod show;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use nexus_core::id::SubscriberId;
use nexus_radius::identity::parse_mac;

use crate::config::{SidecarConfig, default_control_socket};
use crate::control::{self, Answer, Request};
use crate::{fastpath, routes, run};

/// Where the configuration is looked for.
const CONFIG: &str = "/etc/nexus-sidecar/sidecar.yaml";

/// Hands out addresses on one OLT host: RADIUS, local shards, DHCP in the kernel.
#[derive(Debug, Parser)]
#[command(name = "nexus-sidecar", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until SIGTERM. The kernel goes on answering bound subscribers afterwards.
    Run(ConfigArgs),
    /// Show how the running sidecar stands.
    Status {
        #[command(flatten)]
        socket: SocketArgs,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show who has which address.
    Bindings {
        #[command(flatten)]
        socket: SocketArgs,
        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
        /// Only those of this subscriber.
        #[arg(long)]
        subscriber: Option<SubscriberId>,
    },
    /// Show a subscriber's DHCP packets live, and what becomes of each, until Ctrl-C.
    Trace {
        #[command(flatten)]
        socket: SocketArgs,
        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
        /// Whom; has to have a binding on this host.
        #[arg(long, required_unless_present = "mac", conflicts_with = "mac")]
        subscriber: Option<SubscriberId>,
        /// MAC address of a client, bound or not.
        #[arg(long, value_parser = mac)]
        mac: Option<[u8; 6]>,
    },
    /// Show unknown clients, MACs that are not allowed on their line and NAKs live, until Ctrl-C.
    Events {
        #[command(flatten)]
        socket: SocketArgs,
        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Take the program off its interfaces and remove its maps and routes: nobody is answered in the kernel then,
    /// and nothing is announced. For a sidecar that does not run.
    Detach(ConfigArgs),
    /// Read the configuration and the files that it names, and say whether they can be used.
    CheckConfig(ConfigArgs),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// Configuration file.
    #[arg(long, default_value = CONFIG)]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct SocketArgs {
    /// Control socket of the running sidecar [default: /run/nexus-sidecar/control.sock].
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Configuration file to take control.socket from.
    #[arg(long, conflicts_with = "socket")]
    config: Option<PathBuf>,
}

impl SocketArgs {
    fn path(&self) -> anyhow::Result<PathBuf> {
        match (&self.socket, &self.config) {
            (Some(socket), _) => Ok(socket.clone()),
            (None, Some(config)) => Ok(SidecarConfig::load(config)?.control.socket),
            (None, None) => Ok(default_control_socket()),
        }
    }
}

/// Does what the command line asks for.
///
/// # Errors
/// A text for the person who typed it.
pub async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(args) => run::run(&args.config).await,
        Command::Status { socket, json } => status(&socket.path()?, json).await,
        Command::Bindings {
            socket,
            json,
            subscriber,
        } => bindings(&socket.path()?, json, subscriber).await,
        Command::Trace {
            socket,
            json,
            subscriber,
            mac,
        } => watch(&socket.path()?, json, &Request::Trace { subscriber, mac }).await,
        Command::Events { socket, json } => watch(&socket.path()?, json, &Request::Events).await,
        Command::Detach(args) => detach(&args.config).await,
        Command::CheckConfig(args) => {
            SidecarConfig::load(&args.config)?;
            print(&format!("{} can be used", args.config.display()))
        }
    }
}

async fn status(socket: &Path, json: bool) -> anyhow::Result<()> {
    let mut text = Ok(String::new());
    control::ask(socket, &Request::Status, |answer| {
        if let Answer::Status(status) = answer {
            text = if json {
                serde_json::to_string_pretty(&status)
            } else {
                Ok(show::status(&status))
            };
        }
    })
    .await?;
    print(&text?)
}

async fn bindings(
    socket: &Path,
    json: bool,
    subscriber: Option<SubscriberId>,
) -> anyhow::Result<()> {
    let mut all = Vec::new();
    control::ask(socket, &Request::Bindings { subscriber }, |answer| {
        if let Answer::Binding(binding) = answer {
            all.push(binding);
        }
    })
    .await?;
    if !json {
        return print(&show::bindings(&all));
    }
    let mut text = String::new();
    for binding in &all {
        text.push_str(&serde_json::to_string(binding)?);
        text.push('\n');
    }
    print(&text)
}

/// Prints packets as they come.
async fn watch(socket: &Path, json: bool, request: &Request) -> anyhow::Result<()> {
    let mut printed = Ok(());
    let asked = control::ask(socket, request, |answer| {
        let line = match answer {
            Answer::Watching(what) if !json => format!("watching {what}; Ctrl-C ends it"),
            Answer::Packet(packet) if json => serde_json::to_string(&packet).unwrap_or_default(),
            Answer::Packet(packet) => show::packet(&packet),
            _ => return,
        };
        if printed.is_ok() {
            printed = print(&line);
        }
    });
    tokio::select! {
        asked = asked => asked?,
        _ = tokio::signal::ctrl_c() => {}
    }
    printed
}

fn mac(text: &str) -> Result<[u8; 6], &'static str> {
    parse_mac(text).ok_or("write the MAC address of one station as 02:00:00:00:00:01")
}

/// Prints text and one newline; who has read enough and closed the pipe is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

async fn detach(config: &Path) -> anyhow::Result<()> {
    let config = SidecarConfig::load(config)?;
    let root = &config.fast_path.pin_path;
    let removed = if root.exists() {
        fastpath::detach(root).context("detach")?
    } else {
        Vec::new()
    };
    let mut lines: Vec<String> = removed
        .iter()
        .map(|pin| format!("removed {}", pin.display()))
        .collect();
    if lines.is_empty() {
        lines.push(format!("nothing is pinned under {}", root.display()));
    }
    let routes = routes::detach(&config.routes).await.context("detach")?;
    if routes > 0 {
        lines.push(format!("removed {routes} routes"));
    }
    print(&lines.join("\n"))
}
