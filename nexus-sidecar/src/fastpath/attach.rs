//! The link between the program and an interface: made once, then only updated.

use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{Xdp, XdpMode};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;

use super::FastPathError;
use super::error::{chain, errno_of};
use super::pin::link_name;

/// How the program meets packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before the kernel has made anything of the packet.
    Native,
    /// Behind the driver: works everywhere, at a fraction of the speed.
    Generic,
}

/// What [`attach`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Index of the interface in its network namespace.
    pub ifindex: u32,
    /// A program of an earlier run was replaced; it has answered until this moment.
    pub replaced: bool,
}

pub fn attach(
    program: &mut Xdp,
    pins: &Path,
    interface: &str,
    mode: AttachMode,
) -> Result<Attached, FastPathError> {
    let ifindex = if_nametoindex(interface).map_err(|_| FastPathError::NoInterface {
        interface: interface.to_owned(),
    })?;
    let pin = pins.join(link_name(interface, ifindex));
    if pin.exists() {
        if replace(program, &pin, interface)? {
            return Ok(Attached {
                ifindex,
                replaced: true,
            });
        }
        // The interface of that link is gone; one of the same name and index has come since.
        std::fs::remove_file(&pin).map_err(|source| FastPathError::PinFolder {
            path: pin.clone(),
            source,
        })?;
    }
    create(program, &pin, interface, mode)?;
    Ok(Attached {
        ifindex,
        replaced: false,
    })
}

/// Puts the program into a pinned link. `false`: the link's interface is gone.
fn replace(program: &mut Xdp, pin: &Path, interface: &str) -> Result<bool, FastPathError> {
    let failed = |detail: String| FastPathError::Attach {
        interface: interface.to_owned(),
        detail,
    };
    let link = PinnedLink::from_pin(pin).map_err(|error| failed(chain(&error)))?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(|error| failed(chain(&error)))?;
    match program.attach_to_link(link) {
        Ok(_) => Ok(true),
        Err(error) if errno_of(&error) == Some(Errno::ENOLINK) => Ok(false),
        Err(error) => Err(failed(chain(&error))),
    }
}

fn create(
    program: &mut Xdp,
    pin: &Path,
    interface: &str,
    mode: AttachMode,
) -> Result<(), FastPathError> {
    let named = || interface.to_owned();
    let flags = match mode {
        AttachMode::Native => XdpMode::Driver,
        AttachMode::Generic => XdpMode::Skb,
    };
    let id = program
        .attach(interface, flags)
        .map_err(|error| match errno_of(&error) {
            Some(Errno::EOPNOTSUPP | Errno::EINVAL) if mode == AttachMode::Native => {
                FastPathError::NoNativeXdp { interface: named() }
            }
            Some(Errno::EBUSY | Errno::EEXIST) => FastPathError::Busy { interface: named() },
            Some(Errno::EPERM) => FastPathError::Capability,
            _ => FastPathError::Attach {
                interface: named(),
                detail: chain(&error),
            },
        })?;
    let failed = |detail: String| FastPathError::Attach {
        interface: named(),
        detail,
    };
    let link = program
        .take_link(id)
        .map_err(|error| failed(chain(&error)))?;
    // aya falls back to a netlink attachment where the kernel takes no XDP link. It could not be
    // pinned and would end with this process; dropping it here ends it now.
    let link =
        FdLink::try_from(link).map_err(|_| FastPathError::NotALink { interface: named() })?;
    link.pin(pin).map_err(|error| failed(chain(&error)))?;
    Ok(())
}
