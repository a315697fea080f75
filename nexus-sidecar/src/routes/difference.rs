//! What has to change so that the kernel has the wanted routes: what is right is not touched.

use std::collections::BTreeMap;

use super::wanted::RouteKey;

/// A route as the kernel has it, or is to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Table and destination.
    pub key: RouteKey,
    /// Metric; in one table there may be routes to one destination that differ in it.
    pub metric: u32,
    /// What it does.
    pub shape: Shape,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Drops, and says so.
    Unreachable,
    /// Drops.
    Blackhole,
    /// Sends out of the interface of this index.
    Device(u32),
    /// Something that is never wanted.
    Other,
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add it; there must be none to this destination with this metric.
    Add(Route),
    /// Put it in the place of ours with the same destination and metric, in one go.
    Replace(Route),
    /// Remove it.
    Remove(Route),
}

/// The steps from `have`, all routes of ours in our tables, to `want`. What comes comes before what goes, and a
/// longer prefix before a shorter one, so that no address that stays reachable is not for a moment.
pub fn steps(have: &[Route], want: &BTreeMap<RouteKey, Shape>, metric: u32) -> Vec<Step> {
    let mut there: BTreeMap<RouteKey, Vec<Route>> = BTreeMap::new();
    for route in have {
        there.entry(route.key).or_default().push(*route);
    }
    let mut come = Vec::new();
    let mut go = Vec::new();
    for (key, shape) in want {
        let route = Route {
            key: *key,
            metric,
            shape: *shape,
        };
        let routes = there.remove(key).unwrap_or_default();
        let same_place = routes.iter().find(|one| one.metric == metric);
        match same_place {
            Some(one) if *one == route => {}
            Some(_) => come.push(Step::Replace(route)),
            None => come.push(Step::Add(route)),
        }
        let others = routes.into_iter().filter(|one| one.metric != metric);
        go.extend(others.map(Step::Remove));
    }
    go.extend(there.into_values().flatten().map(Step::Remove));
    come.sort_by_key(|step| std::cmp::Reverse(step.route().key.prefix.prefix_len()));
    come.extend(go);
    come
}

impl Step {
    /// What it is about.
    pub const fn route(&self) -> &Route {
        match self {
            Self::Add(route) | Self::Replace(route) | Self::Remove(route) => route,
        }
    }

    /// Label of metrics, in the past tense.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Add(_) => "added",
            Self::Replace(_) => "replaced",
            Self::Remove(_) => "removed",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(prefix: &str) -> RouteKey {
        RouteKey {
            table: 179,
            prefix: prefix.parse().unwrap(),
        }
    }

    fn route(prefix: &str, shape: Shape) -> Route {
        Route {
            key: key(prefix),
            metric: 1024,
            shape,
        }
    }

    #[test]
    fn what_is_right_is_not_touched() {
        let have = [
            route("100.64.0.0/18", Shape::Unreachable),
            route("100.70.0.7/32", Shape::Device(3)),
        ];
        let want = have.iter().map(|one| (one.key, one.shape)).collect();
        assert_eq!(steps(&have, &want, 1024), []);
    }

    #[test]
    fn what_comes_comes_first_and_hosts_before_aggregates() {
        let have = [
            route("100.64.0.0/18", Shape::Unreachable),
            route("100.70.0.7/32", Shape::Device(3)),
        ];
        let want = BTreeMap::from([
            (key("100.64.1.1/32"), Shape::Device(3)),
            (key("100.64.64.0/18"), Shape::Unreachable),
            (key("100.70.0.7/32"), Shape::Device(4)),
        ]);
        assert_eq!(
            steps(&have, &want, 1024),
            [
                Step::Add(route("100.64.1.1/32", Shape::Device(3))),
                Step::Replace(route("100.70.0.7/32", Shape::Device(4))),
                Step::Add(route("100.64.64.0/18", Shape::Unreachable)),
                Step::Remove(route("100.64.0.0/18", Shape::Unreachable)),
            ]
        );
    }

    #[test]
    fn another_metric_is_added_before_the_old_one_goes() {
        let old = route("100.64.0.0/18", Shape::Unreachable);
        let want = BTreeMap::from([(old.key, old.shape)]);
        let new = Route { metric: 50, ..old };
        assert_eq!(
            steps(&[old], &want, 50),
            [Step::Add(new), Step::Remove(old)]
        );
    }

    #[test]
    fn a_table_is_part_of_the_place() {
        let old = route("100.64.0.0/18", Shape::Unreachable);
        let elsewhere = RouteKey {
            table: 180,
            ..old.key
        };
        let want = BTreeMap::from([(elsewhere, old.shape)]);
        let new = Route {
            key: elsewhere,
            ..old
        };
        assert_eq!(
            steps(&[old], &want, 1024),
            [Step::Add(new), Step::Remove(old)]
        );
    }

    fn shape() -> impl Strategy<Value = Shape> {
        prop_oneof![
            Just(Shape::Unreachable),
            Just(Shape::Blackhole),
            (1_u32..3).prop_map(Shape::Device),
            Just(Shape::Other),
        ]
    }

    fn place() -> impl Strategy<Value = RouteKey> {
        (179_u32..181, 0_u8..4, 24_u8..=32).prop_map(|(table, third, len)| {
            let net = ipnet::Ipv4Net::new([10, 0, third, 0].into(), len).unwrap();
            RouteKey {
                table,
                prefix: net.into(),
            }
        })
    }

    proptest! {
        /// A kernel in a map that refuses what the real one refuses.
        #[test]
        fn the_steps_lead_from_whatever_is_there_to_what_is_wanted(
            have in prop::collection::btree_map((place(), 1_u32..4), shape(), 0..40),
            want in prop::collection::btree_map(place(), shape(), 0..40),
        ) {
            let mut kernel = have.clone();
            let have: Vec<Route> = have
                .into_iter()
                .map(|((key, metric), shape)| Route { key, metric, shape })
                .collect();
            let all = steps(&have, &want, 2);
            for step in &all {
                let Route { key, metric, shape } = *step.route();
                let place = (key, metric);
                match step {
                    Step::Add(_) => prop_assert!(kernel.insert(place, shape).is_none()),
                    Step::Replace(_) => {
                        let old = kernel.insert(place, shape);
                        prop_assert!(old.is_some() && old != Some(shape));
                    }
                    Step::Remove(_) => prop_assert_eq!(kernel.remove(&place), Some(shape)),
                }
            }
            let expected: BTreeMap<_, _> =
                want.iter().map(|(key, shape)| ((*key, 2), *shape)).collect();
            prop_assert_eq!(&kernel, &expected);
            let now: Vec<Route> = kernel
                .into_iter()
                .map(|((key, metric), shape)| Route { key, metric, shape })
                .collect();
            prop_assert!(steps(&now, &want, 2).is_empty());
        }
    }
}
