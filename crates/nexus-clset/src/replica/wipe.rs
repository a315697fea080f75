//! Taking away all rows of a replica that must start over, so that a crash on the way leaves no half of it.

use crate::replica::meta;
use crate::rows::{MAX_CHANGE_ROWS, RowKind, RowWrite, Rows};

/// Bookkeeping that stays.
const KEPT: [&[u8]; 3] = [meta::NODE, meta::HLC, meta::WIPING];

/// The next rows to be removed of a replica that must start over, in one batch; none when it is done. The
/// node and its last boot are kept, so that no stamp comes twice. While this goes on the replica cannot
/// be opened; after a crash it is to be gone on with.
///
/// # Errors
/// Rows that cannot be read.
pub fn wipe<R: Rows>(rows: &R) -> Result<Vec<RowWrite>, R::Error> {
    let mark = |value| RowWrite {
        kind: RowKind::Meta,
        key: meta::WIPING.to_vec(),
        value,
    };
    let marked = rows.get(RowKind::Meta, meta::WIPING)?.is_some();
    let mut out = Vec::new();
    for kind in [
        RowKind::Meta,
        RowKind::Entry,
        RowKind::Dot,
        RowKind::Tombstone,
    ] {
        let room = MAX_CHANGE_ROWS.saturating_sub(1).saturating_sub(out.len());
        let page = rows.page(kind, b"", None, room)?;
        let gone = page
            .into_iter()
            .map(|(key, _)| key)
            .filter(|key| kind != RowKind::Meta || !KEPT.contains(&key.as_slice()));
        out.extend(gone.map(|key| RowWrite {
            kind,
            key,
            value: None,
        }));
    }
    match (marked, out.is_empty()) {
        (false, true) => {}
        (false, false) => out.push(mark(Some(vec![1]))),
        (true, true) => out.push(mark(None)),
        (true, false) => {}
    }
    Ok(out)
}
