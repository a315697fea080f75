//! What became of a frame: append-only codes that are counter indices and metric labels at once.

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $label:literal;)*) => {
        /// What became of one frame. A code, once given, keeps its meaning for ever.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Outcome {
            $($(#[$doc])* $name = $code,)*
        }

        impl Outcome {
            /// All outcomes in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The label of this outcome in metrics and on the command line.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }

        /// Number of outcomes, and of entries in `COUNTERS`.
        pub const OUTCOME_COUNT: u32 = Outcome::ALL.len() as u32;

        const _: () = {
            let mut code = 0;
            let mut rest = Outcome::ALL;
            while let [outcome, others @ ..] = rest {
                assert!(*outcome as u32 == code, "outcome codes are 0, 1, 2, ...");
                code += 1;
                rest = others;
            }
        };
    };
}

outcomes! {
    /// Not DHCP from a client: passed on.
    NotDhcp = 0, "not-dhcp";
    /// DISCOVER answered with an OFFER.
    Offer = 1, "offer";
    /// REQUEST answered with an ACK.
    Ack = 2, "ack";
    /// REQUEST answered with a NAK.
    Nak = 3, "nak";
    /// Selects another server, or is on its way to one: passed on, nobody here answers it.
    OtherServer = 4, "other-server";
    /// No binding for this client, or one that has ended: slow path.
    UnknownClient = 5, "unknown-client";
    /// A message type that the kernel leaves to the slow path.
    SlowMessage = 6, "slow-message";
    /// The frame or its options break a rule of the protocol: slow path.
    Malformed = 7, "malformed";
    /// Well formed, but beyond what the kernel answers exactly (option overload, IP options,
    /// fragments, a client identifier or relay option too long to echo): slow path.
    Unsupported = 8, "unsupported";
    /// The binding names a profile that is not there: slow path.
    NoProfile = 9, "no-profile";
    /// The packet could not be given the length of the reply: slow path, untouched.
    NoRoom = 10, "no-room";
    /// INFORM answered with an ACK without an address.
    InformAck = 11, "inform-ack";
    /// ARP request for the gateway address answered.
    ArpReply = 12, "arp-reply";
    /// A bounds check that cannot fail did: dropped, because the frame was being rewritten.
    Internal = 13, "internal";
    /// The client's MAC is not the one that is allowed on its line: slow path.
    MacMismatch = 14, "mac-not-allowed";
    /// Would have gone to the slow path, but its line or interface has sent too much: dropped.
    Flooded = 15, "flooded";
}
