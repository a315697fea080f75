//! Writing profiles and their templates, so that no packet meets half of one.

use std::time::Duration;

use nexus_abi::{Profile, Template, VARIANTS, map};

use super::pod::{PodProfile, PodTemplate};
use super::{FastPath, FastPathError};

/// Longer than any program runs over a packet; what began before has ended after it.
const A_RUN: Duration = Duration::from_millis(1);

impl FastPath {
    /// Writes a profile and its template with all options; `id` is below
    /// [`nexus_abi::PROFILE_COUNT`]. One that is there already stays as it is, with all templates that
    /// it has got since; of any other they are forgotten. While it changes, the slow path answers.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn put_profile(
        &mut self,
        id: u16,
        profile: &Profile,
        template: &Template,
    ) -> Result<(), FastPathError> {
        let there = self.profile(id)?;
        let learned = Profile {
            variants: profile.variants,
            sets: profile.sets,
            ..there
        };
        if there.present == 1 && learned == *profile && self.template(id, 0)? == *template {
            return Ok(());
        }
        if there.present == 1 {
            self.set_profile(id, &absent(&there))?;
            std::thread::sleep(A_RUN);
        }
        self.set_profile(id, &absent(profile))?;
        self.set_template(id, 0, template)?;
        self.set_profile(id, profile)
    }

    /// Adds the template of a set of options to a profile. `false`: it has one for this set, or as many
    /// as it can have, or it is not there.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn add_variant(
        &mut self,
        id: u16,
        set: u32,
        template: &Template,
    ) -> Result<bool, FastPathError> {
        let mut profile = self.profile(id)?;
        let count = profile.variants as usize;
        let known = profile.sets.iter().take(count).any(|known| *known == set);
        let Some(place) = profile.sets.get_mut(count) else {
            return Ok(false);
        };
        if profile.present == 0 || known {
            return Ok(false);
        }
        *place = set;
        self.set_template(id, count, template)?;
        // Counted last, when all of it is there.
        self.set_profile(id, &profile)?;
        profile.variants += 1;
        self.set_profile(id, &profile)?;
        Ok(true)
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

    /// The template of a profile's variant; an unused one is all zeros.
    ///
    /// # Errors
    /// If there is none of this number.
    pub fn template(&self, id: u16, variant: usize) -> Result<Template, FastPathError> {
        let PodTemplate(template) = self
            .templates
            .get(&index(id, variant), 0)
            .map_err(|source| FastPathError::map(map::TEMPLATES, source))?;
        Ok(template)
    }

    fn set_profile(&mut self, id: u16, profile: &Profile) -> Result<(), FastPathError> {
        self.profiles
            .set(u32::from(id), PodProfile(*profile), 0)
            .map_err(|source| FastPathError::map(map::PROFILES, source))
    }

    fn set_template(
        &mut self,
        id: u16,
        variant: usize,
        template: &Template,
    ) -> Result<(), FastPathError> {
        self.templates
            .set(index(id, variant), PodTemplate(*template), 0)
            .map_err(|source| FastPathError::map(map::TEMPLATES, source))
    }
}

const fn index(id: u16, variant: usize) -> u32 {
    id as u32 * VARIANTS as u32 + variant as u32
}

const fn absent(profile: &Profile) -> Profile {
    Profile {
        present: 0,
        ..*profile
    }
}
