//! What a client that holds a binding is told: the one decision function (RFC 2131 4.3).

use nexus_abi::{Binding, NEVER_EXPIRES, Outcome, Profile};

use crate::request::Request;
use crate::wire::message;

/// A reply, decided but not yet written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// [`Outcome::Offer`], [`Outcome::Ack`], [`Outcome::Nak`] or [`Outcome::InformAck`].
    pub outcome: Outcome,
    /// `yiaddr`, in memory order; 0 in a NAK and in the answer to an INFORM.
    pub address: u32,
    /// `ciaddr`, in memory order.
    pub client_address: u32,
    /// Lease time in seconds; 0: none is sent.
    pub lease_secs: u32,
    /// Option 80 is sent: an ACK in answer to a DISCOVER (RFC 4039).
    pub rapid: bool,
}

/// Seconds that a lease on `binding` may last at `now_secs` of the boot-time clock: the pool's lease
/// time, but never more than what is left of the binding. `None`: the binding has ended.
#[inline(always)]
fn lease_secs(binding: &Binding, profile: &Profile, now_secs: u32) -> Option<u32> {
    if binding.valid_until_secs == NEVER_EXPIRES {
        return Some(profile.lease_secs);
    }
    if binding.valid_until_secs <= now_secs {
        return None;
    }
    let left = binding.valid_until_secs - now_secs;
    Some(if left < profile.lease_secs {
        left
    } else {
        profile.lease_secs
    })
}

/// `profile` can answer, and the message is not on its way to another server: a client renews by
/// unicast, and what it sends to a server elsewhere only passes through here.
#[inline(always)]
fn usable(request: &Request, profile: &Profile) -> Result<(), Outcome> {
    if profile.present == 0 || profile.lease_secs == 0 {
        return Err(Outcome::NoProfile);
    }
    if !request.is_for(profile.server_id) {
        return Err(Outcome::OtherServer);
    }
    Ok(())
}

/// Decides a DISCOVER, REQUEST or INFORM of a client that holds `binding`, at `now_secs` of the
/// boot-time clock, which counts only for a binding that has an end. `Err` says why there is no
/// reply.
#[inline(always)]
pub fn decide(
    request: &Request,
    binding: &Binding,
    profile: &Profile,
    now_secs: u32,
) -> Result<Answer, Outcome> {
    let message = request.options.message;
    if message == message::INFORM {
        return inform(request, binding, profile, now_secs);
    }
    if message != message::DISCOVER && message != message::REQUEST {
        return Err(if message == 0 {
            Outcome::Unsupported
        } else {
            Outcome::SlowMessage
        });
    }
    usable(request, profile)?;
    let lease_secs = lease_secs(binding, profile, now_secs).ok_or(Outcome::UnknownClient)?;
    let bound = u32::from_ne_bytes(binding.address);
    let client = request.client_address();
    let lease = |outcome, client_address| {
        Ok(Answer {
            outcome,
            address: bound,
            client_address,
            lease_secs,
            rapid: false,
        })
    };
    if message == message::DISCOVER {
        if client != 0 {
            return Err(Outcome::Malformed);
        }
        if profile.rapid_commit == 0 || !request.options.rapid_commit {
            return lease(Outcome::Offer, 0);
        }
        return lease(Outcome::Ack, 0).map(|answer| Answer {
            rapid: true,
            ..answer
        });
    }
    let server = request.options.server;
    if server != 0 && server != u32::from_ne_bytes(profile.server_id) {
        return Err(Outcome::OtherServer);
    }
    // RFC 2131 4.3.2: `ciaddr` marks RENEWING and REBINDING, where option 50 has no place; without
    // it the client is SELECTING (option 54) or in INIT-REBOOT, and option 50 says what it wants.
    let requested = request.options.requested;
    let wanted = if client != 0 { client } else { requested };
    if wanted == 0 || (requested != 0 && requested != wanted) {
        return Err(Outcome::Malformed);
    }
    if wanted == bound {
        lease(Outcome::Ack, client)
    } else {
        Ok(Answer {
            outcome: Outcome::Nak,
            address: 0,
            client_address: 0,
            lease_secs: 0,
            rapid: false,
        })
    }
}

/// RFC 2131 4.3.5: an ACK without address and lease, if the client uses the address it is bound to.
#[inline(always)]
fn inform(
    request: &Request,
    binding: &Binding,
    profile: &Profile,
    now_secs: u32,
) -> Result<Answer, Outcome> {
    usable(request, profile)?;
    lease_secs(binding, profile, now_secs).ok_or(Outcome::UnknownClient)?;
    let client_address = request.client_address();
    if client_address == 0 {
        return Err(Outcome::Malformed);
    }
    if client_address != u32::from_ne_bytes(binding.address) {
        return Err(Outcome::UnknownClient);
    }
    Ok(Answer {
        outcome: Outcome::InformAck,
        address: 0,
        client_address,
        lease_secs: 0,
        rapid: false,
    })
}

#[cfg(test)]
mod tests;
