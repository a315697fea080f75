//! A frame as text that a person can hold against the RFCs, and back.
//!
//! Bytes are two hexadecimal digits, `00*192` repeats one, `#` begins a comment.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::packet::{ETH_P_8021AD, ETH_P_8021Q, ETH_P_ARP, ETH_P_QINQ1};

/// The frame a field a line, with names: tags, then DHCP or ARP. [`bytes`] reads it back; what is neither is
/// text too, under names that do not fit.
#[must_use]
pub fn layout(frame: &[u8]) -> String {
    let mut page = Page {
        text: String::new(),
        rest: frame,
    };
    page.field(6, "destination");
    page.field(6, "source");
    while page
        .next()
        .is_some_and(|ethertype| TAGS.contains(&ethertype))
    {
        page.field(4, "tag");
    }
    let is_arp = page.next() == Some(ETH_P_ARP);
    page.field(2, "EtherType");
    if is_arp {
        for (len, name) in ARP {
            page.field(len, name);
        }
        page.rest("behind it");
        return page.text;
    }
    for (len, name) in DHCP {
        page.field(len, name);
    }
    while let Some(len) = page.option() {
        page.field(len, "");
    }
    page.rest("END and what is behind it");
    page.text
}

/// The bytes of a text.
///
/// # Errors
/// The first word that is not a byte, with its line.
pub fn bytes(text: &str) -> Result<Vec<u8>> {
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
    Ok(frame)
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

/// Fields of ARP for IPv4 over Ethernet by length (RFC 826), and its padding.
const ARP: [(usize, &str); 7] = [
    (6, "ARP: hardware, protocol, lengths"),
    (2, "operation"),
    (6, "sender MAC"),
    (4, "sender"),
    (6, "target MAC"),
    (4, "target"),
    (18, "padding"),
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

    /// All that is left.
    fn rest(&mut self, name: &str) {
        self.field(self.rest.len(), name);
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

    #[test]
    fn a_layout_reads_back_as_the_bytes_it_shows() {
        let mut frame = vec![0xff; 12];
        frame.extend([0x88, 0xa8, 0, 200, 0x81, 0, 0, 30, 8, 0]);
        frame.extend((0..=255).cycle().take(268));
        frame.extend([53, 1, 1, 61, 2, 9, 9, 255]);
        frame.extend([0; 11]);
        let text = layout(&frame);
        assert!(
            text.contains("option 61") && text.contains("00*11"),
            "{text}"
        );
        assert_eq!(bytes(&text).unwrap(), frame);
    }

    #[test]
    fn arp_has_names_of_its_own() {
        let mut frame = vec![0xff; 12];
        frame.extend([0x81, 0, 0, 30, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        frame.extend([7; 20]);
        let text = layout(&frame);
        assert!(
            text.contains("# operation") && !text.contains("UDP"),
            "{text}"
        );
        assert_eq!(bytes(&text).unwrap(), frame);
    }
}
