//! The VLANs of the subscriber's line out of NAS-Port-Id, whose text each vendor makes up.

use std::str::FromStr;

use super::braces::{self, Piece};

/// VLAN tags of a line, as they stand in a frame from outside in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vlans {
    /// Outer tag, 1..=4094; the only one of a line with one tag. 0: untagged.
    pub outer: u16,
    /// Inner tag, 1..=4094; 0: at most one tag.
    pub inner: u16,
}

/// A pattern such as `{*}:{s_vlan}.{c_vlan}`: `{*}` stands for any text, the other two for decimal
/// numbers, everything else for itself. It matches whole texts only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanPattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Anything,
    SVlan,
    CVlan,
}

/// A pattern that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VlanPatternError {
    /// Something else in braces.
    #[error(
        "{{{0}}} is unknown in a NAS-Port-Id pattern; known are {{*}}, {{s_vlan}} and {{c_vlan}}"
    )]
    Unknown(String),
    /// Braces do not pair.
    #[error("the braces of the pattern {0:?} do not pair")]
    Braces(String),
    /// Neither VLAN, or one of them twice.
    #[error("the pattern {0:?} must have {{s_vlan}} or {{c_vlan}} or both, each once")]
    Vlans(String),
    /// `{*}` more than twice, or two placeholders with nothing between them.
    #[error(
        "the pattern {0:?} is ambiguous: write {{*}} at most twice, and text between two placeholders"
    )]
    Ambiguous(String),
}

/// A VLAN id that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("NAS-Port-Id has the VLAN id {0}, which is outside 1..=4094")]
pub struct VlanOutOfRange(pub u32);

/// Most `{*}` in a pattern: the work of matching grows with its power.
const MAX_ANYTHING: usize = 2;

impl FromStr for VlanPattern {
    type Err = VlanPatternError;

    fn from_str(pattern: &str) -> Result<Self, VlanPatternError> {
        let pieces = braces::split(pattern);
        let pieces = pieces.ok_or_else(|| VlanPatternError::Braces(pattern.to_owned()))?;
        let parts = pieces.into_iter().map(|piece| match piece {
            Piece::Text(text) => Ok(Part::Literal(text.to_owned())),
            Piece::Placeholder("*") => Ok(Part::Anything),
            Piece::Placeholder("s_vlan") => Ok(Part::SVlan),
            Piece::Placeholder("c_vlan") => Ok(Part::CVlan),
            Piece::Placeholder(other) => Err(VlanPatternError::Unknown(other.to_owned())),
        });
        let parts: Vec<Part> = parts.collect::<Result<_, _>>()?;
        let count = |wanted: &Part| parts.iter().filter(|part| *part == wanted).count();
        let (s_vlans, c_vlans) = (count(&Part::SVlan), count(&Part::CVlan));
        if s_vlans > 1 || c_vlans > 1 || s_vlans + c_vlans == 0 {
            return Err(VlanPatternError::Vlans(pattern.to_owned()));
        }
        let placeholder = |part: &Part| !matches!(part, Part::Literal(_));
        let adjacent = parts
            .array_windows()
            .any(|[a, b]| placeholder(a) && placeholder(b));
        if adjacent || count(&Part::Anything) > MAX_ANYTHING {
            return Err(VlanPatternError::Ambiguous(pattern.to_owned()));
        }
        Ok(Self { parts })
    }
}

/// Numbers found so far.
#[derive(Clone, Copy, Default)]
struct Numbers {
    s_vlan: Option<u32>,
    c_vlan: Option<u32>,
}

impl VlanPattern {
    /// The VLANs in `text`, or nothing if the pattern does not match. Where it matches in several
    /// ways, the first `{*}` is as short as possible.
    ///
    /// # Errors
    /// If it matches, but with a number that is no VLAN id.
    pub fn find(&self, text: &str) -> Result<Option<Vlans>, VlanOutOfRange> {
        let Some(numbers) = matches(&self.parts, text, Numbers::default()) else {
            return Ok(None);
        };
        let vid = |number: u32| match u16::try_from(number) {
            Ok(vid @ 1..=4094) => Ok(vid),
            _ => Err(VlanOutOfRange(number)),
        };
        let s_vlan = numbers.s_vlan.map(vid).transpose()?;
        let c_vlan = numbers.c_vlan.map(vid).transpose()?;
        // The only tag of a line is the outer one, whatever it is called.
        Ok(Some(Vlans {
            outer: s_vlan.or(c_vlan).unwrap_or(0),
            inner: s_vlan.and(c_vlan).unwrap_or(0),
        }))
    }
}

fn matches(parts: &[Part], text: &str, found: Numbers) -> Option<Numbers> {
    let Some((part, parts)) = parts.split_first() else {
        return text.is_empty().then_some(found);
    };
    match part {
        Part::Literal(literal) => matches(parts, text.strip_prefix(literal.as_str())?, found),
        Part::Anything => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.filter_map(|at| text.get(at..))
                .find_map(|rest| matches(parts, rest, found))
        }
        Part::SVlan => {
            let (number, rest) = leading_number(text)?;
            matches(
                parts,
                rest,
                Numbers {
                    s_vlan: Some(number),
                    ..found
                },
            )
        }
        Part::CVlan => {
            let (number, rest) = leading_number(text)?;
            matches(
                parts,
                rest,
                Numbers {
                    c_vlan: Some(number),
                    ..found
                },
            )
        }
    }
}

/// All digits that `text` starts with; a number too large for 32 bits counts as the largest.
fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    (!digits.is_empty()).then(|| (digits.parse().unwrap_or(u32::MAX), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pattern: &str, text: &str) -> Result<Option<(u16, u16)>, VlanOutOfRange> {
        let found = pattern.parse::<VlanPattern>().unwrap().find(text)?;
        Ok(found.map(|vlans| (vlans.outer, vlans.inner)))
    }

    #[test]
    fn two_tags_are_outer_and_inner_and_one_tag_is_the_outer_one() {
        assert_eq!(
            find("{*}:{s_vlan}.{c_vlan}", "olt1-pon3:100.200"),
            Ok(Some((100, 200)))
        );
        assert_eq!(find("{*}:{c_vlan}", "olt1-pon3:200"), Ok(Some((200, 0))));
        assert_eq!(find("{*}:{s_vlan}", "olt1-pon3:200"), Ok(Some((200, 0))));
        assert_eq!(find("{c_vlan}@{s_vlan}", "7@8"), Ok(Some((8, 7))));
    }

    #[test]
    fn colons_and_dots_before_the_vlans_do_not_confuse() {
        assert_eq!(
            find("{*}:{s_vlan}.{c_vlan}", "eth 0:1:2.3:100.200"),
            Ok(Some((100, 200)))
        );
        assert_eq!(find("{*}:{c_vlan}", "a:1.2:30"), Ok(Some((30, 0))));
        assert_eq!(
            find("{*};{s_vlan}:{c_vlan};{*}", "pon 1;5:6;x;7:8;y"),
            Ok(Some((5, 6)))
        );
    }

    #[test]
    fn text_of_another_shape_does_not_match() {
        for text in [
            "",
            "eth0",
            "eth0:",
            "eth0:1.2.3",
            "eth0:1",
            "eth0:1.",
            "eth0:1.2 ",
            "eth0:1.é",
        ] {
            assert_eq!(find("{*}:{s_vlan}.{c_vlan}", text), Ok(None), "{text}");
        }
        assert_eq!(find("é{*}:{c_vlan}", "éö:3"), Ok(Some((3, 0))));
    }

    #[test]
    fn a_number_that_is_no_vlan_id_is_an_error_and_not_another_line() {
        for (text, number) in [("p:0", 0), ("p:4095", 4095), ("p:99999999999", u32::MAX)] {
            assert_eq!(find("{*}:{c_vlan}", text), Err(VlanOutOfRange(number)));
        }
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        let refused = |text: &str| text.parse::<VlanPattern>().unwrap_err();
        assert!(matches!(
            refused("{*}:{vlan}"),
            VlanPatternError::Unknown(_)
        ));
        assert!(matches!(refused("{*"), VlanPatternError::Braces(_)));
        assert!(matches!(
            refused("*}:{c_vlan}"),
            VlanPatternError::Braces(_)
        ));
        assert!(matches!(refused("{*}"), VlanPatternError::Vlans(_)));
        assert!(matches!(
            refused("{c_vlan}.{c_vlan}"),
            VlanPatternError::Vlans(_)
        ));
        assert!(matches!(
            refused("{*}{c_vlan}"),
            VlanPatternError::Ambiguous(_)
        ));
        assert!(matches!(
            refused("{*}a{*}b{*}c{c_vlan}"),
            VlanPatternError::Ambiguous(_)
        ));
    }
}
