//! Option 82 as a key, against the key that its two values make.

use nexus_abi::{Circuit, CircuitError};
use nexus_dhcp::circuit::CircuitBuffer;
use nexus_dhcp::exchange::read;
use nexus_dhcp::{Bytes, Outcome};
use nexus_testkit::packet::{Bootp, Frame};

/// Most sub-options that a key is made from.
const SUB_OPTIONS: usize = 16;

/// The first byte says whether the remote-id counts and what stands behind; the rest is the option.
pub(crate) fn run(data: &[u8]) {
    let [flags, option @ ..] = data else {
        return;
    };
    if option.is_empty() || option.len() > 255 {
        return;
    }
    let remote_id = flags & 1 != 0;
    let mut message = Bootp::discover([2, 0, 0, 0, 0, 0x21], 7).option(82, option);
    message.min_len = usize::from(flags >> 1) * 8;
    let frame = Frame::from_client(&message).build();
    let Ok(request) = read(&frame) else {
        assert!(option.is_empty(), "a whole option 82 was not taken");
        return;
    };
    let mut buffer = CircuitBuffer::default();
    let found = buffer.read(&Bytes(&frame), request.options.relay, remote_id);
    assert_eq!(found.copied(), expected(option, remote_id));
}

fn expected(option: &[u8], remote_id: bool) -> Result<Circuit, Outcome> {
    let mut rest = option;
    let mut ids: [Option<&[u8]>; 2] = [None; 2];
    let mut count = 0;
    while let Some((code, behind)) = rest.split_first() {
        if count == SUB_OPTIONS {
            return Err(Outcome::Unsupported);
        }
        count += 1;
        let id = match code {
            1 => ids.first_mut(),
            2 => ids.last_mut(),
            _ => None,
        };
        if matches!(id, Some(Some(_))) {
            return Err(Outcome::Unsupported);
        }
        let (len, behind) = behind.split_first().ok_or(Outcome::Malformed)?;
        let len = usize::from(*len);
        match behind.split_at_checked(len) {
            Some((value, behind)) => {
                if let Some(id) = id {
                    *id = Some(value);
                }
                rest = behind;
            }
            None => return Err(Outcome::Malformed),
        }
    }
    let [circuit_id, remote] = ids.map(Option::unwrap_or_default);
    let remote = if remote_id { remote } else { &[] };
    Circuit::new(circuit_id, remote).map_err(|error| match error {
        CircuitError::Empty => Outcome::UnknownClient,
        CircuitError::TooLong(_) => Outcome::Unsupported,
    })
}
