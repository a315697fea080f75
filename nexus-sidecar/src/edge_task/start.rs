//! Starting: the machine from its rows, the kernel's map from the machine, the queues.

use std::collections::{BTreeMap, BTreeSet};

use nexus_core::edge::{Clocks, Edge, Effects, IN_FLIGHT_LIMIT, Row, Start};
use nexus_core::id::{IdError, OltId, SessionId};
use nexus_core::time::BootTime;
use nexus_store::Store;
use tokio::sync::{mpsc, watch};

use super::centre::{CentreSide, EVENTS};
use super::group::Group;
use super::pinned::QUESTIONS;
use super::{EdgeTask, EdgeTaskError};
use crate::binding_map::{Access, BindingMap, Interface};
use crate::clock::{self, boot_id, boot_now, hardware_secs};
use crate::edge_handle::EdgeHandle;
use crate::interfaces;
use crate::metrics::Metrics;
use crate::origin::{Mark, Origin};
use crate::profiles::{Gateway, Profiles};
use crate::rows::{self, RowsError, Writer};
use crate::served::Served;

impl<M: BindingMap> EdgeTask<M> {
    /// Restores the machine from its rows and makes the kernel's map equal to it; what is right in the map
    /// is not touched.
    ///
    /// # Errors
    /// Rows that cannot be read or written, a map that cannot be changed, a clock that cannot be read.
    pub async fn start(
        olt: OltId,
        store: Store,
        map: M,
        access: Access,
        origin: &Origin,
        metrics: Metrics,
    ) -> Result<(Self, EdgeHandle, CentreSide), EdgeTaskError> {
        let rows = rows::load(&store)?;
        check_owner(&rows, &olt)?;
        let access = number_interfaces(access, &store).await?;
        let profiles = Profiles::new(gateways(&access), rows::load_profiles(&store)?);
        let stored = rows::load_origin(&store)?;
        let boot_id = boot_id()?;
        let (mark, wrong) = Mark::open(origin, &boot_id, &access, stored.as_ref());
        if let Some(why) = &wrong {
            tracing::warn!(%why, "the store is not gone on from as it is: this host starts a new session and allocates once the centre's record has been read");
        }
        let start = Start {
            olt,
            boot_id,
            new_session: new_session()?,
            rolled_back: wrong.is_some(),
        };
        let mut fx = Effects::new();
        let clocks = Clocks {
            hardware: hardware_secs(),
            boot: boot_now()?,
        };
        let mut edge = Edge::restore(clocks, start, rows, &mut fx);
        edge.serve_interfaces(access.interfaces().map(|one| one.name.clone()));
        let served = Served::default();
        let (handle, requests) = EdgeHandle::channel(served.clone(), metrics.clone());
        let (event_sender, events) = mpsc::channel(EVENTS);
        let (commands, command_receiver) = mpsc::channel(IN_FLIGHT_LIMIT);
        let (questions, question_receiver) = mpsc::channel(QUESTIONS);
        let (pull, pull_receiver) = watch::channel(0);
        let mut task = Self {
            edge,
            store,
            map,
            served,
            access,
            profiles,
            metrics,
            requests,
            events,
            commands,
            pull,
            questions,
            asked: BTreeMap::new(),
            routes: None,
            endpoint: None,
            mark,
            clock: clock::Watch::default(),
            other_host: None,
            seen_read: BootTime::ZERO,
            open: Group::default(),
            flight: None,
            held: None,
            leaving: BTreeMap::new(),
            map_errors: BTreeMap::new(),
            unwritten: BTreeSet::new(),
        };
        for entry in task.edge.map_entries() {
            task.profiles.want(&entry.pool, &entry.key.interface);
        }
        task.gather(fx)?;
        task.settle().await?;
        let repairs = task.reconcile()?;
        tracing::info!(
            kept = repairs.kept,
            added = repairs.added,
            replaced = repairs.replaced,
            removed = repairs.removed,
            failed = repairs.failed.len(),
            "bindings restored"
        );
        let centre = CentreSide {
            events: event_sender,
            commands: command_receiver,
            pull: pull_receiver,
            questions: question_receiver,
            instance: new_session()?.to_string(),
        };
        Ok((task, handle, centre))
    }
}

/// Gives every interface its number, durably.
async fn number_interfaces(access: Access, store: &Store) -> Result<Access, RowsError> {
    let names = access.interfaces().map(|one| one.name.clone()).collect();
    let (numbers, changes) = interfaces::number(rows::load_interfaces(store)?, &names);
    let mut writer = Writer::default();
    writer.interfaces(&changes)?;
    for commit in writer.submit(store).await? {
        commit.await?;
    }
    Ok(access.numbered(&numbers))
}

fn gateways(access: &Access) -> BTreeMap<String, Gateway> {
    let gateway = |one: &Interface| Gateway {
        mac: one.mac,
        server_id: one.server_id,
    };
    access
        .interfaces()
        .map(|one| (one.name.clone(), gateway(one)))
        .collect()
}

/// Whether the rows are of this host.
fn check_owner(rows: &[Row], olt: &OltId) -> Result<(), EdgeTaskError> {
    let stored = rows.iter().find_map(|row| match row {
        Row::Edge(row) => Some(&row.olt),
        _ => None,
    });
    match stored {
        Some(stored) if stored != olt => Err(EdgeTaskError::OtherOlt {
            stored: stored.clone(),
            configured: olt.clone(),
        }),
        _ => Ok(()),
    }
}

/// A session name made at random.
///
/// # Errors
/// Never: hexadecimal digits are a valid name.
pub fn new_session() -> Result<SessionId, IdError> {
    let random: [u8; 16] = rand::random();
    SessionId::new(hex::encode(random))
}
