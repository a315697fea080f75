//! One measure of several servers over several rounds, and the rows that it becomes.

use std::collections::BTreeMap;

use super::stage::Server;
use crate::bench::{Row, median};

/// A measure.
pub struct Series {
    name: String,
    unit: &'static str,
    values: BTreeMap<Server, Vec<f64>>,
}

impl Series {
    /// Nothing measured yet.
    pub fn new(name: impl Into<String>, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            unit,
            values: BTreeMap::new(),
        }
    }

    /// A figure of one round.
    pub fn add(&mut self, server: Server, value: f64) {
        self.values.entry(server).or_default().push(value);
    }

    /// The median of all rounds of a server; 0 if it was not measured.
    pub fn median(&self, server: Server) -> f64 {
        self.values.get(&server).cloned().map_or(0.0, median)
    }

    /// Ours against each of the others.
    pub fn rows(&self) -> Vec<Row> {
        let ours = self.median(Server::Nexus);
        let others = self
            .values
            .keys()
            .filter(|server| **server != Server::Nexus);
        others
            .map(|server| {
                let name = format!("{}: Nexus against {}", self.name, server.name());
                Row::compared(name, self.unit, ours, self.median(*server))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_stands_beside_each_of_the_others() {
        let mut series = Series::new("exchanges", "exchanges/s");
        for (server, value) in [
            (Server::Kea, 10.0),
            (Server::Nexus, 90.0),
            (Server::Nexus, 110.0),
            (Server::Kea, 30.0),
            (Server::Dhcpd, 5.0),
        ] {
            series.add(server, value);
        }
        let rows = series.rows();
        let ratios: Vec<_> = rows.iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [Some(5.0), Some(20.0)]);
        assert_eq!(rows.first().unwrap().name, "exchanges: Nexus against Kea");
    }
}
