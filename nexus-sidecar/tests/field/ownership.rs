//! What a host may hand out, from a pool over REST to the Access-Accept and back, with Debian's radclient: one
//! nexus-server, and what it and its hosts say of themselves.

mod moves;
mod reclaim;
mod resources;
mod stops;
mod world;
