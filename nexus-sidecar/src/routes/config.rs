//! `routes:` of `sidecar.yaml`: which table, how marked, and which bindings have a route of their own.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Table if the file names none: the port of BGP, for want of a number that is anybody's.
const DEFAULT_TABLE: u32 = 179;
/// Protocol number if the file names none. In no list of iproute2, FRR or BIRD, and outside the numbers from 186 to
/// 199 that FRR takes for its own and sweeps when it starts.
const DEFAULT_PROTOCOL: u8 = 110;
/// Metric if the file names none: that which the kernel gives an IPv6 route by itself.
const DEFAULT_METRIC: u32 = 1024;
/// Tables of the kernel itself: none, default, main, local (`linux/rtnetlink.h`).
const KERNEL_TABLES: [u32; 4] = [0, 253, 254, 255];
/// Protocol numbers below it are the kernel's and the administrator's (`linux/rtnetlink.h`: `RTPROT_STATIC` is 4).
const FIRST_PROTOCOL: u8 = 5;
/// Numbers of the daemons that iproute2 names; they would remove routes of that mark as their own.
const TAKEN_PROTOCOLS: &[u8] = &[8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 42, 84, 99];
/// Protocol numbers of FRR.
const FRR_PROTOCOLS: std::ops::RangeInclusive<u8> = 186..=199;
/// Most VRFs with a table of their own.
const MAX_VRFS: usize = 1024;
/// Name of the VRF of pools that name none.
const DEFAULT_VRF: &str = "default";

/// `routes:`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoutesSection {
    /// Routes are kept. If not, those of an earlier run are taken out of the tables at start.
    pub enabled: bool,
    /// Kernel table of the pools of VRF `default`. All routes in it with our protocol number are ours.
    pub table: u32,
    /// Kernel tables of other VRFs. Pools of a VRF that is not named get no routes.
    pub vrfs: BTreeMap<String, u32>,
    /// Protocol number that marks our routes (`rtm_protocol`). Routes with another one are never touched.
    pub protocol: u8,
    /// Metric of every route.
    pub metric: u32,
    /// What an aggregate does with a packet for an address that nobody has.
    pub aggregates: AggregateKind,
    /// Which bindings have a route of their own.
    pub host_routes: HostRoutes,
}

/// What an aggregate does with a packet for an address that nobody has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AggregateKind {
    /// Drops it and answers with ICMP unreachable.
    #[default]
    Unreachable,
    /// Drops it without a word.
    Blackhole,
}

/// Which bindings have a route of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostRoutes {
    /// Those that no aggregate of this host covers: pinned and roamed addresses, and what is left of a lost shard.
    #[default]
    Needed,
    /// All.
    All,
}

impl Default for RoutesSection {
    fn default() -> Self {
        Self {
            enabled: true,
            table: DEFAULT_TABLE,
            vrfs: BTreeMap::new(),
            protocol: DEFAULT_PROTOCOL,
            metric: DEFAULT_METRIC,
            aggregates: AggregateKind::default(),
            host_routes: HostRoutes::default(),
        }
    }
}

impl RoutesSection {
    /// The table of a VRF; `None`: its pools get no routes.
    #[must_use]
    pub fn table_of(&self, vrf: &str) -> Option<u32> {
        if vrf == DEFAULT_VRF {
            return Some(self.table);
        }
        self.vrfs.get(vrf).copied()
    }

    /// All tables.
    #[must_use]
    pub fn tables(&self) -> BTreeSet<u32> {
        self.vrfs.values().copied().chain([self.table]).collect()
    }

    /// Checks what is written. Errors: field below `routes`, and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        check_table(self.table).map_err(|problem| ("table".to_owned(), problem))?;
        if self.vrfs.len() > MAX_VRFS {
            let problem = format!("{} are named, {MAX_VRFS} is the most", self.vrfs.len());
            return Err(("vrfs".to_owned(), problem));
        }
        let mut seen = BTreeSet::from([self.table]);
        for (vrf, table) in &self.vrfs {
            let field = format!("vrfs.{}", vrf.escape_default());
            if vrf == DEFAULT_VRF {
                let problem = "the table of VRF `default` is routes.table: write it there";
                return Err((field, problem.to_owned()));
            }
            check_table(*table).map_err(|problem| (field.clone(), problem))?;
            if !seen.insert(*table) {
                let problem = format!(
                    "table {table} is that of another VRF: addresses of two VRFs may be the same, give each its own"
                );
                return Err((field, problem));
            }
        }
        if self.protocol < FIRST_PROTOCOL
            || TAKEN_PROTOCOLS.contains(&self.protocol)
            || FRR_PROTOCOLS.contains(&self.protocol)
        {
            let problem = format!(
                "{} marks routes of the kernel, of an administrator or of another daemon: take one that nobody uses, such as {DEFAULT_PROTOCOL}",
                self.protocol
            );
            return Err(("protocol".to_owned(), problem));
        }
        if self.metric == 0 {
            let problem = format!("0 is none: take 1 or more, such as {DEFAULT_METRIC}");
            return Err(("metric".to_owned(), problem));
        }
        Ok(())
    }
}

fn check_table(table: u32) -> Result<(), String> {
    if KERNEL_TABLES.contains(&table) {
        return Err(format!(
            "{table} is a table of the kernel itself: take one of your own, 1 to 252 (FRR imports no other), such as {DEFAULT_TABLE}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RoutesSection, String> {
        let section: RoutesSection = crate::yaml::read(text)?;
        section
            .check()
            .map_err(|(field, problem)| format!("{field}: {problem}"))?;
        Ok(section)
    }

    #[test]
    fn an_empty_section_has_a_table_and_a_mark_that_nobody_else_uses() {
        let section = read("{}").unwrap();
        assert_eq!(section, RoutesSection::default());
        assert_eq!(section.tables(), BTreeSet::from([179]));
        assert_eq!(section.table_of("default"), Some(179));
        assert_eq!(section.table_of("business"), None);
    }

    #[test]
    fn every_vrf_has_a_table_of_its_own() {
        let section = read("{table: 200, vrfs: {business: 201}}").unwrap();
        assert_eq!(section.table_of("business"), Some(201));
        assert_eq!(section.tables(), BTreeSet::from([200, 201]));
    }

    #[test]
    fn what_cannot_be_used_is_said_with_field_and_remedy() {
        for (text, field, says) in [
            ("table: 254", "table:", "1 to 252"),
            ("table: 0", "table:", "a table of the kernel itself"),
            ("vrfs: {business: 255}", "vrfs.business:", "1 to 252"),
            ("vrfs: {business: 179}", "vrfs.business:", "another VRF"),
            ("vrfs: {default: 180}", "vrfs.default:", "routes.table"),
            ("vrfs: {a: 7, b: 7}", "vrfs.b:", "give each its own"),
            ("protocol: 4", "protocol:", "such as 110"),
            ("protocol: 186", "protocol:", "another daemon"),
            ("protocol: 12", "protocol:", "another daemon"),
            ("metric: 0", "metric:", "such as 1024"),
            ("aggregates: throw", "", "one of unreachable, blackhole"),
            ("host_routes: some", "", "one of needed, all"),
            ("colour: blue", "", "colour"),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.starts_with(field), "{text}: {problem}");
            assert!(problem.contains(says), "{text}: {problem}");
        }
    }
}
