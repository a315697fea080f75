//! The state out of the store at the start, and out of it before a start over.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use nexus_store::{Batch, OnDamage, Options, Store};

use crate::centre::Centre;
use crate::centre::effects::Write;
use crate::clock::Now;
use crate::config::Config;
use crate::olt_config::Settings;
use crate::replica::{self, Replica, ReplicaError};

/// Bytes a second of a first copy at most, so that who gives it goes on serving: ten million entries take a
/// minute and a half.
const BOOTSTRAP_RATE: u64 = 16 * 1024 * 1024;

/// Opens the store.
///
/// # Errors
/// What is wrong with it and what to do.
pub async fn open(path: &Path, on_damage: OnDamage) -> anyhow::Result<Store> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let options = Options {
            on_damage,
            ..Options::default()
        };
        anyhow::Ok(Store::open(&path, options)?)
    });
    opened.await.context("opening the store has failed")?
}

/// Throws the record away, so that the next start fetches it from the other servers, and closes the store.
///
/// # Errors
/// What the store says; the next start goes on with it.
pub async fn start_over(store: Store) -> anyhow::Result<()> {
    let wiped = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        wipe_all(&store)?;
        Ok(store.flush_and_close()?)
    });
    wiped.await.context("throwing the record away has failed")?
}

fn wipe_all(store: &Store) -> anyhow::Result<()> {
    loop {
        let rows = replica::wipe(Arc::new(store.clone()))?;
        if rows.is_empty() {
            return Ok(());
        }
        store.commit_blocking(batch(rows))?;
    }
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
        bootstrap_rate: Some(BOOTSTRAP_RATE),
        ..nexus_clset::Options::default()
    };
    let of = store.clone();
    let restored = tokio::task::spawn_blocking(move || -> anyhow::Result<Centre> {
        let open = |options| Replica::open(Arc::new(of.clone()), number, options, &now);
        let opened = match open(options.clone()) {
            Err(ReplicaError::HalfWiped) => {
                wipe_all(&of)?;
                open(options)
            }
            opened => opened,
        };
        let (mut replica, (ticket, rows)) = opened?;
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

fn batch(rows: Vec<Write>) -> Batch {
    let mut batch = Batch::new();
    for row in rows {
        row.add_to(&mut batch);
    }
    batch
}
