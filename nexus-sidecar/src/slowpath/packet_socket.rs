//! The packet socket: whole frames in, with the VLAN tag that the kernel has taken out put back.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nexus_dhcp::wire::ETHERTYPE_CVLAN;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, getsockopt, recvmsg, sendto, setsockopt,
};
use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, Socket, Type};

use super::filter;

sockopt_impl!(
    /// Asks for the tag of each frame (packet(7)).
    Auxdata, SetOnly, libc::SOL_PACKET, libc::PACKET_AUXDATA, bool
);

sockopt_impl!(
    /// Frames since the last look, and those that found no room (packet(7)).
    Statistics, GetOnly, libc::SOL_PACKET, libc::PACKET_STATISTICS, libc::tpacket_stats
);

/// Most bytes of a frame that is read; a larger one is cut and then malformed.
const FRAME_MAX: usize = 2048;
/// Bytes of the buffer for frames that wait for the thread. The kernel doubles it and charges a frame 1 to 5
/// kilobytes, whatever its length: some 10 thousand frames, two seconds of a reconnect storm.
const RECEIVE_BUFFER: usize = 16 << 20;
/// Bytes of the buffer for replies that wait for the interface.
const SEND_BUFFER: usize = 4 << 20;
/// Longest wait in one call, so that the caller can look whether it shall stop.
pub const WAIT_MAX: Duration = Duration::from_millis(200);
/// Offset of the EtherType, which is where an outer tag goes.
const TAG_OFFSET: usize = 12;

/// A received frame and where it came from.
pub struct Received {
    /// From Ethernet on, all tags included.
    pub bytes: Vec<u8>,
    from: LinkAddr,
}

/// A packet socket that sees DHCP from the clients of one interface.
pub struct PacketSocket {
    socket: Socket,
    ifindex: u32,
}

impl PacketSocket {
    /// Errors: without CAP_NET_RAW, with a text that says so.
    pub fn open(interface: &str, ifindex: u32) -> io::Result<Self> {
        let all = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
        let socket = Socket::new(
            Domain::PACKET,
            Type::RAW,
            Some(Protocol::from(i32::from(all))),
        )
        .map_err(|error| explain(interface, &error))?;
        socket.attach_filter(&filter::dhcp_on(ifindex))?;
        socket.set_read_timeout(Some(WAIT_MAX))?;
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN, which the fast path needs as well.
        if setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        socket.set_send_buffer_size(SEND_BUFFER)?;
        setsockopt(&socket, Auxdata, &true)?;
        Ok(Self { socket, ifindex })
    }

    /// The next frame; `None` if none has come for [`WAIT_MAX`].
    pub fn receive(&self) -> io::Result<Option<Received>> {
        match receive(&self.socket) {
            // What arrived between the making of the socket and that of its filter.
            Ok(received) if received.from.ifindex() != self.ifindex as usize => Ok(None),
            Ok(received) => Ok(Some(received)),
            Err(error)
                if matches!(
                    error.kind(),
                    // The interface went down: it may come back, and says so once.
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::Interrupted
                        | io::ErrorKind::NetworkDown
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Frames that found no room in the buffer since the last call.
    pub fn dropped(&self) -> io::Result<u64> {
        Ok(u64::from(getsockopt(&self.socket, Statistics)?.tp_drops))
    }

    /// Sends a frame out of the interface that `to` came from. Waits for nothing: an interface that takes no
    /// more is an error.
    pub fn send(&self, frame: &[u8], to: &Received) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        let sent = sendto(fd, frame, &to.from, MsgFlags::MSG_DONTWAIT)?;
        if sent == frame.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }
}

fn explain(interface: &str, error: &io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "the DHCP slow path on {interface} needs the capability CAP_NET_RAW for its packet \
             socket (in the systemd unit: AmbientCapabilities=), or root"
        ),
        _ => format!("cannot open a packet socket for {interface}: {error}"),
    };
    io::Error::new(error.kind(), text)
}

fn receive(socket: &Socket) -> io::Result<Received> {
    let mut buffer = [0; FRAME_MAX];
    let mut control = nix::cmsg_space!([u8; 32]);
    let (len, from, tag) = {
        let mut buffers = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<LinkAddr>(
            socket.as_raw_fd(),
            &mut buffers,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        let tag = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Unknown(unknown)
                if unknown.cmsg_header.cmsg_level == libc::SOL_PACKET
                    && unknown.cmsg_header.cmsg_type == libc::PACKET_AUXDATA =>
            {
                stripped_tag(&unknown.data_bytes)
            }
            _ => None,
        });
        let from = message
            .address
            .ok_or_else(|| io::Error::other("a frame without a source"))?;
        (message.bytes, from, tag)
    };
    // As large as the frame: thousands may be kept while their clients wait.
    let (head, rest) = buffer
        .get(..len)
        .unwrap_or_default()
        .split_at(TAG_OFFSET.min(len));
    let tag = tag.as_ref().filter(|_| head.len() == TAG_OFFSET);
    let bytes = [head, tag.map_or(&[], |tag| tag.as_slice()), rest].concat();
    Ok(Received { bytes, from })
}

/// The tag as it stood in the frame, out of a `struct tpacket_auxdata` (packet(7)): words of status,
/// length, captured length, then half words of two offsets, the tag's control word and its EtherType.
fn stripped_tag(auxdata: &[u8]) -> Option<[u8; 4]> {
    let status: [u8; 4] = auxdata.get(..4)?.try_into().ok()?;
    let status = u32::from_ne_bytes(status);
    if status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let half = |at: usize| {
        Some(u16::from_ne_bytes(
            auxdata.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    let control = half(16)?;
    let ethertype = if status & libc::TP_STATUS_VLAN_TPID_VALID == 0 {
        ETHERTYPE_CVLAN
    } else {
        half(18)?
    };
    let ([a, b], [c, d]) = (ethertype.to_be_bytes(), control.to_be_bytes());
    Some([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auxdata(status: u32, control: u16, ethertype: u16) -> Vec<u8> {
        let mut bytes = status.to_ne_bytes().to_vec();
        bytes.extend([0; 12]);
        bytes.extend(control.to_ne_bytes());
        bytes.extend(ethertype.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_stripped_tag_comes_back_as_it_stood_in_the_frame() {
        let both = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
        assert_eq!(
            stripped_tag(&auxdata(both, 0x60c8, 0x88a8)),
            Some([0x88, 0xa8, 0x60, 0xc8])
        );
        assert_eq!(
            stripped_tag(&auxdata(libc::TP_STATUS_VLAN_VALID, 30, 0)),
            Some([0x81, 0, 0, 30])
        );
        assert_eq!(stripped_tag(&auxdata(0, 30, 0x8100)), None);
        assert_eq!(stripped_tag(&[0; 3]), None);
    }
}
