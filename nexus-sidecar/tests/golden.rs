//! The kernel program, packet by packet: golden replies, agreement with the host's code, its gate.

#[cfg(test)]
#[path = "golden/arp.rs"]
mod arp;
#[cfg(test)]
#[path = "golden/bench.rs"]
mod bench;
#[cfg(test)]
#[path = "golden/budget.rs"]
mod budget;
#[cfg(test)]
#[path = "golden/captured.rs"]
mod captured;
#[cfg(test)]
#[path = "golden/cases.rs"]
mod cases;
#[cfg(test)]
#[path = "golden/differential.rs"]
mod differential;
#[cfg(test)]
#[path = "golden/events.rs"]
mod events;
#[cfg(test)]
#[path = "golden/file.rs"]
mod file;
#[cfg(test)]
#[path = "golden/gate.rs"]
mod gate;
#[cfg(test)]
#[path = "golden/generator.rs"]
mod generator;
#[cfg(test)]
#[path = "golden/home.rs"]
mod home;
#[cfg(test)]
#[path = "golden/identity.rs"]
mod identity;
#[cfg(test)]
#[path = "golden/killed.rs"]
mod killed;
#[cfg(test)]
#[path = "golden/links.rs"]
mod links;
#[cfg(test)]
#[path = "golden/options.rs"]
mod options;
#[cfg(test)]
#[path = "golden/punts.rs"]
mod punts;
#[cfg(test)]
#[path = "golden/replies.rs"]
mod replies;
#[cfg(test)]
#[path = "golden/untouched.rs"]
mod untouched;
#[cfg(test)]
#[path = "golden/upgrade.rs"]
mod upgrade;
#[cfg(test)]
#[path = "golden/world.rs"]
mod world;
