//! How this server becomes a member of its cluster, and stays one.

use std::time::Duration;

use nexus_core::cluster::{Introduction, MemberCommand, MemberState};
use nexus_core::lease::LeaseRule;
use nexus_core::shard_table::Command;
use nexus_p2p::Link;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::channel;
use crate::actor::Handle;
use crate::grants::Grants;
use crate::refused::Refused;
use crate::standing::Standing;

/// How often a server that is no full member yet looks where it stands.
const LOOK_AFTER: Duration = Duration::from_millis(300);
/// How often it is said how far the fetching of the record has come.
const SAY_AFTER: Duration = Duration::from_secs(5);
/// How long a server waits for members that know its address before it founds a cluster.
const LOOK_AROUND: Duration = Duration::from_secs(2);
/// How long such a member may take to answer.
const NEARBY_PATIENCE: Duration = Duration::from_secs(2);
/// How long another server may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a server that wants to join is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinAnswer {
    /// It is on the list, and stands there.
    Stands(MemberState),
    /// Why it is not.
    Refused(String),
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Membership {
    /// What this server says of itself.
    pub introduction: Introduction,
    /// The rule that leases of a cluster founded here are counted by.
    pub rule: LeaseRule,
    /// The state.
    pub centre: Handle,
    /// The quorum.
    pub grants: Grants,
    /// The other servers; nothing if this one runs alone.
    pub link: Option<Link>,
    /// Where it is noted whether writes are taken.
    pub standing: Standing,
    /// Time in which servers compare what they have at least twice.
    pub patience: Duration,
}

/// Where this server stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// Its place on the list of members, as far as it knows that.
    pub state: Option<MemberState>,
    /// Whether what it says of itself is what the list says.
    pub introduced: bool,
    /// Whether it has all entries of the CLSet.
    pub complete: bool,
    /// Where writes are taken.
    pub writers: Vec<String>,
    /// Entries that are here and that there are, while they are fetched.
    pub fetched: Option<(u64, u64)>,
    /// Why the clock is too wrong to write, if it is.
    pub clock: Option<String>,
}

impl Membership {
    /// Founds a cluster of this server alone, unless it belongs to one. To be done by one server in the life
    /// of a cluster.
    ///
    /// # Errors
    /// If it belongs to another cluster, or the store fails.
    pub async fn found(&self) -> Result<(), Refused> {
        let stand = self.stand().await?;
        let in_quorum = self.is_in_quorum();
        if in_quorum && stand.state.is_some() {
            return Ok(());
        }
        if !in_quorum && stand.state.is_some() {
            return Err(Refused::NotPossible(
                "this server was a member of a cluster: let it join that one again, or empty its data directory"
                    .to_owned(),
            ));
        }
        if !in_quorum {
            if let Some(member) = self.member_nearby().await {
                return Err(Refused::NotPossible(format!(
                    "{member} belongs to a cluster with this key already: this server joins that one if p2p.bootstrap \
                     names it"
                )));
            }
            let found = self.grants.quorum().found().await;
            found.map_err(|error| Refused::NotPossible(error.to_string()))?;
        }
        let node = self.introduction.clone();
        self.grants.decide(MemberCommand::Found(node)).await?;
        // Before anybody is granted a lease.
        self.grants
            .decide(Command::SetRule { rule: self.rule })
            .await?;
        self.centre.run(|centre, _| centre.found()).await?;
        tracing::info!(node = %self.introduction.name, "a new cluster is founded");
        Ok(())
    }

    /// Waits until it was noted that this server takes writes now, which comes a moment after the founding.
    pub async fn settled(&self) {
        let due = Instant::now() + NEARBY_PATIENCE;
        while self.standing.reasons().member.is_some() && Instant::now() < due {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Before a server with an empty data directory founds a cluster: gives the members of one that it may
    /// have belonged to the time to knock.
    pub async fn look_around(&self) {
        if self.link.is_some() && !self.is_in_quorum() {
            tokio::time::sleep(LOOK_AROUND).await;
        }
    }

    /// A server that is connected and belongs to a cluster: it says what it has seen.
    async fn member_nearby(&self) -> Option<String> {
        let link = self.link.as_ref()?;
        for peer in link.peers() {
            let asked = link.ask(peer.number, channel::SEEN, Vec::new(), NEARBY_PATIENCE);
            if asked.await.is_ok() {
                return Some(peer.name);
            }
        }
        None
    }

    /// Sees to it that this server is and stays a member, until the owner of the state is gone.
    pub async fn keep(self) {
        let mut looks = interval(LOOK_AFTER);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said: Option<String> = None;
        let mut progress_due = Instant::now();
        loop {
            looks.tick().await;
            let Ok(stand) = self.stand().await else {
                return;
            };
            let missing = self.step(&stand).await;
            if missing != said {
                match &missing {
                    Some(missing) => {
                        tracing::info!(missing, "this server is no full member of the cluster yet")
                    }
                    None => tracing::info!("this server is a full member of the cluster"),
                }
                said = missing.clone();
            }
            if let Some((entries, expected)) = stand.fetched
                && Instant::now() >= progress_due
            {
                progress_due = Instant::now() + SAY_AFTER;
                tracing::info!(entries, expected, "fetching the record");
            }
            let writers = (!self.introduction.role.writes()).then(|| stand.writers.clone());
            self.standing.set(|reasons| {
                reasons.looked = true;
                reasons.member = missing;
                reasons.read_only = writers;
                reasons.clock = stand.clock;
            });
        }
    }

    /// Does what brings this server nearer to being a full member, and says what is missing.
    async fn step(&self, stand: &Stand) -> Option<String> {
        if !self.is_in_quorum() {
            return Some(self.ask().await);
        }
        match stand.state {
            Some(MemberState::Active) if stand.complete => {
                if !stand.introduced {
                    let node = self.introduction.clone();
                    self.decide(MemberCommand::Update(node)).await;
                }
                None
            }
            Some(MemberState::Active) => {
                Some("it fetches the record from the other servers".to_owned())
            }
            Some(MemberState::Joining) => {
                if stand.complete {
                    let number = self.introduction.number;
                    self.decide(MemberCommand::CaughtUp { number }).await;
                }
                Some("it has joined and fetches the record from the other servers".to_owned())
            }
            Some(MemberState::Pending | MemberState::Evicted) | None => Some(self.ask().await),
        }
    }

    async fn decide(&self, command: MemberCommand) {
        if let Err(refused) = self.grants.decide(command).await {
            tracing::debug!(%refused, "a decision about this server was not made");
        }
    }

    /// Asks a server that is connected to be let in.
    async fn ask(&self) -> String {
        let nobody = "no server of the cluster can be reached: look at p2p.bootstrap; or, if there is no cluster yet, run `nexusctl cluster init` on one server";
        let Some(link) = &self.link else {
            return nobody.to_owned();
        };
        let Ok(question) = serde_json::to_vec(&self.introduction) else {
            return "its introduction cannot be written".to_owned();
        };
        let mut why = nobody.to_owned();
        for peer in link.peers() {
            let answer = link
                .ask(peer.number, channel::JOIN, question.clone(), PATIENCE)
                .await;
            let answer = match answer {
                Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                    JoinAnswer::Refused(format!(
                        "{} answers what cannot be read: {error}",
                        peer.name
                    ))
                }),
                Err(error) => {
                    JoinAnswer::Refused(format!("{} does not answer: {error}", peer.name))
                }
            };
            match answer {
                JoinAnswer::Stands(MemberState::Pending) => {
                    return format!(
                        "it waits to be admitted: run `nexusctl cluster add {}`",
                        self.introduction.name
                    );
                }
                JoinAnswer::Stands(state) => {
                    return format!("it is admitted ({state}) and waits for the cluster's log");
                }
                JoinAnswer::Refused(reason) => why = reason,
            }
        }
        why
    }

    /// Lets another server in, or puts it on the list of those that wait.
    pub async fn answer(&self, from: u32, question: Vec<u8>, admit: bool) -> JoinAnswer {
        let node: Introduction = match serde_json::from_slice(&question) {
            Ok(node) => node,
            Err(error) => {
                return JoinAnswer::Refused(format!("the introduction cannot be read: {error}"));
            }
        };
        let peers = self.link.as_ref().map(Link::peers).unwrap_or_default();
        let peer = peers.iter().find(|peer| peer.number == from);
        if peer.is_none_or(|peer| peer.number != node.number || peer.peer_id != node.peer_id) {
            return JoinAnswer::Refused(
                "the introduction is not that of the server that sent it".to_owned(),
            );
        }
        let listed = self.stand().await.is_ok_and(|stand| stand.state.is_some());
        // Also not between the founding of the quorum and its first entry.
        if !self.is_in_quorum() || !listed {
            return JoinAnswer::Refused(format!("{} is no member itself", self.introduction.name));
        }
        let join = MemberCommand::Join {
            node,
            admit,
            replace: false,
        };
        let known = join.clone();
        let stands = self
            .centre
            .run_ahead(move |centre, _| Ok(centre.no_news(&known)))
            .await;
        if let Ok(Some(state)) = stands {
            return JoinAnswer::Stands(state);
        }
        match self.grants.decide(join).await {
            Ok(answer) => match answer.member {
                Some(state) => JoinAnswer::Stands(state),
                None => JoinAnswer::Refused("it is not on the list of members".to_owned()),
            },
            Err(refused) => JoinAnswer::Refused(refused.to_string()),
        }
    }

    /// Whether this server takes part in the quorum, with or without a vote.
    #[must_use]
    pub fn is_in_quorum(&self) -> bool {
        let status = self.grants.quorum().status();
        status.voters.contains(&status.number) || status.learners.contains(&status.number)
    }

    async fn stand(&self) -> Result<Stand, Refused> {
        let me = self.introduction.clone();
        self.centre
            .patient(move |centre, _| Ok(centre.stand(&me)))
            .await
    }
}
