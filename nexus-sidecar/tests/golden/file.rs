//! Golden files: a request and its reply as bytes, laid out so that a person can hold them against
//! the RFCs.
//!
//! Bytes are two hexadecimal digits, `00*192` repeats one, `#` begins a comment, `[reply]` a part.

use std::fmt::Write as _;
use std::path::PathBuf;

/// Set to `write`, the files are written instead of compared. What git then shows as changed is to
/// be read against the RFC before it is committed.
const SWITCH: &str = "NEXUS_GOLDEN";

fn path_of(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/packets")
        .join(format!("{name}.txt"))
}

/// Compares `request` and `reply` with the golden file `name`.
pub fn check(name: &str, request: &[u8], reply: &[u8]) {
    let path = path_of(name);
    if std::env::var(SWITCH).is_ok_and(|value| value == "write") {
        let text = format!("[request]\n{}\n[reply]\n{}", layout(request), layout(reply));
        std::fs::write(&path, text).unwrap();
        return;
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; {SWITCH}=write writes it", path.display());
    });
    let (golden_request, golden_reply) = text.split_once("[reply]\n").unwrap();
    let golden_request = golden_request.strip_prefix("[request]\n").unwrap();
    compare(name, "request", &bytes(golden_request), request);
    compare(name, "reply", &bytes(golden_reply), reply);
}

fn compare(name: &str, part: &str, golden: &[u8], found: &[u8]) {
    let differs = golden.iter().zip(found).position(|(a, b)| a != b);
    let at =
        differs.or_else(|| (golden.len() != found.len()).then(|| golden.len().min(found.len())));
    if let Some(at) = at {
        panic!(
            "{name}: the {part} differs from byte {at} on ({} bytes, golden {}):\n{}",
            found.len(),
            golden.len(),
            layout(found)
        );
    }
}

fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.lines() {
        let line = line.split_once('#').map_or(line, |(code, _)| code);
        for word in line.split_whitespace() {
            let (digits, times) = word.split_once('*').unwrap_or((word, "1"));
            let byte = u8::from_str_radix(digits, 16).unwrap();
            out.extend(std::iter::repeat_n(byte, times.parse().unwrap()));
        }
    }
    out
}

/// Fields of IPv4, UDP and BOOTP by length.
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

const ARP: [(usize, &str); 7] = [
    (6, "ARP: hardware, protocol, lengths"),
    (2, "operation"),
    (6, "sender MAC"),
    (4, "sender"),
    (6, "target MAC"),
    (4, "target"),
    (18, "padding"),
];

fn layout(frame: &[u8]) -> String {
    let mut page = Page {
        text: String::new(),
        rest: frame,
    };
    page.field(6, "destination");
    page.field(6, "source");
    while matches!(page.rest, [0x81, 0, ..] | [0x88, 0xa8, ..] | [0x91, 0, ..]) {
        page.field(4, "tag");
    }
    let is_arp = page.rest.starts_with(&[8, 6]);
    page.field(2, "EtherType");
    let fields: &[(usize, &str)] = if is_arp { &ARP } else { &DHCP };
    for (len, name) in fields {
        page.field(*len, name);
    }
    while let [code, len, ..] = page.rest
        && *code != 0
        && *code != 255
        && !is_arp
    {
        page.field(2 + usize::from(*len), &format!("option {code}"));
    }
    if !is_arp {
        page.field(1, "END");
    }
    let left = page.rest.len();
    page.field(left, "behind the last option");
    page.text
}

struct Page<'a> {
    text: String,
    rest: &'a [u8],
}

impl Page<'_> {
    fn field(&mut self, len: usize, name: &str) {
        let (field, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        let mut line = String::new();
        match field {
            [] => return,
            [first, others @ ..] if others.len() > 8 && others.iter().all(|byte| byte == first) => {
                write!(line, "{first:02x}*{}", field.len()).unwrap();
            }
            _ => {
                for byte in field {
                    write!(line, "{byte:02x} ").unwrap();
                }
            }
        }
        writeln!(self.text, "{:<32}  # {name}", line.trim_end()).unwrap();
    }
}

#[test]
fn a_layout_reads_back_as_the_bytes_it_shows() {
    let mut frame = vec![0xff; 12];
    frame.extend([0x88, 0xa8, 0, 200, 0x81, 0, 0, 30, 8, 0]);
    frame.extend((0..=255).cycle().take(268));
    frame.extend([53, 1, 1, 61, 2, 9, 9, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let text = layout(&frame);
    assert!(
        text.contains("option 61") && text.contains("00*11"),
        "{text}"
    );
    assert_eq!(bytes(&text), frame);
}
