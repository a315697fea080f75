//! For tests and the demo only: network namespaces, an access node, packet builders, child processes.
