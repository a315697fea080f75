//! The clients (NAS) by source address.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::authenticator::Secret;

/// A NAS, or all of a network.
#[derive(Clone, Debug)]
pub struct Client {
    /// Source addresses.
    pub network: IpNet,
    /// Shared secret.
    pub secret: Secret,
    /// Drop its Access-Requests without Message-Authenticator.
    pub require_message_authenticator: bool,
}

/// Two clients for the same network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two clients have the address {0}: keep one of them")]
pub struct SameNetwork(pub IpNet);

/// All clients. The longest prefix decides.
#[derive(Clone, Debug, Default)]
pub struct ClientTable {
    longest_first: Vec<Client>,
}

impl ClientTable {
    /// A table of these clients.
    ///
    /// # Errors
    /// If two have the same network.
    pub fn new(mut clients: Vec<Client>) -> Result<Self, SameNetwork> {
        clients
            .iter_mut()
            .for_each(|client| client.network = client.network.trunc());
        clients.sort_by_key(|client| {
            (
                std::cmp::Reverse(client.network.prefix_len()),
                client.network,
            )
        });
        match clients
            .array_windows()
            .find(|[a, b]| a.network == b.network)
        {
            Some([same, _]) => Err(SameNetwork(same.network)),
            None => Ok(Self {
                longest_first: clients,
            }),
        }
    }

    /// The client of a source address, and its place for [`ClientTable::get`]. An IPv4 address that
    /// a dual-stack socket shows as IPv6 is an IPv4 address.
    pub(crate) fn find(&self, address: IpAddr) -> Option<(usize, &Client)> {
        let address = address.to_canonical();
        let mut rows = self.longest_first.iter().enumerate();
        rows.find(|(_, client)| client.network.contains(&address))
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Client> {
        self.longest_first.get(index)
    }
}
