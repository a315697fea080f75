//! Frames that are kept in the tree as text: what real clients sent, laid out for a person to read.
//!
//! Bytes are two hexadecimal digits, `00*192` repeats one, `#` begins a comment. The comments above
//! the first byte say whose frame it is: program, version, situation. `cargo xtask captures` makes
//! them anew.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::packet::{ETH_P_8021AD, ETH_P_8021Q, ETH_P_QINQ1};

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
    let mut frame = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let bytes = line.split_once('#').map_or(line, |(bytes, _)| bytes);
        for word in bytes.split_whitespace() {
            let (digits, times) = word.split_once('*').unwrap_or((word, "1"));
            let byte = u8::from_str_radix(digits, 16);
            let (Ok(byte), Ok(times @ 1..=65_535)) = (byte, times.parse::<usize>()) else {
                bail!("line {number}: `{word}` is not a byte such as `3f` or `00*192`");
            };
            frame.extend(std::iter::repeat_n(byte, times));
        }
    }
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
    let mut page = Page {
        text: String::new(),
        rest: &capture.frame,
    };
    for line in &capture.about {
        let _ = writeln!(page.text, "# {line}");
    }
    page.text.push('\n');
    page.field(6, "destination");
    page.field(6, "source");
    while page
        .next()
        .is_some_and(|ethertype| TAGS.contains(&ethertype))
    {
        page.field(4, "tag");
    }
    page.field(2, "EtherType");
    for (len, name) in DHCP {
        page.field(len, name);
    }
    while let Some(len) = page.option() {
        page.field(len, "");
    }
    let left = page.rest.len();
    page.field(left, "END and what is behind it");
    page.text
}

const TAGS: [u16; 3] = [ETH_P_8021Q, ETH_P_8021AD, ETH_P_QINQ1];

/// Fields of IPv4, UDP and BOOTP by length (RFC 791, RFC 768, RFC 2131 section 2).
const DHCP: [(usize, &str); 25] = [
    (2, "IPv4: version and length, service"),
    (2, "total length"),
    (2, "identification"),
    (2, "fragment"),
    (2, "time to live, protocol"),
    (2, "checksum"),
    (4, "source"),
    (4, "destination"),
    (2, "UDP: source port"),
    (2, "destination port"),
    (2, "length"),
    (2, "checksum"),
    (4, "BOOTP: op, htype, hlen, hops"),
    (4, "xid"),
    (2, "secs"),
    (2, "flags"),
    (4, "ciaddr"),
    (4, "yiaddr"),
    (4, "siaddr"),
    (4, "giaddr"),
    (6, "chaddr"),
    (10, "its padding"),
    (64, "sname"),
    (128, "file"),
    (4, "cookie"),
];

struct Page<'a> {
    text: String,
    rest: &'a [u8],
}

impl Page<'_> {
    fn next(&self) -> Option<u16> {
        let bytes = self.rest.first_chunk()?;
        Some(u16::from_be_bytes(*bytes))
    }

    /// Bytes of the option that comes next.
    fn option(&self) -> Option<usize> {
        match self.rest {
            [0 | 255, ..] | [_] | [] => None,
            [_, len, ..] => Some(2 + usize::from(*len)),
        }
    }

    /// A field of `len` bytes, or what is left of it; without a name it is an option.
    fn field(&mut self, len: usize, name: &str) {
        let (field, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        let [first, others @ ..] = field else {
            return;
        };
        let mut line = String::new();
        if others.len() > 8 && others.iter().all(|byte| byte == first) {
            let _ = write!(line, "{first:02x}*{}", field.len());
        } else {
            // A run of zeros at the end is padding.
            let content = field.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            let zeros = field.len().saturating_sub(content);
            let shown = if zeros > 8 { content } else { field.len() };
            for byte in field.iter().take(shown) {
                let _ = write!(line, "{byte:02x} ");
            }
            if shown < field.len() {
                let _ = write!(line, "00*{zeros}");
            }
        }
        let line = line.trim_end();
        let _ = match name {
            "" => writeln!(self.text, "{line:<32}  # option {first}"),
            _ => writeln!(self.text, "{line:<32}  # {name}"),
        };
    }
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
