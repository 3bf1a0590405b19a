// SPDX-License-Identifier: GPL-2.0

//! What the registry holds, in debugfs: `dev_pagemap/ranges`, a line per range,
//! `0x<start>-0x<end> <type> <live|dying> shift=<order> altmap=<used>/<free> busy=<pages>`, with
//! lengths in pages, sorted by address; the last two where there is an altmap, and where unmapping
//! waits for pages that somebody has. And `dev_pagemap/implementation`, which says `rust`.

use crate::wait_idle;
use kernel::{
    c_str,
    debugfs::{Dir, Show},
    mm::{
        memremap::registry::{find_from, Found},
        pfn::{Pfn, PhysRange},
    },
    seq_file::SeqFile,
    seq_print,
    sync::rcu,
};

pub(crate) fn init() {
    // SAFETY: This is built into the kernel.
    let dir = unsafe { Dir::new(c_str!("dev_pagemap")) };
    dir.file::<Implementation>(c_str!("implementation"));
    dir.file::<Ranges>(c_str!("ranges"));
}

struct Implementation;

impl Show for Implementation {
    fn show(file: &SeqFile) {
        seq_print!(file, "rust\n");
    }
}

struct Ranges;

impl Show for Ranges {
    fn show(file: &SeqFile) {
        let mut next = Some(Pfn::new(0));
        while let Some(from) = next {
            // A section per range: the list may be long, and is a snapshot of nothing anyway.
            let guard = rcu::read_lock();
            let Some((range, found)) = find_from(from, &guard) else {
                break;
            };
            show_range(file, range, found);
            next = range.pfns().last().checked_add(1);
        }
    }
}

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
