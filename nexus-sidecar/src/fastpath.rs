//! The gate to the kernel: loads the XDP program, pins maps and link, writes bindings and profiles.
//!
//! Everything that outlives this process stands under `<pin root>/v<ABI version>`: the maps and one
//! link per interface. A restart finds them, checks their layout and replaces the program in place,
//! so that at no time a packet meets no program or an empty map.

mod attach;
mod error;
mod measure;
mod pin;
mod pod;

use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use nexus_abi::{Binding, BindingKey, Entry, Outcome, Profile, map};

pub use attach::{AttachMode, Attached};
pub use error::FastPathError;
pub use measure::{Counting, Source, Statistics};
pub use pin::detach;
use pod::{PodEntry, PodKey, PodProfile};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nexus-ebpf.o"));

/// Where the fast path lives in the kernel and how large it may grow.
#[derive(Clone, Debug)]
pub struct FastPathConfig {
    /// Folder on a bpffs, `/sys/fs/bpf/nexus` unless configured otherwise.
    pub pin_root: PathBuf,
    /// Most bindings on this host; 104 bytes of kernel memory each are taken at once.
    pub max_bindings: u32,
}

/// The loaded program and its maps. Dropping it leaves all of them at work.
pub struct FastPath {
    program: Ebpf,
    pins: PathBuf,
    bindings: HashMap<MapData, PodKey, PodEntry>,
    profiles: Array<MapData, PodProfile>,
    counters: PerCpuArray<MapData, u64>,
}

impl std::fmt::Debug for FastPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FastPath")
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

impl FastPath {
    /// Loads the program, over the maps of an earlier run where there are any.
    ///
    /// Errors: the pin root is not on a bpffs; a capability is missing; pinned maps have another
    /// layout or size; the kernel refuses the program.
    pub fn open(config: &FastPathConfig) -> Result<Self, FastPathError> {
        let pins = pin::prepare(&config.pin_root)?;
        pin::check_layouts(&pins, config.max_bindings)?;
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(map::BINDINGS, config.max_bindings);
        for name in pin::MAPS {
            loader.map_pin_path(name, pins.join(name));
        }
        let mut program = loader.load(OBJECT).map_err(FastPathError::loading)?;
        xdp(&mut program)?
            .load()
            .map_err(FastPathError::verifying)?;
        let bindings = HashMap::try_from(take(&mut program, map::BINDINGS)?)
            .map_err(|source| FastPathError::map(map::BINDINGS, source))?;
        let profiles = Array::try_from(take(&mut program, map::PROFILES)?)
            .map_err(|source| FastPathError::map(map::PROFILES, source))?;
        let counters = PerCpuArray::try_from(take(&mut program, map::COUNTERS)?)
            .map_err(|source| FastPathError::map(map::COUNTERS, source))?;
        Ok(Self {
            program,
            pins,
            bindings,
            profiles,
            counters,
        })
    }

    /// Attaches the program to an interface, or puts it in the place of the one that an earlier run
    /// has left there.
    ///
    /// Errors: no such interface; no native XDP on its driver; another program in the way.
    pub fn attach(&mut self, interface: &str, mode: AttachMode) -> Result<Attached, FastPathError> {
        attach::attach(xdp(&mut self.program)?, &self.pins, interface, mode)
    }

    /// Writes a binding, in place of one under the same key; when the client was last seen is kept.
    pub fn put_binding(
        &mut self,
        key: &BindingKey,
        binding: &Binding,
    ) -> Result<(), FastPathError> {
        let last_seen_ns = match self.bindings.get(&PodKey(*key), 0) {
            Ok(PodEntry(entry)) => entry.binding.last_seen_ns.max(binding.last_seen_ns),
            Err(_) => binding.last_seen_ns,
        };
        let entry = Entry {
            key: *key,
            binding: Binding {
                last_seen_ns,
                ..*binding
            },
        };
        self.bindings
            .insert(PodKey(*key), PodEntry(entry), 0)
            .map_err(|source| FastPathError::map(map::BINDINGS, source))
    }

    /// Removes a binding; one that is not there is no error.
    pub fn remove_binding(&mut self, key: &BindingKey) -> Result<(), FastPathError> {
        match self.bindings.remove(&PodKey(*key)) {
            Ok(()) => Ok(()),
            Err(error) if error::is_not_found(&error) => Ok(()),
            Err(source) => Err(FastPathError::map(map::BINDINGS, source)),
        }
    }

    /// All bindings in the kernel, in no particular order.
    pub fn bindings(&self) -> Result<Vec<(BindingKey, Binding)>, FastPathError> {
        self.bindings
            .iter()
            .map(|item| match item {
                Ok((PodKey(key), PodEntry(entry))) => Ok((key, entry.binding)),
                Err(source) => Err(FastPathError::map(map::BINDINGS, source)),
            })
            .collect()
    }

    /// Writes a profile; `id` is below [`nexus_abi::PROFILE_COUNT`].
    pub fn put_profile(&mut self, id: u32, profile: &Profile) -> Result<(), FastPathError> {
        self.profiles
            .set(id, PodProfile(*profile), 0)
            .map_err(|source| FastPathError::map(map::PROFILES, source))
    }

    /// A profile; an unused one is all zeros.
    pub fn profile(&self, id: u32) -> Result<Profile, FastPathError> {
        let PodProfile(profile) = self
            .profiles
            .get(&id, 0)
            .map_err(|source| FastPathError::map(map::PROFILES, source))?;
        Ok(profile)
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

    /// Instructions that the verifier went through to accept the program, if the kernel says so.
    pub fn verified_instructions(&mut self) -> Result<Option<u32>, FastPathError> {
        let info = xdp(&mut self.program)?
            .info()
            .map_err(FastPathError::verifying)?;
        Ok(info.verified_instruction_count())
    }

    /// Runs the loaded program once on `frame`, as if it had arrived on the loopback interface
    /// (`ifindex` 1), and returns its verdict and the frame afterwards (`BPF_PROG_TEST_RUN`).
    pub fn run_once(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>), FastPathError> {
        let mut after = vec![0; 4096];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            ..TestRunOptions::default()
        };
        let result = xdp(&mut self.program)?
            .test_run(options)
            .map_err(FastPathError::verifying)?;
        after.truncate(result.data_size_out as usize);
        Ok((result.return_value, after))
    }

    /// Folder that the maps and links of this ABI version are pinned in.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }
}

fn xdp(program: &mut Ebpf) -> Result<&mut Xdp, FastPathError> {
    program
        .program_mut(nexus_abi::PROGRAM)
        .ok_or(FastPathError::Object)?
        .try_into()
        .map_err(FastPathError::verifying)
}

fn take(program: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, FastPathError> {
    program.take_map(name).ok_or(FastPathError::Object)
}
