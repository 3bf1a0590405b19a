// SPDX-License-Identifier: GPL-2.0

//! The tasks that took the pages for which a teardown waits, as far as the recorder knows.
//!
//! | file | contents |
//! |---|---|
//! | `dev_pagemap/record` | write 1 to record, 0 to stop |
//! | `dev_pagemap/takers` | a line per recorded call whose pages are in use (below) |
//!
//! A line is `0x<start>-0x<end> <live|dying> pages=<in use> <name> (<pid>) <ms> ms ago: <frame> <frame> …`,
//! the innermost frame first. What is in use is known of a live pgmap only. A page may have been taken by
//! others as well, before or after: the table has the last call per first page.
//!
//! The `unsafe` code in this file encapsulates the way from a PFN of a live pgmap to its page.

use core::fmt;
use kernel::{
    bindings, c_str,
    debugfs::{CommandFile, Dir},
    fmt,
    mm::{
        memremap::{
            recorder::{self, Taker},
            registry::Found,
            ZoneDevicePage,
        },
        page::PageRef,
        pfn::{Pfn, PfnRange},
    },
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    str::CString,
    sync::rcu,
    time::{Ktime, NSEC_PER_MSEC},
};

/// The number of tasks that a message names.
const NAMED: usize = 3;
/// The number of pages that are looked up for it.
const LOOKED_UP: usize = 64;
/// The length of the buffer for a symbol. C: `KSYM_SYMBOL_LEN`.
const SYMBOL: usize = 768;

/// The first tasks that took pages in use, for a message.
#[derive(Default)]
pub(crate) struct FirstTakers {
    takers: [Option<Taker>; NAMED],
    looked_up: usize,
}

impl FirstTakers {
    /// Looks up the task that took this page, which is in use, or a part of it: the pages of a folio
    /// have one count.
    pub(crate) fn add(&mut self, page: ZoneDevicePage<'_>) {
        if self.looked_up == LOOKED_UP || self.takers.iter().all(Option::is_some) {
            return;
        }
        self.looked_up = self.looked_up.saturating_add(1);
        let first = page.pfn();
        let last = page.nr_pages().checked_sub(1);
        let pfns = last.and_then(|n| PfnRange::new(first, first.checked_add(n)?));
        let Some(taker) = pfns.and_then(recorder::last_taker_of) else {
            return;
        };
        for slot in &mut self.takers {
            match slot {
                Some(known) if known.pid == taker.pid => return,
                Some(_) => {}
                None => {
                    *slot = Some(taker);
                    return;
                }
            }
        }
    }
}

impl fmt::Display for FirstTakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = ", last taken by ";
        for taker in self.takers.iter().flatten() {
            write!(f, "{separator}{taker}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Creates the files.
///
/// # Safety
///
/// The directory must not be dropped.
pub(crate) unsafe fn init(dir: &Dir) {
    // SAFETY: This crate is built in, so its functions stay.
    unsafe {
        dir.command_file::<Switch>(c_str!("record"));
        dir.read_callback_file(c_str!("takers"), show);
    }
}

/// The file that starts and stops the recorder.
struct Switch;

impl CommandFile for Switch {
    const MODULE: Option<&'static ThisModule> = None;

    fn open() -> Result<Self> {
        Ok(Self)
    }

    fn command(&mut self, text: &str) -> Result<CString> {
        recorder::enable(match text.trim() {
            "0" => false,
            "1" => true,
            _ => return Err(EINVAL),
        });
        CString::try_from_fmt(fmt!("{}\n", u8::from(recorder::is_enabled())))
    }
}

/// Prints `dev_pagemap/takers`.
fn show(file: &SeqFile) {
    let now = Ktime::ktime_get();
    let Some(all) = PfnRange::new(Pfn::new(0), Pfn::new(usize::MAX >> bindings::PAGE_SHIFT)) else {
        return;
    };
    recorder::for_each_taker(all, |taker| show_taker(file, &taker, now));
}

fn show_taker(file: &SeqFile, taker: &Taker, now: Ktime) {
    // SAFETY: Looking at a pgmap and its pages does not sleep.
    let guard = unsafe { rcu::read_lock() };
    let Some((_, found)) = Found::first_in(taker.pfns, &guard) else {
        return;
    };
    let (state, pages) = match found.try_live(&guard) {
        // The pages of a dying pgmap may not be looked at.
        None => ("dying", taker.pfns.len()),
        Some(live) => {
            let used = |pfn: &Pfn| {
                if !live.has_data_page(*pfn) {
                    return false;
                }
                // SAFETY: The pgmap is live and covers the PFN, so the page is valid as long as the
                // reference is held.
                let page = unsafe { PageRef::from_pfn(*pfn) };
                page.folio().ref_count() > 1
            };
            let pfns = (0..taker.pfns.len()).filter_map(|n| taker.pfns.first().checked_add(n));
            match pfns.filter(used).count() {
                0 => return,
                pages => ("live", pages),
            }
        }
    };
    drop(guard);
    let ago = now.to_ns().saturating_sub(taker.at.to_ns()) / NSEC_PER_MSEC;
    let (first, last) = (taker.pfns.first().phys(), taker.pfns.last().phys());
    seq_print!(
        file,
        "{:#x}-{:#x} {} pages={} {} {} ms ago:",
        first.unwrap_or(0),
        last.unwrap_or(0) | (bindings::PAGE_SIZE as u64 - 1),
        state,
        pages,
        taker,
        ago,
    );
    for frame in taker.frames() {
        seq_print!(file, " {}", Symbol(frame));
    }
    seq_print!(file, "\n");
}

/// A return address, formatted as a symbol with an offset.
struct Symbol(usize);

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0u8; SYMBOL];
        // SAFETY: The buffer is as long as C requires, and C takes any address.
        let len = unsafe { bindings::sprint_symbol(buffer.as_mut_ptr().cast(), self.0 as _) };
        let text = usize::try_from(len).ok().and_then(|len| buffer.get(..len));
        f.write_str(
            text.and_then(|text| core::str::from_utf8(text).ok())
                .unwrap_or("?"),
        )
    }
}
