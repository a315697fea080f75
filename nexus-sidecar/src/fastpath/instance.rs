//! The program as it is loaded for one interface: with that interface's settings, over the maps of all.

use std::borrow::Cow;
use std::path::Path;

use aya::programs::{ProgramError, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use nexus_abi::{PROGRAM, SETTINGS, Settings, map};

use super::pin::{self, Sizes};
use super::pod::PodSettings;
use super::{FastPathError, InterfaceConfig};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nexus-ebpf.o"));

/// A loaded program.
pub struct Instance {
    pub config: InterfaceConfig,
    pub settings: Settings,
    program: Ebpf,
}

impl Instance {
    /// Loads the program over the maps that are pinned in `pins`.
    pub fn load(
        config: InterfaceConfig,
        settings: Settings,
        pins: &Path,
        sizes: Sizes,
    ) -> Result<Self, FastPathError> {
        let mut program = open(pins, sizes, &settings)?;
        named(&mut program, PROGRAM)?
            .load()
            .map_err(FastPathError::verifying)?;
        Ok(Self {
            config,
            settings,
            program,
        })
    }

    pub fn xdp(&mut self) -> Result<&mut Xdp, FastPathError> {
        named(&mut self.program, PROGRAM)
    }

    /// Runs the program once on `frame`; returns its verdict and the frame afterwards.
    pub fn run_once(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>), FastPathError> {
        let mut after = vec![0; 4096];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            ..TestRunOptions::default()
        };
        let result = self
            .xdp()?
            .test_run(options)
            .map_err(FastPathError::verifying)?;
        after.truncate(result.data_size_out as usize);
        Ok((result.return_value, after))
    }
}

/// Opens the object over the maps that are pinned in `pins`, and makes and pins those that are not. None
/// of its programs is in the kernel yet.
pub fn open(pins: &Path, sizes: Sizes, settings: &Settings) -> Result<Ebpf, FastPathError> {
    let settings = PodSettings(*settings);
    let mut loader = EbpfLoader::new();
    loader
        .override_global(SETTINGS, &settings, true)
        .map_max_entries(map::BINDINGS, sizes.buckets)
        .map_max_entries(map::CIRCUITS, sizes.circuits);
    for name in pin::MAPS {
        loader.map_pin_path(name, Cow::Owned(pins.join(name)));
    }
    loader.load(OBJECT).map_err(FastPathError::loading)
}

/// A program of an object.
pub fn named<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, FastPathError> {
    object
        .program_mut(name)
        .ok_or(FastPathError::Object)?
        .try_into()
        .map_err(|error: ProgramError| FastPathError::verifying(error))
}
