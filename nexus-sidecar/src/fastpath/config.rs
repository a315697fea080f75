//! What the fast path is told: where it lives, how large it may grow, and how each interface is served.

use std::path::PathBuf;

use nexus_abi::{IDENTITY_COUNT, INTERFACE_COUNT, Rate, Settings, TRACE_COUNT};

use super::{AttachMode, FastPathError};

/// Where the fast path lives in the kernel and how large it may grow.
#[derive(Clone, Debug)]
pub struct FastPathConfig {
    /// Folder on a bpffs, `/sys/fs/bpf/nexus` unless configured otherwise.
    pub pin_root: PathBuf,
    /// Most bindings on this host. The next power of two times 64 bytes of kernel memory are taken at
    /// once.
    pub max_bindings: u32,
    /// Most bindings whose key is a circuit, as `max_bindings` but 128 bytes each; 0: there are none.
    pub max_circuits: u32,
    /// How much reaches the slow path.
    pub punts: PuntLimits,
}

/// Limits of what is passed on to the slow path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PuntLimits {
    /// Packets per second of one line; 0: no limit.
    pub line_rate: u32,
    /// Packets of one line that may come at once, at most 32,767.
    pub line_burst: u32,
    /// Packets per second of one interface; 0: no limit.
    pub interface_rate: u32,
    /// Packets of one interface that may come at once, at most 32,767.
    pub interface_burst: u32,
}

impl PuntLimits {
    /// For a line and for an interface, with `hz` jiffies per second.
    pub(super) fn rates(&self, hz: u32) -> (Rate, Rate) {
        (
            rate(self.line_rate, self.line_burst, hz),
            rate(self.interface_rate, self.interface_burst, hz),
        )
    }
}

/// One packet, as [`Rate`] counts.
const PACKET: u64 = 65_536;
const MOST_AT_ONCE: u32 = 32_767;

fn rate(per_sec: u32, burst: u32, hz: u32) -> Rate {
    if per_sec == 0 {
        return Rate::default();
    }
    let per_jiffy = (u64::from(per_sec) * PACKET).div_ceil(u64::from(hz.max(1)));
    let burst = u64::from(burst.clamp(1, MOST_AT_ONCE)) * PACKET;
    Rate {
        per_jiffy: u32::try_from(per_jiffy).unwrap_or(u32::MAX),
        burst: u32::try_from(burst).unwrap_or(u32::MAX),
    }
}

/// How an interface is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Its number in keys, below [`INTERFACE_COUNT`]; no other interface has it.
    pub number: u8,
    /// Its name.
    pub name: String,
    /// How the program meets packets.
    pub mode: AttachMode,
    /// `KIND_` codes of [`BindingKey`](nexus_abi::BindingKey): what subscribers are looked up by, in this
    /// order.
    pub identity: Vec<u8>,
    /// A circuit is circuit-id and remote-id.
    pub remote_id: bool,
}

impl InterfaceConfig {
    /// Writes what the program has to know into `settings`.
    pub(super) fn enter(&self, settings: &mut Settings) -> Result<(), FastPathError> {
        let mut identity = [0; IDENTITY_COUNT];
        if u32::from(self.number) >= INTERFACE_COUNT || self.identity.len() > identity.len() {
            return Err(FastPathError::Interface {
                interface: self.name.clone(),
            });
        }
        for (place, kind) in identity.iter_mut().zip(&self.identity) {
            *place = *kind;
        }
        settings.interface = self.number;
        settings.identity = identity;
        settings.remote_id = u8::from(self.remote_id);
        Ok(())
    }
}

/// Writes into `settings` who is looked at; of more than [`TRACE_COUNT`] clients the first ones.
pub(super) fn enter_switches(settings: &mut Settings, events: bool, trace: &[[u8; 6]]) {
    settings.events = u8::from(events);
    settings.trace = [0; TRACE_COUNT];
    settings.traced = 0;
    for (place, [a, b, c, d, e, f]) in settings.trace.iter_mut().zip(trace) {
        *place = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, 0, 0]);
        settings.traced += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_never_rounded_down_to_nothing_and_no_rate_is_no_limit() {
        assert_eq!(rate(0, 10, 250), Rate::default());
        let slow = rate(1, 0, 1000);
        assert_eq!((slow.per_jiffy, slow.burst), (66, 65_536));
        let fast = rate(u32::MAX, u32::MAX, 100);
        assert_eq!(fast.per_jiffy, u32::MAX);
        assert_eq!(fast.burst, 32_767 * 65_536);
    }

    #[test]
    fn an_interface_beyond_the_last_number_or_with_too_many_identities_is_refused() {
        let mut config = InterfaceConfig {
            number: 63,
            name: "eth1".to_owned(),
            mode: AttachMode::Native,
            identity: vec![3, 1],
            remote_id: true,
        };
        let mut settings = Settings::default();
        config.enter(&mut settings).unwrap();
        assert_eq!(settings.identity, [3, 1, 0, 0]);
        assert_eq!((settings.interface, settings.remote_id), (63, 1));
        config.number = 64;
        assert!(config.enter(&mut settings).is_err());
        config.number = 0;
        config.identity = vec![1; 5];
        assert!(config.enter(&mut settings).is_err());
    }

    #[test]
    fn traced_clients_are_integers_in_memory_order() {
        let mut settings = Settings::default();
        enter_switches(&mut settings, true, &[[2, 0, 0, 0, 0, 9]; 5]);
        assert_eq!((settings.events, settings.traced), (1, 4));
        assert_eq!(settings.trace, [0x0900_0000_0002; 4]);
        enter_switches(&mut settings, false, &[]);
        assert_eq!(settings, Settings::default());
    }
}
