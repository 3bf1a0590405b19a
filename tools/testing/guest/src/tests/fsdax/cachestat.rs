// SPDX-License-Identifier: GPL-2.0

//! cachestat(2), which counts the pages of a file in the page cache. A DAX file
//! has none.
//!
//! C takes its entries for shadows of evicted pages. Then the counts are wrong;
//! with the multi-generational LRU it also follows what an entry seems to say
//! about a node, and can crash. So the counts are tested first without it.

use super::{large, small, Config, Fixture, EXT4, REFLINK};
use crate::tests::prelude::*;

const SYS_CACHESTAT: libc::c_long = 451;
const LRU_GEN: &str = "/sys/kernel/mm/lru_gen/enabled";

/// `struct cachestat`: pages in the cache, dirty, under writeback, evicted,
/// recently evicted.
fn cachestat(file: &File, off: u64, len: u64) -> Result<[u64; 5]> {
    let (range, mut counts) = ([off, len], [u64::MAX; 5]);
    // SAFETY: Both arrays have the layout of the structures and outlive the
    // call.
    let rc = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            file.as_raw_fd(),
            range.as_ptr(),
            counts.as_mut_ptr(),
            0,
        )
    };
    match rc {
        0 => Ok(counts),
        _ => {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::ENOSYS) => Err(Skip("the kernel has no cachestat()".into()).into()),
                _ => Err(error).context("cachestat"),
            }
        }
    }
}

/// The multi-generational LRU, which is off again when this is dropped.
struct LruGen;

impl LruGen {
    fn enable() -> Result<Self> {
        fs::write(LRU_GEN, "7").with_context(|| format!("cannot write to {LRU_GEN}"))?;
        Ok(Self)
    }
}

impl Drop for LruGen {
    fn drop(&mut self) {
        if let Err(e) = fs::write(LRU_GEN, "0") {
            eprintln!("{LRU_GEN}: {e}");
        }
    }
}

/// Requires that nothing is counted, in all of the file and in a part.
fn require_none(file: &File, what: &str) -> Result<()> {
    for (off, len) in [(0, 0), (PAGE as u64, HUGE as u64)] {
        let got = cachestat(file, off, len)?;
        ensure!(
            got == [0; 5],
            "{what}: {got:?} are counted of {len:#x} bytes at {off:#x} (cached, dirty, written back, evicted, recently)"
        );
    }
    Ok(())
}

declare! {
    /// cachestat() counts pages of a DAX file in the page cache, or crashes the kernel: it takes DAX
    /// entries for shadows of evicted pages
    "fsdax::cachestat::differs_counts" for [EXT4, REFLINK], 60 s, essential "ext4-dev-acpi"
        => counts
}
fn counts(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let file = fixture.written("data", &data::bytes(1, 2 * HUGE))?;
    // An entry of 2 MiB, and others of 4 KiB: dirty, clean, and of a hole.
    let map = large(&file, 2 * HUGE)?;
    map.poke(0, 1);
    let pages = small(&file, 2 * HUGE)?;
    for page in 0..16 {
        pages.poke(HUGE + page * PAGE, 1);
        pages.peek(HUGE + (16 + page) * PAGE);
    }
    let hole = fixture.sparse("hole", HUGE as u64)?;
    small(&hole, HUGE)?.peek(0);
    require_none(&file, "a file")?;
    require_none(&hole, "a hole")?;
    let mut detail = "without the multi-generational LRU";
    if Path::new(LRU_GEN).exists() {
        let lru = LruGen::enable()?;
        require_none(&file, "a file, with the multi-generational LRU")?;
        require_none(&hole, "a hole, with the multi-generational LRU")?;
        drop(lru);
        detail = "";
    }
    // The page cache of another file is still counted.
    let other = File::open(std::env::current_exe().context("current_exe")?)
        .context("cannot open the program")?;
    let got = cachestat(&other, 0, 0)?;
    ensure!(
        got[0] > 0,
        "nothing of this running program is counted in the page cache: {got:?}"
    );
    drop((map, pages, file, hole));
    fixture.finish()?;
    Ok(detail.into())
}
