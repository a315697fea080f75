//! What the leader of the quorum does for the whole cluster: it lets time pass, has shards placed, has voters and learners follow
//! the list of members, and evicts read replicas that were away for too long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nexus_core::cluster::{Member, MemberCommand, MemberState, Role};
use nexus_core::lease::LeaseRule;
use nexus_core::shard_table::Command;
use nexus_p2p::Link;
use nexus_quorum::{Quorum, Status};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::actor::Handle;
use crate::grants::Grants;
use crate::refused::Refused;

/// Proposals that may wait; the owner makes them again if there was no place.
pub const PROPOSAL_LIMIT: usize = 4096;
/// How often voters and members are compared.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// See the module. Every server has one; that of the leader works.
pub struct Steward {
    /// The state.
    pub centre: Handle,
    /// The quorum.
    pub grants: Grants,
    /// Who is connected; nothing if this server runs alone.
    pub link: Option<Link>,
    /// The rule of this server's configuration.
    pub rule: LeaseRule,
    /// How often time is let pass.
    pub tick: Duration,
    /// Silence after which a read replica is evicted.
    pub evict_after: Duration,
    /// What the owner wants decided.
    pub proposals: mpsc::Receiver<Command>,
}

impl Steward {
    /// Works until the owner of the state is gone.
    pub async fn run(mut self) {
        let mut ticks = interval(self.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(LOOK_AFTER);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leads = false;
        let mut heard = BTreeMap::new();
        let mut changes: Option<JoinHandle<()>> = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    if leads {
                        self.decide(Command::Tick).await;
                        self.place().await;
                    }
                }
                _ = looks.tick() => {
                    let status = self.grants.quorum().status();
                    let now_leads = status.leader == Some(status.number);
                    if now_leads != leads {
                        leads = now_leads;
                        heard.clear();
                        tracing::info!(leads, term = status.term, "leadership of the cluster changed");
                    }
                    match self.centre.patient(move |centre, _| Ok(centre.look(now_leads))).await {
                        Ok((members, rule)) if leads => {
                            if rule != self.rule {
                                self.decide(Command::SetRule { rule: self.rule }).await;
                            }
                            if changes.as_ref().is_none_or(JoinHandle::is_finished) {
                                // It may take its time, and time must pass meanwhile.
                                let quorum = self.grants.quorum().clone();
                                let members = members.clone();
                                changes = Some(tokio::spawn(async move {
                                    follow_members(&quorum, &status, &members).await;
                                }));
                            }
                            self.evict_silent(&members, &mut heard).await;
                        }
                        Ok(_) => {}
                        Err(_) => return,
                    }
                }
                proposal = self.proposals.recv() => match proposal {
                    Some(command) => self.decide(command).await,
                    None => return,
                },
            }
        }
    }

    /// Has shards change hands as placement says, after each tick.
    async fn place(&self) {
        let steps = self
            .centre
            .patient(|centre, _| Ok(centre.placement()))
            .await;
        for command in steps.unwrap_or_default() {
            self.decide(command).await;
        }
    }

    async fn decide(&self, command: impl Into<nexus_core::cluster::ClusterCommand>) {
        match self.grants.decide(command).await {
            Ok(_) => {}
            // Without a quorum nothing is decided; it is tried again with the next tick.
            Err(Refused::NoQuorum(why) | Refused::OutcomeUnknown(why)) => {
                tracing::debug!(why, "nothing could be decided");
            }
            Err(refused) => tracing::warn!(%refused, "a decision was refused"),
        }
    }

    /// Tombstones wait for every member, but not for ever for a read replica that is gone.
    async fn evict_silent(&self, members: &[Member], heard: &mut BTreeMap<u32, Instant>) {
        let Some(link) = &self.link else {
            return;
        };
        let now = Instant::now();
        let connected: BTreeSet<u32> = link.peers().iter().map(|peer| peer.number).collect();
        for member in members
            .iter()
            .filter(|m| m.node.role == Role::Read && m.holds_tombstones())
        {
            let number = member.node.number;
            let last = heard.entry(number).or_insert(now);
            if connected.contains(&number) {
                *last = now;
            } else if now.duration_since(*last) > self.evict_after {
                let reason = format!("not heard of for {} s", self.evict_after.as_secs());
                tracing::warn!(node = %member.node.name, reason, "read replica is evicted");
                self.decide(MemberCommand::Evict { number, reason }).await;
            }
        }
    }
}

/// Who is admitted follows the log, who has caught up and takes writes votes, who is removed does neither.
async fn follow_members(quorum: &Quorum, status: &Status, members: &[Member]) {
    if members.is_empty() {
        return;
    }
    let voters: BTreeSet<u32> = numbers(members, Member::votes);
    // Who was evicted follows too, so that it learns of it when it comes back.
    let all: BTreeSet<u32> = numbers(members, |member| {
        member.holds_tombstones() || member.state == MemberState::Evicted
    });
    let known: BTreeSet<u32> = status
        .voters
        .iter()
        .chain(&status.learners)
        .copied()
        .collect();
    for number in all.difference(&known) {
        log(
            "added to the quorum",
            *number,
            quorum.add_learner(*number).await,
        );
    }
    for number in voters
        .iter()
        .filter(|number| status.learners.contains(number))
    {
        log("made a voter", *number, quorum.promote(*number).await);
    }
    for number in all
        .difference(&voters)
        .filter(|number| status.voters.contains(number))
    {
        log("made a learner", *number, quorum.demote(*number).await);
    }
    for number in known.difference(&all) {
        log(
            "taken out of the quorum",
            *number,
            quorum.remove(*number).await,
        );
    }
}

fn numbers(members: &[Member], of: fn(&Member) -> bool) -> BTreeSet<u32> {
    let those = members.iter().filter(|member| of(member));
    those.map(|member| member.node.number).collect()
}

fn log(what: &str, number: u32, outcome: Result<(), nexus_quorum::ChangeError>) {
    match outcome {
        Ok(()) => tracing::info!(number, "node was {what}"),
        Err(error) => tracing::debug!(number, %error, "node was not {what} yet"),
    }
}
