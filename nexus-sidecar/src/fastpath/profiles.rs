//! Writing profiles, so that no packet meets half of one.

use std::time::Duration;

use nexus_abi::{Profile, map};

use super::pod::PodProfile;
use super::{FastPath, FastPathError};

/// Longer than any program runs over a packet; what began before has ended after it.
const A_RUN: Duration = Duration::from_millis(1);

impl FastPath {
    /// Writes a profile; `id` is below [`nexus_abi::PROFILE_COUNT`]. One that is there already stays as it
    /// is. While it changes, the slow path answers.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn put_profile(&mut self, id: u16, profile: &Profile) -> Result<(), FastPathError> {
        let there = self.profile(id)?;
        if there == *profile {
            return Ok(());
        }
        if there.present == 1 {
            self.set_profile(id, &absent(&there))?;
            std::thread::sleep(A_RUN);
        }
        self.set_profile(id, &absent(profile))?;
        self.set_profile(id, profile)
    }

    /// A profile; an unused one is all zeros.
    ///
    /// # Errors
    /// If there is none of this id.
    pub fn profile(&self, id: u16) -> Result<Profile, FastPathError> {
        let PodProfile(profile) = self
            .profiles
            .get(&u32::from(id), 0)
            .map_err(|source| FastPathError::map(map::PROFILES, source))?;
        Ok(profile)
    }

    fn set_profile(&mut self, id: u16, profile: &Profile) -> Result<(), FastPathError> {
        self.profiles
            .set(u32::from(id), PodProfile(*profile), 0)
            .map_err(|source| FastPathError::map(map::PROFILES, source))
    }
}

const fn absent(profile: &Profile) -> Profile {
    Profile {
        present: 0,
        ..*profile
    }
}
