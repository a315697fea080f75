//! The link between a program and an interface: made once, then only updated.

use std::fs;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{Xdp, XdpMode};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;

use super::error::{chain, errno_of};
use super::instance::Instance;
use super::{FastPathError, netlink, pin};

/// How the program meets packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before the kernel has made anything of the packet.
    Native,
    /// Behind the driver: works everywhere, at a fraction of the speed.
    Generic,
}

/// What [`FastPath::attach`](super::FastPath::attach) has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Index of the interface in its network namespace.
    pub ifindex: u32,
    /// A program of an earlier run was replaced; it has answered until this moment.
    pub replaced: bool,
}

/// Index of an interface.
pub fn index(interface: &str) -> Result<u32, FastPathError> {
    if_nametoindex(interface).map_err(|_| FastPathError::NoInterface {
        interface: interface.to_owned(),
    })
}

/// Attaches an instance to its interface. The link comes to be pinned in `pins`, wherever below `root` it
/// was before.
pub fn attach(
    instance: &mut Instance,
    root: &Path,
    pins: &Path,
    ifindex: u32,
) -> Result<Attached, FastPathError> {
    let interface = instance.config.name.clone();
    let mode = instance.config.mode;
    let name = pin::link_name(&interface, ifindex);
    let program = instance.xdp()?;
    let here = pins.join(&name);
    let mut replaced = false;
    for there in pin::find_links(root, &name)? {
        if !update(program, &there, &interface)? {
            // Of an interface that is gone; one of the same name and index has come since.
            fs::remove_file(&there).map_err(pin::folder(&there))?;
            continue;
        }
        replaced = true;
        let works = netlink::xdp_mode(ifindex).map_err(failed(&interface))?;
        if let Some(works) = works.filter(|works| *works != mode) {
            change_mode(program, &there, &here, &interface, works, mode)?;
        } else if there != here {
            fs::rename(&there, &here).map_err(pin::folder(&there))?;
        }
    }
    if !replaced {
        create(program, &here, &interface, mode)?;
    }
    Ok(Attached { ifindex, replaced })
}

/// Puts another program into the link that is pinned in `pins`; nothing is lost in between.
pub fn swap(instance: &mut Instance, pins: &Path, ifindex: u32) -> Result<(), FastPathError> {
    let interface = instance.config.name.clone();
    let pin = pins.join(pin::link_name(&interface, ifindex));
    if update(instance.xdp()?, &pin, &interface)? {
        Ok(())
    } else {
        Err(FastPathError::NoInterface { interface })
    }
}

/// Puts the program into a pinned link. `false`: the link's interface is gone.
fn update(program: &mut Xdp, pin: &Path, interface: &str) -> Result<bool, FastPathError> {
    let link = PinnedLink::from_pin(pin).map_err(failed(interface))?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(failed(interface))?;
    match program.attach_to_link(link) {
        // It is pinned, and nobody else shall hold it.
        Ok(id) => program.detach(id).map_err(failed(interface))?,
        Err(error) if errno_of(&error) == Some(Errno::ENOLINK) => return Ok(false),
        Err(error) => return Err(failed(interface)(error)),
    }
    Ok(true)
}

/// Takes the link at `there`, which works in one mode, away, and makes one at `here` that works in
/// another. The kernel can neither change a link's mode nor have both at once, so there is a moment
/// without. If the other mode is not to be had, the first one is taken up again.
fn change_mode(
    program: &mut Xdp,
    there: &Path,
    here: &Path,
    interface: &str,
    from: AttachMode,
    to: AttachMode,
) -> Result<(), FastPathError> {
    tracing::warn!(
        interface, was = ?from, configured = ?to,
        "the program was attached in another mode than is configured: it is taken off and attached anew; what arrives in between reaches the slow path only"
    );
    let link = PinnedLink::from_pin(there).map_err(failed(interface))?;
    drop(link.unpin().map_err(pin::folder(there))?);
    let changed = create(program, here, interface, to);
    if changed.is_err()
        && let Err(error) = create(program, here, interface, from)
    {
        tracing::error!(interface, %error, "the program could not be attached in its old mode again");
    }
    changed
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
            _ => failed(interface)(error),
        })?;
    let link = program.take_link(id).map_err(failed(interface))?;
    // aya falls back to a netlink attachment where the kernel takes no XDP link. It could not be
    // pinned and would end with this process; dropping it here ends it now.
    let link =
        FdLink::try_from(link).map_err(|_| FastPathError::NotALink { interface: named() })?;
    link.pin(pin).map_err(failed(interface))?;
    Ok(())
}

fn failed<E: std::error::Error + 'static>(interface: &str) -> impl Fn(E) -> FastPathError {
    let interface = interface.to_owned();
    move |error| FastPathError::Attach {
        interface: interface.clone(),
        detail: chain(&error),
    }
}
