//! The machine as a whole: settings that are changed for the run and put back, and its counters of time.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nexus_testkit::command;
use nexus_testkit::netns::Namespace;
use serde_json::Value;

/// A setting of the kernel, as it was before when this is dropped.
pub struct Setting {
    file: PathBuf,
    before: String,
}

impl Setting {
    /// Writes `value` into a file below `/proc/sys`.
    pub fn set(name: &str, value: &str) -> Result<Self> {
        let file = Path::new("/proc/sys").join(name);
        let before = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        std::fs::write(&file, value)
            .with_context(|| format!("cannot write {value} into {}", file.display()))?;
        Ok(Self { file, before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.file, &self.before);
    }
}

/// What servers need under load, and what Debian's defaults (212,992 bytes, 1024 neighbours) do not give them: a burst
/// would overflow their sockets, and clients' timers would be measured; and dnsmasq enters each client as a neighbour.
pub fn prepare() -> Result<Vec<Setting>> {
    let settings = [
        ("net/core/rmem_default", "16777216"),
        ("net/ipv4/neigh/default/gc_thresh1", "65536"),
        ("net/ipv4/neigh/default/gc_thresh2", "131072"),
        ("net/ipv4/neigh/default/gc_thresh3", "131072"),
    ];
    settings
        .into_iter()
        .map(|(name, value)| Setting::set(name, value))
        .collect()
}

/// Nanoseconds that all threads of a process have run, in user space and in the kernel (the same as utime and stime of
/// `/proc/PID/stat`, without rounding to clock ticks).
pub fn process_time(pid: u32) -> Result<u64> {
    let folder = format!("/proc/{pid}/task");
    let threads = std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let mut sum = 0;
    for thread in threads.flatten() {
        // It may have ended just now.
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        sum += first_number(&text).unwrap_or(0);
    }
    Ok(sum)
}

/// Nanoseconds that all processors have spent in softirq, where the kernel receives packets and runs XDP programs. It
/// is sampled at each clock tick, so it is good for sums over seconds only.
pub fn softirq_time() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    softirq_of(&text).context("/proc/stat names no softirq time")
}

fn softirq_of(stat: &str) -> Option<u64> {
    const TICK: u64 = 10_000_000;
    let mut words = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace();
    let ticks: u64 = words.nth(6)?.parse().ok()?;
    Some(ticks * TICK)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Nanoseconds that the XDP program on an interface has run, as far as the kernel's `bpf_stats_enabled` was on.
pub fn program_time(namespace: &Namespace, interface: &str) -> Result<u64> {
    let link = namespace.run("ip", &["-json", "link", "show", "dev", interface])?;
    let link: Value = serde_json::from_str(&link).context("`ip -json` did not print JSON")?;
    let id = link
        .pointer("/0/xdp/prog/id")
        .and_then(Value::as_u64)
        .with_context(|| format!("no XDP program on {interface}"))?;
    let mut show = std::process::Command::new("bpftool");
    let shown = command::output(show.args(["-j", "prog", "show", "id", &id.to_string()]))?;
    let shown: Value = serde_json::from_str(&shown).context("bpftool did not print JSON")?;
    // Absent until it has run once.
    Ok(shown
        .get("run_time_ns")
        .and_then(Value::as_u64)
        .unwrap_or(0))
}

/// What the figures were measured on: kernel, processors, load.
pub fn description() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("", |(_, model)| model);
    let count = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    format!(
        "{count} processors ({model}), Linux {}, load average {}",
        read("/proc/sys/kernel/osrelease").trim(),
        load.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softirq_is_the_seventh_figure_in_hundredths_of_a_second() {
        let stat = "cpu  1 2 3 4 5 6 77 8 9 10\ncpu0 0 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(softirq_of(stat), Some(770_000_000));
        assert_eq!(softirq_of("intr 1 2 3"), None);
    }
}
