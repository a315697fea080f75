//! The whole way from a frame to its reply in user space: what the kernel program does, in one call.

use std::vec::Vec;

use nexus_abi::{Binding, BindingKey, Circuit, NEVER_EXPIRES, Outcome, Profile};

use crate::circuit::CircuitBuffer;
use crate::decision::{Answer, decide};
use crate::echo::Echo;
use crate::link::parse_link;
use crate::options::OptionTable;
use crate::packet::Bytes;
use crate::reply::{Draft, Shape, Sums};
use crate::request::{Request, parse_message};
use crate::selection::wanted;

/// Reads a frame.
///
/// # Errors
/// Why it is not a DHCP message from a client that can be answered; see [`parse_message`].
pub fn read(frame: &[u8]) -> Result<Request, Outcome> {
    let packet = Bytes(frame);
    parse_message(&packet, parse_link(&packet)?)?.into_request(&packet, &mut OptionTable::default())
}

/// How clients are known on an interface, as [`nexus_abi::Settings`] has it.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Number of the interface.
    pub interface: u8,
    /// The kinds of key (`KIND_` codes of [`BindingKey`]) that are looked up, in this order; 0: none.
    pub kinds: &'a [u8],
    /// A circuit is circuit-id and remote-id.
    pub remote_id: bool,
}

/// Reads a frame and finds the binding of its client in the order of the kernel program, which looks before
/// it reads the options unless a key stands in them. See [`binding_of`].
///
/// # Errors
/// Why it cannot be read, or as [`binding_of`]; what is wrong with the options of a client that nobody
/// knows is not said.
pub fn find(
    frame: &[u8],
    identity: Identity<'_>,
    now_secs: u32,
    mut lookup: impl FnMut(&BindingKey) -> Option<Binding>,
) -> Result<(Request, BindingKey, Binding), Outcome> {
    let packet = Bytes(frame);
    let message = parse_message(&packet, parse_link(&packet)?)?;
    let by_circuit = identity.kinds.contains(&BindingKey::KIND_CIRCUIT);
    let plain = message.into_request_without_options();
    let early = if by_circuit {
        None
    } else {
        Some(binding_of(frame, &plain, identity, now_secs, &mut lookup)?)
    };
    let request = read(frame)?;
    let (key, binding) = match early {
        Some(found) => found,
        None => binding_of(frame, &request, identity, now_secs, &mut lookup)?,
    };
    Ok((request, key, binding))
}

/// The binding of the client of a `request` that was read from `frame`, under the first kind of key that
/// knows it, at `now_secs` of the boot-time clock. `lookup` says what stands under a key.
///
/// # Errors
/// [`Outcome::UnknownClient`] if nobody is bound, [`Outcome::MacMismatch`] if somebody else is on this line;
/// [`Outcome::Malformed`] and [`Outcome::Unsupported`] for an option 82 that a key would have to be read from.
pub fn binding_of(
    frame: &[u8],
    request: &Request,
    identity: Identity<'_>,
    now_secs: u32,
    mut lookup: impl FnMut(&BindingKey) -> Option<Binding>,
) -> Result<(BindingKey, Binding), Outcome> {
    for kind in identity.kinds {
        let circuit = if *kind == BindingKey::KIND_CIRCUIT {
            match circuit(&Bytes(frame), request, identity.remote_id) {
                Ok(circuit) => Some(circuit),
                Err(Outcome::UnknownClient) => continue,
                Err(outcome) => return Err(outcome),
            }
        } else {
            None
        };
        let Some(key) = request.key(*kind, identity.interface, circuit) else {
            continue;
        };
        let found = lookup(&key).filter(|binding| {
            binding.valid_until_secs == NEVER_EXPIRES || binding.valid_until_secs > now_secs
        });
        match found {
            Some(binding) if binding.mac == request.mac() => return Ok((key, binding)),
            Some(_) => return Err(Outcome::MacMismatch),
            None => {}
        }
    }
    Err(Outcome::UnknownClient)
}

/// The circuit of a request.
///
/// # Errors
/// [`Outcome::UnknownClient`] if it names none; see [`CircuitBuffer::read`].
pub fn circuit(
    packet: &Bytes<&[u8]>,
    request: &Request,
    remote_id: bool,
) -> Result<Circuit, Outcome> {
    let option = request.options.relay;
    if option.len == 0 {
        return Err(Outcome::UnknownClient);
    }
    CircuitBuffer::default()
        .read(packet, option, remote_id)
        .copied()
}

/// The reply to `frame`, whose `request` was read from it. A reply that is larger than the client takes
/// (option 57) goes without those of the pool's options with the highest codes.
///
/// # Errors
/// Why there is no reply.
pub fn reply(
    frame: &[u8],
    request: &Request,
    binding: &Binding,
    profile: &Profile,
    now_secs: u32,
) -> Result<(Outcome, Vec<u8>), Outcome> {
    let answer = decide(request, binding, profile, now_secs)?;
    let mut set = wanted(&Bytes(frame), request, &answer, profile)?;
    loop {
        match write(frame, request, &answer, profile, set) {
            Err(Outcome::Unsupported) if set != 0 => set &= !(1 << set.ilog2()),
            Err(outcome) => return Err(outcome),
            Ok(reply) => return Ok((answer.outcome, reply)),
        }
    }
}

fn write(
    frame: &[u8],
    request: &Request,
    answer: &Answer,
    profile: &Profile,
    set: u32,
) -> Result<Vec<u8>, Outcome> {
    let packet = Bytes(frame);
    let shape = Shape::of(&packet, request, answer, profile, set)?;
    let mut echo = Echo::default();
    let sums = Sums::save(&packet, request, &mut echo)?;
    let draft = Draft {
        request,
        answer,
        profile,
        set,
        shape: &shape,
        echo: &echo,
        sums: &sums,
    };
    let mut reply = Vec::from(frame);
    reply.resize(shape.len, 0);
    draft
        .write(&mut Bytes(&mut reply[..]))
        .ok_or(Outcome::Internal)?;
    Ok(reply)
}
