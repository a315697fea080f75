//! What the nemesis does and what is seen meanwhile, told on standard error as it happens and kept for the checker.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::history::{Disturbance, Kind, OltAt};
use super::moment::Moment;
use super::plan::Trouble;

/// The journal. Every thread writes into it.
#[derive(Debug)]
pub struct Journal {
    began: Moment,
    disturbances: Mutex<Vec<Disturbance>>,
    effects: Mutex<BTreeMap<Trouble, u32>>,
    seen: Mutex<Vec<(Moment, String)>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            began: Moment::now(),
            disturbances: Mutex::default(),
            effects: Mutex::default(),
            seen: Mutex::default(),
        }
    }
}

impl Journal {
    /// Tells something, with the time since the run began and since boot.
    pub fn tell(&self, text: &str) {
        let now = Moment::now();
        let since = now.since(self.began).as_secs_f64();
        eprintln!("{since:7.2} [{now}] {text}");
    }

    /// Something is wrong, whatever the checker finds.
    pub fn wrong(&self, text: String) {
        self.tell(&format!("WRONG: {text}"));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.iter().any(|(_, told)| *told == text) {
            seen.push((Moment::now(), text));
        }
    }

    /// A disturbance begins now. Until [`Journal::over`] it has no end.
    pub fn begin(&self, what: &str, olt: Option<OltAt>, kind: Kind) -> usize {
        self.tell(what);
        let mut all = self
            .disturbances
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.push(Disturbance {
            what: what.to_owned(),
            olt,
            kind,
            from: Moment::now(),
            until: Moment::NEVER,
        });
        all.len() - 1
    }

    /// More is known of it now.
    pub fn is(&self, disturbance: usize, kind: Kind) {
        let mut all = self
            .disturbances
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = all.get_mut(disturbance) {
            one.kind = kind;
        }
    }

    /// It is over, and everything that it has stopped runs again.
    pub fn over(&self, disturbance: usize) {
        let mut all = self
            .disturbances
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = all.get_mut(disturbance) {
            one.until = Moment::now();
            let what = format!("over: {}", one.what);
            drop(all);
            self.tell(&what);
        }
    }

    /// It was seen that a trouble has done to the product what it is meant to do.
    pub fn took_effect(&self, trouble: Trouble) {
        let mut effects = self.effects.lock().unwrap_or_else(PoisonError::into_inner);
        *effects.entry(trouble).or_default() += 1;
    }

    /// How often each trouble has taken effect so far.
    #[must_use]
    pub fn effects(&self) -> BTreeMap<Trouble, u32> {
        let effects = self.effects.lock();
        effects.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the nemesis has done so far.
    #[must_use]
    pub fn disturbances(&self) -> Vec<Disturbance> {
        let all = self.disturbances.lock();
        all.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything.
    #[must_use]
    pub fn finish(self) -> (Vec<Disturbance>, Vec<(Moment, String)>) {
        let into = PoisonError::into_inner;
        (
            self.disturbances.into_inner().unwrap_or_else(into),
            self.seen
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}
