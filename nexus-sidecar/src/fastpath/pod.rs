//! The kernel contract's types as aya wants them: plain old data.
#![allow(unsafe_code)]

use aya::Pod;
use nexus_abi::{Profile, Settings};

#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PodProfile(pub Profile);

#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PodSettings(pub Settings);

const fn is_plain<T: zerocopy::FromBytes + zerocopy::IntoBytes>() {}
const _: () = is_plain::<Profile>();
const _: () = is_plain::<Settings>();

// SAFETY: `FromBytes` and `IntoBytes` above: no padding, every bit pattern is a value.
unsafe impl Pod for PodProfile {}
// SAFETY: as above.
unsafe impl Pod for PodSettings {}
