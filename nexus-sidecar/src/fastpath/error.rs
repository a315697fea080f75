//! What can go wrong between the sidecar and the kernel, and what to do about it.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use nexus_abi::{IDENTITY_COUNT, INTERFACE_COUNT};
use nix::errno::Errno;

use super::table::Full;

/// Why the fast path cannot be set up or written.
#[derive(Debug, thiserror::Error)]
pub enum FastPathError {
    /// The pin root is on another kind of file system.
    #[error(
        "{path} is not on a bpffs, and pinned maps can live nowhere else: \
         mount one with `mount -t bpf bpf /sys/fs/bpf`, or set fast_path.pin_path to a folder on one"
    )]
    NotBpffs {
        /// The pin root.
        path: PathBuf,
    },
    /// The pin folder cannot be read or changed.
    #[error("cannot work in the pin folder {path}: {source}")]
    PinFolder {
        /// Folder or pin.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The kernel refuses for lack of a capability.
    #[error(
        "the kernel refuses to load the program: this process needs the capabilities CAP_BPF, \
         CAP_NET_ADMIN and CAP_PERFMON (in the systemd unit: AmbientCapabilities=), or root"
    )]
    Capability,
    /// Another process writes to the maps.
    #[error(
        "another process is at work below the pin root {path}: two would write the same maps at once. \
         Stop the other nexus-sidecar, or set fast_path.pin_path to another folder"
    )]
    InUse {
        /// The pin root.
        path: PathBuf,
    },
    /// More bindings than a map of the kernel can hold.
    #[error(
        "fast_path.max_bindings is {max_bindings}: 2147483648 are the most that the kernel's arrays hold"
    )]
    Size {
        /// As many.
        max_bindings: u32,
    },
    /// The memory of a map cannot be seen from here.
    #[error("cannot map the memory of {name}: {source}")]
    Mapping {
        /// The map.
        name: &'static str,
        /// What the kernel says.
        source: Errno,
    },
    /// A clock cannot be read.
    #[error("cannot read how long the kernel's tick is: {0}")]
    Clock(Errno),
    /// An interface that no program can be loaded for.
    #[error(
        "interface {interface} cannot be served: {INTERFACE_COUNT} interfaces are the most, and \
         {IDENTITY_COUNT} kinds of identity on each"
    )]
    Interface {
        /// The interface.
        interface: String,
    },
    /// No program has been loaded for an interface of this number.
    #[error("no program is loaded for interface number {number}")]
    NotLoaded {
        /// The number.
        number: u8,
    },
    /// The features of an interface cannot be asked for or changed.
    #[error("cannot see to it that {interface} keeps VLAN tags in frames: {source}")]
    Features {
        /// The interface.
        interface: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// An interface takes VLAN tags off frames and cannot be kept from it.
    #[error(
        "{interface} takes VLAN tags off frames before XDP sees them, and its driver does not let {feature} \
         be switched off{} (`ethtool -K {interface} {feature} off`): subscribers could not be told apart, \
         so use another interface",
        if *fixed { " (it is fixed)" } else { "" }
    )]
    TagsTakenOff {
        /// The interface, or the one of a bond.
        interface: String,
        /// What does it.
        feature: &'static str,
        /// The driver says that it cannot be changed.
        fixed: bool,
    },
    /// The embedded object lacks its program or a map.
    #[error(
        "the embedded kernel program is incomplete or of another version: build it again with \
         `cargo xtask build-ebpf`"
    )]
    Object,
    /// The kernel does not take the object.
    #[error("cannot load the kernel program: {0}")]
    Load(String),
    /// No such interface.
    #[error(
        "there is no network interface {interface}: correct interfaces[].name in the configuration (`ip link` lists them)"
    )]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// The driver has no native XDP.
    #[error(
        "the driver of {interface} cannot run XDP natively (`ethtool -i {interface}` names it): use \
         another interface, or accept the slower `mode: generic` for it in the configuration"
    )]
    NoNativeXdp {
        /// The interface.
        interface: String,
    },
    /// Another XDP program is attached.
    #[error(
        "another XDP program is attached to {interface} (`ip link show {interface}`, `bpftool net`): \
         remove it first; `nexus-sidecar detach` removes ours"
    )]
    Busy {
        /// The interface.
        interface: String,
    },
    /// The kernel made no BPF link.
    #[error(
        "the kernel takes no BPF link for XDP on {interface}: the program would end with this \
         process. Linux 5.9 or later is needed"
    )]
    NotALink {
        /// The interface.
        interface: String,
    },
    /// Attaching failed in another way.
    #[error("cannot attach to {interface}: {detail}")]
    Attach {
        /// The interface.
        interface: String,
        /// What the kernel says.
        detail: String,
    },
    /// `BINDINGS` or `CIRCUITS` is full.
    #[error(
        "{}: raise fast_path.max_bindings and start again; subscribers are answered meanwhile",
        full(.0)
    )]
    Full(Full),
    /// A map cannot be read or written.
    #[error("cannot work with the map {name}: {source}")]
    Map {
        /// The map.
        name: &'static str,
        /// What the kernel says.
        source: MapError,
    },
    /// Traffic cannot be made, or its cost not be read; only a measurement meets this.
    #[error("cannot measure with {what}: {detail}")]
    Measure {
        /// A pinned program, or what was to be counted.
        what: String,
        /// What the kernel says.
        detail: String,
    },
}

impl FastPathError {
    pub(super) fn map(name: &'static str, source: MapError) -> Self {
        match errno_of(&source) {
            Some(Errno::EPERM) => Self::Capability,
            _ => Self::Map { name, source },
        }
    }

    pub(super) fn loading(error: EbpfError) -> Self {
        Self::of(&error)
    }

    pub(super) fn verifying(error: ProgramError) -> Self {
        Self::of(&error)
    }

    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        if errno_of(error) == Some(Errno::EPERM) {
            Self::Capability
        } else {
            Self::Load(chain(error))
        }
    }
}

fn full(what: &Full) -> String {
    match what {
        Full::Bindings(count) => format!("the binding table is full, with {count} bindings"),
        Full::Circuits(count) => format!("the table of circuits is full, with {count} of them"),
        Full::Crowded(count) => {
            format!("the binding table has no place for one more key, with {count} bindings")
        }
    }
}

/// The errno at the bottom of an error, if there is one.
pub(super) fn errno_of(error: &(dyn std::error::Error + 'static)) -> Option<Errno> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(code) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return Some(Errno::from_raw(code));
        }
        current = error.source();
    }
    None
}

/// An error with its causes; a verifier log only with its end.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    const MOST: usize = 2000;
    let mut text = error.to_string();
    let mut current = error.source();
    while let Some(cause) = current {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        current = cause.source();
    }
    let skip = text.chars().count().saturating_sub(MOST);
    text.chars().skip(skip).collect()
}
