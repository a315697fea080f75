//! What a host may hand out, from a pool over REST to the Access-Accept and back: real nexus-server, real sidecars with
//! their kernel programs, Debian's radclient.

#[cfg(test)]
#[path = "ownership/moves.rs"]
mod moves;
#[cfg(test)]
#[path = "ownership/reclaim.rs"]
mod reclaim;
#[cfg(test)]
#[path = "ownership/resources.rs"]
mod resources;
#[cfg(test)]
#[path = "ownership/stops.rs"]
mod stops;
#[cfg(test)]
#[path = "ownership/world.rs"]
mod world;
