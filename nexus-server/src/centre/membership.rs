//! What the state says about the servers of the cluster.

use std::time::Duration;

use nexus_clset::Report;
use nexus_core::cluster::{
    Introduction, Member, MemberCommand, MemberState, Members, RemovedMember,
};
use nexus_core::lease::LeaseRule;

use super::Centre;
use crate::cluster::membership::Stand;
use crate::refused::Refused;

/// What an operator is told of the servers, as far as the state knows.
#[derive(Clone, Debug)]
pub struct ClusterReport {
    /// All members.
    pub members: Vec<Member>,
    /// Servers that were members.
    pub removed: Vec<RemovedMember>,
    /// How the replica stands to the others.
    pub replica: Report,
    /// Rows of changes that are not durable yet.
    pub unsettled_rows: usize,
    /// How long no shard changes hands, because part of what was decided is missing; nothing if they do.
    pub recovering: Option<Duration>,
}

impl Centre {
    /// All servers that the cluster knows.
    #[must_use]
    pub fn members(&self) -> &Members {
        self.cluster.members()
    }

    /// Notes whether this server leads the quorum, and gives members and the rule that leases are counted by.
    pub fn look(&mut self, leads: bool) -> (Vec<Member>, LeaseRule) {
        self.steward = leads;
        let members = self.members().iter().cloned().collect();
        (members, *self.table().rule())
    }

    /// Whether this server does for all what one has to do.
    pub(super) fn is_steward(&self) -> bool {
        self.steward
    }

    /// Where a server that says this of itself stands.
    #[must_use]
    pub fn stand(&self, me: &Introduction) -> Stand {
        let member = self.members().get(me.number);
        Stand {
            state: member.map(|member| member.state),
            introduced: member.is_some_and(|member| member.node == *me),
            complete: self.replica.is_complete(),
            writers: self.writers(|member| &member.node.http),
            fetched: self.fetched(),
            clock: self
                .replica
                .sync()
                .writes_refused()
                .map(|refused| refused.to_string()),
        }
    }

    /// Entries that are here and that there are, while they are fetched.
    fn fetched(&self) -> Option<(u64, u64)> {
        if self.replica.is_complete() {
            return None;
        }
        let fetch = self.replica.sync().report().bootstrap?;
        Some((fetch.entries, fetch.entries_expected))
    }

    /// Addresses of the servers that take writes.
    pub(crate) fn writers(&self, address: fn(&Member) -> &String) -> Vec<String> {
        self.members()
            .iter()
            .filter(|member| member.votes())
            .map(address)
            .filter(|address| !address.is_empty())
            .cloned()
            .collect()
    }

    /// Where the server that asks to join stands, if that changes nothing.
    #[must_use]
    pub fn no_news(&self, join: &MemberCommand) -> Option<MemberState> {
        let MemberCommand::Join { node, .. } = join else {
            return None;
        };
        let state = self.members().get(node.number)?.state;
        (!self.members().is_news(join)).then_some(state)
    }

    /// Members, those that were, how the replica stands, and how many rows are not durable yet.
    #[must_use]
    pub fn cluster_report(&self) -> ClusterReport {
        ClusterReport {
            members: self.members().iter().cloned().collect(),
            removed: self.members().removed().to_vec(),
            replica: self.replica.sync().report(),
            unsettled_rows: self.replica.unsettled_rows(),
            recovering: self.table().recovering(),
        }
    }

    /// Makes this replica the first one of a cluster.
    ///
    /// # Errors
    /// None now; as all requests.
    pub fn found(&mut self) -> Result<(), Refused> {
        if !self.replica.is_complete() {
            let (ticket, rows) = self.replica.found();
            self.effects.ticket = Some(ticket);
            self.effects.writes.push(rows);
        }
        Ok(())
    }
}
