//! Numbers of Ethernet, IPv4, UDP, BOOTP and DHCP, with their sources.

/// IEEE 802.3 EtherType of IPv4 (RFC 894).
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP (RFC 826).
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of a customer VLAN tag (IEEE 802.1Q).
pub const ETHERTYPE_CVLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag (IEEE 802.1ad).
pub const ETHERTYPE_SVLAN: u16 = 0x88a8;
/// EtherType that older equipment puts on the outer of two tags.
pub const ETHERTYPE_QINQ: u16 = 0x9100;

/// UDP port of servers and relays (RFC 2131 4.1).
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients (RFC 2131 4.1).
pub const CLIENT_PORT: u16 = 68;

/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// Bytes of an IPv4 header without options and a UDP header.
pub const IPV4_UDP_LEN: usize = 28;
/// Bytes from `op` to the magic cookie, the cookie included (RFC 2131 2).
pub const BOOTP_LEN: usize = 240;
/// Least bytes of a BOOTP message (RFC 1542 2.1).
pub const BOOTP_MIN_LEN: usize = 300;
/// The magic cookie (RFC 2131 3).
pub const MAGIC_COOKIE: u32 = 0x6382_5363;
/// Least datagram, IP and UDP headers included, that every client takes (RFC 2131 2).
pub const MIN_MESSAGE_SIZE: u16 = 576;
/// The broadcast bit of `flags` (RFC 2131 2).
pub const FLAG_BROADCAST: u16 = 0x8000;

/// `op` of a message from a client.
pub const BOOTREQUEST: u8 = 1;
/// `op` of a message from a server.
pub const BOOTREPLY: u8 = 2;
/// `htype` of Ethernet.
pub const HTYPE_ETHERNET: u8 = 1;

/// Option codes (RFC 2132 unless said otherwise).
pub mod option {
    /// PAD.
    pub const PAD: u8 = 0;
    /// Subnet mask.
    pub const SUBNET_MASK: u8 = 1;
    /// Routers.
    pub const ROUTERS: u8 = 3;
    /// Domain name servers.
    pub const DNS: u8 = 6;
    /// Domain name.
    pub const DOMAIN_NAME: u8 = 15;
    /// Interface MTU.
    pub const MTU: u8 = 26;
    /// NTP servers.
    pub const NTP: u8 = 42;
    /// Requested address.
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// Address lease time.
    pub const LEASE_TIME: u8 = 51;
    /// Option overload.
    pub const OVERLOAD: u8 = 52;
    /// Message type.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Server identifier.
    pub const SERVER_ID: u8 = 54;
    /// Parameter request list.
    pub const PARAMETERS: u8 = 55;
    /// Maximum message size.
    pub const MAX_MESSAGE_SIZE: u8 = 57;
    /// Renewal time (T1).
    pub const RENEWAL_TIME: u8 = 58;
    /// Rebinding time (T2).
    pub const REBINDING_TIME: u8 = 59;
    /// Client identifier; echoed (RFC 6842).
    pub const CLIENT_ID: u8 = 61;
    /// Rapid commit (RFC 4039).
    pub const RAPID_COMMIT: u8 = 80;
    /// Relay agent information; echoed last (RFC 3046).
    pub const RELAY_AGENT: u8 = 82;
    /// END.
    pub const END: u8 = 255;
}

/// Sub-options of relay agent information (RFC 3046 2).
pub mod relay {
    /// Agent circuit-id.
    pub const CIRCUIT_ID: u8 = 1;
    /// Agent remote-id.
    pub const REMOTE_ID: u8 = 2;
}

/// Message types, the value of option 53 (RFC 2132 9.6).
pub mod message {
    /// DHCPDISCOVER.
    pub const DISCOVER: u8 = 1;
    /// DHCPOFFER.
    pub const OFFER: u8 = 2;
    /// DHCPREQUEST.
    pub const REQUEST: u8 = 3;
    /// DHCPDECLINE.
    pub const DECLINE: u8 = 4;
    /// DHCPACK.
    pub const ACK: u8 = 5;
    /// DHCPNAK.
    pub const NAK: u8 = 6;
    /// DHCPRELEASE.
    pub const RELEASE: u8 = 7;
    /// DHCPINFORM.
    pub const INFORM: u8 = 8;
}
