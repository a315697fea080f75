//! IPoE over the wire: real kernel, nexus-server and nexus-sidecar, real DHCP clients, FreeRADIUS.

#[cfg(test)]
#[path = "ipoe/aaa.rs"]
mod aaa;
#[cfg(test)]
#[path = "slow_path/bench.rs"]
#[allow(dead_code, reason = "shared with the tests of the slow path")]
mod bench;
#[cfg(test)]
#[path = "ipoe/clients.rs"]
mod clients;
#[cfg(test)]
#[path = "ipoe/first_contact.rs"]
mod first_contact;
#[cfg(test)]
#[path = "slow_path/nas.rs"]
#[allow(dead_code, reason = "shared with the tests of the slow path")]
mod nas;
#[cfg(test)]
#[path = "ipoe/storm.rs"]
mod storm;
#[cfg(test)]
#[path = "slow_path/subscriber.rs"]
#[allow(dead_code, reason = "shared with the tests of the slow path")]
mod subscriber;
#[cfg(test)]
#[path = "ipoe/support.rs"]
mod support;
