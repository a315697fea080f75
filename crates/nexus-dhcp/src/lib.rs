//! DHCPv4: frames, options, the decision function and the reply writer, the same code in the kernel and in the slow path.
#![no_std]
