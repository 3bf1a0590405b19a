// SPDX-License-Identifier: GPL-2.0

//! The reason why x86 lost the generic GUP in 2017: references to a pgmap that dropped below
//! zero.
//!
//! A walk that takes the pages of a device and then finds that the entry has changed has to
//! release what it took, and nothing else; the walk of that time released a reference to the
//! pgmap that it did not hold. Here huge entries appear and disappear under walks over all of
//! their pages, many times, and then the pgmap is torn down: the teardown does not finish if a
//! reference is missing from the count or was left on it.

use super::storm::{idle, protect, storm, zap, Disturbance, Fixture, LEN};
use crate::tests::prelude::*;

const ROUNDS: usize = 2;
/// Time limit of a teardown; a pgmap without references is torn down at once.
const TEARDOWN: Duration = Duration::from_secs(10);

declare! {
    /// a walk that had to release what it took lost a reference to the pgmap (the namespace cannot be
    /// torn down: the destroy hangs) or put one too many (percpu_ref warns, pages are used after they
    /// are freed)
    "gup::undo" for [
        want(Mode::Fsdax, 2 * MIB, Map::Dev, Bus::Acpi),
        want(Mode::Devdax, 2 * MIB, Map::Mem, Bus::Acpi),
        want(Mode::Devdax, 4 * KIB, Map::Mem, Bus::Acpi),
    ], 180 s, essential "fsdax-2M-dev-acpi" => undo
}
fn undo(want: &Want) -> Result<String> {
    let mut details = Vec::new();
    for round in 0..ROUNDS {
        let target = Target::create(want, LEN as u64)?;
        let map = target.map(LEN)?;
        let bytes = data::bytes(161 + round as u64, LEN);
        map.write(0, &bytes);
        let fixture = Fixture {
            map: &map,
            file: Some(&target.file),
            advice: None,
            unit: want.align as usize,
            kept: LEN,
        };
        // Only operations that change entries.
        let changes: [Disturbance; 2] = [protect, zap];
        details.push(storm(&fixture, &changes, &[])?);
        map.require(0, &bytes, "the mapping after the storm")?;
        // The memmap of fsdax is not compound.
        let folio = match want.mode {
            Mode::Fsdax => PAGE,
            Mode::Devdax => want.align as usize,
        };
        idle(&map, LEN, folio)?;
        drop(map);
        let start = Instant::now();
        target.finish().context("tearing the namespace down")?;
        ensure!(
            start.elapsed() < timeout(TEARDOWN),
            "the namespace was torn down only after {} s",
            start.elapsed().as_secs()
        );
    }
    Ok(details.join("; "))
}
