//! RADIUS over real sockets, with real clients and servers.

#[cfg(test)]
#[path = "radius_shell/nas.rs"]
mod nas;
#[cfg(test)]
#[path = "radius_shell/support.rs"]
mod support;
#[cfg(test)]
#[path = "radius_shell/upstream.rs"]
mod upstream;
