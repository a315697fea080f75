//! The edge: RADIUS, local allocation, the binding maps and the DHCP slow path on one OLT host.
