//! For measuring only: traffic out of the kernel itself, and what the kernel says of a program's time.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use aya::programs::{ProgramError, ProgramInfo, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::sys::{Stats, enable_stats};
use aya::{Ebpf, EbpfLoader};

use super::error::chain;
use super::{FastPath, FastPathError};

/// Frames that the kernel makes and sends at a time: as many as one poll of an interface takes.
const BATCH: u32 = 64;

/// How often a program has run while statistics were on, and how long that took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Runs.
    pub runs: u64,
    /// Time of all runs together.
    pub time: Duration,
}

impl Statistics {
    fn of(info: &ProgramInfo) -> Self {
        Self {
            runs: info.run_count(),
            time: info.run_time(),
        }
    }

    /// What has come since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            runs: self.runs.saturating_sub(earlier.runs),
            time: self.time.saturating_sub(earlier.time),
        }
    }

    /// Of the program pinned at `pin`.
    ///
    /// Errors: no program is pinned there.
    pub fn of_pinned(pin: &Path) -> Result<Self, FastPathError> {
        let info = ProgramInfo::from_pin(pin)
            .map_err(|error| failed(&pin.display().to_string(), &error))?;
        Ok(Self::of(&info))
    }
}

/// The kernel counts runs and their time (`BPF_ENABLE_STATS`) while this lives; it ends with the
/// process whatever happens, unlike the sysctl `kernel.bpf_stats_enabled`.
#[derive(Debug)]
pub struct Counting(#[expect(dead_code, reason = "held open, never used")] OwnedFd);

impl Counting {
    /// Begins. Errors: the capability `CAP_SYS_ADMIN` is missing.
    pub fn begin() -> Result<Self, FastPathError> {
        enable_stats(Stats::RunTime)
            .map(Self)
            .map_err(|error| failed("the kernel's statistics", &error))
    }
}

/// An XDP program that makes traffic: it runs over frames which the kernel then really sends to
/// wherever the program redirects them (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18).
#[derive(Debug)]
pub struct Source {
    programs: Ebpf,
    name: String,
}

impl Source {
    /// Loads the program `name` out of the file `object`; its map `map` is the one that is pinned at
    /// `pin`, or becomes that.
    ///
    /// Errors: there is no such object or program, or the kernel refuses it.
    pub fn load(object: &Path, name: &str, map: &str, pin: &Path) -> Result<Self, FastPathError> {
        let mut programs = EbpfLoader::new()
            .map_pin_path(map, pin)
            .load_file(object)
            .map_err(|error| failed(&object.display().to_string(), &error))?;
        named(&mut programs, name)?
            .load()
            .map_err(|error| failed(name, &error))?;
        Ok(Self {
            programs,
            name: name.to_owned(),
        })
    }

    /// Makes `frames` frames of `len` bytes each, in the network namespace of the calling thread.
    /// What is in a frame is the program's business: pages come back as receivers have left them,
    /// also in their length, unless the program changes that in every run.
    pub fn send(&mut self, frames: u32, len: usize) -> Result<(), FastPathError> {
        let frame = vec![0; len];
        let options = TestRunOptions {
            data_in: Some(&frame),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        };
        named(&mut self.programs, &self.name)?
            .test_run(options)
            .map(|_| ())
            .map_err(|error| failed(&self.name, &error))
    }
}

impl FastPath {
    /// Runs of the program of an interface.
    pub fn statistics(&mut self, number: u8) -> Result<Statistics, FastPathError> {
        let info = self
            .loaded(number)?
            .xdp()?
            .info()
            .map_err(FastPathError::verifying)?;
        Ok(Statistics::of(&info))
    }
}

fn named<'a>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, FastPathError> {
    programs
        .program_mut(name)
        .ok_or(FastPathError::Object)?
        .try_into()
        .map_err(|error: ProgramError| failed(name, &error))
}

fn failed(what: &str, error: &(dyn std::error::Error + 'static)) -> FastPathError {
    FastPathError::Measure {
        what: what.to_owned(),
        detail: chain(error),
    }
}
