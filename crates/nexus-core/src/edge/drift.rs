//! Whether the clocks that leases are counted on run together as the rule of leases needs it: this host's against
//! the boot-time clock of each server that answers it, and against cluster time.
//!
//! A server reads its clock between the moment at which a question was sent and the one at which its answer came, both by
//! this host's clock. So between two answers of one server certainly at least `sent - received before` has passed here, and at most
//! `received - sent before`. Clocks that are each right to 1% keep within 0.99/1.01 of each other; if even the better one of
//! these bounds is outside, one of the two is wrong, whatever the network did. What is not certain is not judged.
//!
//! Time that a suspended machine sleeps counts on `CLOCK_BOOTTIME`, and wall clocks have no part in this.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::{Edge, Effects};
use crate::lease::DRIFT_PER_MILLE;
use crate::time::{BootTime, ClusterTime};

/// Most clocks that are remembered; of more, the one heard of least lately is forgotten.
const CLOCKS: usize = 8;
/// Longest name or mark of a server in bytes; what has a longer one is not judged.
const NAME_LIMIT: usize = 128;
/// Clocks are compared over no longer time than necessary: this, or a twentieth of the lease if that is shorter.
const LONGEST_WINDOW: Duration = Duration::from_secs(600);
/// If nothing is certain after so many windows, the comparison begins again.
const PATIENCE: u32 = 16;
/// In so many windows one after another a clock must have been slow against this host's: a server's machine that was paused once
/// is in no lease's way.
const FAST_WINDOWS: u8 = 2;

/// One look at the clocks of the centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// When the question was sent, on this host's clock.
    pub sent_at: BootTime,
    /// When its answer came.
    pub received_at: BootTime,
    /// Name of the server that answered, for people.
    pub server: String,
    /// Tells one process of a server from the next, of this server and all others; empty: an older server, nothing is compared.
    pub mark: String,
    /// What that server's boot-time clock showed.
    pub boot: BootTime,
    /// What cluster time had come to.
    pub cluster: ClusterTime,
}

/// Two clocks that run apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClocksApart {
    /// The lease cannot be counted on: nothing new is given.
    pub stops: bool,
    /// Which two, by how much, and what to do, for a person.
    pub what: String,
}

/// Whose clock; the name of a server's process, or nothing for cluster time, which its leaders count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Server(String),
    Cluster,
}

/// What a clock showed, somewhere between two moments here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    sent: BootTime,
    received: BootTime,
    shown: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Within,
    /// This host's clock is slow, by at least so many thousandths of the other one's time.
    Slow(u64),
    /// It is fast, by at least so many.
    Fast(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Compared {
    name: String,
    /// Where the window begins.
    from: Look,
    heard: BootTime,
    /// Windows one after another in which this host's clock was fast.
    fast: u8,
    verdict: Option<Verdict>,
}

#[derive(Clone, Debug)]
struct Finding {
    whose: Whose,
    name: String,
    verdict: Verdict,
    over: Duration,
    /// Only a window that began later can say that it is over.
    since: BootTime,
    stops: bool,
}

/// What is known of the clocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Drift {
    pub(super) clocks: BTreeMap<Whose, Compared>,
    server: Option<Finding>,
    cluster: Option<Finding>,
}

impl Drift {
    /// Whether the lease cannot be counted on.
    pub(super) fn stops(&self) -> bool {
        self.findings().any(|finding| finding.stops)
    }

    /// Whether rights end too early on this host's clock, and rests as well.
    fn is_fast(&self) -> bool {
        let mut stopping = self.findings().filter(|finding| finding.stops);
        stopping.any(|finding| matches!(finding.verdict, Verdict::Fast(_)))
    }

    /// What is to be told.
    pub(super) fn apart(&self) -> Option<ClocksApart> {
        let mut what = String::new();
        for finding in self.findings() {
            let separator = if what.is_empty() { "" } else { "; " };
            // Writing to a string does not fail.
            let _ = write!(what, "{separator}{}", self.tell(finding));
        }
        (!what.is_empty()).then(|| ClocksApart {
            stops: self.stops(),
            what,
        })
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.server.iter().chain(&self.cluster)
    }

    fn tell(&self, finding: &Finding) -> String {
        let (how, by) = match finding.verdict {
            Verdict::Fast(by) => ("fast", by),
            Verdict::Slow(by) => ("slow", by),
            Verdict::Within => ("right", 0),
        };
        let other = match &finding.whose {
            Whose::Server(_) => format!("the clock of server {}", finding.name),
            Whose::Cluster => format!(
                "cluster time, which the leader counts (heard from server {})",
                finding.name
            ),
        };
        let mut text = format!(
            "the clock of this host is {how} against {other} by at least {}.{}% over {} s; each may be wrong by 1%",
            by / 10,
            by % 10,
            finding.over.as_secs()
        );
        let agree = self.clocks.iter().filter(|(whose, clock)| {
            matches!(whose, Whose::Server(_)) && clock.verdict == Some(Verdict::Within)
        });
        let names: Vec<&str> = agree.map(|(_, clock)| clock.name.as_str()).collect();
        if !names.is_empty() {
            let _ = write!(
                text,
                ", and agrees with that of server {}",
                names.join(", ")
            );
        }
        text
    }

    /// Takes a look at the clocks; `window`: over how much time they are compared.
    fn hear(&mut self, reading: &ClockReading, window: Duration) {
        let name = &reading.server;
        if reading.mark.is_empty() || reading.mark.len() > NAME_LIMIT || name.len() > NAME_LIMIT {
            return;
        }
        let look = |shown| Look {
            sent: reading.sent_at,
            received: reading.received_at,
            shown,
        };
        let server = Whose::Server(reading.mark.clone());
        self.compare(server, name, look(reading.boot.as_nanos()), window);
        let shown = reading.cluster.as_nanos();
        self.compare(Whose::Cluster, name, look(shown), window);
    }

    fn compare(&mut self, whose: Whose, name: &str, look: Look, window: Duration) {
        let Some(clock) = self.clocks.get_mut(&whose) else {
            self.remember(whose, name, look);
            return;
        };
        // Answers may overtake each other.
        if look.sent < clock.from.sent {
            return;
        }
        name.clone_into(&mut clock.name);
        clock.heard = look.received;
        let from = clock.from;
        let over = passed(from, look);
        if look.shown < from.shown {
            clock.from = look;
            return;
        }
        if over < window {
            return;
        }
        let Some(verdict) = judge(from, look, whose == Whose::Cluster) else {
            if look.width() < from.width() / 2 || over > window.saturating_mul(PATIENCE) {
                clock.from = look;
            }
            return;
        };
        clock.from = look;
        clock.verdict = Some(verdict);
        clock.fast = match verdict {
            Verdict::Fast(_) => clock.fast.saturating_add(1),
            Verdict::Slow(_) | Verdict::Within => 0,
        };
        let fast = clock.fast;
        let place = match whose {
            Whose::Server(_) => &mut self.server,
            Whose::Cluster => &mut self.cluster,
        };
        if verdict != Verdict::Within {
            let stopped = place.as_ref().is_some_and(|finding| finding.stops);
            let stops = stopped || matches!(verdict, Verdict::Slow(_)) || fast >= FAST_WINDOWS;
            *place = Some(Finding {
                whose,
                name: name.to_owned(),
                verdict,
                over,
                since: look.sent,
                stops,
            });
        } else if place.as_ref().is_some_and(|found| found.since <= from.sent) {
            *place = None;
        }
    }

    fn remember(&mut self, whose: Whose, name: &str, look: Look) {
        if self.clocks.len() >= CLOCKS {
            let servers = self
                .clocks
                .iter()
                .filter(|(whose, _)| **whose != Whose::Cluster);
            let oldest = servers.min_by_key(|(_, clock)| clock.heard);
            if let Some(oldest) = oldest.map(|(whose, _)| whose.clone()) {
                self.clocks.remove(&oldest);
            }
        }
        let clock = Compared {
            name: name.to_owned(),
            from: look,
            heard: look.received,
            fast: 0,
            verdict: None,
        };
        self.clocks.insert(whose, clock);
    }
}

impl Look {
    fn width(self) -> Duration {
        self.received.since(self.sent)
    }
}

/// How much time has passed between two looks, by whichever clock says more.
fn passed(from: Look, to: Look) -> Duration {
    let shown = Duration::from_nanos(to.shown.saturating_sub(from.shown));
    to.sent.since(from.received).max(shown)
}

/// What is certain; `only_slow`: cluster time rightly stands still while nobody leads.
fn judge(from: Look, to: Look, only_slow: bool) -> Option<Verdict> {
    let shown = u128::from(to.shown.saturating_sub(from.shown));
    let least = to.sent.since(from.received).as_nanos();
    let most = to.received.since(from.sent).as_nanos();
    let (low, high) = (
        u128::from(1000_u32.saturating_sub(DRIFT_PER_MILLE)),
        u128::from(1000_u32.saturating_add(DRIFT_PER_MILLE)),
    );
    let per_mille = |part: u128, whole: u128| {
        let part = part.saturating_mul(1000).checked_div(whole).unwrap_or(999);
        u64::try_from(part).unwrap_or(u64::MAX)
    };
    if most.saturating_mul(high) < shown.saturating_mul(low) {
        return Some(Verdict::Slow(per_mille(shown.saturating_sub(most), shown)));
    }
    let is_not_slow = least.saturating_mul(high) >= shown.saturating_mul(low);
    if only_slow {
        return is_not_slow.then_some(Verdict::Within);
    }
    if least.saturating_mul(low) > shown.saturating_mul(high) {
        return Some(Verdict::Fast(per_mille(least.saturating_sub(shown), least)));
    }
    let is_not_fast = most.saturating_mul(low) <= shown.saturating_mul(high);
    (is_not_slow && is_not_fast).then_some(Verdict::Within)
}

/// Over how much time clocks are compared for leases of this length.
fn window(lease: Duration) -> Duration {
    (lease / 20).min(LONGEST_WINDOW)
}

impl Edge {
    /// An answer of the centre says what its clocks show; `lease`: the length of a lease. To be told before
    /// [`Edge::registered`] or [`Edge::renewed`] of the same answer. If the clocks certainly run further apart than
    /// leases allow for, the lease counts as ended, and none begins until a later comparison shows that they run together.
    pub fn hear_clock(&mut self, reading: &ClockReading, lease: Duration, fx: &mut Effects) {
        self.drift.hear(reading, window(lease));
        if self.drift.stops() {
            self.end_lease(fx);
        }
        self.doubt_rests(reading.received_at, self.drift.is_fast(), fx);
    }

    /// What there is to say of clocks that run apart.
    #[must_use]
    pub fn clocks_apart(&self) -> Option<ClocksApart> {
        self.drift.apart()
    }
}
