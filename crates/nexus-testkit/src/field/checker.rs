//! The checker: what must never be in a history, however the run went. Pure.
//!
//! | rule | broken when |
//! |---|---|
//! | one holder | two kernels' maps have one address for two subscribers at the same time |
//! | kept | an acknowledged binding leaves its map, or its address is given to another, before its subscriber or an operator has asked for its end |
//! | same address | a subscriber that asks again at its OLT gets another address |
//! | served | a known subscriber's DHCP exchange does not end with its address; or, at an OLT that is cut off and whose lease lives, somebody gets no address |
//! | at the end | servers differ, count duplicates, or their record differs from what sidecars and kernels have |
//! | nemesis | something that it can do was never seen to do what it is meant to do: then the run shows nothing about it |

mod ends;
mod rights;
mod rules;

use std::collections::BTreeMap;

pub use self::rights::{Right, rights};
pub use self::rules::around;
use super::history::{Finals, History, Who};
use super::moment::Moment;
use super::plan::Trouble;
use crate::packet::Mac;

/// The rule about the end.
pub const AT_THE_END: &str = "at the end";

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// When it was so first, for certain.
    pub at: Moment,
    /// The rule.
    pub rule: &'static str,
    /// Whose matter it is; what they did around that time is worth a look.
    pub whose: Vec<Who>,
    /// In words.
    pub what: String,
}

/// Everything that is wrong with a history and its end, in the order of time.
#[must_use]
pub fn check(history: &History, finals: Option<&Finals>, who: &BTreeMap<Mac, Who>) -> Vec<Finding> {
    let rights = rights(history, who);
    let mut found = rules::one_holder(history, who);
    found.extend(rules::kept(history, &rights, who));
    found.extend(rules::same_address(history, &rights));
    found.extend(rules::served(history, &rights));
    found.extend(history.seen.iter().map(|(at, what)| Finding {
        at: *at,
        rule: "seen",
        whose: Vec::new(),
        what: what.clone(),
    }));
    if let Some(finals) = finals {
        found.extend(ends::at_the_end(history, finals, &rights, who));
    }
    found.sort();
    found
}

/// A finding for each trouble that was never seen to take effect.
#[must_use]
pub fn without_effect(effects: &BTreeMap<Trouble, u32>) -> Vec<Finding> {
    let never = Trouble::all().filter(|trouble| effects.get(trouble).is_none_or(|n| *n == 0));
    never
        .map(|trouble| Finding {
            at: Moment::NEVER,
            rule: "nemesis",
            whose: Vec::new(),
            what: format!("{trouble:?} was never seen to do anything"),
        })
        .collect()
}

#[cfg(test)]
mod tests;
