//! A proposal on its way from this node: to the leader, again if need be, and back through this node's own machine.
//!
//! A proposal has a name that stays the same however often it is sent, and is applied at most once
//! ([`crate::sessions`]). So it may be sent again to the next leader while nobody knows what the last one did with it.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::MAX_COMMAND;
use crate::error::{CallError, ProposeError};
use crate::message::{Question, Refusal, Reply};
use crate::office::Submission;
use crate::peers::AskError;
use crate::quorum::{Applied, Inner};
use crate::types::{Command, ProposalId};

/// What one attempt came to.
enum Attempt {
    /// It stands in the log, committed: this node will apply it.
    Committed,
    /// Certainly not written by this attempt.
    Refused(Refusal),
    /// Nobody knows.
    Unknown,
}

/// What may be said if time runs out.
struct Known {
    /// Some attempt may have written it.
    may_be_written: bool,
    refusal: Option<Refusal>,
}

impl Inner {
    pub(crate) async fn propose(
        &self,
        bytes: Vec<u8>,
        patience: Duration,
    ) -> Result<Applied, ProposeError> {
        let deadline = Instant::now() + patience;
        if bytes.len() > MAX_COMMAND {
            return Err(ProposeError::TooLarge {
                size: bytes.len(),
                limit: MAX_COMMAND,
            });
        }
        if let Some(why) = self.shared.why_stopped() {
            return Err(ProposeError::Stopped { why, certain: true });
        }
        if !self.is_member() {
            return Err(ProposeError::NotMember);
        }
        let _place = self.places.try_acquire().map_err(|_| ProposeError::Full)?;
        let (done, mut applied) = oneshot::channel();
        let id = self.shared.begin(done).ok_or(ProposeError::Full)?;
        let _open = Open { inner: self, id };
        let command = Command { id, bytes };
        let mut known = Known {
            may_be_written: false,
            refusal: None,
        };
        tokio::select! {
            biased;
            result = &mut applied => match result {
                Ok(applied) => Ok(applied),
                Err(_) => Err(ProposeError::Timeout),
            },
            why = self.shared.until_stopped() => {
                Err(ProposeError::Stopped { why, certain: !known.may_be_written })
            }
            () = self.send_until(&command, deadline, &mut known) => Err(known.verdict()),
        }
    }

    /// Send it, again and again if need be. Ends when time runs out or it makes no sense to go on.
    async fn send_until(&self, command: &Command, deadline: Instant, known: &mut Known) {
        let mut leader = self.shared.leader.subscribe();
        let mut hint = None;
        loop {
            let seen = *leader.borrow_and_update();
            let Some(target) = hint.take().or(seen) else {
                if tokio::time::timeout_at(deadline, leader.changed())
                    .await
                    .is_err()
                {
                    return;
                }
                continue;
            };
            let was_written = known.may_be_written;
            known.may_be_written = true;
            // Not all the patience on one: an answer may be lost without a sign.
            let until = deadline.min(Instant::now() + self.timing.election_max * 2);
            let attempt = tokio::select! {
                attempt = self.attempt(target, command, until) => attempt,
                // Another leader: the one that was asked may never answer.
                Ok(_) = leader.wait_for(|now| now.is_some_and(|now| now != target)) => Attempt::Unknown,
                () = tokio::time::sleep_until(until) => Attempt::Unknown,
            };
            match attempt {
                Attempt::Committed => {
                    tokio::time::sleep_until(deadline).await;
                    return;
                }
                Attempt::Unknown => {}
                Attempt::Refused(refusal) => {
                    known.may_be_written = was_written;
                    if let Refusal::NotLeader {
                        leader: Some(other),
                    } = refusal
                    {
                        hint = (other != target).then_some(other);
                    }
                    // A leader may see a moment later that this node is a member.
                    let is_final = match refusal {
                        Refusal::NotMember => !self.is_member(),
                        Refusal::OtherCluster => true,
                        _ => false,
                    };
                    known.refusal = Some(refusal);
                    if is_final {
                        return;
                    }
                }
            }
            // The pause bounds how often it is sent, also when two nodes name each other as leader.
            let pause = Instant::now() + self.timing.heartbeat / 4;
            tokio::time::sleep_until(pause.min(deadline)).await;
            if Instant::now() >= deadline {
                return;
            }
        }
    }

    async fn attempt(&self, target: u32, command: &Command, deadline: Instant) -> Attempt {
        if target == self.shared.number {
            let (done, answer) = oneshot::channel();
            let submission = Submission {
                command: command.clone(),
                done,
            };
            return match self.office.try_send(submission) {
                Ok(()) => match answer.await {
                    Ok(Ok(_)) => Attempt::Committed,
                    Ok(Err(Refusal::Unknown)) | Err(_) => Attempt::Unknown,
                    Ok(Err(refusal)) => Attempt::Refused(refusal),
                },
                Err(_) => Attempt::Refused(Refusal::Full),
            };
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        match self
            .peers
            .ask(target, Question::Propose(command.clone(), millis), patience)
            .await
        {
            Ok(Reply::Committed { .. }) => Attempt::Committed,
            Err(AskError::Refused {
                refusal: Refusal::Unknown,
                ..
            }) => Attempt::Unknown,
            Err(AskError::Refused { refusal, .. }) => Attempt::Refused(refusal),
            Err(AskError::Call(CallError::NotSent(_))) => {
                Attempt::Refused(Refusal::NotLeader { leader: None })
            }
            Ok(_) | Err(_) => Attempt::Unknown,
        }
    }

    /// A command that another node proposes here. Waits until it is committed.
    pub(crate) async fn accept(
        &self,
        command: Command,
        patience: Duration,
    ) -> Result<u64, Refusal> {
        if command.bytes.len() > MAX_COMMAND {
            return Err(Refusal::Malformed("a command that is too large".to_owned()));
        }
        let leader = *self.shared.leader.borrow();
        if leader != Some(self.shared.number) {
            return Err(Refusal::NotLeader { leader });
        }
        let (done, answer) = oneshot::channel();
        self.office
            .try_send(Submission { command, done })
            .map_err(|_| Refusal::Full)?;
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Refusal::Unknown),
        }
    }
}

impl Known {
    fn verdict(&self) -> ProposeError {
        match self.refusal {
            _ if self.may_be_written => ProposeError::Timeout,
            Some(Refusal::Full) => ProposeError::Full,
            Some(Refusal::NotMember | Refusal::OtherCluster) => ProposeError::NotMember,
            _ => ProposeError::NoLeader,
        }
    }
}

/// Forgets the proposal when nobody waits for it any more, also if the caller went away.
struct Open<'a> {
    inner: &'a Inner,
    id: ProposalId,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.inner.shared.give_up(self.id.seq);
    }
}
