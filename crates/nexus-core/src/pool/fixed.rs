//! Units that are kept for one subscriber each (`static`), looked up either way.

use std::collections::BTreeMap;

use super::error::PoolError;
use super::space::Space;
use super::spec::PoolSpec;
use super::value;
use super::withheld::Withheld;
use crate::id::SubscriberId;
use crate::resource::Resource;

/// Most static entries of a pool.
pub const MAX_STATIC: usize = 1024;

/// Units are counted from the start of the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fixed {
    units: BTreeMap<u64, SubscriberId>,
    subscribers: BTreeMap<SubscriberId, u64>,
}

impl Fixed {
    pub fn new(spec: &PoolSpec, space: &Space, withheld: &Withheld) -> Result<Self, PoolError> {
        if spec.fixed.len() > MAX_STATIC {
            let problem = format!("too many: at most {MAX_STATIC}, make another pinned pool");
            let count = spec.fixed.len().to_string();
            return Err(value(spec, "static", &count, problem));
        }
        let mut fixed = Self::default();
        for entry in &spec.fixed {
            let fail = |problem: String| value(spec, "static", &entry.resource, problem);
            if !spec.pinned {
                let problem = "is possible only in a pool with `pinned: true`: in others each OLT has units of its own";
                return Err(fail(problem.to_owned()));
            }
            let resource = Resource::parse(spec.kind, &entry.resource)
                .map_err(|error| fail(error.to_string()))?;
            let unit = space.unit_of(&resource).ok_or_else(|| {
                fail(format!(
                    "is not what one subscriber gets of the pool's {}",
                    space.text
                ))
            })?;
            if withheld.contains(unit) {
                let problem = "is excluded, reserved, or the network, broadcast or router address";
                return Err(fail(problem.to_owned()));
            }
            if let Some(other) = fixed.units.insert(unit, entry.subscriber.clone()) {
                return Err(fail(format!("stands twice, for {other} too: keep one")));
            }
            let subscriber = entry.subscriber.clone();
            if fixed.subscribers.insert(subscriber, unit).is_some() {
                let problem = format!("is the second entry for {}: keep one", entry.subscriber);
                return Err(fail(problem));
            }
        }
        Ok(fixed)
    }

    /// For whom a unit is kept.
    pub fn holder(&self, unit: u64) -> Option<&SubscriberId> {
        self.units.get(&unit)
    }

    /// What is kept for a subscriber.
    pub fn unit(&self, subscriber: &SubscriberId) -> Option<u64> {
        self.subscribers.get(subscriber).copied()
    }
}
