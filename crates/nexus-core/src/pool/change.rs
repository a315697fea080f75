//! Which specification may replace that of a pool while its shards are owned, and what it takes away.

use thiserror::Error;

use super::Pool;
use super::space::Space;
use crate::id::PoolId;
use crate::resource::{Resource, ResourceType};

/// What a new specification makes of a pool in use. Units that both have keep their shard and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// All shards stay as they are. Exclusions, labels and all else may differ.
    Same,
    /// There are units more, behind the last one.
    Grown {
        /// New shards; 0 if only the last one, which was not full, has become larger.
        shards: u32,
    },
    /// The last units are gone.
    Shrunk {
        /// Shards that are gone; 0 if only the last one has become smaller.
        shards: u32,
    },
}

/// Why a specification cannot replace that of a pool in use. Each text says what to write, if anything helps.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// A field that never changes.
    #[error(
        "pool {pool}: {field} cannot change from `{from}` to `{to}` while the pool exists: what is handed out already would not be the same any more; create another pool and remove this one"
    )]
    Fixed {
        /// The pool.
        pool: PoolId,
        /// The field.
        field: &'static str,
        /// What it is.
        from: String,
        /// What it would become.
        to: String,
    },
    /// The space begins elsewhere.
    #[error(
        "pool {pool}: {from} can grow and shrink only at its end, so that {to} must begin where it does: create another pool for what lies elsewhere"
    )]
    Start {
        /// The pool.
        pool: PoolId,
        /// Space that it has.
        from: String,
        /// Space that it would have.
        to: String,
    },
    /// Shards of another size, because it was not written and follows from the space.
    #[error(
        "pool {pool}: its shards would be cut anew, from {from} to {to}, while they are owned: write `shard_size: {size}`"
    )]
    Recut {
        /// The pool.
        pool: PoolId,
        /// Size of a shard, as a prefix length or a number of units.
        from: String,
        /// Size that it would be.
        to: String,
        /// What to write.
        size: u32,
    },
    /// Less than one shard would be left.
    #[error(
        "pool {pool}: {to} is less than one of its shards, {shard}: keep at least that, or remove the pool"
    )]
    TooSmall {
        /// The pool.
        pool: PoolId,
        /// Space that it would have.
        to: String,
        /// Size of a shard.
        shard: String,
    },
}

impl Pool {
    /// Whether `new` may replace this pool while its shards are owned: first unit, size of a unit and size of
    /// a shard must be the same. Whether somebody still holds what goes is another question, see
    /// [`Pool::withdrawn`].
    ///
    /// # Errors
    /// What differs, and what to write instead.
    pub fn change_to(&self, new: &Self) -> Result<Change, ChangeError> {
        let fixed = |field, from: String, to: String| {
            if from == to {
                return Ok(());
            }
            let pool = self.id().clone();
            Err(ChangeError::Fixed {
                pool,
                field,
                from,
                to,
            })
        };
        fixed("id", self.id().to_string(), new.id().to_string())?;
        fixed("type", self.kind().to_string(), new.kind().to_string())?;
        fixed("vrf", self.vrf().to_owned(), new.vrf().to_owned())?;
        let pinned = |pool: &Self| pool.is_pinned().to_string();
        fixed("pinned", pinned(self), pinned(new))?;
        let fields = unit_fields(&self.space).into_iter();
        for ((field, from), (_, to)) in fields.zip(unit_fields(&new.space)) {
            fixed(field, from, to)?;
        }
        if self.space.start() != new.space.start() {
            return Err(ChangeError::Start {
                pool: self.id().clone(),
                from: self.space().to_owned(),
                to: new.space().to_owned(),
            });
        }
        self.check_shards(new)?;
        let (before, after) = (&self.space, &new.space);
        Ok(match after.units.cmp(&before.units) {
            std::cmp::Ordering::Equal => Change::Same,
            std::cmp::Ordering::Greater => Change::Grown {
                shards: after.shards.saturating_sub(before.shards),
            },
            std::cmp::Ordering::Less => Change::Shrunk {
                shards: before.shards.saturating_sub(after.shards),
            },
        })
    }

    fn check_shards(&self, new: &Self) -> Result<(), ChangeError> {
        let (before, after) = (&self.space, &new.space);
        if before.units_per_shard == after.units_per_shard {
            return Ok(());
        }
        let pool = self.id().clone();
        if before.is_address() && after.prefix_len > before.shard_len {
            return Err(ChangeError::TooSmall {
                pool,
                to: new.space().to_owned(),
                shard: before.shard_text(),
            });
        }
        Err(ChangeError::Recut {
            pool,
            from: before.shard_text(),
            to: after.shard_text(),
            size: if before.is_address() {
                u32::from(before.shard_len)
            } else {
                u32::try_from(before.units_per_shard).unwrap_or(u32::MAX)
            },
        })
    }

    /// What could be handed out until now and not after a change that [`Pool::change_to`] allows, because it
    /// is excluded, reserved, the router's or gone: first and last resource of each range, in order.
    pub fn withdrawn(&self, new: &Self) -> impl Iterator<Item = (Resource, Resource)> + use<'_> {
        self.withdrawn_units(new)
            .into_iter()
            .filter_map(|(first, last)| {
                Some((self.space.resource(first)?, self.space.resource(last)?))
            })
    }

    /// How many units [`Pool::withdrawn`] names.
    #[must_use]
    pub fn withdrawn_count(&self, new: &Self) -> u64 {
        let ranges = self.withdrawn_units(new);
        let len = |(first, last): &(u64, u64)| last.saturating_sub(*first).saturating_add(1);
        ranges.iter().map(len).sum()
    }

    fn withdrawn_units(&self, new: &Self) -> Vec<(u64, u64)> {
        let Some(end) = self.space.units.checked_sub(1) else {
            return Vec::new();
        };
        let left = new.space.units;
        let gone = (left <= end).then_some((left, end));
        let kept = left.saturating_sub(1).min(end);
        let mut withdrawn = Vec::new();
        for (first, last) in new.withheld.within(0, kept).chain(gone) {
            let mut from = first;
            for (low, high) in self.withheld.within(first, last) {
                withdrawn.extend(
                    low.checked_sub(1)
                        .filter(|to| from <= *to)
                        .map(|to| (from, to)),
                );
                from = high.saturating_add(1);
            }
            withdrawn.extend((from <= last).then_some((from, last)));
        }
        withdrawn
    }
}

/// What the size and number of a unit follow from, by field.
fn unit_fields(space: &Space) -> [(&'static str, String); 4] {
    let length = match space.kind {
        ResourceType::Ipv6 => 128_u32.saturating_sub(space.unit_shift).to_string(),
        _ => String::new(),
    };
    let (mut block, mut addresses, mut range) = (String::new(), "none", String::new());
    if let Some(ports) = &space.ports {
        block = ports.block.to_string();
        if ports.addresses.is_some() {
            // The ports of the next address follow those of the one before.
            range = format!("{}-{}", ports.first, ports.last);
            addresses = "some";
        }
    }
    [
        ("delegated_length", length),
        ("block_size", block),
        ("addresses", addresses.to_owned()),
        ("range", range),
    ]
}

impl Space {
    /// Where it begins.
    fn start(&self) -> (u128, Option<u32>) {
        let address = self.ports.as_ref().and_then(|ports| ports.addresses);
        (self.base, address.map(|(first, _)| first))
    }
}
