//! Writers that are forgotten: boots that have ended, of which every member has all and nothing stands any more.
//!
//! Without this a version vector would grow with every boot there ever was. What is kept is one number
//! for each node, and its older boots that still have entries, so it is bounded by what stands.

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::{Reader, Writer};
use crate::error::Malformed;
use crate::version::{Incarnation, NodeId, Origin};

/// First byte of the row.
const FORMAT: u8 = 1;

/// Forgotten writers. Their writes count as seen, and stand in no version vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    nodes: BTreeMap<NodeId, Boots>,
}

/// All boots below a number are forgotten, but for these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Boots {
    below: Incarnation,
    kept: BTreeSet<Incarnation>,
}

impl Boots {
    fn contains(&self, incarnation: Incarnation) -> bool {
        incarnation < self.below && !self.kept.contains(&incarnation)
    }
}

impl Retired {
    /// Whether this writer is forgotten.
    #[must_use]
    pub fn contains(&self, origin: Origin) -> bool {
        self.nodes
            .get(&origin.node)
            .is_some_and(|boots| boots.contains(origin.incarnation))
    }

    /// Nodes and older boots that are remembered here.
    #[must_use]
    pub fn len(&self) -> usize {
        let kept = self.nodes.values().map(|boots| boots.kept.len());
        kept.fold(self.nodes.len(), usize::saturating_add)
    }

    /// Whether no writer is forgotten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Forgets the boots of `node` below a number, but for those in `kept`. What is forgotten stays so.
    pub(crate) fn retire(
        &mut self,
        node: NodeId,
        below: Incarnation,
        kept: impl IntoIterator<Item = Incarnation>,
    ) {
        let kept = kept.into_iter().filter(|boot| *boot < below).collect();
        let mut other = Self::default();
        other.nodes.insert(node, Boots { below, kept });
        self.join(&other);
    }

    /// Forgets what the other has forgotten as well. Says whether that is more than before.
    pub(crate) fn join(&mut self, other: &Self) -> bool {
        let mut more = false;
        let theirs = other.nodes.iter().filter(|(_, boots)| boots.below.0 > 0);
        for (node, theirs) in theirs {
            let ours = self.nodes.entry(*node).or_default();
            let joined = Boots {
                below: ours.below.max(theirs.below),
                kept: ours
                    .kept
                    .union(&theirs.kept)
                    .copied()
                    .filter(|boot| !ours.contains(*boot) && !theirs.contains(*boot))
                    .collect(),
            };
            if *ours != joined {
                *ours = joined;
                more = true;
            }
        }
        more
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.count(self.nodes.len());
        for (node, boots) in &self.nodes {
            out.u32(node.0);
            out.u32(boots.below.0);
            out.count(boots.kept.len());
            for boot in &boots.kept {
                out.u32(boot.0);
            }
        }
    }

    pub(crate) fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut retired = Self::default();
        for _ in 0..bytes.count(12)? {
            let node = NodeId(bytes.u32()?);
            let mut boots = Boots {
                below: Incarnation(bytes.u32()?),
                kept: BTreeSet::new(),
            };
            for _ in 0..bytes.count(4)? {
                let boot = Incarnation(bytes.u32()?);
                if boot >= boots.below || !boots.kept.insert(boot) {
                    return Err(bytes.wrong(format!("boot {} of node {}", boot.0, node.0)));
                }
            }
            if retired.nodes.insert(node, boots).is_some() {
                return Err(bytes.wrong(format!("node {} stands twice", node.0)));
            }
        }
        Ok(retired)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(FORMAT);
        self.write(&mut out);
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut bytes = Reader::new("row of forgotten writers", bytes);
        bytes.format(FORMAT)?;
        let retired = Self::read(&mut bytes)?;
        bytes.end()?;
        Ok(retired)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(sets: &[(u32, Vec<u32>)]) -> Retired {
        let mut retired = Retired::default();
        for (below, kept) in sets {
            let kept = kept.iter().copied().map(Incarnation);
            retired.retire(NodeId(1), Incarnation(*below), kept);
        }
        retired
    }

    fn all(retired: &Retired) -> BTreeSet<u32> {
        (0..40)
            .filter(|boot| {
                retired.contains(Origin {
                    node: NodeId(1),
                    incarnation: Incarnation(*boot),
                })
            })
            .collect()
    }

    proptest! {
        #[test]
        fn joined_they_forget_what_either_has_forgotten(
            a in prop::collection::vec((0..30_u32, prop::collection::vec(0..30_u32, 0..5)), 0..4),
            b in prop::collection::vec((0..30_u32, prop::collection::vec(0..30_u32, 0..5)), 0..4),
        ) {
            let (a, b) = (of(&a), of(&b));
            let (mut ab, mut ba) = (a.clone(), b.clone());
            let more = ab.join(&b);
            ba.join(&a);
            prop_assert_eq!(&ab, &ba);
            prop_assert_eq!(all(&ab), all(&a).union(&all(&b)).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(more, ab != a);
            prop_assert_eq!(Retired::decode(&ab.encode()).unwrap(), ab);
        }
    }
}
