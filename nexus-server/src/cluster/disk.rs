//! Watches the free space of the data directory: writes are refused before the disk is full, so that the
//! store never fails in the middle of one, and are taken again when there is room.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::statvfs::statvfs;

use crate::standing::Standing;

/// How often the free space is looked at.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// How full a disk is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    free: u64,
    all: u64,
}

/// Looks at the space of `path` for ever. Writes are refused below `least` bytes, or below a tenth of the disk
/// if that is less, and taken again when a quarter more than that is free.
pub async fn watch(path: PathBuf, least: u64, standing: Standing) {
    let mut full = false;
    loop {
        match space(&path) {
            Ok(space) => {
                let refused = verdict(space, least, full);
                if refused.is_some() != full {
                    full = refused.is_some();
                    if full {
                        tracing::error!(path = %path.display(), free = space.free, "disk is full: writes are refused, reads go on");
                    } else {
                        tracing::info!(path = %path.display(), free = space.free, "disk has room again: writes are taken");
                    }
                }
                standing.set(|reasons| reasons.disk = refused);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "free space cannot be read")
            }
        }
        tokio::time::sleep(LOOK_AFTER).await;
    }
}

fn verdict(space: Space, least: u64, was_full: bool) -> Option<String> {
    let least = least.min(space.all / 10);
    let wanted = if was_full {
        least.saturating_add(least / 4)
    } else {
        least
    };
    (space.free < wanted).then(|| {
        format!(
            "its disk has {} bytes left and keeps {least} in reserve: make room, or enlarge the volume",
            space.free
        )
    })
}

fn space(path: &std::path::Path) -> nix::Result<Space> {
    let stat = statvfs(path)?;
    let fragment = stat.fragment_size();
    Ok(Space {
        free: stat.blocks_available().saturating_mul(fragment),
        all: stat.blocks().saturating_mul(fragment),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_stop_before_the_disk_is_full_and_go_on_when_there_is_clearly_room() {
        let disk = |free| Space { free, all: 10_000 };
        assert_eq!(verdict(disk(1000), 5000, false), None, "a tenth is enough");
        let refused = verdict(disk(999), 5000, false).unwrap();
        assert!(refused.contains("999 bytes left"), "{refused}");
        assert!(
            verdict(disk(1100), 5000, true).is_some(),
            "not back and forth"
        );
        assert_eq!(verdict(disk(1250), 5000, true), None);
        assert_eq!(verdict(disk(50), 50, false), None);
    }

    #[test]
    fn the_space_of_a_directory_can_be_read() {
        let space = space(std::path::Path::new("/tmp")).unwrap();
        assert!(space.all >= space.free && space.all > 0);
    }
}
