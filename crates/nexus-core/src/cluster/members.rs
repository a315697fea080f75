//! The list of members: who is let in, who votes, for whom tombstones wait.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::member::{Introduction, Member, MemberCommand, MemberState, RemovedMember};
use super::refusal::MemberRefusal;
use crate::id::NodeName;
use crate::time::ClusterTime;

/// Most members, whatever their state.
pub const MAX_MEMBERS: usize = 64;
/// Most nodes that wait to be admitted.
pub const MAX_PENDING: usize = 16;
/// How many removed nodes are remembered and refused; beyond that the one removed first is forgotten.
pub const MAX_REMOVED: usize = 256;
/// Most addresses of a node.
pub const MAX_ADDRESSES: usize = 16;
/// Longest address, peer id or reason, in bytes.
pub const MAX_TEXT: usize = 256;

/// All members. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    revision: u64,
    members: BTreeMap<u32, Member>,
    /// The one removed first stands first.
    removed: Vec<RemovedMember>,
}

/// A member that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: NodeName,
    /// Where it stood; `None`: it was no member.
    pub from: Option<MemberState>,
    /// Where it stands; `None`: it is no member any more. As before, if it has other addresses or another
    /// role.
    pub to: Option<MemberState>,
}

impl MemberChange {
    /// Whether the member was let in by this, from now on to have what all others have.
    fn is_admission(&self) -> bool {
        match self.to {
            Some(MemberState::Joining) => self.from != Some(MemberState::Joining),
            Some(MemberState::Active) => self.from.is_none(),
            Some(MemberState::Pending | MemberState::Evicted) | None => false,
        }
    }
}

/// State of the member that a command was about, and all that changed.
type Done = (Option<MemberState>, Vec<MemberChange>);

impl Members {
    /// Grows with each change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All members, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A member by its number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&Member> {
        self.members.get(&number)
    }

    /// A member by its name.
    #[must_use]
    pub fn named(&self, name: &NodeName) -> Option<&Member> {
        self.members
            .values()
            .find(|member| member.node.name == *name)
    }

    /// Nodes that were members, the one removed first at the start.
    #[must_use]
    pub fn removed(&self) -> &[RemovedMember] {
        &self.removed
    }

    /// Numbers of the members that tombstones wait for, in order.
    pub fn holding_tombstones(&self) -> impl Iterator<Item = u32> {
        let holds = self.members.values().filter(|m| m.holds_tombstones());
        holds.map(|member| member.node.number)
    }

    /// Numbers of the members that should vote, in order.
    pub fn wanted_voters(&self) -> impl Iterator<Item = u32> {
        let votes = self.members.values().filter(|member| member.votes());
        votes.map(|member| member.node.number)
    }

    /// Numbers of the members that should follow the log without a vote, in order.
    pub fn wanted_learners(&self) -> impl Iterator<Item = u32> {
        let follows = |member: &&Member| member.holds_tombstones() && !member.votes();
        let learners = self.members.values().filter(follows);
        learners.map(|member| member.node.number)
    }

    /// Whether a command would change something or be refused; one that would not needs no place in the
    /// log.
    #[must_use]
    pub fn is_news(&self, command: &MemberCommand) -> bool {
        let mut copy = self.clone();
        match copy.apply(ClusterTime::ZERO, command.clone()) {
            Ok((_, changes)) => !changes.is_empty(),
            Err(_) => true,
        }
    }

    pub(super) fn apply(
        &mut self,
        now: ClusterTime,
        command: MemberCommand,
    ) -> Result<Done, MemberRefusal> {
        let (state, changes) = match command {
            MemberCommand::Found(node) => self.found(now, node)?,
            MemberCommand::Join {
                node,
                admit,
                replace,
            } => self.join(now, node, admit, replace)?,
            MemberCommand::Admit { name } => self.admit(now, &name)?,
            MemberCommand::CaughtUp { number } => self.caught_up(now, number)?,
            MemberCommand::Update(node) => self.update(now, node)?,
            MemberCommand::Evict { number, reason } => self.evict(now, number, reason)?,
            MemberCommand::Remove { name } => self.remove(now, &name)?,
        };
        if !changes.is_empty() {
            self.revision = self.revision.saturating_add(1);
        }
        for change in changes.iter().filter(|change| change.is_admission()) {
            if let Some(member) = self.members.get_mut(&change.number) {
                member.admitted = self.revision;
            }
        }
        Ok((state, changes))
    }

    fn found(&mut self, now: ClusterTime, node: Introduction) -> Result<Done, MemberRefusal> {
        if let Some(first) = self.members.values().next() {
            return if first.node == node && self.members.len() == 1 {
                Ok((Some(first.state), Vec::new()))
            } else {
                let founder = first.node.name.clone();
                Err(MemberRefusal::Founded { founder })
            };
        }
        check(&node)?;
        Ok(self.enter(now, node, MemberState::Active, Vec::new()))
    }

    fn join(
        &mut self,
        now: ClusterTime,
        node: Introduction,
        admit: bool,
        replace: bool,
    ) -> Result<Done, MemberRefusal> {
        check(&node)?;
        if self.members.contains_key(&node.number) {
            return self.return_of(now, node, admit);
        }
        self.check_not_removed(&node)?;
        let old = self.named(&node.name).cloned();
        if let Some(old) = &old
            && !replace
        {
            return Err(MemberRefusal::NameInUse {
                name: node.name,
                number: old.node.number,
                state: old.state,
            });
        }
        let others = || {
            let old = old.as_ref().map(|old| old.node.number);
            self.members
                .values()
                .filter(move |m| Some(m.node.number) != old)
        };
        if let Some(holder) = others().find(|other| other.node.peer_id == node.peer_id) {
            return Err(MemberRefusal::PeerInUse {
                peer_id: node.peer_id,
                holder: holder.node.name.clone(),
            });
        }
        if others().count() >= MAX_MEMBERS {
            return Err(MemberRefusal::Full {
                what: "the number of members".into(),
                bound: MAX_MEMBERS,
            });
        }
        let pending = others().filter(|m| m.state == MemberState::Pending).count();
        if !admit && pending >= MAX_PENDING {
            return Err(MemberRefusal::Full {
                what: "the number of nodes that wait to be admitted".into(),
                bound: MAX_PENDING,
            });
        }
        let mut changes = Vec::new();
        if let Some(old) = old {
            self.check_writer_left(&old)?;
            let keeps_key = old.node.peer_id == node.peer_id;
            changes.push(self.leave(now, old, keeps_key));
        }
        let state = if admit {
            MemberState::Joining
        } else {
            MemberState::Pending
        };
        Ok(self.enter(now, node, state, changes))
    }

    /// A node whose number is a member's.
    fn return_of(
        &mut self,
        now: ClusterTime,
        node: Introduction,
        admit: bool,
    ) -> Result<Done, MemberRefusal> {
        let number = node.number;
        let (_, mut changes) = self.update(now, node)?;
        let member = self
            .members
            .get_mut(&number)
            .ok_or(MemberRefusal::UnknownNumber(number))?;
        let enters = match member.state {
            MemberState::Evicted => true,
            MemberState::Pending => admit,
            MemberState::Joining | MemberState::Active => false,
        };
        if enters {
            changes = vec![member.go(now, MemberState::Joining)];
        }
        Ok((Some(member.state), changes))
    }

    fn update(&mut self, now: ClusterTime, node: Introduction) -> Result<Done, MemberRefusal> {
        check(&node)?;
        let number = node.number;
        let Some(known) = self.members.get(&number) else {
            self.check_not_removed(&node)?;
            return Err(MemberRefusal::UnknownNumber(number));
        };
        if known.node.name != node.name {
            let holder = known.node.name.clone();
            return Err(MemberRefusal::NumberInUse { number, holder });
        }
        if known.node.peer_id != node.peer_id {
            return Err(MemberRefusal::OtherKey {
                name: node.name,
                known: known.node.peer_id.clone(),
                given: node.peer_id,
            });
        }
        let state = known.state;
        if known.node == node {
            return Ok((Some(state), Vec::new()));
        }
        if !node.role.writes() {
            self.check_writer_left(known)?;
        }
        let change = MemberChange {
            number,
            name: node.name.clone(),
            from: Some(state),
            to: Some(state),
        };
        if let Some(member) = self.members.get_mut(&number) {
            if member.node.role.writes() != node.role.writes() {
                member.since = now;
            }
            member.node = node;
        }
        Ok((Some(state), vec![change]))
    }

    fn admit(&mut self, now: ClusterTime, name: &NodeName) -> Result<Done, MemberRefusal> {
        let member = self.named_mut(name)?;
        match member.state {
            MemberState::Joining | MemberState::Active => Ok((Some(member.state), Vec::new())),
            MemberState::Pending => {
                let change = member.go(now, MemberState::Joining);
                Ok((Some(member.state), vec![change]))
            }
            MemberState::Evicted => Err(MemberRefusal::WrongState {
                name: name.clone(),
                state: member.state,
                remedy: "it is let in by itself as soon as it comes back".into(),
            }),
        }
    }

    fn caught_up(&mut self, now: ClusterTime, number: u32) -> Result<Done, MemberRefusal> {
        let member = self.numbered_mut(number)?;
        match member.state {
            MemberState::Active => Ok((Some(member.state), Vec::new())),
            MemberState::Joining => {
                let change = member.go(now, MemberState::Active);
                Ok((Some(member.state), vec![change]))
            }
            MemberState::Pending | MemberState::Evicted => Err(MemberRefusal::WrongState {
                name: member.node.name.clone(),
                state: member.state,
                remedy: "it has to join, be admitted and fetch everything first".into(),
            }),
        }
    }

    fn evict(
        &mut self,
        now: ClusterTime,
        number: u32,
        reason: String,
    ) -> Result<Done, MemberRefusal> {
        let member = self.numbered_mut(number)?;
        let name = member.node.name.clone();
        if reason.trim().is_empty() || reason.len() > MAX_TEXT {
            return Err(text(&name, "reason", &reason, "give 1 to 256 bytes"));
        }
        if member.node.role.writes() {
            return Err(MemberRefusal::NotEvictable { name });
        }
        match member.state {
            MemberState::Evicted => Ok((Some(member.state), Vec::new())),
            MemberState::Joining | MemberState::Active => {
                let change = member.go(now, MemberState::Evicted);
                member.reason = reason;
                Ok((Some(member.state), vec![change]))
            }
            MemberState::Pending => Err(MemberRefusal::WrongState {
                name,
                state: member.state,
                remedy: "nothing waits for it; remove it".into(),
            }),
        }
    }

    fn remove(&mut self, now: ClusterTime, name: &NodeName) -> Result<Done, MemberRefusal> {
        let Some(member) = self.named(name).cloned() else {
            return if self.removed.iter().any(|removed| removed.name == *name) {
                Ok((None, Vec::new()))
            } else {
                Err(MemberRefusal::UnknownName(name.clone()))
            };
        };
        self.check_writer_left(&member)?;
        Ok((None, vec![self.leave(now, member, false)]))
    }

    /// All but one are gone for good; nothing if that one is no member.
    pub(super) fn keep_only(&mut self, now: ClusterTime, number: u32) -> Vec<MemberChange> {
        if !self.members.contains_key(&number) {
            return Vec::new();
        }
        let others = self.members.values().filter(|m| m.node.number != number);
        let others: Vec<Member> = others.cloned().collect();
        let leave = |member| self.leave(now, member, false);
        others.into_iter().map(leave).collect()
    }

    /// Without a member that takes writes and has everything nothing could be decided any more.
    fn check_writer_left(&self, without: &Member) -> Result<(), MemberRefusal> {
        let leaves = without.votes();
        let number = without.node.number;
        if leaves && self.wanted_voters().all(|voter| voter == number) {
            let name = without.node.name.clone();
            return Err(MemberRefusal::LastWriter { name });
        }
        Ok(())
    }

    fn check_not_removed(&self, node: &Introduction) -> Result<(), MemberRefusal> {
        let same = |removed: &&RemovedMember| {
            removed.number == node.number || removed.peer_id.as_ref() == Some(&node.peer_id)
        };
        match self.removed.iter().find(same) {
            Some(removed) => Err(MemberRefusal::Removed {
                name: removed.name.clone(),
            }),
            None => Ok(()),
        }
    }

    fn enter(
        &mut self,
        now: ClusterTime,
        node: Introduction,
        state: MemberState,
        mut changes: Vec<MemberChange>,
    ) -> Done {
        changes.push(MemberChange {
            number: node.number,
            name: node.name.clone(),
            from: None,
            to: Some(state),
        });
        let member = Member {
            state,
            admitted: 0,
            since: now,
            reason: String::new(),
            node,
        };
        self.members.insert(member.node.number, member);
        (Some(state), changes)
    }

    fn leave(&mut self, now: ClusterTime, member: Member, keeps_key: bool) -> MemberChange {
        let Introduction {
            number,
            name,
            peer_id,
            ..
        } = member.node;
        self.members.remove(&number);
        let excess = (self.removed.len().saturating_add(1)).saturating_sub(MAX_REMOVED);
        self.removed.drain(..excess);
        self.removed.push(RemovedMember {
            number,
            name: name.clone(),
            peer_id: (!keeps_key).then_some(peer_id),
            since: now,
        });
        MemberChange {
            number,
            name,
            from: Some(member.state),
            to: None,
        }
    }

    fn named_mut(&mut self, name: &NodeName) -> Result<&mut Member, MemberRefusal> {
        self.members
            .values_mut()
            .find(|member| member.node.name == *name)
            .ok_or_else(|| MemberRefusal::UnknownName(name.clone()))
    }

    fn numbered_mut(&mut self, number: u32) -> Result<&mut Member, MemberRefusal> {
        self.members
            .get_mut(&number)
            .ok_or(MemberRefusal::UnknownNumber(number))
    }

    /// What a snapshot must hold to; `None` if it does.
    pub(super) fn flaw(&self) -> Option<String> {
        if self.members.len() > MAX_MEMBERS || self.removed.len() > MAX_REMOVED {
            let (members, removed) = (self.members.len(), self.removed.len());
            return Some(format!("{members} members and {removed} removed ones"));
        }
        let wrong = |(number, member): (&u32, &Member)| {
            if *number != member.node.number {
                return Some(format!("member {number} under another number"));
            }
            check(&member.node).err().map(|error| error.to_string())
        };
        self.members.iter().find_map(wrong)
    }
}

impl Member {
    fn go(&mut self, now: ClusterTime, to: MemberState) -> MemberChange {
        let from = Some(self.state);
        (self.state, self.since) = (to, now);
        self.reason.clear();
        MemberChange {
            number: self.node.number,
            name: self.node.name.clone(),
            from,
            to: Some(to),
        }
    }
}

fn check(node: &Introduction) -> Result<(), MemberRefusal> {
    let name = &node.name;
    if node.peer_id.is_empty() {
        return Err(text(name, "peer_id", "", "it must not be empty"));
    }
    if node.addresses.len() > MAX_ADDRESSES {
        let given = node.addresses.len().to_string();
        return Err(text(name, "addresses", &given, "at most 16 of them"));
    }
    let texts = [
        ("peer_id", &node.peer_id),
        ("http", &node.http),
        ("grpc", &node.grpc),
    ];
    let addresses = node.addresses.iter().map(|address| ("addresses", address));
    for (field, value) in texts.into_iter().chain(addresses) {
        if value.len() > MAX_TEXT || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = "use at most 256 visible ASCII characters without space";
            return Err(text(name, field, value, problem));
        }
    }
    Ok(())
}

fn text(name: &NodeName, field: &'static str, value: &str, problem: &'static str) -> MemberRefusal {
    let value = value.chars().take(64).collect::<String>();
    MemberRefusal::Text {
        name: name.clone(),
        field: field.into(),
        value: value.escape_default().to_string(),
        problem: problem.into(),
    }
}
