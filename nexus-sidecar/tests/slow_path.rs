//! The slow path and the edge over the wire: real kernel, real nexus-server and nexus-sidecar, real frames.

#[cfg(test)]
#[path = "slow_path/bad_input.rs"]
mod bad_input;
#[cfg(test)]
#[path = "slow_path/bench.rs"]
mod bench;
#[cfg(test)]
#[path = "slow_path/crashes.rs"]
mod crashes;
#[cfg(test)]
#[path = "slow_path/decline.rs"]
mod decline;
#[cfg(test)]
#[path = "slow_path/equal.rs"]
mod equal;
#[cfg(test)]
#[path = "slow_path/inform.rs"]
mod inform;
#[cfg(test)]
#[path = "slow_path/interfaces.rs"]
mod interfaces;
#[cfg(test)]
#[path = "slow_path/nas.rs"]
mod nas;
#[cfg(test)]
#[path = "slow_path/release.rs"]
mod release;
#[cfg(test)]
#[path = "slow_path/subscriber.rs"]
mod subscriber;
#[cfg(test)]
#[path = "slow_path/trace.rs"]
mod trace;
