//! Whether the store is this host's own, and the newest that it has written: an older image of the disk may have been
//! put back under a running host, or the disk be a copy of another one's.
//!
//! Every flush has a number. It stands in the store, and once the flush is done also in a file that a reboot
//! removes. A store that is behind that file on the same boot is older than what this host has told others. After
//! a reboot there is no lease, and the centre sees by the sequence numbers whether the store is older. What the host
//! is known by stands in the store as well.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nexus_radius::identity::mac_text;
use serde::{Deserialize, Serialize};

use crate::binding_map::Access;

/// Where the firmware says which machine this is; only root may read it.
const PRODUCT: &str = "/sys/class/dmi/id/product_uuid";

/// How this host is told from others; the default tells nothing.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// File with the number of the last flush, in a folder that a reboot empties.
    pub mark: Option<PathBuf>,
    /// What the firmware calls this machine.
    pub product: Option<String>,
}

impl Origin {
    /// This host's; `socket` is where its control socket will be.
    #[must_use]
    pub fn read(socket: &Path) -> Self {
        let product = std::fs::read_to_string(PRODUCT).ok();
        Self {
            mark: Some(socket.with_extension("mark")),
            product: product.map(|text| text.trim().to_owned()),
        }
    }
}

/// What the store says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginRow {
    /// Number of the flush that this row came with.
    pub flush: u64,
    /// What the firmware of its machine called it.
    pub product: Option<String>,
    /// MAC addresses of the interfaces that it served.
    pub macs: BTreeSet<String>,
}

/// Numbers flushes from here on.
#[derive(Debug)]
pub struct Mark {
    row: OriginRow,
    file: Option<File>,
    boot_id: String,
}

impl Mark {
    /// Compares the row of the store with this host. Also says what is against the store, if anything is.
    #[must_use]
    pub fn open(
        origin: &Origin,
        boot_id: &str,
        access: &Access,
        stored: Option<&OriginRow>,
    ) -> (Self, Option<String>) {
        let macs = access.interfaces().map(|one| mac_text(one.mac)).collect();
        let here = OriginRow {
            flush: 0,
            product: origin.product.clone(),
            macs,
        };
        let marked = origin.mark.as_deref().and_then(|path| read(path, boot_id));
        let wrong = judge(stored, marked, &here);
        let file = origin.mark.as_deref().and_then(|path| match open(path) {
            Ok(file) => Some(file),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an older image of the store would not be noticed: the file cannot be written");
                None
            }
        });
        let flush = stored.map_or(0, |row| row.flush).max(marked.unwrap_or(0));
        let mark = Self {
            row: OriginRow { flush, ..here },
            file,
            boot_id: boot_id.to_owned(),
        };
        (mark, wrong)
    }

    /// The row that the next flush is to carry.
    pub fn number(&mut self) -> &OriginRow {
        self.row.flush = self.row.flush.saturating_add(1);
        &self.row
    }

    /// The flush is done.
    pub fn done(&mut self) {
        let text = text(&self.boot_id, self.row.flush);
        let Some(file) = &self.file else { return };
        if let Err(error) = file.write_all_at(text.as_bytes(), 0) {
            tracing::warn!(%error, "an older image of the store would not be noticed any more: the file of the last flush cannot be written");
            self.file = None;
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = File::options();
    options.write(true).create(true).truncate(false).open(path)
}

/// Of one length always, so that one is written over the other.
fn text(boot_id: &str, flush: u64) -> String {
    format!("{boot_id} {flush:020}\n")
}

/// The number, if the file is of this boot.
fn read(path: &Path, boot_id: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let (of, flush) = text.trim().split_once(' ')?;
    (of == boot_id).then_some(())?;
    flush.parse().ok()
}

/// What is against the store.
fn judge(stored: Option<&OriginRow>, marked: Option<u64>, here: &OriginRow) -> Option<String> {
    let flush = stored.map_or(0, |row| row.flush);
    if let Some(marked) = marked.filter(|marked| flush < *marked) {
        return Some(format!(
            "it is at flush {flush}, but this host has written {marked} since it booted: an older image was put back, or the store was removed"
        ));
    }
    let stored = stored?;
    if let (Some(then), Some(now)) = (&stored.product, &here.product)
        && then != now
    {
        return Some(format!(
            "it was written on machine {then}, and this is {now}: the disk or a copy of it was moved"
        ));
    }
    let apart = stored.macs.is_disjoint(&here.macs);
    (apart && !stored.macs.is_empty() && !here.macs.is_empty()).then(|| {
        "it was written on a host none of whose interfaces is here: the disk or a copy of it was moved"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(flush: u64, product: Option<&str>, macs: &[&str]) -> OriginRow {
        OriginRow {
            flush,
            product: product.map(str::to_owned),
            macs: macs.iter().map(|mac| (*mac).to_owned()).collect(),
        }
    }

    #[test]
    fn an_older_image_and_another_machine_are_noticed_and_nothing_else_is() {
        let here = row(0, Some("m1"), &["a", "b"]);
        for (stored, marked, wrong) in [
            (None, None, false),
            (Some(row(7, Some("m1"), &["a", "b"])), Some(7), false),
            // Killed between the flush and the file.
            (Some(row(8, Some("m1"), &["a"])), Some(7), false),
            // Rebooted.
            (Some(row(3, Some("m1"), &["b", "c"])), None, false),
            // As another user, or with another network card.
            (Some(row(3, None, &["b", "c"])), None, false),
            (Some(row(6, Some("m1"), &["a"])), Some(7), true),
            (None, Some(7), true),
            (Some(row(7, Some("m2"), &["a"])), Some(7), true),
            (Some(row(7, Some("m1"), &["c"])), Some(7), true),
        ] {
            let judged = judge(stored.as_ref(), marked, &here);
            assert_eq!(judged.is_some(), wrong, "{stored:?} {marked:?} {judged:?}");
        }
    }

    #[test]
    fn the_file_of_another_boot_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/control.mark");
        let origin = Origin {
            mark: Some(path.clone()),
            product: None,
        };
        let (mut mark, wrong) = Mark::open(&origin, "boot-a", &Access::default(), None);
        assert_eq!(wrong, None);
        let stored = mark.number().clone();
        mark.done();
        let before = mark.number().flush;
        mark.done();
        assert_eq!(read(&path, "boot-a"), Some(before));
        assert_eq!(read(&path, "boot-b"), None);
        let open = |boot| Mark::open(&origin, boot, &Access::default(), Some(&stored));
        assert!(open("boot-a").1.unwrap().contains("older image"));
        assert_eq!(open("boot-b").1, None);
        std::fs::write(&path, "damaged").unwrap();
        assert_eq!(open("boot-a").1, None);
    }
}
