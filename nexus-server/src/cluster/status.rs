//! How this server and its cluster are, for people and monitoring: one picture out of the state, the quorum,
//! and the connections.

use std::collections::BTreeMap;
use std::time::Duration;

use nexus_clset::{NodeId, Notice, Report};
use nexus_core::cluster::{Member, MemberState, RemovedMember, Role};
use nexus_p2p::{Link, PeerInfo};
use nexus_quorum::Status;

use super::membership::Membership;
use crate::centre::ClusterReport;
use crate::refused::Refused;

/// See the module.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// This server's name.
    pub node: String,
    /// Its number.
    pub number: u32,
    /// The part it plays.
    pub role: Role,
    /// All members that this server knows.
    pub members: Vec<Member>,
    /// Servers that were members.
    pub removed: Vec<RemovedMember>,
    /// How its replica stands to the others.
    pub replica: Report,
    /// Rows of changes that are not durable yet.
    pub unsettled_rows: usize,
    /// Time in which servers compare what they have at least twice.
    pub patience: Duration,
    /// How the quorum is.
    pub quorum: Status,
    /// Servers that are connected.
    pub peers: BTreeMap<u32, PeerInfo>,
    /// Why no writes are taken; nothing if they are.
    pub refuses: Option<String>,
    /// How long no shard changes hands, because part of what was decided is missing; nothing if they do.
    pub recovering: Option<Duration>,
}

impl ClusterStatus {
    /// The picture of now.
    ///
    /// # Errors
    /// If the owner of the state cannot be reached.
    pub async fn look(membership: &Membership) -> Result<Self, Refused> {
        let ClusterReport {
            members,
            removed,
            replica,
            unsettled_rows,
            recovering,
        } = membership
            .centre
            .run_ahead(|centre, _| Ok(centre.cluster_report()))
            .await?;
        let peers = membership
            .link
            .as_ref()
            .map(Link::peers)
            .unwrap_or_default();
        Ok(Self {
            node: membership.introduction.name.to_string(),
            number: membership.introduction.number,
            role: membership.introduction.role,
            members,
            removed,
            replica,
            unsettled_rows,
            recovering,
            patience: membership.patience,
            quorum: membership.grants.quorum().status(),
            peers: peers.into_iter().map(|peer| (peer.number, peer)).collect(),
            refuses: membership
                .standing
                .check()
                .err()
                .map(|refused| refused.to_string()),
        })
    }

    /// Name of a member.
    #[must_use]
    pub fn name(&self, number: u32) -> Option<String> {
        let member = self
            .members
            .iter()
            .find(|member| member.node.number == number);
        member.map(|member| member.node.name.to_string())
    }

    /// This server on the list of members.
    #[must_use]
    pub fn this(&self) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.node.number == self.number)
    }

    /// Everything that keeps the cluster from being as it should, in words; nothing if all is well.
    #[must_use]
    pub fn why_not_converged(&self) -> Vec<String> {
        let mut why = Vec::new();
        match self.this().map(|member| member.state) {
            Some(MemberState::Active) => {}
            Some(state) => why.push(format!("this server is {state}")),
            None => why.push("this server is no member of a cluster".to_owned()),
        }
        if self.quorum.leader.is_none() {
            why.push(
                "there is no leader: no majority of the voters can be reached from here".to_owned(),
            );
        }
        match &self.replica.stopped {
            Some(Notice::Twin { why: reason }) => {
                why.push(format!("another server has this one's number: {reason}"));
            }
            Some(Notice::MustStartOver { why: reason }) => {
                why.push(format!("this server must start over: {reason}"));
            }
            _ => {}
        }
        if let Some(stopped) = &self.quorum.stopped {
            why.push(format!("the quorum has stopped here: {stopped}"));
        }
        for member in self
            .members
            .iter()
            .filter(|member| member.node.number != self.number)
        {
            let name = &member.node.name;
            match member.state {
                // It is none yet.
                MemberState::Pending => {}
                MemberState::Evicted => why.push(format!("{name} was evicted: {}", member.reason)),
                MemberState::Joining | MemberState::Active => {
                    if let Some(reason) = self.why_apart(member) {
                        why.push(format!("{name} {reason}"));
                    }
                }
            }
        }
        why
    }

    fn why_apart(&self, member: &Member) -> Option<String> {
        let peer = self.replica.peers.get(&NodeId(member.node.number));
        let Some(peer) = peer.filter(|peer| peer.up) else {
            return Some("cannot be reached".to_owned());
        };
        let lag = peer.behind_for.max(peer.ahead_for).unwrap_or_default();
        let compared = peer.compared.is_some_and(|ago| ago < self.patience);
        // What is under way is no lag yet; that roots were equal lately is not taken on trust.
        if peer.in_sync || (compared && peer.mismatches == 0 && lag < self.patience) {
            return None;
        }
        let seconds = peer
            .behind_for
            .max(peer.ahead_for)
            .map_or(0.0, |time| time.as_secs_f64());
        Some(match (peer.behind, peer.ahead) {
            (0, 0) => "was not compared with this server yet".to_owned(),
            (behind, 0) => format!("lacks {behind} entries of this server, for {seconds:.1} s"),
            (0, ahead) => format!("has {ahead} entries that this server lacks, for {seconds:.1} s"),
            (behind, ahead) => format!(
                "lacks {behind} entries of this server and has {ahead} that it lacks, for {seconds:.1} s"
            ),
        })
    }
}
