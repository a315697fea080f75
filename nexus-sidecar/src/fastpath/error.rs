//! What can go wrong between the sidecar and the kernel, and what to do about it.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use nix::errno::Errno;

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
    /// A pinned map does not fit this program.
    #[error(
        "the pinned map {path} is a {found}, but this program needs a {expected}: set \
         fast_path.max_bindings to the size it has, or remove the old maps with \
         `nexus-sidecar detach` (bound subscribers are not answered until the sidecar has started \
         again)"
    )]
    Layout {
        /// The pin.
        path: PathBuf,
        /// What the program needs.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The embedded object lacks its program or a map.
    #[error(
        "the embedded kernel program is incomplete: build it again with `cargo xtask build-ebpf`"
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
    /// `BINDINGS` is full.
    #[error(
        "the binding map is full: raise fast_path.max_bindings, `nexus-sidecar detach`, and start \
         again"
    )]
    Full,
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
            Some(Errno::E2BIG) => Self::Full,
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

pub(super) fn is_not_found(error: &MapError) -> bool {
    matches!(error, MapError::KeyNotFound) || errno_of(error) == Some(Errno::ENOENT)
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
