//! The state out of the store, at the start; and the store out of the way, before a start over.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use nexus_store::{Batch, OnDamage, Options, Store};

use crate::centre::Centre;
use crate::centre::effects::Write;
use crate::clock::Now;
use crate::config::Config;
use crate::olt_config::Settings;
use crate::replica::Replica;

/// Opens the store, after removing what an interrupted start over has left.
///
/// # Errors
/// What is wrong with it and what to do.
pub async fn open(path: &Path, on_damage: OnDamage) -> anyhow::Result<Store> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        clear(&given_up(&path))?;
        let options = Options {
            on_damage,
            ..Options::default()
        };
        anyhow::Ok(Store::open(&path, options)?)
    });
    opened.await.context("opening the store has failed")?
}

/// Closes a store and removes it.
///
/// # Errors
/// What the system says; then the next start tries again.
pub async fn remove(path: &Path, store: Store) -> anyhow::Result<()> {
    let path = path.to_owned();
    let removed = tokio::task::spawn_blocking(move || {
        store.flush_and_close()?;
        let aside = given_up(&path);
        std::fs::rename(&path, &aside)
            .with_context(|| format!("cannot move {} aside", path.display()))?;
        clear(&aside)
    });
    removed.await.context("removing the store has failed")?
}

/// Takes up the state out of the rows of the store.
///
/// # Errors
/// Rows that cannot be read or understood.
pub async fn restore(config: &Config, store: &Store, number: u32) -> anyhow::Result<Centre> {
    let now = Now::read().context("this kernel has no CLOCK_BOOTTIME")?;
    let settings = Settings {
        heartbeat_interval: config.olt.heartbeat_interval.get(),
        endpoints: config.olt.endpoints.clone(),
        policies: config.olt.policies.clone(),
    };
    let options = nexus_clset::Options {
        rebroadcast: config.clset.rebroadcast_interval.get(),
        seed: rand::random(),
        overdue: config.cluster.evict_after.get(),
        ..nexus_clset::Options::default()
    };
    let of = store.clone();
    let restored = tokio::task::spawn_blocking(move || -> anyhow::Result<Centre> {
        let (mut replica, (ticket, rows)) =
            Replica::open(Arc::new(of.clone()), number, options, &now)?;
        of.commit_blocking(batch(rows))?;
        replica.settle(ticket);
        Ok(Centre::restore(
            settings,
            &of,
            replica,
            rand::random(),
            &now,
        )?)
    });
    let centre = restored.await.context("reading the store has failed")??;
    let rows = store.opened().verified_rows.unwrap_or(0);
    tracing::info!(rows, allocations = centre.allocations(), "state restored");
    Ok(centre)
}

fn given_up(path: &Path) -> PathBuf {
    path.with_extension("given-up")
}

fn clear(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn batch(rows: Vec<Write>) -> Batch {
    let mut batch = Batch::new();
    for row in rows {
        match row.value {
            Some(value) => batch.put(row.kind, &row.key, &value),
            None => batch.delete(row.kind, &row.key),
        };
    }
    batch
}
