//! Stores of sidecars that are old or damaged: what is not known any more comes back from the centre's record.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::cluster::LIMIT;
use nexus_testkit::field::bench::may_allocate;
use nexus_testkit::interrupt::wait_until;

use super::stage::{SUBSCRIBERS, acknowledged, on, record_and_hosts_agree};

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
    on(&["olt-1", "olt-2"], |field| {
        field.start_sidecars(&[0, 1])?;
        let mut doors = field.doors(0)?;
        let before = doors.addresses(0..20)?;
        acknowledged(field, 0)?;
        let image = field.cluster.directory().join("image");
        field.host(0)?.copy_store(&image)?;
        // What the image does not know: newcomers, and one who left for another OLT.
        let after = doors.addresses(20..40)?;
        let moved = field.doors(1)?.addresses([0])?;
        acknowledged(field, 0)?;
        acknowledged(field, 1)?;
        wait_until("the first OLT has been asked back", LIMIT, || {
            let all = field.host(0)?.bindings()?;
            Ok((!all.iter().any(|one| one["subscriber"] == "sub-0")).then_some(()))
        })?;
        field.host(0)?.kill();
        field.host(0)?.replace_store(&image)?;
        field.host(0)?.launch()?;
        field
            .host(0)?
            .wait("it may allocate again", LIMIT, may_allocate)?;
        // Newcomers of now get nothing that somebody has.
        let late = doors.addresses(60..80)?;
        let taken = |address| {
            after
                .values()
                .chain(before.values())
                .any(|at| at == address)
        };
        let shared: Vec<_> = late.values().filter(|address| taken(*address)).collect();
        let free_again = before.get(&0);
        ensure!(
            shared.iter().all(|address| Some(*address) == free_again),
            "given again: {shared:?}"
        );
        // Everybody who asks gets what it had.
        ensure!(doors.addresses(20..40)? == after);
        let stayed: Vec<u32> = (1..20).collect();
        for (who, address) in doors.addresses(stayed)? {
            ensure!(before.get(&who) == Some(&address), "{who} got {address}");
        }
        ensure!(field.doors(1)?.addresses([0])? == moved);
        acknowledged(field, 0)?;
        field.nobody_shares(&[0, 1], SUBSCRIBERS)?;
        record_and_hosts_agree(field, 2)
    });
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn a_half_written_store_of_a_sidecar_costs_nobody_an_address() {
    on(&["olt-1"], |field| {
        field.start_sidecars(&[0])?;
        let mut doors = field.doors(0)?;
        let mut known = doors.addresses(0..20)?;
        for cut_to in [1, 2, 10] {
            acknowledged(field, 0)?;
            field.host(0)?.kill();
            // The kernel goes on answering.
            doors.renew(&known)?;
            let store = field.host(0)?.store();
            let mut all = Vec::new();
            files(&store, &mut all)?;
            all.sort_by_key(|path| path.metadata().map_or(0, |data| data.len()));
            let largest = all.last().context("a store without files")?;
            let len = largest.metadata()?.len();
            // The first `cut_to` tenths are left, what follows never reached the disk.
            let file = std::fs::File::options().write(true).open(largest)?;
            file.set_len(len * cut_to / 10)?;
            eprintln!(
                "{} of {len} bytes of {} are left",
                len * cut_to / 10,
                largest.display()
            );
            field.host(0)?.launch()?;
            field
                .host(0)?
                .wait("it may allocate again", LIMIT, may_allocate)?;
            ensure!(doors.addresses(known.keys().copied())? == known);
            let first = 20 * u32::try_from(cut_to)? + 20;
            known.extend(doors.addresses(first..first + 5)?);
            doors.renew(&known)?;
        }
        acknowledged(field, 0)?;
        field.nobody_shares(&[0], SUBSCRIBERS)?;
        record_and_hosts_agree(field, 1)
    });
}
