//! Changes of the membership: one at a time, by the leader, harmless to repeat.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, EmptyNode};
use tokio::time::Instant;

use crate::campaign;
use crate::config::MAX_MEMBERS;
use crate::error::{CallError, ChangeError};
use crate::message::{Change, Question, Refusal, Reply};
use crate::peers::AskError;
use crate::quorum::Inner;
use crate::types::Membership;

/// How long one attempt at a change may take; an election or two may come on top.
const PATIENCE: Duration = Duration::from_secs(8);

type WriteError = RaftError<u32, ClientWriteError<u32, EmptyNode>>;

impl Inner {
    /// Have it done by whoever leads.
    pub(crate) async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let patience = PATIENCE + self.timing.election_max * 2;
        let deadline = Instant::now() + patience;
        let mut leader = self.shared.leader.subscribe();
        let mut failure = ChangeError::NoLeader;
        loop {
            if let Some(why) = self.shared.why_stopped() {
                return Err(ChangeError::Stopped(why));
            }
            let seen = *leader.borrow_and_update();
            let done = match seen {
                None => Err(ChangeError::NoLeader),
                Some(number) if number == self.shared.number => self.change_here(change).await,
                Some(number) => self.change_there(number, change, patience).await,
            };
            match done {
                // Unknown stays unknown, whatever a later try says of itself.
                Err(ChangeError::NoLeader) => {}
                Err(ChangeError::Timeout) => failure = ChangeError::Timeout,
                done => return done,
            }
            let pause = (Instant::now() + self.timing.heartbeat).min(deadline);
            if Instant::now() >= deadline {
                return Err(failure);
            }
            // Woken early by a new leader; the time is bounded either way.
            let _ = tokio::time::timeout_at(pause, leader.changed()).await;
        }
    }

    async fn change_there(
        &self,
        leader: u32,
        change: Change,
        patience: Duration,
    ) -> Result<(), ChangeError> {
        match self
            .peers
            .ask(leader, Question::Change(change), patience)
            .await
        {
            Ok(Reply::Changed(done)) => done,
            Err(AskError::Refused {
                refusal: Refusal::Unknown,
                ..
            }) => Err(ChangeError::Timeout),
            Err(AskError::Refused { .. } | AskError::Call(CallError::NotSent(_))) => {
                Err(ChangeError::NoLeader)
            }
            Ok(_) | Err(_) => Err(ChangeError::Timeout),
        }
    }

    /// Do it as the leader.
    pub(crate) async fn change_here(&self, change: Change) -> Result<(), ChangeError> {
        let Ok(_one_at_a_time) = self.changing.try_lock() else {
            return Err(ChangeError::Busy);
        };
        self.expect_office()?;
        let number = change.number();
        self.finish_joint().await?;
        let membership = self.membership();
        let voters = last_voters(&membership);
        let is_member = membership.get_node(&number).is_some();
        let is_voter = voters.contains(&number);
        let leaves = match change {
            Change::AddLearner(_) if is_member => return Ok(()),
            Change::AddLearner(_) => {
                let members = membership.nodes().count();
                if members >= MAX_MEMBERS {
                    return Err(ChangeError::TooMany(members));
                }
                return self
                    .in_time(self.raft.add_learner(number, EmptyNode::default(), false))
                    .await;
            }
            Change::Promote(_) | Change::Demote(_) if !is_member => {
                return Err(ChangeError::NotMember(number));
            }
            Change::Promote(_) if is_voter => return Ok(()),
            Change::Promote(_) => {
                self.expect_caught_up(number)?;
                let mut goal = voters;
                goal.insert(number);
                self.expect_majority(&goal).await?;
                let add = ChangeMembers::AddVoterIds(BTreeSet::from([number]));
                return self.in_time(self.raft.change_membership(add, true)).await;
            }
            Change::Demote(_) if !is_voter => return Ok(()),
            Change::Remove(_) if !is_member => return Ok(()),
            Change::Remove(_) if !is_voter => {
                let remove = ChangeMembers::RemoveNodes(BTreeSet::from([number]));
                return self
                    .in_time(self.raft.change_membership(remove, false))
                    .await;
            }
            Change::Demote(_) => ChangeMembers::RemoveVoters(BTreeSet::from([number])),
            Change::Remove(_) => ChangeMembers::RemoveVoters(BTreeSet::from([number])),
        };
        if voters.len() == 1 {
            return Err(ChangeError::LastVoter(number));
        }
        if number == self.shared.number {
            // A leader that writes itself out of the voters and then fails can leave a cluster that elects nobody, if the
            // newest entry is on it alone. So another one does it.
            return self.hand_over().await;
        }
        let mut goal = voters;
        goal.remove(&number);
        self.expect_majority(&goal).await?;
        let stays = matches!(change, Change::Demote(_));
        self.in_time(self.raft.change_membership(leaves, stays))
            .await
    }

    /// End a change that a leader before this one began: the new voters alone, the old ones learners; or, if this leader
    /// would not be one of them, the old voters alone (a leader does not vote itself out, see `change_here`).
    pub(crate) async fn finish_joint(&self) -> Result<(), ChangeError> {
        let membership = self.membership();
        if membership.get_joint_config().len() < 2 {
            return Ok(());
        }
        let first = membership
            .get_joint_config()
            .first()
            .cloned()
            .unwrap_or_default();
        let last = last_voters(&membership);
        let goal = if last.contains(&self.shared.number) {
            last
        } else {
            first
        };
        let goal = ChangeMembers::ReplaceAllVoters(goal);
        self.in_time(self.raft.change_membership(goal, true)).await
    }

    /// Let another voter take over the leadership. `NoLeader` if one did: whoever asked asks that one.
    async fn hand_over(&self) -> Result<(), ChangeError> {
        tracing::info!("handing over the leadership");
        let mut leader = self.shared.leader.subscribe();
        self.shared.set_aside(true);
        self.raft.runtime_config().heartbeat(false);
        let own = self.shared.number;
        let taken = tokio::time::timeout(
            self.timing.election_max * 4,
            leader.wait_for(|now| now.is_some_and(|now| now != own)),
        )
        .await;
        self.raft.runtime_config().heartbeat(true);
        self.shared.set_aside(false);
        match taken {
            Ok(Ok(_)) => Err(ChangeError::NoLeader),
            Ok(Err(_)) | Err(_) => Err(ChangeError::NoSuccessor),
        }
    }

    fn expect_office(&self) -> Result<(), ChangeError> {
        if self.shared.leads() {
            Ok(())
        } else {
            Err(ChangeError::NoLeader)
        }
    }

    /// A change to voters of whom no majority is there could never be ended, nor anything else be done.
    async fn expect_majority(&self, voters: &BTreeSet<u32>) -> Result<(), ChangeError> {
        let seen = self.raft.metrics().borrow().clone();
        let others = voters
            .iter()
            .copied()
            .filter(|number| *number != self.shared.number)
            .collect();
        let mut there = campaign::canvass(self, &seen, &others).await.there;
        there.insert(self.shared.number);
        if campaign::is_majority(std::slice::from_ref(voters), &there) {
            return Ok(());
        }
        Err(ChangeError::NoMajority {
            voters: voters.iter().copied().collect(),
            silent: voters.difference(&there).copied().collect(),
        })
    }

    fn expect_caught_up(&self, number: u32) -> Result<(), ChangeError> {
        let lag = self.lag().get(&number).copied();
        let lag = lag.ok_or(ChangeError::NotMember(number))?;
        let seen = self.raft.metrics().borrow().clone();
        let has_any = seen
            .replication
            .is_some_and(|matched| matched.get(&number).is_some_and(Option::is_some));
        let most = self.limits.promote_lag;
        // However short the log is: a node that never answered has not caught up.
        if !has_any {
            return Err(ChangeError::Silent(number));
        }
        if lag > most {
            return Err(ChangeError::Lagging { number, lag, most });
        }
        Ok(())
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, WriteError>>,
    ) -> Result<(), ChangeError> {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.read(&error)),
            Err(_) => Err(ChangeError::Timeout),
        }
    }

    fn read(&self, error: &WriteError) -> ChangeError {
        match error {
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
                ChangeMembershipError::InProgress(_) => ChangeError::Busy,
                ChangeMembershipError::EmptyMembership(_) => {
                    ChangeError::LastVoter(self.shared.number)
                }
                ChangeMembershipError::LearnerNotFound(found) => {
                    ChangeError::NotMember(found.node_id)
                }
            },
            // It may have been written before the leadership was lost.
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => ChangeError::Timeout,
            RaftError::Fatal(fatal) => ChangeError::Stopped(fatal.to_string()),
        }
    }
}

fn last_voters(membership: &Membership) -> BTreeSet<u32> {
    membership
        .get_joint_config()
        .last()
        .cloned()
        .unwrap_or_default()
}
