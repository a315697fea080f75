//! The kernel contract's types as aya wants them: plain old data.
#![allow(unsafe_code)]

use aya::Pod;
use nexus_abi::{BindingKey, Entry, Profile};

#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PodKey(pub BindingKey);

#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PodEntry(pub Entry);

#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PodProfile(pub Profile);

const fn is_plain<T: zerocopy::FromBytes + zerocopy::IntoBytes>() {}
const _: () = is_plain::<BindingKey>();
const _: () = is_plain::<Entry>();
const _: () = is_plain::<Profile>();

// SAFETY: `FromBytes` and `IntoBytes` above: no padding, every bit pattern is a value.
unsafe impl Pod for PodKey {}
// SAFETY: as above.
unsafe impl Pod for PodEntry {}
// SAFETY: as above.
unsafe impl Pod for PodProfile {}
