//! What this server tells OLT hosts of the centre's clocks, so that they find out when clocks run further apart than
//! leases allow for.

use nexus_core::time::{BootTime, ClusterTime};

use super::Centre;
use crate::clock::Now;

/// The clocks as a server shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Name of the server, for people.
    pub server: String,
    /// Another one for each process of each server.
    pub mark: String,
    /// Its boot-time clock.
    pub boot: BootTime,
    /// What cluster time had come to with the newest decision that it has.
    pub cluster: ClusterTime,
}

impl Centre {
    /// The clocks at `now`.
    #[must_use]
    pub fn clocks(&self, now: &Now) -> Clocks {
        let number = self.replica.origin().node.0;
        let member = self.members().get(number);
        Clocks {
            server: member
                .map_or_else(|| number.to_string(), |member| member.node.name.to_string()),
            mark: self.mark.clone(),
            boot: now.boot,
            cluster: self.table().now(),
        }
    }
}
