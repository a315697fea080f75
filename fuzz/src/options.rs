//! The option cursor, against a plain walk that keeps everything.

use nexus_dhcp::exchange::read;
use nexus_dhcp::{OPTION_LIMIT, Options, Outcome, Span};
use nexus_testkit::packet::{Bootp, Frame, Tag};

const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 0x21];
/// Options that may come once only.
const ACTED_ON: [u8; 9] = [50, 52, 53, 54, 55, 57, 61, 80, 82];

/// The first byte says how many tags there are, the second how many bytes stand behind the datagram;
/// the rest are the options of a message.
pub(crate) fn run(data: &[u8]) {
    let [tags, behind, options @ ..] = data else {
        return;
    };
    if options.len() > 1200 {
        return;
    }
    let mut message = Bootp::request(CLIENT, 7);
    (message.end, message.min_len) = (false, 0);
    message.trailer = options.to_vec();
    let mut frame = Frame::from_client(&message);
    frame.tags = vec![Tag::c_vlan(5); usize::from(tags % 3)];
    let mut frame = frame.build();
    let start = frame.len() - options.len();
    frame.resize(frame.len() + usize::from(*behind), 255);

    let found = read(&frame).map(|request| request.options);
    match expected(options) {
        Err(()) => assert!(
            matches!(found, Err(Outcome::Malformed | Outcome::Unsupported)),
            "{found:?}"
        ),
        Ok(expected) => {
            let found = found.map(|options| values(&frame, start, &options));
            assert_eq!(found, Ok(expected));
        }
    }
}

/// What the options say.
#[derive(Debug, PartialEq, Eq)]
struct Values {
    message: u8,
    requested: u32,
    server: u32,
    max_size: u16,
    rapid_commit: bool,
    lists: [Vec<u8>; 3],
}

fn values(frame: &[u8], start: usize, options: &Options) -> Values {
    let value = |span: Span| {
        assert!(span.len == 0 || span.offset >= start + 2);
        let bytes = frame.get(span.offset..span.offset + span.len);
        bytes.unwrap_or_default().to_vec()
    };
    Values {
        message: options.message,
        requested: u32::from_be(options.requested),
        server: u32::from_be(options.server),
        max_size: options.max_size,
        rapid_commit: options.rapid_commit,
        lists: [
            value(options.parameters),
            value(options.client_id),
            value(options.relay),
        ],
    }
}

/// All options as (code, value), by the letter of RFC 2132 2. `Err`: they do not end well.
fn walk(options: &[u8]) -> Result<Vec<(u8, &[u8])>, ()> {
    let mut all = Vec::new();
    let mut rest = options;
    loop {
        let (code, behind) = rest.split_first().ok_or(())?;
        match code {
            255 => return Ok(all),
            0 => {
                all.push((0, &[][..]));
                rest = behind;
            }
            code => {
                let (len, behind) = behind.split_first().ok_or(())?;
                let (value, behind) = behind.split_at_checked(usize::from(*len)).ok_or(())?;
                all.push((*code, value));
                rest = behind;
            }
        }
        if all.len() > OPTION_LIMIT as usize {
            return Err(());
        }
    }
}

fn expected(options: &[u8]) -> Result<Values, ()> {
    let all = walk(options)?;
    for code in ACTED_ON {
        if all.iter().filter(|(at, _)| *at == code).count() > 1 {
            return Err(());
        }
    }
    let get = |code: u8| {
        all.iter()
            .find(|(at, _)| *at == code)
            .map(|(_, value)| *value)
    };
    if get(52).is_some() {
        return Err(());
    }
    let number = |code: u8, len: usize| match get(code) {
        None => Ok(0),
        Some(value) if value.len() == len => Ok(value
            .iter()
            .fold(0_u32, |number, byte| number << 8 | u32::from(*byte))),
        Some(_) => Err(()),
    };
    let list = |code: u8| match get(code) {
        Some([]) => Err(()),
        value => Ok(value.unwrap_or_default().to_vec()),
    };
    Ok(Values {
        message: number(53, 1)? as u8,
        requested: number(50, 4)?,
        server: number(54, 4)?,
        max_size: number(57, 2)? as u16,
        rapid_commit: match get(80) {
            None => false,
            Some([]) => true,
            Some(_) => return Err(()),
        },
        lists: [list(55)?, list(61)?, list(82)?],
    })
}
