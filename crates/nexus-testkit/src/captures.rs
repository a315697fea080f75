//! Frames that are kept in the tree as text: what real clients sent, laid out for a person to read.
//!
//! The comments above the first byte say whose frame it is: program, version, situation; the rest is as
//! [`frame_text`] has it. `cargo xtask captures` makes them anew.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::frame_text;

/// Ending of the files.
pub const ENDING: &str = "hex";

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Name of its file without the ending: program, situation, and how it came, `dhclient-renew-vlan`.
    pub name: String,
    /// The comments above it, without their `#`.
    pub about: Vec<String>,
    /// From Ethernet on, tags included.
    pub frame: Vec<u8>,
}

/// All captures of a directory, by name.
///
/// # Errors
/// If the directory or a file cannot be read, or a file does not hold what it should.
pub fn load(directory: &Path) -> Result<Vec<Capture>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read the captures in {}", directory.display()))?;
    let mut captures = Vec::new();
    for entry in entries {
        let path = entry.context("cannot list the captures")?.path();
        if path.extension().is_none_or(|ending| ending != ENDING) {
            continue;
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let capture = parse(&name, &text);
        captures.push(capture.with_context(|| format!("in {}", path.display()))?);
    }
    captures.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(captures)
}

/// Reads one file.
///
/// # Errors
/// If a word is not a byte, or there is none.
pub fn parse(name: &str, text: &str) -> Result<Capture> {
    let comments = text.lines().map_while(|line| line.strip_prefix('#'));
    let about = comments.map(|line| line.trim().to_owned()).collect();
    let frame = frame_text::bytes(text)?;
    if frame.is_empty() {
        bail!("not a single byte");
    }
    Ok(Capture {
        name: name.to_owned(),
        about,
        frame,
    })
}

/// The text of a file: [`parse`] reads it back.
#[must_use]
pub fn text(capture: &Capture) -> String {
    let mut page = String::new();
    for line in &capture.about {
        let _ = writeln!(page, "# {line}");
    }
    page.push('\n');
    page.push_str(&frame_text::layout(&capture.frame));
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Bootp, Frame, Tag};

    fn capture() -> Capture {
        let message = Bootp::discover([2, 0, 0, 0, 0, 9], 7).option(82, &[1, 2, 0xaa, 0xbb]);
        let frame = Frame::from_client(&message)
            .tag(Tag::s_vlan(200))
            .tag(Tag::c_vlan(30));
        Capture {
            name: "a-discover".to_owned(),
            about: vec!["udhcpc 1.35".to_owned(), "DISCOVER, QinQ".to_owned()],
            frame: frame.build(),
        }
    }

    #[test]
    fn a_text_reads_back_as_the_frame_it_shows() {
        let capture = capture();
        let text = text(&capture);
        assert!(
            text.contains("# option 82") && text.contains("00*128"),
            "{text}"
        );
        assert_eq!(parse("a-discover", &text).unwrap(), capture);
    }

    #[test]
    fn any_bytes_can_be_written_down() {
        let whole = capture().frame;
        for len in 1..whole.len() {
            let frame = whole[..len].to_vec();
            let about = Vec::new();
            let name = "x".to_owned();
            let cut = Capture { name, about, frame };
            assert_eq!(parse("x", &text(&cut)).unwrap(), cut);
        }
    }

    #[test]
    fn what_is_no_byte_is_named_with_its_line() {
        let error = parse("x", "# a\n00 01\n0g\n").unwrap_err().to_string();
        assert!(error.contains("line 3: `0g`"), "{error}");
        assert!(parse("x", "# nothing\n").is_err());
    }
}
