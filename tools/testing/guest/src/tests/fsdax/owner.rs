// SPDX-License-Identifier: GPL-2.0

//! Pages of which several files have entries: each entry is counted, whichever
//! files add and remove entries at the same time. Otherwise removing the device
//! waits for a file that has no entry, or does not wait for one that has.

use super::{clone, large, require_rust, Config, Fixture, REFLINK};
use crate::page_words::{owners, Owner, SHARED};
use crate::tests::prelude::*;
use crate::tests::teardown::bound::Bound;

/// How long files race.
const RACE: Duration = Duration::from_secs(6);

/// Calls `work` until the time is over. Returns how often.
fn repeat(time: Duration, mut work: impl FnMut() -> Result<()>) -> Result<u32> {
    let end = Instant::now() + time;
    let mut rounds = 0;
    while Instant::now() < end {
        work()?;
        rounds += 1;
    }
    ensure!(rounds > 1, "a race of {rounds} rounds is none");
    Ok(rounds)
}

/// Removes the page table entries, and faults 2 MiB in again.
fn fault_again(map: &Mapping) -> Result<()> {
    map.advise(0, HUGE, libc::MADV_DONTNEED)
        .context("MADV_DONTNEED")?;
    map.peek(0);
    Ok(())
}

/// Requires that each of the pages at `map` counts so many entries.
fn require_entries(map: &Mapping, entries: u64, when: &str) -> Result<()> {
    for at in (0..map.len()).step_by(PAGE) {
        map.peek(at);
    }
    let want = Owner {
        mapping: SHARED,
        index: entries,
    };
    for (page, owner) in owners(map)?.into_iter().enumerate() {
        ensure!(
            owner == want,
            "{when}: page {page} has {owner:x?} instead of {want:x?}"
        );
    }
    Ok(())
}

declare! {
    /// two files that share 2 MiB are faulted in again and again, and afterwards a page counts
    /// another number of entries than two
    "fsdax::owner::refault" for [REFLINK], 90 s => refault
}
fn refault(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let first = fixture.written("first", &data::bytes(1, HUGE))?;
    let second = fixture.sparse("second", 0)?;
    clone(&first, &second)?;
    let map = large(&first, HUGE)?;
    let ready = Gate::new()?;
    let child = spawn(|| {
        let map = large(&second, HUGE)?;
        ready.open()?;
        repeat(RACE, || fault_again(&map)).map(drop)
    })?;
    ready.pass()?;
    let rounds = repeat(RACE, || fault_again(&map))?;
    child.join(60, "faults of the second file")?;
    require_entries(&map, 2, "after the race")?;

    second.set_len(0).context("truncating the second file")?;
    require_entries(&map, 1, "after the second file was truncated")?;
    drop((map, first, second));
    fixture.finish()?;
    Ok(format!("{rounds} faults"))
}

/// Makes the file a clone, reads all of it, stores to some of its pages, and truncates it.
fn clone_and_truncate(from: &File, to: &File, page: usize) -> Result<()> {
    clone(from, to)?;
    let map = large(to, HUGE)?;
    map.peek(0);
    for page in [page, page + 7, page + 301] {
        map.write(page % (HUGE / PAGE) * PAGE, &[1; 9]);
    }
    fault_again(&map)?;
    drop(map);
    to.set_len(0).context("truncate")
}

declare! {
    /// clones of a file are made, read, stored to and truncated beside faults of the file, and
    /// afterwards its pages count other entries than its own; or unbinding the driver beside that
    /// does not end, or leaves an entry for memory that is gone
    "fsdax::owner::clones" for [REFLINK], 120 s => clones
}
fn clones(config: &Config) -> Result<String> {
    require_rust("where unmounting a filesystem whose device is gone is an oops")?;
    let fixture = Fixture::create(config)?;
    let origin = fixture.written("origin", &data::bytes(1, HUGE))?;
    let kept = fixture.sparse("kept", 0)?;
    clone(&origin, &kept)?;
    let copies = [fixture.sparse("one", 0)?, fixture.sparse("two", 0)?];
    let map = large(&origin, HUGE)?;
    let children: Result<Vec<_>> = copies
        .iter()
        .enumerate()
        .map(|(n, copy)| {
            spawn(|| {
                let mut page = n * 31;
                let work = || {
                    page += 1;
                    clone_and_truncate(&origin, copy, page)
                };
                repeat(RACE, work).map(drop)
            })
        })
        .collect();
    let rounds = repeat(RACE, || fault_again(&map))?;
    for child in children? {
        child.join(60, "clones of the file")?;
    }
    require_entries(&map, 1, "after the race")?;

    // The same beside the removal of the device: the processes get errors then.
    let ready = Gate::new()?;
    let mut racers = Vec::new();
    for copy in &copies {
        racers.push(spawn(|| {
            ready.open()?;
            while clone_and_truncate(&origin, copy, 3).is_ok() {}
            Ok(())
        })?);
    }
    for _ in &copies {
        ready.pass()?;
    }
    let mut bound = Bound::of(&fixture.namespace)?;
    let took = bound.unbind().must_end("unbinding the driver")?;
    for mut racer in racers {
        let signal = racer.wait_signal(30, "a process that clones a file of a removed device")?;
        ensure!(
            matches!(signal, None | Some(libc::SIGBUS)),
            "a process that clones a file of a removed device died of signal {signal:?}"
        );
    }
    drop((map, origin, kept, copies));
    let Fixture {
        mount, namespace, ..
    } = fixture;
    mount.unmount()?;
    require_unpinned("unmounting")?;
    let waiting = system::read(system::debugfs()?.join("dev_pagemap/ranges"))?;
    ensure!(
        !waiting.contains("dying"),
        "a range is still there after its driver was unbound:\n{waiting}"
    );
    bound.bind()?;
    namespace.destroy()?;
    Ok(format!(
        "{rounds} faults, unbound within {} ms",
        took.as_millis()
    ))
}
