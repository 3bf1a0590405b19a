// SPDX-License-Identifier: GPL-2.0

//! The contents of the registry in debugfs.
//!
//! | file | contents |
//! |---|---|
//! | `dev_pagemap/ranges` | a line per range, sorted by address (below) |
//! | `dev_pagemap/implementation` | `rust` |
//! | `dev_pagemap/record`, `dev_pagemap/takers` | see `takers.rs`; only with the recorder |
//!
//! A line is
//! `0x<start>-0x<end> <type> <live|dying> shift=<order> altmap=<used>/<free> busy=<pages>`, with
//! lengths in pages. `altmap` is there only if the pgmap has one, and `busy` only while its
//! teardown waits for pages.
//!
//! C has no such files.

use crate::wait_idle;
use kernel::{
    c_str,
    debugfs::Dir,
    mm::{
        memremap::registry::{find_from, Found},
        pfn::{Pfn, PhysRange},
    },
    seq_file::SeqFile,
    seq_print,
    sync::{rcu, SetOnce},
};

/// The directory, which is never removed.
static DIR: SetOnce<Dir> = SetOnce::new();

/// Creates the files. Called once, at boot.
pub(crate) fn init() {
    let dir = Dir::new(c_str!("dev_pagemap"));
    // SAFETY: This crate is built in, so its functions stay, and so does the directory.
    unsafe {
        dir.read_callback_file(c_str!("implementation"), |file| seq_print!(file, "rust\n"));
        dir.read_callback_file(c_str!("ranges"), show_ranges);
        #[cfg(CONFIG_RUST_DEV_PAGEMAP_RECORDER)]
        crate::takers::init(&dir);
    }
    DIR.populate(dir);
}

/// Prints `dev_pagemap/ranges`.
fn show_ranges(file: &SeqFile) {
    let mut next = Some(Pfn::new(0));
    while let Some(from) = next {
        // One RCU section per range, because the list may be long; so it is no snapshot.
        // SAFETY: Printing to the buffer of a file does not sleep, nor does reading a pgmap.
        let guard = unsafe { rcu::read_lock() };
        let Some((range, found)) = find_from(from, &guard) else {
            break;
        };
        show_range(file, range, found);
        next = range.pfns().last().checked_add(1);
    }
}

/// Prints the line of a range.
fn show_range(file: &SeqFile, range: PhysRange, found: Found<'_>) {
    let pgmap = found.pgmap();
    seq_print!(
        file,
        "{:?} {} {} shift={}",
        range,
        pgmap.memory_type().map_or("unknown", |kind| kind.name()),
        if found.is_dying() { "dying" } else { "live" },
        pgmap.vmemmap_shift(),
    );
    if let Some(altmap) = pgmap.altmap() {
        seq_print!(file, " altmap={}/{}", altmap.alloc, altmap.free);
    }
    if let Some(busy) = wait_idle::busy_pages(pgmap) {
        seq_print!(file, " busy={}", busy);
    }
    seq_print!(file, "\n");
}
