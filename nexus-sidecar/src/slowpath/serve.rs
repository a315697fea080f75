//! What a frame is answered with: the one place of the slow path that knows the kernel's types.

use std::net::Ipv4Addr;

use nexus_abi::{BindingKey, Outcome, Profile};
use nexus_dhcp::{
    Request, Span,
    exchange::{self, Identity},
    wire::{BOOTP_LEN, IPV4_UDP_LEN, message, option, relay},
};

use crate::clock::{ClockError, boot_now};
use crate::edge_handle::{EdgeError, EdgeHandle};
use crate::ipoe::{Client, Contact};

/// Vendor class identifier (RFC 2132 9.13).
const VENDOR_CLASS: u8 = 60;

/// What is to be done with a frame.
pub(super) enum Step {
    /// Send this.
    Reply(Outcome, Vec<u8>),
    /// Nothing.
    Silence(Outcome),
    /// Tell the edge task; nothing is sent.
    Tell(Notice),
    /// Its client has no binding, or not with this MAC. What may be asked about it, if it wants an address
    /// from anybody.
    Unknown(Outcome, Option<Contact>),
}

/// RELEASE or DECLINE of a client that has a binding.
pub(super) enum Notice {
    Release(BindingKey, Ipv4Addr),
    Decline(BindingKey, Ipv4Addr),
}

/// Reads a frame that arrived on an interface with this identity and decides. Waits for nothing.
///
/// Errors: the clock cannot be read.
pub(super) fn step(
    edge: &EdgeHandle,
    identity: Identity<'_>,
    frame: &[u8],
) -> Result<Step, ClockError> {
    let request = match exchange::read(frame) {
        Ok(request) => request,
        Err(outcome) => return Ok(Step::Silence(outcome)),
    };
    let now = boot_now()?;
    let now_secs = u32::try_from(now.0 / 1_000_000_000).unwrap_or(u32::MAX);
    let mut served = None;
    let found = exchange::binding_of(frame, &request, identity, now_secs, |key| {
        let (binding, profile) = edge.binding(key)?;
        served = Some(profile);
        Some(binding)
    });
    let (key, binding, profile) = match (found, served) {
        (Ok((key, binding)), Some(profile)) => (key, binding, profile),
        (Err(outcome @ (Outcome::UnknownClient | Outcome::MacMismatch)), _) => {
            return Ok(Step::Unknown(outcome, contact(frame, &request)));
        }
        (Err(outcome), _) => return Ok(Step::Silence(outcome)),
        (Ok(_), None) => return Ok(Step::Silence(Outcome::NoProfile)),
    };
    edge.seen(key, now);
    match request.options.message {
        message::RELEASE => return Ok(notice(&request, &profile, Notice::release(key, &request))),
        message::DECLINE => return Ok(notice(&request, &profile, Notice::decline(key, &request))),
        _ => {}
    }
    let reply = exchange::reply(frame, &request, &binding, &profile, now_secs);
    Ok(match reply {
        Ok((outcome, reply)) => Step::Reply(outcome, reply),
        Err(outcome) => Step::Silence(outcome),
    })
}

impl Notice {
    fn release(key: BindingKey, request: &Request) -> Self {
        Self::Release(key, Ipv4Addr::from(request.client_address().to_ne_bytes()))
    }

    fn decline(key: BindingKey, request: &Request) -> Self {
        Self::Decline(key, Ipv4Addr::from(request.options.requested.to_ne_bytes()))
    }

    /// Tells the edge task. Neither is ever answered (RFC 2131 4.3.3 and 4.3.4): after a DECLINE the client
    /// starts again with a DISCOVER.
    pub(super) async fn tell(self, edge: &EdgeHandle) -> Result<Outcome, EdgeError> {
        let done = match self {
            Self::Release(key, address) => {
                let released = edge.dhcp_release(key, address).await?;
                tracing::info!(%address, released, "DHCPRELEASE");
                released
            }
            Self::Decline(key, address) => {
                let instead = edge.dhcp_decline(key, address).await?;
                tracing::warn!(
                    %address, ?instead,
                    "DHCPDECLINE: somebody else answers for the address"
                );
                instead.is_some()
            }
        };
        Ok(if done {
            Outcome::SlowMessage
        } else {
            Outcome::Malformed
        })
    }
}

/// RELEASE and DECLINE name the server they are meant for (RFC 2131 table 5); systemd-networkd's RELEASE does
/// not, but is sent to it alone. One that is on its way to another address only passes through here,
/// whatever it names.
fn notice(request: &Request, profile: &Profile, notice: Notice) -> Step {
    let server = profile.server_id;
    let named = match request.options.server {
        0 => request.is_to(server),
        named => named == u32::from_ne_bytes(server),
    };
    let ours = request.is_for(server) && named;
    if ours {
        Step::Tell(notice)
    } else {
        Step::Silence(Outcome::OtherServer)
    }
}

/// What may be asked about a client without a binding. Nothing if it does not look for a server: it sends to
/// one address only, or has chosen a server (RFC 2131 4.3.2, SELECTING) that it has to hear from itself.
fn contact(frame: &[u8], request: &Request) -> Option<Contact> {
    const NOBODY: [u8; 4] = [0; 4];
    let (uses, wants) = (request.client_address(), request.options.requested);
    // A message that could not be answered anyway sets nothing off.
    let looks = match request.options.message {
        message::DISCOVER => uses == 0,
        message::REQUEST => {
            let one = uses == 0 || wants == 0 || uses == wants;
            request.options.server == 0 && uses | wants != 0 && one
        }
        _ => false,
    };
    if !looks || !request.is_for(NOBODY) {
        return None;
    }
    let agent = value(frame, request.options.relay);
    let sub_option = |code| find_tlv(agent, code).map(<[u8]>::to_vec);
    let relay = request.relay_address();
    let options = frame.get(request.link.payload + IPV4_UDP_LEN + BOOTP_LEN..)?;
    Some(Contact {
        client: Client {
            mac: request.mac(),
            vlans: (request.link.outer_vid(), request.link.inner_vid()),
            circuit_id: sub_option(relay::CIRCUIT_ID),
            remote_id: sub_option(relay::REMOTE_ID),
        },
        relay: (relay != 0).then(|| Ipv4Addr::from(relay.to_ne_bytes())),
        vendor_class: find_tlv(options, VENDOR_CLASS).map(<[u8]>::to_vec),
    })
}

fn value(frame: &[u8], span: Span) -> &[u8] {
    span.offset
        .checked_add(span.len)
        .and_then(|end| frame.get(span.offset..end))
        .unwrap_or_default()
}

/// The first value of `code` in a run of TLVs as DHCP has them, if it is not empty. In sub-options there is
/// no PAD, and no code 0 (RFC 3046 2.0).
fn find_tlv(mut run: &[u8], code: u8) -> Option<&[u8]> {
    loop {
        match run {
            [option::END, ..] | [] => return None,
            [option::PAD, rest @ ..] => run = rest,
            [this, len, rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(*len))?;
                if *this == code {
                    return (!value.is_empty()).then_some(value);
                }
                run = rest;
            }
            [_] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_wherever_it_stands_and_nothing_is_read_past_the_end() {
        let run = [0, 1, 2, 7, 8, 0, 2, 1, 9, 5, 0, 255, 6, 1, 1];
        assert_eq!(find_tlv(&run, 1), Some(&[7, 8][..]));
        assert_eq!(find_tlv(&run, 2), Some(&[9][..]));
        assert_eq!(find_tlv(&run, 5), None, "empty");
        assert_eq!(find_tlv(&run, 6), None, "behind END");
        assert_eq!(find_tlv(&[1, 3, 7, 8], 1), None, "cut off");
        assert_eq!(find_tlv(&[1], 1), None);
        assert_eq!(find_tlv(&[], 1), None);
    }
}
