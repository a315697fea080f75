//! Lengths of time as people write them in configuration: `30s`, `10m`, `24h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest length of time that configuration may name: ten years.
pub const MAX_DURATION: Duration = Duration::from_secs(3650 * 86_400);

/// A length of time, written as a whole number and one unit of `ms`, `s`, `m`, `h`, `d`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct HumanDuration(Duration);

/// Why a text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not a whole number followed by a known unit.
    #[error(
        "`{0}` is not a duration: write a whole number and a unit (ms, s, m, h, d), such as 30s, 10m or 24h"
    )]
    Syntax(String),
    /// Longer than [`MAX_DURATION`].
    #[error("`{0}` is too long: at most 3650d")]
    TooLong(String),
}

impl HumanDuration {
    /// From a [`Duration`]; parts of a millisecond are dropped.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Self(Duration::new(
            duration.as_secs(),
            duration.subsec_millis() * 1_000_000,
        ))
    }

    /// From seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// The length of time.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Duration {
        duration.0
    }
}

impl FromStr for HumanDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let syntax = || DurationError::Syntax(text.escape_default().to_string());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or_else(syntax)?;
        let millis_per_unit: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(syntax()),
        };
        if number.is_empty() {
            return Err(syntax());
        }
        // Only digits are left, so that the one possible failure is a number that is too large.
        let too_long = || DurationError::TooLong(text.to_owned());
        let millis = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(millis_per_unit))
            .ok_or_else(too_long)?;
        let duration = Duration::from_millis(millis);
        if duration > MAX_DURATION {
            return Err(too_long());
        }
        Ok(Self(duration))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs();
        let millis = u64::from(self.0.subsec_millis());
        if millis != 0 {
            return write!(f, "{}ms", secs.saturating_mul(1000).saturating_add(millis));
        }
        match secs {
            0 => f.write_str("0s"),
            s if s % 86_400 == 0 => write!(f, "{}d", s / 86_400),
            s if s % 3_600 == 0 => write!(f, "{}h", s / 3_600),
            s if s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

impl TryFrom<String> for HumanDuration {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, DurationError> {
        text.parse()
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> String {
        duration.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn common_durations_parse() {
        for (text, secs) in [
            ("30s", 30),
            ("10m", 600),
            ("24h", 86_400),
            ("7d", 604_800),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(HumanDuration::from_secs(secs)));
        }
        assert_eq!(
            "250ms".parse::<HumanDuration>().unwrap().get(),
            Duration::from_millis(250)
        );
    }

    #[test]
    fn a_text_that_is_no_duration_is_refused_with_an_example() {
        for bad in [
            "", "10", "m", "1.5h", "-3s", " 3s", "3 s", "10w", "1h30m", "+5s",
        ] {
            let error = bad.parse::<HumanDuration>().unwrap_err();
            assert!(
                error.to_string().contains("30s, 10m or 24h"),
                "{bad}: {error}"
            );
        }
        for long in ["3651d", "99999999999999999999s"] {
            assert_eq!(
                long.parse::<HumanDuration>(),
                Err(DurationError::TooLong(long.to_owned()))
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(millis in 0u64..=315_360_000_000) {
            let duration = HumanDuration::new(Duration::from_millis(millis));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
