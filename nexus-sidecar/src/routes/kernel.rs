//! The kernel's side: lists our routes, adds, replaces and removes one. The only file that knows netlink routes.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use futures::TryStreamExt as _;
use ipnet::IpNet;
use nix::libc::{EEXIST, ENOENT, EPERM, ESRCH};
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::sys::AsyncSocket as _;
use tokio::task::JoinHandle;

use super::difference::{Route, Shape, Step};
use super::wanted::{LIMIT, RouteKey};

/// Most routes of ours that are read out of one table; a table with more is not ours alone.
const MOST_READ: usize = LIMIT * 4;

/// Why the kernel does not have what it should.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// No netlink socket.
    #[error("cannot speak netlink with the kernel: {0}")]
    Open(io::Error),
    /// The table could not be read.
    #[error("cannot read the routes of table {table}: {error}")]
    List {
        /// Which.
        table: u32,
        /// Why.
        error: io::Error,
    },
    /// More routes of ours than ever were.
    #[error(
        "table {table} has more than {MOST_READ} routes with protocol {protocol}: somebody else uses that number, give routes.protocol another one"
    )]
    NotOurs {
        /// Which.
        table: u32,
        /// Our number.
        protocol: u8,
    },
    /// Another protocol's route is in the way.
    #[error(
        "table {table} has a route to {prefix} with metric {metric} that is not of protocol {protocol}: remove it, or give routes.table a table of its own"
    )]
    Taken {
        /// Table.
        table: u32,
        /// Destination.
        prefix: IpNet,
        /// Metric.
        metric: u32,
        /// Our protocol number.
        protocol: u8,
    },
    /// The kernel refused a change.
    #[error("the route to {prefix} in table {table} could not be {what}: {error}{hint}")]
    Refused {
        /// `added`, `replaced`, `removed`.
        what: &'static str,
        /// Destination.
        prefix: IpNet,
        /// Table.
        table: u32,
        /// Why.
        error: io::Error,
        /// What to do about it, if that is known.
        hint: &'static str,
    },
    /// The interface of a host route is not there.
    #[error(
        "there is no interface {0} for the routes to its subscribers; they follow when it is back"
    )]
    NoInterface(String),
    /// The kernel or this host is too slow.
    #[error("the kernel has not taken all routes within {0} s; going on with the rest")]
    Slow(u64),
}

/// A conversation with the kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    handle: Handle,
    protocol: u8,
    driver: JoinHandle<()>,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Kernel {
    /// Opens a socket; `protocol` marks our routes.
    pub fn open(protocol: u8) -> Result<Self, RouteError> {
        let (mut connection, handle, _) = rtnetlink::new_connection().map_err(RouteError::Open)?;
        // Lets the kernel choose by table and protocol, which it did not before 4.20; `read` chooses as well.
        let socket = connection.socket_mut().socket_mut();
        let _too_old = socket.set_netlink_get_strict_chk(true);
        Ok(Self {
            handle,
            protocol,
            driver: tokio::spawn(connection),
        })
    }

    /// Our routes in `tables`.
    pub async fn list(&self, tables: &BTreeSet<u32>) -> Result<Vec<Route>, RouteError> {
        let mut all = Vec::new();
        for table in tables {
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                self.list_family(*table, family, &mut all).await?;
            }
        }
        Ok(all)
    }

    async fn list_family(
        &self,
        table: u32,
        family: AddressFamily,
        all: &mut Vec<Route>,
    ) -> Result<(), RouteError> {
        let most = all.len().saturating_add(MOST_READ);
        let mut question = in_table(family, table);
        question.header.protocol = RouteProtocol::from(self.protocol);
        let mut answers = std::pin::pin!(self.handle.route().get(question).execute());
        loop {
            match answers.try_next().await {
                Ok(Some(message)) => all.extend(self.read(table, &message)),
                Ok(None) => return Ok(()),
                Err(error) => {
                    let error = to_io(error);
                    // There is no such table as long as nothing is in it.
                    if error.raw_os_error() == Some(ENOENT) {
                        return Ok(());
                    }
                    return Err(RouteError::List { table, error });
                }
            }
            if all.len() > most {
                let protocol = self.protocol;
                return Err(RouteError::NotOurs { table, protocol });
            }
        }
    }

    /// Makes one change. What is gone already counts as removed.
    pub async fn apply(&self, step: &Step) -> Result<(), RouteError> {
        let route = step.route();
        let mut message = in_table(family(&route.key), route.key.table);
        let header = &mut message.header;
        header.protocol = RouteProtocol::from(self.protocol);
        header.destination_prefix_length = route.key.prefix.prefix_len();
        let destination = match route.key.prefix.network() {
            IpAddr::V4(address) => RouteAddress::Inet(address),
            IpAddr::V6(address) => RouteAddress::Inet6(address),
        };
        message
            .attributes
            .push(RouteAttribute::Destination(destination));
        message
            .attributes
            .push(RouteAttribute::Priority(route.metric));
        let routes = self.handle.route();
        let done = match step {
            Step::Remove(_) => {
                // Whatever it does, as long as it is ours.
                message.header.scope = RouteScope::NoWhere;
                routes.del(message).execute().await
            }
            Step::Add(_) => routes.add(shaped(message, route.shape)).execute().await,
            Step::Replace(_) => {
                let request = routes.add(shaped(message, route.shape)).replace();
                request.execute().await
            }
        };
        let Err(error) = done else { return Ok(()) };
        let error = to_io(error);
        let RouteKey { table, prefix } = route.key;
        match (step, error.raw_os_error()) {
            (Step::Remove(_), Some(ESRCH | ENOENT)) => Ok(()),
            (Step::Add(_), Some(EEXIST)) => Err(RouteError::Taken {
                table,
                prefix,
                metric: route.metric,
                protocol: self.protocol,
            }),
            (_, code) => Err(RouteError::Refused {
                what: step.label(),
                prefix,
                table,
                hint: if code == Some(EPERM) {
                    "; the process needs CAP_NET_ADMIN"
                } else {
                    ""
                },
                error,
            }),
        }
    }

    /// A route of ours in `table`; `None`: it is of somebody else or elsewhere.
    fn read(&self, table: u32, message: &RouteMessage) -> Option<Route> {
        let header = &message.header;
        let mut in_table = u32::from(header.table);
        let (mut metric, mut device, mut further) = (0, None, false);
        let mut destination = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(table) => in_table = *table,
                RouteAttribute::Priority(priority) => metric = *priority,
                RouteAttribute::Oif(index) => device = Some(*index),
                RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                    destination = Some(IpAddr::from(*address));
                }
                RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                    destination = Some(IpAddr::from(*address));
                }
                RouteAttribute::Gateway(_)
                | RouteAttribute::Via(_)
                | RouteAttribute::MultiPath(_)
                | RouteAttribute::Encap(_) => further = true,
                _ => {}
            }
        }
        if u8::from(header.protocol) != self.protocol || in_table != table || header.tos != 0 {
            return None;
        }
        let any = match header.address_family {
            AddressFamily::Inet => IpAddr::from([0; 4]),
            AddressFamily::Inet6 => IpAddr::from([0_u8; 16]),
            _ => return None,
        };
        let len = header.destination_prefix_length;
        let prefix = IpNet::new(destination.unwrap_or(any), len).ok()?;
        let shape = match (header.kind, device) {
            (RouteType::Unreachable, _) => Shape::Unreachable,
            (RouteType::BlackHole, _) => Shape::Blackhole,
            (RouteType::Unicast, Some(index)) if !further => Shape::Device(index),
            _ => Shape::Other,
        };
        Some(Route {
            key: RouteKey { table, prefix },
            metric,
            shape,
        })
    }
}

fn family(key: &RouteKey) -> AddressFamily {
    match key.prefix {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}

fn in_table(family: AddressFamily, table: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    // The header has room for a byte; the attribute says it in full.
    message.header.table = u8::try_from(table).unwrap_or_default();
    message.attributes.push(RouteAttribute::Table(table));
    message
}

fn shaped(mut message: RouteMessage, shape: Shape) -> RouteMessage {
    let header = &mut message.header;
    (header.kind, header.scope) = match shape {
        Shape::Unreachable => (RouteType::Unreachable, RouteScope::Universe),
        Shape::Blackhole => (RouteType::BlackHole, RouteScope::Universe),
        // As `ip route add PREFIX dev NAME` has it.
        Shape::Device(_) | Shape::Other => (RouteType::Unicast, RouteScope::Link),
    };
    if let Shape::Device(index) = shape {
        message.attributes.push(RouteAttribute::Oif(index));
    }
    message
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
