//! Stores of sidecars that are old or damaged: what is not known any more comes back from the centre's record.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::field::bench::may_allocate;
use nexus_testkit::field::plan::{LEASES, PATIENCE};
use nexus_testkit::interrupt::wait_until;

use super::stage::{KNOWN, acknowledged, hosts, on};

/// A host with a new session gives nobody what is on record of its earlier one before what that may have given
/// unrecorded has ended: the lease here, and a little. Whoever asks before gets something else.
fn earlier_grants_end() {
    std::thread::sleep(LEASES.lease + Duration::from_secs(5));
}

/// All files below a directory.
fn files(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn an_olt_restored_from_an_old_image_goes_on_with_what_the_centre_knows() {
    on(&hosts(&["olt-1", "olt-2"]), 2, |stage| {
        let image = stage.field.cluster.directory().join("image");
        stage.host(0)?.copy_store(&image)?;
        // What the image does not know: newcomers, and one who left for another OLT.
        let after = stage.doors.addresses(20..40)?;
        let moved = stage.field.doors(1)?.addresses([0])?;
        acknowledged(&mut stage.field, 0)?;
        acknowledged(&mut stage.field, 1)?;
        let first = stage.host(0)?;
        wait_until("the first OLT has been asked back", PATIENCE, || {
            let all = first.bindings().unwrap_or_default();
            let left = !all.iter().any(|one| one["subscriber"] == "sub-0");
            Ok((left && !all.is_empty()).then_some(()))
        })?;
        first.kill();
        first.replace_store(&image)?;
        first.launch()?;
        first.wait("it may allocate again", may_allocate)?;
        // Newcomers of now get nothing that somebody has.
        let late = stage.doors.addresses(60..80)?;
        let left = stage.known.remove(&0);
        let taken = |address: &Ipv4Addr| {
            let mut all = after.values().chain(stage.known.values());
            all.any(|at| at == address) && Some(*address) != left
        };
        let shared: Vec<_> = late.values().filter(|address| taken(address)).collect();
        ensure!(shared.is_empty(), "given again: {shared:?}");
        // Everybody who asks gets what it had.
        earlier_grants_end();
        ensure!(stage.doors.addresses(20..40)? == after);
        stage.known_keep_their_addresses()?;
        ensure!(stage.field.doors(1)?.addresses([0])? == moved);
        stage.settled()
    });
}

/// Cuts off the end of a store's largest file, as if that had never reached the disk; so many tenths are left.
fn half_write(store: &Path, tenths: u64) -> Result<()> {
    let mut all = Vec::new();
    files(store, &mut all)?;
    all.sort_by_key(|path| path.metadata().map_or(0, |data| data.len()));
    let largest = all.last().context("a store without files")?;
    let len = largest.metadata()?.len();
    let left = len * tenths / 10;
    std::fs::File::options()
        .write(true)
        .open(largest)?
        .set_len(left)?;
    eprintln!("{left} of {len} bytes of {} are left", largest.display());
    Ok(())
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn a_half_written_store_of_a_sidecar_costs_nobody_an_address() {
    // A host for each: all of them wait for as long as a lease at once.
    const LEFT: [u64; 3] = [1, 2, 10];
    on(&hosts(&["olt-1", "olt-2", "olt-3"]), LEFT.len(), |stage| {
        let mut lines = Vec::new();
        for (at, first) in (0..LEFT.len()).zip((KNOWN.start..).step_by(KNOWN.len())) {
            let mut doors = stage.field.doors(at)?;
            let known = doors.addresses((first..).take(KNOWN.len()))?;
            acknowledged(&mut stage.field, at)?;
            lines.push((doors, known));
        }
        for ((at, tenths), (doors, known)) in LEFT.into_iter().enumerate().zip(&mut lines) {
            let host = stage.host(at)?;
            host.kill();
            // The kernel goes on answering.
            doors.renew(known)?;
            half_write(&host.store(), tenths)?;
            host.launch()?;
        }
        for at in 0..LEFT.len() {
            stage
                .host(at)?
                .wait("it may allocate again", may_allocate)?;
        }
        earlier_grants_end();
        for ((doors, known), new) in lines.iter_mut().zip((100..).step_by(5)) {
            ensure!(doors.addresses(known.keys().copied())? == *known);
            known.extend(doors.addresses(new..new + 5)?);
            doors.renew(known)?;
        }
        stage.settled()
    });
}
