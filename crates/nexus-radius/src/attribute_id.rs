//! Which attribute: number, name and source of those that this project reads or writes.

/// Private enterprise number of the ADSL Forum (RFC 4679).
pub const VENDOR_ADSL_FORUM: u32 = 3561;
/// Private enterprise number under which Nokia's service routers number their attributes.
pub const VENDOR_NOKIA_SR: u32 = 6527;

/// An attribute's place in the name space: an IETF number, a number inside an extended attribute (RFC 6929
/// section 2.1), or a vendor's number inside Vendor-Specific (RFC 2865 section 5.26).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttributeId {
    /// The first octet of the attribute.
    Ietf(u8),
    /// First octet, 241 to 244, and Extended-Type: `241.6`.
    Extended(u8, u8),
    /// Private enterprise number and vendor type.
    Vendor(u32, u8),
}

macro_rules! attributes {
    ($($ident:ident = $id:expr, $name:literal, $source:literal;)*) => {
        impl AttributeId {
            $(
                #[doc = concat!($name, " (", $source, ").")]
                pub const $ident: Self = $id;
            )*

            const TABLE: &'static [(Self, &'static str)] = &[$((Self::$ident, $name),)*];
        }
    };
}

attributes! {
    USER_NAME = Self::Ietf(1), "User-Name", "RFC 2865 5.1";
    USER_PASSWORD = Self::Ietf(2), "User-Password", "RFC 2865 5.2";
    CHAP_PASSWORD = Self::Ietf(3), "CHAP-Password", "RFC 2865 5.3";
    NAS_IP_ADDRESS = Self::Ietf(4), "NAS-IP-Address", "RFC 2865 5.4";
    NAS_PORT = Self::Ietf(5), "NAS-Port", "RFC 2865 5.5";
    SERVICE_TYPE = Self::Ietf(6), "Service-Type", "RFC 2865 5.6";
    FRAMED_PROTOCOL = Self::Ietf(7), "Framed-Protocol", "RFC 2865 5.7";
    FRAMED_IP_ADDRESS = Self::Ietf(8), "Framed-IP-Address", "RFC 2865 5.8";
    FRAMED_IP_NETMASK = Self::Ietf(9), "Framed-IP-Netmask", "RFC 2865 5.9";
    FILTER_ID = Self::Ietf(11), "Filter-Id", "RFC 2865 5.11";
    REPLY_MESSAGE = Self::Ietf(18), "Reply-Message", "RFC 2865 5.18";
    STATE = Self::Ietf(24), "State", "RFC 2865 5.24";
    CLASS = Self::Ietf(25), "Class", "RFC 2865 5.25";
    VENDOR_SPECIFIC = Self::Ietf(26), "Vendor-Specific", "RFC 2865 5.26";
    SESSION_TIMEOUT = Self::Ietf(27), "Session-Timeout", "RFC 2865 5.27";
    IDLE_TIMEOUT = Self::Ietf(28), "Idle-Timeout", "RFC 2865 5.28";
    CALLED_STATION_ID = Self::Ietf(30), "Called-Station-Id", "RFC 2865 5.30";
    CALLING_STATION_ID = Self::Ietf(31), "Calling-Station-Id", "RFC 2865 5.31";
    NAS_IDENTIFIER = Self::Ietf(32), "NAS-Identifier", "RFC 2865 5.32";
    PROXY_STATE = Self::Ietf(33), "Proxy-State", "RFC 2865 5.33";
    ACCT_SESSION_ID = Self::Ietf(44), "Acct-Session-Id", "RFC 2866 5.5";
    EGRESS_VLANID = Self::Ietf(56), "Egress-VLANID", "RFC 4675 2.1";
    CHAP_CHALLENGE = Self::Ietf(60), "CHAP-Challenge", "RFC 2865 5.40";
    NAS_PORT_TYPE = Self::Ietf(61), "NAS-Port-Type", "RFC 2865 5.41";
    TUNNEL_TYPE = Self::Ietf(64), "Tunnel-Type", "RFC 2868 3.1";
    TUNNEL_MEDIUM_TYPE = Self::Ietf(65), "Tunnel-Medium-Type", "RFC 2868 3.2";
    EAP_MESSAGE = Self::Ietf(79), "EAP-Message", "RFC 3579 3.1";
    MESSAGE_AUTHENTICATOR = Self::Ietf(80), "Message-Authenticator", "RFC 3579 3.2";
    TUNNEL_PRIVATE_GROUP_ID = Self::Ietf(81), "Tunnel-Private-Group-Id", "RFC 2868 3.6";
    ACCT_INTERIM_INTERVAL = Self::Ietf(85), "Acct-Interim-Interval", "RFC 2869 5.16";
    NAS_PORT_ID = Self::Ietf(87), "NAS-Port-Id", "RFC 2869 5.17";
    FRAMED_POOL = Self::Ietf(88), "Framed-Pool", "RFC 2869 5.18";
    NAS_IPV6_ADDRESS = Self::Ietf(95), "NAS-IPv6-Address", "RFC 3162 2.1";
    FRAMED_IPV6_PREFIX = Self::Ietf(97), "Framed-IPv6-Prefix", "RFC 3162 2.3";
    FRAMED_IPV6_POOL = Self::Ietf(100), "Framed-IPv6-Pool", "RFC 3162 2.6";
    DELEGATED_IPV6_PREFIX = Self::Ietf(123), "Delegated-IPv6-Prefix", "RFC 4818 3";
    FRAMED_IPV6_ADDRESS = Self::Ietf(168), "Framed-IPv6-Address", "RFC 6911 3.1";
    DELEGATED_IPV6_PREFIX_POOL = Self::Ietf(171), "Delegated-IPv6-Prefix-Pool", "RFC 6911 3.4";
    STATEFUL_IPV6_ADDRESS_POOL = Self::Ietf(172), "Stateful-IPv6-Address-Pool", "RFC 6911 3.5";
    IP_PORT_RANGE = Self::Extended(241, 6), "IP-Port-Range", "RFC 8045 3.1.2";
    AGENT_CIRCUIT_ID = Self::Vendor(VENDOR_ADSL_FORUM, 1), "Agent-Circuit-Id", "RFC 4679 3.3.1";
    AGENT_REMOTE_ID = Self::Vendor(VENDOR_ADSL_FORUM, 2), "Agent-Remote-Id", "RFC 4679 3.3.2";
    ALC_DHCP_VENDOR_CLASS_ID = Self::Vendor(VENDOR_NOKIA_SR, 36), "Alc-DHCP-Vendor-Class-Id", "dictionary of Nokia SR";
}

impl AttributeId {
    /// The attribute of this name, as dictionaries spell it; letter case does not matter.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let row = Self::TABLE
            .iter()
            .find(|(_, n)| n.eq_ignore_ascii_case(name));
        row.map(|(id, _)| *id)
    }

    /// The name as dictionaries spell it, of those known here.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let row = Self::TABLE.iter().find(|(id, _)| *id == self);
        row.map(|(_, name)| *name)
    }

    /// The names of all attributes known here, in the order of their numbers.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::TABLE.iter().map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_inverse_and_in_order() {
        assert!(AttributeId::TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for &(id, name) in AttributeId::TABLE {
            assert_eq!(AttributeId::by_name(&name.to_lowercase()), Some(id));
            assert_eq!(id.name(), Some(name));
        }
        assert_eq!(AttributeId::by_name("No-Such-Attribute"), None);
        assert_eq!(AttributeId::Vendor(9, 1).name(), None);
    }
}
