//! The operator's command line, over the public API only.

mod api;
mod cli;
mod commands;
mod print;
mod table;

use std::process::ExitCode;

use clap::Parser as _;

use crate::api::{Api, ApiError};
use crate::cli::Cli;
use crate::print::Reader;

/// The server refused the request.
const REFUSED: u8 = 1;
/// The server could not be reached, or did not answer as it should.
const UNREACHABLE: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = Api::new(&cli.server)
        .map_err(anyhow::Error::from)
        .and_then(|api| commands::run(&api, &cli));
    let shown = outcome.and_then(|shown| match print::print(&shown.text)? {
        Reader::There | Reader::Gone => Ok(shown.code),
    });
    match shown {
        Ok(code) => ExitCode::from(code),
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
