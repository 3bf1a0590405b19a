// SPDX-License-Identifier: GPL-2.0

//! Arrays of pages that are not in the order of the memory: the pages of a large folio backwards,
//! several times, and in turn with those of the next folio.

use crate::gup::{take, Counts, Device, Method};
use crate::memory::{Kind, Memory};
use crate::tests::prelude::*;

/// Two folios.
const LEN: usize = 2 * HUGE;
const PAGES: usize = LEN / PAGE;
const HALF: usize = PAGES / 4;

/// Returns the page of the file that is mapped at each page of the window, by layout.
fn layouts() -> Vec<(&'static str, Vec<usize>)> {
    let folio = PAGES / 2;
    let mut random = Random::new(0x4de4);
    vec![
        ("forwards", (0..PAGES).collect()),
        ("backwards", (0..PAGES).rev().collect()),
        (
            "the second folio first",
            (folio..PAGES).chain(0..folio).collect(),
        ),
        ("each page three times", (0..PAGES).map(|n| n / 3).collect()),
        (
            "half a folio twice",
            (0..HALF).chain(0..HALF).chain(0..folio).collect(),
        ),
        (
            "runs that cross the folios' border",
            (0..PAGES).map(|n| folio - 7 + n % 14).collect(),
        ),
        (
            "one page of each folio in turn",
            (0..PAGES).map(|n| n / 2 + n % 2 * folio).collect(),
        ),
        (
            "at random",
            (0..PAGES).map(|_| random.below(PAGES)).collect(),
        ),
    ]
}

declare! {
    /// GUP of neighbouring addresses that map the pages of two large folios in any order, or one page
    /// several times, takes or puts another number of references: nr_foll_pin_acquired and
    /// nr_foll_pin_released differ, or a folio's counts are not what they were; or a copy
    /// by process_vm_readv() or process_vm_writev() moves other bytes
    "gup::order", 120 s => order
}
fn order() -> Result<String> {
    let device = Device::open()?;
    let memory = Memory::create(Kind::Shmem, LEN, 1)?;
    let map = &memory.map;
    map.prefault_write(PAGE);
    map.advise(0, LEN, libc::MADV_COLLAPSE)
        .context("collapsing into huge pages")?;
    let bytes = data::bytes(0x4de4, LEN);
    map.write(0, &bytes);
    let file = memory.file.as_ref().context("the memory has no file")?;
    let page = |n: usize| &bytes[n * PAGE..(n + 1) * PAGE];
    let pid = std::process::id() as i32;
    let layouts = layouts();
    for (name, pages) in &layouts {
        let len = pages.len() * PAGE;
        let window = Mapping::reserve(len, HUGE)?;
        for (at, &n) in pages.iter().enumerate() {
            window
                .show(file, at * PAGE, n * PAGE, PAGE)
                .context("mapping a page")?;
        }
        window.prefault_write(PAGE);
        let counts = || -> Result<Vec<Counts>> {
            [0, HUGE].iter().map(|&at| device.counts(map, at)).collect()
        };
        let before = counts()?;
        for method in Method::ALL {
            // In one array, and in arrays that end within a folio.
            for per_call in [pages.len() as u32, 512, 7] {
                let got = take(&device, method, &window, (0, len), per_call, true)?;
                ensure!(
                    got == pages.len() as u64,
                    "{name}: {method:?}, {per_call} per call, took {got} of {} pages",
                    pages.len()
                );
            }
        }
        let want: Vec<u8> = pages.iter().flat_map(|&n| page(n)).copied().collect();
        let buffer = Mapping::anonymous(len)?;
        for write in [false, true] {
            // What was read is written back, and the pages are put as dirty ones.
            let n = cross_copy(pid, &buffer, window.addr(), len, write).context("cross copy")?;
            ensure!(n == len, "{name}: a copy moved {n} of {len} bytes");
            buffer.require(0, &want, name)?;
            map.require(0, &bytes, name)?;
        }
        require_unpinned(name)?;
        let after = counts()?;
        ensure!(
            before == after,
            "{name}: the folios' counts were {before:?} and are {after:?}"
        );
        ensure!(
            before.iter().all(|counts| counts.references > HUGE as i64 / PAGE as i64),
            "{name}: the folios' counts {before:?} are not those of large folios, to which the page \
             cache has a reference per page"
        );
    }
    Ok(format!("{} orders of {PAGES} pages", layouts.len()))
}
