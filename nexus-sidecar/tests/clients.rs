//! Every DHCP client of Debian on every kind of line and behind relays, and the kernel's answers while
//! everything in user space is killed, replaced, stopped or flooded.

#[cfg(test)]
#[path = "clients/circuit.rs"]
mod circuit;
#[cfg(test)]
#[path = "clients/flood.rs"]
mod flood;
#[cfg(test)]
#[path = "clients/matrix.rs"]
mod matrix;
#[cfg(test)]
#[path = "clients/survival.rs"]
mod survival;
#[cfg(test)]
#[path = "clients/traffic.rs"]
mod traffic;
#[cfg(test)]
#[path = "clients/world.rs"]
mod world;
