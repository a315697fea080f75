//! For tests and the demo only: network namespaces, an access node, packet builders, child processes.
//!
//! Everything here drives real parts (the kernel, `ip`, `tc`, `bpftool`, DHCP and RADIUS clients) and
//! removes what it made when it is dropped, also when a test panics. Only [`packet`] works without
//! root. [`centre`], [`cluster`] and [`olt_host`] run the programs of this repository, as cargo has built them.

pub mod access_node;
pub mod bpf;
pub mod capture;
pub mod captures;
pub mod centre;
pub mod cluster;
pub mod command;
pub mod dhcp_client;
pub mod field;
pub mod frame_text;
pub mod interrupt;
pub mod link;
pub mod load;
pub mod nas;
pub mod netns;
pub mod olt_host;
pub mod packet;
mod packet_socket;
pub mod pcap;
pub mod process;
pub mod programs;
pub mod radclient;
pub mod relay;
pub mod rest;
pub mod wire;
