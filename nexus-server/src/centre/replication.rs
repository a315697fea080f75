//! Writing to the CLSet, and what goes between it and the other servers.

use nexus_clset::{Fence, Input, Member, NodeId, Notice, Output, Ticket};
use nexus_core::cluster::Role;

use super::Centre;
use crate::clock::Now;
use crate::refused::Refused;
use crate::replica::ReplicaError;

/// What a server hears of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// One can be reached.
    Up(NodeId),
    /// It cannot any more.
    Down(NodeId),
    /// One tells all others something.
    Gossip {
        /// Who.
        from: NodeId,
        /// What.
        bytes: Vec<u8>,
    },
    /// One asks.
    Question {
        /// Who.
        from: NodeId,
        /// Number that its answer is given under.
        id: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// One has answered.
    Answer {
        /// Who.
        from: NodeId,
        /// Number of the question.
        id: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// One has not answered.
    Failed {
        /// Who.
        from: NodeId,
        /// Number of the question.
        id: u64,
    },
    /// Time has passed.
    Tick,
    /// Somebody waits until a majority has what was written here.
    Awaited,
}

impl Centre {
    /// Writes an entry to the CLSet (fence and value), or deletes it.
    ///
    /// # Errors
    /// If a newer command is on record, or the store cannot be read; nothing has changed then.
    pub(super) fn replicate(
        &mut self,
        now: &Now,
        key: &str,
        entry: Option<(Fence, Vec<u8>)>,
    ) -> Result<(), Refused> {
        let written = match entry {
            Some((fence, value)) => self.replica.put(now, key, fence, &value),
            None => self.replica.delete(now, key),
        };
        let (ticket, rows) = written.map_err(refused)?;
        self.effects.puts = self.effects.puts.saturating_add(1);
        self.effects.ticket = Some(ticket);
        if !rows.is_empty() {
            self.effects.writes.push(rows);
        }
        Ok(())
    }

    /// Everything up to this change of the CLSet is durable, and may be told to the others.
    pub fn settle(&mut self, now: &Now, ticket: Ticket) {
        if !self.replica.settle(ticket) {
            return;
        }
        self.step(now, Input::Durable(ticket));
        while let Some(delta) = self.replica.next_durable() {
            self.step(now, Input::Wrote(delta));
        }
    }

    /// Takes what was heard of the others.
    pub fn hear(&mut self, now: &Now, heard: Heard) {
        let input = match &heard {
            Heard::Up(node) => Input::Up(*node),
            Heard::Down(node) => Input::Down(*node),
            Heard::Gossip { from, bytes } => Input::Gossip { from: *from, bytes },
            Heard::Question { from, id, bytes } => Input::Question {
                from: *from,
                id: *id,
                bytes,
            },
            Heard::Answer { from, id, bytes } => Input::Answer {
                from: *from,
                id: *id,
                bytes,
            },
            Heard::Failed { from, id } => Input::Failed {
                from: *from,
                id: *id,
            },
            Heard::Tick => Input::Tick,
            Heard::Awaited => Input::Flush,
        };
        self.step(now, input);
    }

    /// Tells the replica who belongs to the cluster.
    pub(super) fn tell_members(&mut self, now: &Now) {
        let epoch = self.members().revision();
        let members: Vec<Member> = self
            .members()
            .iter()
            .filter(|member| member.holds_tombstones())
            .map(|member| Member {
                node: NodeId(member.node.number),
                admitted: member.admitted,
            })
            .collect();
        self.step(
            now,
            Input::Members {
                epoch,
                members: &members,
            },
        );
        self.effects.members = true;
    }

    /// Before this server goes: has what it accepted told to the others, and says what no other core server
    /// has confirmed yet.
    ///
    /// # Errors
    /// None now; as all requests.
    pub fn hand_over(&mut self, now: &Now) -> Result<Option<String>, Refused> {
        self.step(now, Input::Flush);
        let me = self.replica.origin().node;
        let others: Vec<NodeId> = self
            .members()
            .iter()
            .filter(|member| member.votes() && member.node.role == Role::Core)
            .map(|member| NodeId(member.node.number))
            .filter(|node| *node != me)
            .collect();
        let left = others
            .iter()
            .map(|node| self.replica.unconfirmed_by(*node))
            .min();
        Ok(left
            .filter(|left| *left > 0)
            .map(|left| format!("{left} writes are on no other core server yet")))
    }

    pub(super) fn step(&mut self, now: &Now, input: Input<'_>) {
        match self.replica.step(now, input) {
            Ok(outputs) => {
                for output in outputs {
                    self.put_out(output);
                }
                match self.replica.stopped() {
                    Some(Notice::MustStartOver { why }) => {
                        self.effects.start_over = Some(why.clone());
                    }
                    Some(Notice::Twin { why }) => self.effects.failed = Some(why.clone()),
                    _ => {}
                }
                self.follow(now);
                self.pass_barrier();
            }
            Err(error) => self.effects.failed = Some(error.to_string()),
        }
    }

    fn put_out(&mut self, output: Output) {
        match output {
            Output::Write(change) => {
                let (ticket, rows) = self.replica.written(change);
                self.effects.ticket = Some(ticket);
                if !rows.is_empty() {
                    self.effects.writes.push(rows);
                }
            }
            Output::Report(notice) => say(&notice),
            other => self.effects.outputs.push(other),
        }
    }
}

/// Says what an operator wants to read.
fn say(notice: &Notice) {
    match notice {
        Notice::MustStartOver { why } => tracing::error!(why, "this replica must start over"),
        Notice::Twin { why } => tracing::error!(why, "another server has this one's number"),
        Notice::RolledBack { peer } => {
            tracing::error!(
                peer = peer.0,
                "another server has less than it said: its store was restored or has lost writes, it must start over"
            );
        }
        Notice::Removed => tracing::warn!("this server is not a member of the cluster any more"),
        Notice::FirstCopy {
            from,
            entries,
            expected,
        } => {
            tracing::info!(from = from.0, entries, expected, "fetching the record");
        }
        Notice::Complete { entries } => tracing::info!(entries, "the record is here"),
        Notice::RootsDiffer { peer } => {
            tracing::error!(
                peer = peer.0,
                "this server and another one have seen the same and hold different records: one is damaged, it is being repaired"
            );
        }
        Notice::Repaired {
            peer,
            taken,
            given,
            bytes,
        } => {
            tracing::info!(
                peer = peer.0,
                taken,
                given,
                bytes,
                "records were compared by ranges"
            );
        }
        Notice::RowsDamaged { low } => {
            tracing::error!(behind = %low.escape_ascii(), "rows of the record are damaged: they are fetched from the other servers");
        }
        Notice::Clock(notice) => tracing::warn!(?notice, "clock"),
    }
}

fn refused(error: ReplicaError) -> Refused {
    match error {
        ReplicaError::OlderFence {
            key,
            current,
            given,
        } => Refused::Superseded {
            resource: String::from_utf8_lossy(&key).into_owned(),
            current: current.to_string(),
            given: given.to_string(),
        },
        other => Refused::Store(other.to_string()),
    }
}
