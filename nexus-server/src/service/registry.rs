//! The OLT registry: register, heartbeat, drain, deregister.

use nexus_core::cluster::Answer;
use nexus_core::id::OltId;
use nexus_core::shard_table::Command;

use super::Service;
use crate::centre::{Heartbeat, HeartbeatAnswer, NodeInfo, Registered, Registration};
use crate::refused::Refused;

impl Service {
    /// Enrols an OLT and starts or renews its lease.
    ///
    /// # Errors
    /// Why this host may not have this id and session.
    pub async fn register(&self, registration: Registration) -> Result<Registered, Refused> {
        self.writable()?;
        let olt = registration.olt.clone();
        let command = self
            .centre
            .run(move |centre, _| centre.prepare_register(registration))
            .await?;
        let granted = self.grants.decide(command).await?;
        self.centre
            .run(move |centre, _| centre.registered(&olt, granted))
            .await
    }

    /// Takes a sign of life, and renews the lease of the session that sent it.
    ///
    /// # Errors
    /// An unknown OLT, or a session that is not the current one.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, Refused> {
        self.writable()?;
        let asked = heartbeat.clone();
        let command = self
            .centre
            .run_ahead(move |centre, _| centre.prepare_heartbeat(&asked))
            .await?;
        let granted = match command {
            Some(command) => self.grants.decide(command).await?,
            None => Answer::default(),
        };
        self.centre
            .run(move |centre, now| centre.heard(&now, heartbeat, granted))
            .await
    }

    /// Asks all shards of an OLT back.
    ///
    /// # Errors
    /// An unknown OLT.
    pub async fn drain(&self, olt: OltId) -> Result<NodeInfo, Refused> {
        self.writable()?;
        self.grants
            .decide(Command::Drain { olt: olt.clone() })
            .await?;
        self.centre.run(move |centre, _| centre.node(&olt)).await
    }

    /// Forgets an OLT that is drained and holds nothing.
    ///
    /// # Errors
    /// What it still has, or that it is unknown.
    pub async fn deregister(&self, olt: OltId) -> Result<(), Refused> {
        self.writable()?;
        let command = self
            .centre
            .run(move |centre, _| centre.prepare_deregister(&olt))
            .await?;
        self.grants.decide(command).await.map(drop)
    }
}
