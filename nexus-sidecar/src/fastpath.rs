//! The gate to the kernel: loads the XDP programs, pins maps and links, writes bindings and profiles.
//!
//! Everything that outlives this process stands below the pin root ([`pin`]): the maps, and one link per
//! interface. A restart finds them, checks their layout and replaces each program in place, so that at no
//! time a packet meets no program or an empty map. Each interface has a program of its own, loaded with
//! the interface's settings as constants, over the maps of all ([`instance`]). Bindings are written by
//! this process alone, into memory that it shares with the kernel ([`table`]).

mod attach;
mod config;
mod error;
mod events;
mod instance;
mod jiffies;
mod kinds;
mod mapping;
mod measure;
mod netlink;
mod offload;
mod pin;
mod pod;
mod profiles;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use nexus_abi::{Binding, BindingKey, Bucket, Circuit, Outcome, Settings, map};

pub use attach::{AttachMode, Attached};
pub use config::{FastPathConfig, InterfaceConfig, PuntLimits};
pub use error::FastPathError;
pub use events::EventReader;
use instance::Instance;
pub use jiffies::Jiffies;
use kinds::Kinds;
use mapping::Mapping;
pub use measure::{Counting, Source, Statistics};
use pin::Sizes;
pub use pin::detach;
use pod::PodProfile;
use table::Table;

/// The programs and their maps. Dropping it leaves all of them at work.
pub struct FastPath {
    root: PathBuf,
    pins: PathBuf,
    sizes: Sizes,
    /// What all interfaces have in common.
    settings: Settings,
    hz: u32,
    clock: Option<Ebpf>,
    instances: BTreeMap<u8, Instance>,
    /// Names of the links of this run's interfaces, and their indices.
    attached: BTreeMap<u8, (String, u32)>,
    table: Table<Mapping>,
    profiles: Array<MapData, PodProfile>,
    counters: PerCpuArray<MapData, u64>,
    kinds: Kinds,
    _lock: pin::Lock,
}

impl std::fmt::Debug for FastPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FastPath")
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

impl FastPath {
    /// Takes up the maps of an earlier run, or makes them. Where the pinned maps are of another layout or
    /// size, new ones are made beside them; what is attached goes on with the old ones until
    /// [`FastPath::attach`].
    ///
    /// Errors: the pin root is not on a bpffs, or another process has it; a capability is missing; the
    /// kernel does not take the maps.
    pub fn open(config: &FastPathConfig) -> Result<Self, FastPathError> {
        let too_many = || FastPathError::Size {
            max_bindings: config.max_bindings,
        };
        let sizes = Sizes {
            buckets: table::buckets_for(config.max_bindings).ok_or_else(too_many)?,
            circuits: table::circuits_for(config.max_circuits).ok_or_else(too_many)?,
        };
        let lock = pin::prepare(&config.pin_root)?;
        let pins = pin::choose(&config.pin_root, sizes)?;
        let new = !pins.join(map::BINDINGS).exists();
        let hz = jiffies::per_sec()?;
        let (line_rate, interface_rate) = config.punts.rates(hz);
        let settings = Settings {
            seed: seed(&pins)?,
            bucket_mask: sizes.buckets - 1,
            circuit_mask: sizes.circuits - 1,
            line_rate,
            interface_rate,
            ..Settings::default()
        };
        let earlier = if new {
            pin::earlier(&config.pin_root, &pins)?
        } else {
            None
        };
        let mut object = instance::open(&pins, sizes, &settings)?;
        pin::check(&pins, sizes)?;
        let mut table = open_table(&pins, sizes, settings.seed, config.max_bindings)?;
        if let Some((earlier, sizes)) = earlier {
            let from = open_table(&earlier, sizes, seed(&earlier)?, u32::MAX)?;
            carry_over(&from, &mut table);
        }
        let profiles = Array::try_from(take(&mut object, map::PROFILES)?)
            .map_err(|source| FastPathError::map(map::PROFILES, source))?;
        let counters = PerCpuArray::try_from(take(&mut object, map::COUNTERS)?)
            .map_err(|source| FastPathError::map(map::COUNTERS, source))?;
        let present = table.all().into_iter().map(|(key, _)| key);
        let kinds = Kinds::open(take(&mut object, map::KINDS)?, present)?;
        Ok(Self {
            root: config.pin_root.clone(),
            pins,
            sizes,
            settings,
            hz,
            clock: None,
            instances: BTreeMap::new(),
            attached: BTreeMap::new(),
            table,
            profiles,
            counters,
            kinds,
            _lock: lock,
        })
    }

    /// Loads a program for an interface and attaches it, or puts it in the place of the one that an
    /// earlier run has left there. Whatever is bound on the interface has to be in the maps by now.
    ///
    /// Errors: no such interface; no native XDP on its driver; another program in the way; VLAN tags that
    /// its driver cannot be kept from taking off; the kernel refuses the program.
    pub fn attach(&mut self, config: &InterfaceConfig) -> Result<Attached, FastPathError> {
        let ifindex = attach::index(&config.name)?;
        offload::switch_off(&config.name)?;
        self.load_only(config)?;
        let (root, pins) = (self.root.clone(), self.pins.clone());
        let instance = self.loaded(config.number)?;
        let attached = attach::attach(instance, &root, &pins, ifindex)?;
        let link = pin::link_name(&config.name, ifindex);
        self.attached.insert(config.number, (link, ifindex));
        Ok(attached)
    }

    /// Loads a program for an interface without attaching it, in place of one with the same number.
    ///
    /// Errors: the kernel refuses the program.
    pub fn load_only(&mut self, config: &InterfaceConfig) -> Result<(), FastPathError> {
        let mut settings = self.settings;
        config.enter(&mut settings)?;
        let instance = Instance::load(config.clone(), settings, &self.pins, self.sizes)?;
        self.instances.insert(config.number, instance);
        Ok(())
    }

    /// To be called once all interfaces are attached: removes the links of interfaces that are not
    /// configured any more, and the maps of earlier versions and sizes. Returns what was removed.
    pub fn tidy(&mut self) -> Result<Vec<PathBuf>, FastPathError> {
        let links: Vec<&str> = self
            .attached
            .values()
            .map(|(link, _)| link.as_str())
            .collect();
        let (pins, removed) = pin::tidy(&self.root, &self.pins, &links)?;
        self.pins = pins;
        Ok(removed)
    }

    /// Switches events, and the tracing of at most [`nexus_abi::TRACE_COUNT`] clients, on or off for an
    /// interface: its program is loaded anew and takes the place of the one that is attached.
    ///
    /// Errors: no such number; the kernel refuses the program.
    pub fn set_switches(
        &mut self,
        number: u8,
        events: bool,
        trace: &[[u8; 6]],
    ) -> Result<(), FastPathError> {
        let there = self.loaded(number)?;
        let (config, mut settings) = (there.config.clone(), there.settings);
        config::enter_switches(&mut settings, events, trace);
        if settings == there.settings {
            return Ok(());
        }
        let mut instance = Instance::load(config, settings, &self.pins, self.sizes)?;
        if let Some((_, ifindex)) = self.attached.get(&number) {
            // Its link is pinned: the old program ends with its instance.
            attach::swap(&mut instance, &self.pins, *ifindex)?;
        }
        self.instances.insert(number, instance);
        Ok(())
    }

    /// Writes a binding, in place of one under the same key; when the client was last seen is kept.
    ///
    /// Errors: the table is full.
    pub fn put_binding(
        &mut self,
        key: &BindingKey,
        binding: &Binding,
    ) -> Result<(), FastPathError> {
        self.kinds.note(key)?;
        self.table.put(key, binding).map_err(FastPathError::Full)
    }

    /// Removes a binding; one that is not there is no error.
    pub fn remove_binding(&mut self, key: &BindingKey) {
        self.table.remove(key);
    }

    /// The binding under a key.
    #[must_use]
    pub fn binding(&self, key: &BindingKey) -> Option<Binding> {
        self.table.get(key)
    }

    /// All bindings in the kernel, in no particular order.
    #[must_use]
    pub fn bindings(&self) -> Vec<(BindingKey, Binding)> {
        self.table.all()
    }

    /// How often each outcome was met since the maps were made, in the order of their codes.
    pub fn counters(&self) -> Result<Vec<(Outcome, u64)>, FastPathError> {
        Outcome::ALL
            .iter()
            .map(|outcome| {
                let per_cpu = self
                    .counters
                    .get(&(*outcome as u32), 0)
                    .map_err(|source| FastPathError::map(map::COUNTERS, source))?;
                Ok((*outcome, per_cpu.iter().sum()))
            })
            .collect()
    }

    /// What the programs tell about single packets, once it is switched on.
    ///
    /// Errors: the ring buffer cannot be mapped.
    pub fn events(&self) -> Result<EventReader, FastPathError> {
        EventReader::open(&self.pins)
    }

    /// Instructions that the verifier went through to accept the program of an interface, if the kernel
    /// says so.
    pub fn verified_instructions(&mut self, number: u8) -> Result<Option<u32>, FastPathError> {
        let info = self
            .loaded(number)?
            .xdp()?
            .info()
            .map_err(FastPathError::verifying)?;
        Ok(info.verified_instruction_count())
    }

    /// Runs the program of an interface once on `frame` and returns its verdict and the frame afterwards
    /// (`BPF_PROG_TEST_RUN`).
    pub fn run_once(&mut self, number: u8, frame: &[u8]) -> Result<(u32, Vec<u8>), FastPathError> {
        self.loaded(number)?.run_once(frame)
    }

    /// Folder that the maps and links are pinned in.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    fn loaded(&mut self, number: u8) -> Result<&mut Instance, FastPathError> {
        self.instances
            .get_mut(&number)
            .ok_or(FastPathError::NotLoaded { number })
    }

    fn clock(&mut self) -> Result<&mut Ebpf, FastPathError> {
        if self.clock.is_none() {
            let mut object = instance::open(&self.pins, self.sizes, &self.settings)?;
            jiffies::load(&mut object)?;
            self.clock = Some(object);
        }
        self.clock.as_mut().ok_or(FastPathError::Object)
    }
}

fn take(object: &mut Ebpf, name: &'static str) -> Result<Map, FastPathError> {
    object.take_map(name).ok_or(FastPathError::Object)
}

fn open_table(
    pins: &Path,
    sizes: Sizes,
    seed: u64,
    max_bindings: u32,
) -> Result<Table<Mapping>, FastPathError> {
    let buckets = mapped(pins, map::BINDINGS, size_of::<Bucket>(), sizes.buckets)?;
    let circuits = mapped(pins, map::CIRCUITS, size_of::<Circuit>(), sizes.circuits)?;
    let (table, repairs) = Table::open(buckets, circuits, seed, max_bindings);
    if !repairs.is_none() {
        tracing::warn!(
            lost = repairs.lost,
            doubled = repairs.doubled,
            miscounted = repairs.miscounted,
            "the binding table was not left in order and has been put right"
        );
    }
    Ok(table)
}

fn mapped(
    pins: &Path,
    name: &'static str,
    size: usize,
    count: u32,
) -> Result<Mapping, FastPathError> {
    let map = pin::open(pins, name)?;
    Mapping::new(map.fd(), size * count as usize)
        .map_err(|source| FastPathError::Mapping { name, source })
}

/// Copies what an earlier table of another size has, and when each client was last seen.
fn carry_over(from: &Table<Mapping>, to: &mut Table<Mapping>) {
    for (key, binding) in from.all() {
        // What does not fit is missing as it would be without this.
        if let Err(full) = to.put(&key, &binding) {
            tracing::warn!(?full, "not all bindings fit into the new table");
            return;
        }
    }
}

/// The seed that the keys of a generation are placed by; random where the maps are new.
fn seed(pins: &Path) -> Result<u64, FastPathError> {
    let failed = |source| FastPathError::map(pin::SEED, source);
    if pins.join(pin::SEED).exists() {
        let map: Array<MapData, u64> =
            Array::try_from(Map::Array(pin::open(pins, pin::SEED)?)).map_err(failed)?;
        return map.get(&0, 0).map_err(failed);
    }
    let seed = rand::random();
    let mut map: Array<MapData, u64> = Array::create(1, 0).map_err(failed)?;
    map.set(0, seed, 0).map_err(failed)?;
    map.pin(pins.join(pin::SEED)).map_err(|error| {
        let name = Some(pin::SEED.to_owned());
        failed(MapError::PinError { name, error })
    })?;
    Ok(seed)
}
