//! The seven steps, each in a file of its own.

pub mod centre;
pub mod dhcp;
pub mod edge;
pub mod prepare;
pub mod radius;
pub mod record;
pub mod survival;
