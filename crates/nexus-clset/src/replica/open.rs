//! Booting a replica out of its rows.

use std::collections::BTreeMap;

use crate::codec::{Reader, Writer};
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, Malformed};
use crate::hlc::{Clock, Hlc, UnixMillis};
use crate::overlay::Overlay;
use crate::replica::claims::Claims;
use crate::replica::{Change, Draft, Replica, Ticket, meta, origin_key, seconds};
use crate::retired::Retired;
use crate::rows::{RowKind, Rows};
use crate::summary::Summary;
use crate::vector::{Seen, VersionVector};
use crate::version::{Incarnation, NodeId, Origin};
use crate::watch::Log;

/// First byte of a bookkeeping row.
const FORMAT: u8 = 1;

/// Most forgotten writers whose rows one boot takes away; two rows each.
const LEFT_ROWS: usize = 25;

/// Rows that are read at once.
const PAGE: usize = 1024;

impl<R: Rows> Replica<R> {
    /// Boots the replica of `node` and takes a new incarnation: greater than all before it, and not
    /// below the seconds of the wall clock, so that a replica whose rows were lost does not come back
    /// under an old one. (Lost rows and a clock set back at once are found out by
    /// [`Error::OriginInUse`] when it meets its peers.) Reads all entries once, to check them and to sum them up.
    ///
    /// The change must be durable before the replica is used.
    ///
    /// # Errors
    /// Rows that cannot be read or are malformed, or that belong to another node.
    pub fn open(rows: R, node: NodeId, now: UnixMillis) -> Result<(Self, Change), Error<R::Error>> {
        let rows = Overlay::new(rows);
        if get(&rows, meta::WIPING)?.is_some() {
            return Err(Error::HalfWiped);
        }
        let mut before = 0;
        if let Some(bytes) = get(&rows, meta::NODE)? {
            let mut bytes = Reader::new("row of the node", &bytes);
            bytes.format(FORMAT)?;
            let (stored, incarnation) = (bytes.u32()?, bytes.u32()?);
            bytes.end()?;
            if stored != node.0 {
                return Err(Error::OtherNode {
                    stored: NodeId(stored),
                    given: node,
                });
            }
            before = incarnation;
        }
        let incarnation = Incarnation(before.saturating_add(1).max(seconds(now)));
        let origin = Origin { node, incarnation };
        let born = match get(&rows, meta::BORN)? {
            Some(bytes) => {
                let mut bytes = Reader::new("row of the first boot", &bytes);
                let born = Incarnation(bytes.u32()?);
                bytes.end()?;
                Some(born)
            }
            None => None,
        };
        let number = |name| -> Result<u64, Error<R::Error>> {
            match get(&rows, name)? {
                Some(bytes) => Ok(number(&bytes)?),
                None => Ok(0),
            }
        };
        let clock = Clock::restart(Hlc(number(meta::HLC)?));
        let floor = number(meta::FLOOR)?;
        let admitted = match get(&rows, meta::ADMITTED)? {
            Some(bytes) => Some(self::number(&bytes)?),
            None => None,
        };
        let (summary, tombstones) = summary(&rows)?;
        let retired = match get(&rows, meta::RETIRED)? {
            Some(bytes) => Retired::decode(&bytes)?,
            None => Retired::default(),
        };
        let mut claims = BTreeMap::new();
        each(&rows, RowKind::Meta, meta::CLAIMS, |key, value| {
            let (peer, of_peer) = Claims::from_row(key, value)?;
            claims.insert(peer, of_peer);
            Ok(())
        })?;
        let mut replica = Self {
            complete: get(&rows, meta::COMPLETE)?.is_some(),
            seen: vector(&rows, meta::SEEN)?,
            collected: vector(&rows, meta::COLLECTED)?,
            summary,
            rows,
            origin,
            born: born.unwrap_or(incarnation),
            clock,
            floor,
            retired,
            tombstone_age: super::TOMBSTONE_AGE,
            tombstones,
            admitted,
            log: Log::new(incarnation),
            ticket: Ticket(0),
            claims,
            round: None,
            sweep: super::collect::Sweep::from_the_start(),
        };
        let mut row = Writer::new();
        row.u8(FORMAT);
        row.u32(node.0);
        row.u32(incarnation.0);
        let mut draft = Draft::default();
        draft.put(RowKind::Meta, meta::NODE.to_vec(), row.finish());
        // Power may have failed between the word that a writer is forgotten and the last of its rows.
        let retired = |origin: Origin| replica.retired.contains(origin);
        let mut gone = replica.seen.forget(retired);
        gone.extend(replica.collected.forget(retired));
        for claims in replica.claims.values_mut() {
            claims.claimed.forget(retired);
            claims.required.forget(retired);
        }
        for origin in gone.into_iter().take(LEFT_ROWS) {
            draft.seen.insert(origin);
            draft.delete(RowKind::Meta, origin_key(meta::COLLECTED, origin));
        }
        if born.is_none() {
            let value = incarnation.0.to_be_bytes().to_vec();
            draft.put(RowKind::Meta, meta::BORN.to_vec(), value);
        }
        let boot = replica.finish(draft, None);
        Ok((replica, boot))
    }
}

fn get<R: Rows>(rows: &Overlay<R>, name: &[u8]) -> Result<Option<Vec<u8>>, Error<R::Error>> {
    rows.get(RowKind::Meta, name).map_err(Error::Rows)
}

fn number(bytes: &[u8]) -> Result<u64, Malformed> {
    let mut bytes = Reader::new("row of a number", bytes);
    let number = bytes.u64()?;
    bytes.end()?;
    Ok(number)
}

fn vector<R: Rows>(rows: &Overlay<R>, prefix: &[u8]) -> Result<VersionVector, Error<R::Error>> {
    let mut vector = VersionVector::default();
    each(rows, RowKind::Meta, prefix, |key, value| {
        let origin = key.get(prefix.len()..).unwrap_or_default();
        let mut origin = Reader::new("key of the version vector", origin);
        let of = origin.origin()?;
        origin.end()?;
        vector.set(of, Seen::decode(value)?);
        Ok(())
    })?;
    Ok(vector)
}

fn summary<R: Rows>(rows: &Overlay<R>) -> Result<(Summary, u64), Error<R::Error>> {
    let mut builder = Summary::builder();
    let mut tombstones = 0_u64;
    each(rows, RowKind::Entry, b"", |key, value| {
        let entry = Entry::decode(value)?;
        if entry.kind() == EntryKind::Tombstone {
            tombstones = tombstones.saturating_add(1);
        }
        builder.push(key, entry.fingerprint(key));
        Ok(())
    })?;
    Ok((builder.finish(), tombstones))
}

fn each<R: Rows>(
    rows: &Overlay<R>,
    kind: RowKind,
    prefix: &[u8],
    mut row: impl FnMut(&[u8], &[u8]) -> Result<(), Malformed>,
) -> Result<(), Error<R::Error>> {
    let mut after = None;
    loop {
        let page = rows
            .page(kind, prefix, after.as_deref(), PAGE)
            .map_err(Error::Rows)?;
        for (key, value) in &page {
            row(key, value)?;
        }
        match page.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => return Ok(()),
        }
    }
}
