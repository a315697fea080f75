//! `perfdhcp` of Debian's `kea-admin`: another project's load, as a relay.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nexus_testkit::command;

use super::line::{LOAD_END, Line, SERVER};

/// Whole seconds of a trial; it takes nothing shorter.
const SECONDS: u32 = 2;
/// For the last answers, in microseconds.
const WAIT: &str = "300000";

/// What a trial came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// DISCOVERs sent.
    pub begun: f64,
    /// ACKs received.
    pub completed: f64,
    /// Completed exchanges per second of the time that it took.
    pub per_second: f64,
}

impl Trial {
    /// Share of exchanges that were not completed.
    pub fn loss(self) -> f64 {
        if self.begun > 0.0 {
            1.0 - self.completed / self.begun
        } else {
            1.0
        }
    }
}

/// Begins `rate` exchanges per second, of clients whose MAC addresses stand in the file `macs`.
pub fn run(line: &Line, macs: &Path, rate: f64) -> Result<Trial> {
    let mut perfdhcp = line.load.command("perfdhcp");
    perfdhcp.args(["-4", "-r", &format!("{rate:.0}")]);
    perfdhcp.args(["-p", &SECONDS.to_string(), "-W", WAIT, "-l", LOAD_END]);
    perfdhcp.arg("-M").arg(macs).arg(SERVER);
    let finished = command::run(&mut perfdhcp, Duration::from_secs(20))?;
    // Its exit status only says whether anything was lost.
    read(&finished.stdout).with_context(|| {
        format!(
            "perfdhcp did not end with its statistics: {}{}",
            finished.stdout, finished.stderr
        )
    })
}

fn read(text: &str) -> Option<Trial> {
    let part = |title: &str| {
        text.split("Statistics for: ")
            .find(|part| part.starts_with(title))
    };
    let figure = |title: &str, name: &str| {
        let part = part(title)?;
        let line = part.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<f64>().ok()
    };
    Some(Trial {
        begun: figure("DISCOVER-OFFER", "sent packets:")?,
        completed: figure("REQUEST-ACK", "received packets:")?,
        per_second: rate(text)?,
    })
}

/// Out of "Rate: 996.7 4-way exchanges/second, expected rate: 1000".
fn rate(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Rate: "))?;
    line.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_that_of_whole_exchanges() {
        let text = "Rate: 89.5 4-way exchanges/second, expected rate: 100\n\n***Statistics for: DISCOVER-OFFER***\nsent packets: 200\nreceived packets: 190\n\
                    ***Statistics for: REQUEST-ACK***\nsent packets: 190\nreceived packets: 180\n";
        let trial = read(text).unwrap();
        assert!((trial.loss() - 0.1).abs() < 1e-9, "{trial:?}");
        assert!((trial.per_second - 89.5).abs() < 1e-9);
        assert_eq!(read("perfdhcp: no such interface"), None);
    }
}
