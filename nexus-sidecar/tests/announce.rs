//! What this host owns, announced over BGP by the routing daemons of Debian to a neighbour, and withdrawn.

#[cfg(test)]
#[path = "announce/bgp.rs"]
mod bgp;
#[cfg(test)]
#[path = "announce/daemons.rs"]
mod daemons;
#[cfg(test)]
#[path = "clients/world.rs"]
#[allow(dead_code, reason = "shared with the tests of the clients")]
mod world;
