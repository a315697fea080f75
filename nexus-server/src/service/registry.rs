//! The OLT registry: register, heartbeat, drain, deregister.

use std::sync::Arc;
use std::time::Duration;

use nexus_core::cluster::Answer;
use nexus_core::id::{OltId, SessionId};
use nexus_core::shard_table::Command;

use super::Service;
use crate::centre::effects::Change;
use crate::centre::{Heartbeat, HeartbeatAnswer, NodeInfo, Registered, Registration};
use crate::cluster::barrier::{self, CONFIG_WAIT, READ_WAIT};
use crate::olt_config::OltConfig;
use crate::refused::Refused;
use crate::watch::Feed;

/// How often it is looked whether this server has come as far as the one that an OLT was at before.
const CONFIG_LOOKS: usize = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Allocations that are changed in one piece of work of the owner.
pub(super) const AT_ONCE: usize = 500;

impl Service {
    /// Enrols an OLT and starts or renews its lease.
    ///
    /// # Errors
    /// Why this host may not have this id and session.
    pub async fn register(&self, registration: Registration) -> Result<Registered, Refused> {
        self.writable()?;
        let olt = registration.olt.clone();
        let first = registration.clone();
        let vouch = self
            .parts
            .centre
            .run_ahead(move |centre, _| Ok(centre.prepare_vouch(&first)))
            .await?;
        if let Some(vouch) = vouch {
            self.parts.grants.decide(vouch).await?;
        }
        let command = self
            .parts
            .centre
            .run(move |centre, now| centre.prepare_register(&now, registration))
            .await?;
        let granted = self.parts.grants.decide(command).await?;
        self.place(Some(olt.clone())).await;
        self.told(&olt).await?;
        self.parts
            .centre
            .run(move |centre, now| centre.registered(&now, &olt, granted))
            .await
    }

    /// The newest configuration of an OLT; of a session, if one is named.
    ///
    /// # Errors
    /// An unknown OLT or session.
    pub async fn config(
        &self,
        olt: OltId,
        session: Option<SessionId>,
    ) -> Result<Arc<OltConfig>, Refused> {
        self.told(&olt).await?;
        self.parts
            .centre
            .run(move |centre, _| centre.read_config(&olt, session.as_ref()))
            .await
    }

    /// Opens a stream of an OLT's configuration.
    ///
    /// # Errors
    /// An unknown OLT or session.
    pub async fn watch_config(
        &self,
        olt: OltId,
        session: Option<SessionId>,
    ) -> Result<Feed<Arc<OltConfig>>, Refused> {
        self.told(&olt).await?;
        self.parts.centre.watch_config(olt, session).await
    }

    /// Opens a stream of an OLT's allocations, which knows at least what is held in the shards of a
    /// configuration that the OLT may have got from another server. For a session, which is the OLT itself, it also knows
    /// what the OLT was told to be recorded, by whichever server; that may take a while.
    ///
    /// # Errors
    /// An unknown OLT or session, or [`Refused::NotNow`] if this server does not know that configuration.
    pub async fn watch_allocations(
        &self,
        olt: OltId,
        session: Option<SessionId>,
        revision: u64,
        config_revision: u64,
    ) -> Result<Feed<Change>, Refused> {
        for _ in 0..CONFIG_LOOKS {
            if self.knows(&olt, config_revision).await? {
                match session {
                    Some(_) => self.read_up(READ_WAIT).await?,
                    None => self.told(&olt).await?,
                }
                return self
                    .parts
                    .centre
                    .watch_allocations(olt, session, revision)
                    .await;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(Refused::NotNow(
            "it does not know the OLT's configuration yet: ask again, or another server".to_owned(),
        ))
    }

    /// Whether this server knows an OLT's configuration of that revision.
    async fn knows(&self, olt: &OltId, config_revision: u64) -> Result<bool, Refused> {
        let olt = olt.clone();
        self.parts
            .centre
            .run_ahead(move |centre, _| {
                let view = centre.table().olt(&olt);
                Ok(view.is_none_or(|view| view.row.config_revision >= config_revision))
            })
            .await
    }

    /// Waits until an OLT may be told of all shards that it has got.
    async fn told(&self, olt: &OltId) -> Result<(), Refused> {
        let of = olt.clone();
        let number = self
            .parts
            .centre
            .run_ahead(move |centre, _| Ok(centre.waits_for_move(&of)))
            .await?;
        if number == 0 {
            return Ok(());
        }
        barrier::wait(self.parts.barrier.clone(), number, CONFIG_WAIT).await
    }

    /// Waits until this server knows what a majority has now, and may tell every OLT of all shards that it has got up to now.
    pub(super) async fn read_up(&self, limit: Duration) -> Result<(), Refused> {
        let ask = self
            .parts
            .centre
            .run_ahead(|centre, _| Ok(centre.ask_majority()));
        match ask.await? {
            0 => Ok(()),
            number => barrier::wait(self.parts.barrier.clone(), number, limit).await,
        }
    }

    /// Takes a sign of life, and renews the lease of the session that sent it.
    ///
    /// # Errors
    /// An unknown OLT, or a session that is not the current one.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, Refused> {
        self.writable()?;
        let asked = heartbeat.clone();
        let command = self
            .parts
            .centre
            .run_ahead(move |centre, now| centre.prepare_heartbeat(&now, &asked))
            .await?;
        let granted = match command {
            Some(command) => self.parts.grants.decide(command).await?,
            None => Answer::default(),
        };
        self.parts
            .centre
            .run(move |centre, now| centre.heard(&now, heartbeat, granted))
            .await
    }

    /// Asks all shards of an OLT back.
    ///
    /// # Errors
    /// An unknown OLT.
    pub async fn drain(&self, olt: OltId) -> Result<NodeInfo, Refused> {
        let command = Command::Drain { olt: olt.clone() };
        self.place_after(command, olt).await
    }

    /// Lets an OLT that is drained go on after all.
    ///
    /// # Errors
    /// An unknown OLT.
    pub async fn activate(&self, olt: OltId) -> Result<NodeInfo, Refused> {
        let command = Command::Activate { olt: olt.clone() };
        self.place_after(command, olt).await
    }

    /// Has a command about an OLT decided, and what placement makes of it.
    async fn place_after(&self, command: Command, olt: OltId) -> Result<NodeInfo, Refused> {
        self.writable()?;
        self.parts.grants.decide(command).await?;
        self.place(None).await;
        self.parts
            .centre
            .run(move |centre, _| centre.node(&olt))
            .await
    }

    /// An operator states that the host of an OLT hands out nothing and serves nobody any more: its shards are
    /// free at once, and what was held on it is released. May be repeated.
    ///
    /// # Errors
    /// An unknown OLT, or no reason.
    pub async fn fence(&self, olt: OltId, reason: String) -> Result<NodeInfo, Refused> {
        self.writable()?;
        tracing::warn!(%olt, reason = %reason.escape_default(), "an operator states that this OLT is fenced");
        let command = Command::Fence {
            olt: olt.clone(),
            reason,
        };
        self.parts.grants.decide(command).await?;
        let of = olt.clone();
        let places = self
            .parts
            .centre
            .run(move |centre, _| Ok(centre.places_on(&of)))
            .await?;
        for part in places.chunks(AT_ONCE) {
            let (part, of) = (part.to_vec(), olt.clone());
            self.parts
                .centre
                .run(move |centre, now| centre.release_fenced(&now, &of, &part))
                .await?;
        }
        self.place(None).await;
        self.parts
            .centre
            .run(move |centre, _| centre.node(&olt))
            .await
    }

    /// Forgets an OLT that is drained and holds nothing.
    ///
    /// # Errors
    /// What it still has, or that it is unknown.
    pub async fn deregister(&self, olt: OltId) -> Result<(), Refused> {
        self.writable()?;
        let command = self
            .parts
            .centre
            .run(move |centre, _| centre.prepare_deregister(&olt))
            .await?;
        self.parts.grants.decide(command).await.map(drop)
    }
}
