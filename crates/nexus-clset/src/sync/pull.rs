//! Pulling what is missing, a page at a time, and the first copy of a new member.

use std::time::Duration;

use crate::error::Error;
use crate::message::PullAnswer;
use crate::replica::Replica;
use crate::rows::Rows;
use crate::sync::peer::{Pull, What};
use crate::sync::wire::Question;
use crate::sync::{MAX_UNSETTLED_FOR_PULLS, Notice, Output, Sync, report};
use crate::vector::VersionVector;
use crate::version::NodeId;

/// How long missing writes may take to come by themselves before they are asked for.
const GRACE: Duration = Duration::from_millis(200);

/// And when the peer waits for a confirmation.
const GRACE_IF_AWAITED: Duration = Duration::from_millis(40);

/// More missing writes than this are asked for at once.
const MANY: u64 = 2000;

/// How a first copy goes on.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Since when, and from whom.
    pub(super) since: Option<Duration>,
    pub(super) source: Option<NodeId>,
    pub(super) entries_expected: u64,
    pub(super) entries: u64,
    /// Entries that were here when this machine started.
    pub(super) entries_before: u64,
    pub(super) bytes: u64,
    /// Bytes that may be taken now, and when that was reckoned. Below 0 after a large page.
    tokens: i64,
    reckoned: Option<Duration>,
}

impl Progress {
    /// Whether one more page may be asked for under a rate.
    fn may_go_on(&mut self, rate: Option<u64>, now: Duration) -> bool {
        let Some(rate) = rate else {
            return true;
        };
        let passed = now.saturating_sub(self.reckoned.unwrap_or(now));
        self.reckoned = Some(now);
        let earned = u128::from(rate).saturating_mul(passed.as_millis()) / 1000;
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        let most = i64::try_from(rate).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(earned).min(most);
        self.tokens >= 0
    }

    fn took(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_sub(bytes);
    }
}

impl Sync {
    /// Goes on with pulls that wait, and starts those that are due.
    pub(super) fn start_pulls<R: Rows>(&mut self, replica: &Replica<R>, out: &mut Vec<Output>) {
        self.note_missing(replica);
        let now = self.now.boot;
        let room = replica.unsettled_rows() < MAX_UNSETTLED_FOR_PULLS
            && (replica.is_complete()
                || self.bootstrap.may_go_on(self.options.bootstrap_rate, now));
        if !room {
            return;
        }
        let waiting = |pull: &Pull| pull.id.is_none().then(|| pull.request.clone());
        let waiting: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(node, peer)| Some((*node, waiting(peer.pull.as_ref()?)?)))
            .collect();
        for (node, request) in waiting {
            let id = self.ask(node, What::Pull, &Question::Pull(request), out);
            if let Some(pull) = self.peers.get_mut(&node).and_then(|p| p.pull.as_mut()) {
                pull.id = Some(id);
            }
        }
        let most = match replica.is_complete() {
            true => self.options.pulls.max(1),
            false => 1,
        };
        while self.pulls() < most {
            let Some(node) = self.next_source(replica) else {
                return;
            };
            let request = replica.pull_request();
            let id = self.ask(node, What::Pull, &Question::Pull(request.clone()), out);
            if !replica.is_complete() {
                self.first_copy_from(node, replica, out);
            }
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.pull = Some(Pull {
                    request,
                    id: Some(id),
                    new_entries: 0,
                });
            }
        }
    }

    fn pulls(&self) -> usize {
        let pulling = |peer: &&super::Peer| peer.pull.is_some();
        self.peers.values().filter(pulling).count()
    }

    fn note_missing<R: Rows>(&mut self, replica: &Replica<R>) {
        let now = self.now.boot;
        for peer in self.peers.values_mut() {
            let has_more = peer.digest.as_ref().is_some_and(|digest| {
                !replica.seen().covers(&digest.seen) || (digest.complete && !replica.is_complete())
            });
            if !has_more {
                peer.missing_since = None;
            } else if peer.missing_since.is_none() {
                peer.missing_since = Some(now);
            }
        }
    }

    /// From whom to pull next: a peer that has what is neither here nor being pulled from another one.
    fn next_source<R: Rows>(&self, replica: &Replica<R>) -> Option<NodeId> {
        let now = self.now.boot;
        let mut coming: VersionVector = replica.seen().clone();
        let pulled = |peer: &super::Peer| peer.pull.is_some();
        for peer in self.peers.values().filter(|peer| pulled(peer)) {
            if let Some(digest) = &peer.digest {
                coming.join(&digest.seen);
            }
        }
        let candidates = self.peers.iter().filter(|(node, peer)| {
            let Some(digest) = &peer.digest else {
                return false;
            };
            let Some(since) = peer.missing_since else {
                return false;
            };
            // Who is not complete itself may lack what others had before it came.
            let useful =
                digest.complete && (!coming.covers(&digest.seen) || !replica.is_complete());
            let grace = match self.held.iter().any(|held| held.to == **node) {
                true => GRACE_IF_AWAITED,
                false => GRACE,
            };
            let waited = !replica.is_complete()
                || now.saturating_sub(since) >= grace
                || digest.seen.ahead_of(replica.seen()) > MANY;
            peer.is_ready(now)
                && self.is_member(**node)
                && peer.pull.is_none()
                && !peer.pull_after_greeting
                && useful
                && waited
        });
        // A first copy stays with its source while that answers.
        candidates
            .min_by_key(|(node, peer)| {
                let other = self.bootstrap.source != Some(**node);
                (peer.failures, other, **node)
            })
            .map(|(node, _)| *node)
    }

    fn first_copy_from<R: Rows>(
        &mut self,
        node: NodeId,
        replica: &Replica<R>,
        out: &mut Vec<Output>,
    ) {
        let digest = self.peers.get(&node).and_then(|p| p.digest.as_ref());
        let expected = digest.map_or(0, |digest| digest.fingerprint.count);
        self.bootstrap.entries_expected = self.bootstrap.entries_expected.max(expected);
        self.bootstrap.entries = replica.fingerprint().count;
        if self.bootstrap.since.is_none() {
            self.bootstrap.since = Some(self.now.boot);
            self.bootstrap.entries_before = replica.fingerprint().count;
        }
        if self.bootstrap.source != Some(node) {
            self.bootstrap.source = Some(node);
            out.push(Output::Report(Notice::FirstCopy {
                from: node,
                entries: replica.fingerprint().count,
                expected,
            }));
        }
    }

    /// A page has come.
    pub(super) fn pulled<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        from: NodeId,
        answer: &PullAnswer,
        bytes: usize,
        out: &mut Vec<Output>,
    ) -> Result<(), Error<R::Error>> {
        let was_complete = replica.is_complete();
        let received = replica.receive_answer(from, answer, self.now.wall);
        let new = self.take(from, received, out)?;
        self.traffic.pages = self.traffic.pages.saturating_add(1);
        self.traffic.pulled_entries = self
            .traffic
            .pulled_entries
            .saturating_add(report::number(answer.delta.entries.len()));
        if !was_complete {
            self.bootstrap.took(bytes);
            self.bootstrap.bytes = self.bootstrap.bytes.saturating_add(report::number(bytes));
            self.bootstrap.entries = replica.fingerprint().count;
            if replica.is_complete() {
                let entries = self.bootstrap.entries;
                out.push(Output::Report(Notice::Complete { entries }));
            }
        }
        let Some(peer) = self.peers.get_mut(&from) else {
            return Ok(());
        };
        let Some(mut pull) = peer.pull.take() else {
            return Ok(());
        };
        pull.id = None;
        pull.new_entries = pull.new_entries.saturating_add(new);
        if answer.next.is_some() {
            pull.request.after = answer.next;
            peer.pull = Some(pull);
            return Ok(());
        }
        if replica.seen().covers(&answer.seen) || pull.new_entries > 0 {
            // Either all is here, or it has gone on meanwhile and the next round is smaller.
            return Ok(());
        }
        // Nothing new came, and still something is missing: it waits for what answers of others build
        // upon, who may never speak again. Without those it is asked for once more, and this peer's
        // word is enough.
        peer.pull_after_greeting = true;
        peer.next_greeting = self.now.boot;
        let claimants: Vec<_> = replica.claimants().filter(|peer| *peer != from).collect();
        for other in claimants {
            let pulled = |peer: &super::Peer| peer.pull.is_some();
            if !self.peers.get(&other).is_some_and(pulled) {
                out.extend(replica.drop_claims(other).map(Output::Write));
            }
        }
        Ok(())
    }
}
