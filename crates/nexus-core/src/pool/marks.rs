//! Water marks: from when on an OLT asks for more of a pool, and from when on it gives some back.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::PoolError;
use super::spec::PoolSpec;
use super::value;

/// Free share below which an OLT asks for more, if the pool does not say.
pub const DEFAULT_LOW_WATER: Share = Share(100);

/// A part of a whole, kept in thousandths; written as a number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// A share of so many thousandths, at most 1000.
    #[must_use]
    pub const fn from_per_mille(per_mille: u16) -> Option<Self> {
        if per_mille <= 1000 {
            Some(Self(per_mille))
        } else {
            None
        }
    }

    /// In thousandths.
    #[must_use]
    pub const fn per_mille(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = f64::deserialize(deserializer)?;
        let within = (0.0..=1.0).contains(&given);
        let expected = || serde::de::Error::custom("a share must be a number from 0 to 1");
        if !within {
            return Err(expected());
        }
        // 0 to 1000 after the check above.
        let per_mille = (given * 1000.0).round() as u16;
        Self::from_per_mille(per_mille).ok_or_else(expected)
    }
}

/// The marks of a pool, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub low: Share,
    pub high: Option<Share>,
}

impl Marks {
    pub fn new(spec: &PoolSpec) -> Result<Self, PoolError> {
        let low = spec.low_water.unwrap_or(DEFAULT_LOW_WATER);
        if low.0 > 500 {
            let problem = "must be at most 0.5: an OLT asks for more as soon as less than this part of what it has is free";
            return Err(value(spec, "low_water", &low.to_string(), problem.into()));
        }
        if let Some(high) = spec.high_water
            && high.0 < low.0.saturating_add(200)
        {
            let problem = format!(
                "must be at least 0.2 above low_water ({low}), or shards would come and go all the time"
            );
            return Err(value(spec, "high_water", &high.to_string(), problem));
        }
        Ok(Self {
            low,
            high: spec.high_water,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use crate::resource::ResourceType;

    fn with(low: Option<u16>, high: Option<u16>) -> Result<Pool, PoolError> {
        let mut spec = PoolSpec::minimal("p".parse().unwrap(), ResourceType::Vlan, "1-100");
        spec.low_water = low.and_then(Share::from_per_mille);
        spec.high_water = high.and_then(Share::from_per_mille);
        Pool::new(spec)
    }

    #[test]
    fn marks_have_defaults_and_stand_apart() {
        let pool = with(None, None).unwrap();
        assert_eq!(
            (pool.low_water().per_mille(), pool.high_water()),
            (100, None)
        );
        assert!(with(Some(200), Some(400)).is_ok());
        for (low, high) in [(Some(501), None), (Some(300), Some(499)), (None, Some(299))] {
            assert!(with(low, high).is_err(), "{low:?} {high:?}");
        }
    }

    #[test]
    fn a_share_is_a_number_from_0_to_1_and_comes_out_as_it_went_in() {
        for (text, per_mille) in [("0.25", 250), ("1", 1000), ("0", 0), ("0.1", 100)] {
            let share: Share = serde_json::from_str(text).unwrap();
            assert_eq!(share.per_mille(), per_mille);
            let again: Share =
                serde_json::from_str(&serde_json::to_string(&share).unwrap()).unwrap();
            assert_eq!(again, share);
        }
        for wrong in ["-0.1", "1.1", "\"x\""] {
            assert!(serde_json::from_str::<Share>(wrong).is_err(), "{wrong}");
        }
    }
}
