//! The operator's command line, over the public API only.

mod api;
mod cli;
mod commands;
mod table;

use std::process::ExitCode;

use clap::Parser as _;

use crate::api::{Api, ApiError};
use crate::cli::Cli;

/// The server refused the request.
const REFUSED: u8 = 1;
/// The server could not be reached, or did not answer as it should.
const UNREACHABLE: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = Api::new(&cli.server)
        .map_err(anyhow::Error::from)
        .and_then(|api| commands::run(&api, &cli));
    match outcome {
        Ok(text) => print(&text),
        Err(error) => {
            eprintln!("nexusctl: {error:#}");
            match error.downcast_ref::<ApiError>() {
                Some(ApiError::Unreachable { .. } | ApiError::Unexpected { .. }) => {
                    ExitCode::from(UNREACHABLE)
                }
                _ => ExitCode::from(REFUSED),
            }
        }
    }
}

/// Prints without complaint into a pipe that was closed, such as that of `head`.
fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("nexusctl: cannot write the answer: {error}");
            ExitCode::from(REFUSED)
        }
        _ => ExitCode::SUCCESS,
    }
}
