// SPDX-License-Identifier: GPL-2.0

//! Files that share blocks: a store to one copies the block first, whatever the
//! size of the pages, and is not seen in the other.
//!
//! A copy is rarely 2 MiB long, so a store to a shared range that is one entry
//! of 2 MiB replaces that by an entry of 4 KiB. In C, 6.12 leaves the rest of the
//! large entry as if it were small, and miscounts: the inode dies by a BUG when
//! it is evicted. So tests that lead there are skipped on C.

use nix::sys::statvfs::fstatvfs;

use super::recovery::{sector_of, List};
use super::{large, require_rust, signal_of, small, Config, Fixture, REFLINK};
use crate::flushed::Flushes;
use crate::tests::prelude::*;
use crate::userfault::LateMemory;

const LEN: usize = 3 * HUGE;
/// The reason why tests are skipped on C.
pub const MISCOUNTS: &str = "which miscounts entries here, and dies when it evicts the inode";

nix::ioctl_write_int!(ficlone, 0x94, 9);
nix::ioctl_write_ptr!(ficlonerange, 0x94, 13, CloneRange);
// The size is that of the structure without its array.
nix::ioctl_readwrite_bad!(
    fideduperange,
    nix::request_code_readwrite!(0x94, 54, 24),
    Dedupe
);

declare! {
    /// a store, a write or a hole in one of two files that share blocks is seen in the other, or its
    /// own bytes around it are lost when the block is copied
    "fsdax::clone::store" for [REFLINK], 120 s => |config| stores(config, false)
}

declare! {
    /// the same in pages of 2 MiB, of which the store copies a part; or the inode cannot be evicted
    /// afterwards
    "fsdax::clone::store-large" for [REFLINK], 60 s, essential "xfs-reflink-dev-e820" => |config| {
            require_rust(MISCOUNTS)?;
            stores(config, true)
        }
}

/// Shares all blocks of `from` with `to`.
pub fn clone(from: &File, to: &File) -> Result<()> {
    // SAFETY: FICLONE takes no pointers, so no argument can be invalid memory.
    unsafe { ficlone(to.as_raw_fd(), from.as_raw_fd() as u64) }.context("FICLONE")?;
    Ok(())
}

/// struct file_clone_range.
#[repr(C)]
struct CloneRange {
    from: i64,
    at: u64,
    len: u64,
    to: u64,
}

pub fn clone_range(from: &File, at: usize, len: usize, to: &File, target: usize) -> Result<()> {
    let range = CloneRange {
        from: from.as_raw_fd().into(),
        at: at as u64,
        len: len as u64,
        to: target as u64,
    };
    // SAFETY: The structure is the one of the request, and outlives the call.
    unsafe { ficlonerange(to.as_raw_fd(), &range) }.context("FICLONERANGE")?;
    Ok(())
}

/// A file with its expected bytes, and a mapping.
struct Half {
    file: File,
    map: Mapping,
    want: Vec<u8>,
    name: &'static str,
}

impl Half {
    fn check(&self, what: &str) -> Result<()> {
        let what = format!("{} after {what}", self.name);
        self.map.require(0, &self.want, &what)?;
        let mut got = vec![0; self.want.len()];
        self.file.read_exact_at(&mut got, 0).context("read")?;
        data::require_same(&self.want, &got, format_args!("{what}, by read()"))
    }

    fn store(&mut self, at: usize, seed: u64, len: usize) {
        let bytes = data::bytes(seed, len);
        self.map.write(at, &bytes);
        self.want[at..at + len].copy_from_slice(&bytes);
    }

    fn write(&mut self, at: usize, seed: u64, len: usize) -> Result<()> {
        let bytes = data::bytes(seed, len);
        self.file
            .write_all_at(&bytes, at as u64)
            .context("write to a shared block")?;
        self.want[at..at + len].copy_from_slice(&bytes);
        Ok(())
    }
}

/// Creates a file, and another with the same blocks. `touched` means that the
/// first has been stored to through the mapping that it keeps.
fn pair(fixture: &Fixture, touched: bool, wide: bool) -> Result<[Half; 2]> {
    let map = |file: &File| match wide {
        true => large(file, LEN),
        false => small(file, LEN),
    };
    let want = data::bytes(1, LEN);
    let file = fixture.written("first", &want)?;
    let first = Half {
        map: map(&file)?,
        file,
        want: want.clone(),
        name: "the first file",
    };
    if touched {
        first.map.prefault_write(PAGE);
    }
    let file = fixture.sparse("second", 0)?;
    clone(&first.file, &file)?;
    let second = Half {
        map: map(&file)?,
        file,
        want,
        name: "the second file",
    };
    Ok([first, second])
}

fn stores(config: &Config, wide: bool) -> Result<()> {
    let fixture = Fixture::create(config)?;
    for touched in [false, true] {
        let how = match touched {
            true => "files that were stored to before",
            false => "files that were not stored to before",
        };
        let mut halves = pair(&fixture, touched, wide)?;
        different(&mut halves).context(how)?;
        let flushes = Flushes::start()?;
        for half in &halves {
            half.map.prefault_write(PAGE);
            let stored = flushes.stored(&half.map, 0, LEN)?;
            half.file.sync_all().context("fsync")?;
            flushes.require(&stored, "fsync")?;
            half.check("fsync")?;
        }
    }
    // The device must hold the bytes too.
    let mut halves = pair(&fixture, true, wide)?;
    different(&mut halves)?;
    let want = halves.map(|half| half.want);
    let fixture = fixture.remount("dax")?;
    for (name, want) in ["first", "second"].iter().zip(want) {
        let got = std::fs::read(fixture.path(name))?;
        data::require_same(
            &want,
            &got,
            format_args!("the {name} file after mounting again"),
        )?;
    }
    fixture.finish()
}

/// Stores different bytes to each half, in every way.
fn different(halves: &mut [Half; 2]) -> Result<()> {
    let both = |halves: &[Half; 2], what: &str| -> Result<()> {
        halves.iter().try_for_each(|half| half.check(what))
    };
    both(halves, "FICLONE")?;
    let private = Mapping::with(
        &halves[1].file,
        0,
        LEN,
        HUGE,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE,
    )?;
    private.write(9 * PAGE, &data::bytes(3, PAGE));
    both(halves, "a store to a private mapping")?;
    halves[0].store(5 * PAGE + 9, 10, 100);
    both(halves, "a store to the first")?;
    halves[1].store(HUGE + 7 * PAGE, 11, 3 * PAGE + 1);
    both(halves, "stores to the second")?;
    halves[1].store(5 * PAGE + 50, 12, 10);
    both(halves, "a store to both sides of one copy")?;
    halves[0].write(2 * HUGE + PAGE - 10, 13, 2 * PAGE)?;
    both(halves, "a write to the first")?;
    halves[1].write(HUGE - 1, 14, 2)?;
    both(halves, "a write to the second")?;

    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    fallocate(&halves[0].file, mode, 100, PAGE as u64).context("punching a hole")?;
    halves[0].want[100..100 + PAGE].fill(0);
    both(halves, "a hole in the first")?;
    fallocate(
        &halves[1].file,
        libc::FALLOC_FL_ZERO_RANGE,
        2 * HUGE as u64 + 77,
        3 * PAGE as u64,
    )
    .context("zeroing a range")?;
    halves[1].want[2 * HUGE + 77..2 * HUGE + 77 + 3 * PAGE].fill(0);
    both(halves, "zeros in the second")?;

    // Shared again in part, across pages that are mapped and dirty.
    let [first, second] = halves;
    clone_range(&first.file, HUGE / 2, HUGE, &second.file, HUGE)?;
    second.want[HUGE..2 * HUGE].copy_from_slice(&first.want[HUGE / 2..HUGE / 2 + HUGE]);
    both(halves, "FICLONERANGE")?;
    halves[0].store(HUGE, 15, 20);
    halves[1].store(HUGE + PAGE, 16, 20);
    both(halves, "stores to reshared blocks")?;
    fallocate(
        &halves[0].file,
        libc::FALLOC_FL_UNSHARE_RANGE,
        0,
        LEN as u64,
    )
    .context("FALLOC_FL_UNSHARE_RANGE")?;
    both(halves, "FALLOC_FL_UNSHARE_RANGE")?;
    halves[0].store(2 * HUGE - 10, 17, 20);
    halves[1].store(2 * HUGE - 30, 18, 20);
    both(halves, "stores to unshared blocks")
}

declare! {
    /// write() to a shared block, from a buffer that is shorter than the request, leaves in the file
    /// the old content of the new block: perhaps the data of a file that was removed
    "fsdax::clone::differs_short_write" for [REFLINK], 60 s, essential "xfs-reflink-dev-e820"
        => short_write
}
/// Tests a buffer of `GOOD` bytes; the write requests more, and ends in a page.
fn short_write(config: &Config) -> Result<()> {
    const GOOD: usize = PAGE + 100;
    const ASKED: usize = 2 * PAGE + 10;
    let fixture = Fixture::create(config)?;
    let mut want = data::bytes(1, 4 * PAGE);
    let file = fixture.written("first", &want)?;
    let other = fixture.sparse("second", 0)?;
    clone(&file, &other)?;
    let buffer = Mapping::anonymous(3 * PAGE)?;
    let at = 2 * PAGE - GOOD;
    buffer.write(at, &data::bytes(2, GOOD));
    buffer
        .protect(2 * PAGE, PAGE, libc::PROT_NONE)
        .context("mprotect")?;
    let from = (buffer.addr() + at) as *const libc::c_void;
    // SAFETY: The kernel checks the buffer itself, which is the purpose of the test.
    let done = unsafe { libc::pwrite(file.as_raw_fd(), from, ASKED, 0) };
    let e = io::Error::last_os_error();
    ensure!(
        done == GOOD as isize,
        "a write of {ASKED} bytes, of which {GOOD} are mapped, returns {done}: {e}"
    );
    let old = want.clone();
    want[..GOOD].copy_from_slice(&data::bytes(2, GOOD));
    for (name, file, want) in [("first", &file, &want), ("second", &other, &old)] {
        let mut got = vec![0; want.len()];
        file.read_exact_at(&mut got, 0).context("read")?;
        data::require_same(
            want,
            &got,
            format_args!("the {name} file after a short write"),
        )?;
    }
    drop((file, other));
    fixture.finish()
}

/// A file of 32 pages for which xfs has set blocks aside. Pages 6 and 7 are shared with another file,
/// page 8 is unwritten, and page 9 a hole. A write to page 6 has made xfs allocate 128 KiB, of which
/// that page has one block; the others are there for its neighbours, and all have old data.
struct SetAside {
    file: File,
    path: PathBuf,
    want: Vec<u8>,
    /// The sector of page 6, whose neighbours have the next ones.
    sector: u64,
    /// Keeps the blocks shared.
    _other: File,
}

impl SetAside {
    const LEN: usize = 32 * PAGE;

    fn create(fixture: &Fixture) -> Result<Self> {
        let disk = open_rw(&fixture.namespace.node()?, true)?;
        let old = Mapping::anonymous(PAGE)?;
        old.write(0, &[0xa5; PAGE]);
        let fill = |sector: u64| {
            pwrite_all(&disk, &old, 0, PAGE, sector * 512, PAGE).context("filling a free block")
        };
        let (file, path) = (
            fixture.sparse("first", Self::LEN as u64)?,
            fixture.path("first"),
        );
        let mut want = vec![0; Self::LEN];
        let shared = 6 * PAGE..8 * PAGE;
        want[shared.clone()].copy_from_slice(&data::bytes(1, 2 * PAGE));
        file.write_all_at(&want[shared.clone()], shared.start as u64)
            .context("write")?;
        fallocate(&file, 0, 8 * PAGE as u64, PAGE as u64).context("fallocate")?;
        file.sync_all().context("fsync")?;
        let other = fixture.sparse("second", 0)?;
        clone_range(&file, shared.start, shared.len(), &other, 0)?;
        fill(sector_of(&path, 8 * PAGE)?)?;
        let mut this = Self {
            file,
            path,
            want,
            sector: 0,
            _other: other,
        };
        this.write(6 * PAGE + 50)?;
        this.sector = this.sector(6)?;
        for page in 7..10 {
            fill(this.sector + (page - 6) * 8)?;
        }
        Ok(this)
    }

    /// Returns where a page is.
    fn sector(&self, page: usize) -> Result<u64> {
        self.file.sync_all().context("fsync")?;
        sector_of(&self.path, page * PAGE)
    }

    fn write(&mut self, at: usize) -> Result<()> {
        let bytes = data::bytes(at as u64, 100);
        self.want[at..at + 100].copy_from_slice(&bytes);
        self.file.write_all_at(&bytes, at as u64).context("write")
    }

    /// Requires that the pages have blocks that were set aside, and no old data.
    fn require(&self, pages: std::ops::Range<usize>) -> Result<()> {
        for page in pages {
            let (got, aside) = (self.sector(page)?, self.sector + (page as u64 - 6) * 8);
            ensure!(
                got == aside,
                "this proves nothing: page {page} has sector {got}, not {aside}"
            );
        }
        let map = small(&self.file, Self::LEN)?;
        map.require(0, &self.want, "the pages around what was written")?;
        let mut got = vec![0; Self::LEN];
        self.file.read_exact_at(&mut got, 0).context("read")?;
        data::require_same(&self.want, &got, "the file, by read()")
    }
}

declare! {
    /// write() to a part of a page without data, for which xfs has set a block aside with the copy of
    /// a shared one beside it, shows old data of the device in the rest of the page
    "fsdax::clone::without-data" for [REFLINK], 60 s, essential "xfs-reflink-dev-e820" => without_data
}
fn without_data(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let mut aside = SetAside::create(&fixture)?;
    for page in 7..10 {
        aside.write(page * PAGE + 50)?;
    }
    aside.require(7..10)?;
    drop(aside);
    fixture.finish()
}

declare! {
    /// write() to a shared block or to a block that xfs has set aside, from a buffer that is unmapped
    /// during the call, leaves old data of the device behind the bytes that were written
    "fsdax::clone::differs_short_write_late" for [REFLINK], 60 s => short_write_late
}
/// The kernel looks at the buffers before it locks anything. It waits for the last one, while the
/// second is taken away. C copies the second one before that, so all of the write is done there.
fn short_write_late(config: &Config) -> Result<()> {
    const GOOD: usize = 100;
    let fixture = Fixture::create(config)?;
    let mut aside = SetAside::create(&fixture)?;
    for page in 7..10 {
        let bytes = data::bytes(20 + page as u64, 2 * PAGE);
        let buffer = LateMemory::create(&bytes)?;
        let (file, from) = (aside.file.try_clone().context("dup")?, buffer.map.addr());
        let write = Background::start(move || {
            let part = |at: usize, len: usize| libc::iovec {
                iov_base: (from + at) as *mut libc::c_void,
                iov_len: len,
            };
            let parts = [part(0, GOOD), part(PAGE, 10), part(2 * PAGE, 10)];
            // SAFETY: The vector has three parts of a buffer that exists until the write has ended,
            // and the kernel checks them itself.
            let done =
                unsafe { libc::pwritev(file.as_raw_fd(), parts.as_ptr(), 3, (page * PAGE) as i64) };
            ensure!(
                done == GOOD as isize,
                "a write whose second buffer is gone returns {done} instead of {GOOD}"
            );
            Ok(())
        });
        buffer.wait()?;
        buffer
            .map
            .protect(PAGE, PAGE, libc::PROT_NONE)
            .context("mprotect")?;
        buffer.provide(&[0; PAGE])?;
        write.must_end("a write whose last buffer is there")?;
        aside.want[page * PAGE..page * PAGE + GOOD].copy_from_slice(&bytes[..GOOD]);
    }
    aside.require(7..10)?;
    drop(aside);
    fixture.finish()
}

/// A file of which pages 6 and 7 are shared with another file, and page 8 is not, but has a place
/// in the copy that xfs makes for a store to page 6: it copies 128 KiB around.
struct Beside {
    file: File,
    map: Mapping,
    want: Vec<u8>,
    /// Keeps the blocks shared.
    _other: File,
}

impl Beside {
    fn create(fixture: &Fixture, name: &str) -> Result<Self> {
        const LEN: usize = 64 * PAGE;
        let want = data::bytes(1, LEN);
        let file = fixture.written(name, &want)?;
        let other = fixture.sparse(&format!("{name}-shares"), 0)?;
        clone_range(&file, 6 * PAGE, 2 * PAGE, &other, 0)?;
        let map = small(&file, LEN)?;
        Ok(Self {
            file,
            map,
            want,
            _other: other,
        })
    }

    /// Stores to page 8, and then to page 6.
    fn store(&mut self) {
        for (page, value) in [(8, 8), (6, 6)] {
            self.want[page * PAGE + 1] = value;
            self.map.poke(page * PAGE + 1, value);
        }
    }

    fn require(&self, what: &str) -> Result<()> {
        self.map.require(0, &self.want, what)
    }
}

declare! {
    /// write() to shared blocks, from a buffer that is shorter than the request, makes the kernel
    /// forget stores to the pages that it has not written: fsync does not flush them
    "fsdax::clone::differs_short_write_dirty" for [REFLINK], 60 s => short_write_dirty
}
fn short_write_dirty(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let flushes = Flushes::start()?;
    let mut beside = Beside::create(&fixture, "data")?;
    beside.store();
    let stored = flushes.stored(&beside.map, 8 * PAGE, PAGE)?;
    let buffer = Mapping::anonymous(2 * PAGE)?;
    let bytes = data::bytes(2, PAGE);
    buffer.write(0, &bytes);
    buffer
        .protect(PAGE, PAGE, libc::PROT_NONE)
        .context("mprotect")?;
    let done = pwrite_asked(&beside.file, &buffer, 4 * PAGE, 7 * PAGE)?;
    ensure!(
        done == PAGE,
        "a write of which a page is mapped returns {done}"
    );
    beside.want[7 * PAGE..8 * PAGE].copy_from_slice(&bytes);
    beside.file.sync_all().context("fsync")?;
    flushes.require(&stored, "a page that write() did not get to, after fsync")?;
    beside.require("the file after a short write")?;
    drop((flushes, beside));
    fixture.finish()
}

/// Calls pwrite once for more bytes than the mapping may have.
fn pwrite_asked(file: &File, buffer: &Mapping, len: usize, at: usize) -> Result<usize> {
    let from = buffer.addr() as *const libc::c_void;
    // SAFETY: The kernel checks the buffer itself, which is the purpose of the tests.
    let done = unsafe { libc::pwrite(file.as_raw_fd(), from, len, at as i64) };
    usize::try_from(done).map_err(|_| io::Error::last_os_error().into())
}

declare! {
    /// zeroing or unsharing fails because the old block is bad, and the kernel forgets stores to that
    /// page: fsync does not flush them
    "fsdax::clone::failed-copy-dirty" for [REFLINK], 60 s => failed_copy_dirty
}
fn failed_copy_dirty(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let list = List::of(&fixture.namespace.node()?)?;
    let flushes = Flushes::start()?;
    type Change = fn(&File) -> io::Result<()>;
    let changes: [(&str, Change); 2] = [
        ("truncated", |file| file.set_len(8 * PAGE as u64 + 100)),
        ("unshared", |file| {
            let mode = libc::FALLOC_FL_UNSHARE_RANGE;
            fallocate(file, mode, 8 * PAGE as u64, PAGE as u64)
        }),
    ];
    for (name, change) in changes {
        let mut beside = Beside::create(&fixture, name)?;
        beside.store();
        let stored = flushes.stored(&beside.map, 8 * PAGE, 100)?;
        let sector = sector_of(&fixture.path(name), 8 * PAGE)?;
        list.add(sector, 1)?;
        let failed = change(&beside.file);
        let errno = failed.as_ref().err().and_then(io::Error::raw_os_error);
        ensure!(
            errno == Some(libc::EIO),
            "a page with a bad block, {name}, returns {failed:?}"
        );
        // The filesystem may have shut nothing down; fsync may fail for other reasons than this.
        let _ = beside.file.sync_all();
        flushes.require(&stored, name)?;
        // Written as a whole it is good again, so that the file can be removed and checked.
        let page = Mapping::anonymous(PAGE)?;
        let done = pwrite_asked(&beside.file, &page, PAGE, 8 * PAGE)?;
        ensure!(done == PAGE, "write() of the bad page returns {done}");
    }
    drop(flushes);
    fixture.finish()
}

declare! {
    /// write() of whole pages to shared blocks fails with EIO because the old blocks are bad, which
    /// it overwrites
    "fsdax::clone::differs_bad_source" for [REFLINK], 60 s => bad_source
}
fn bad_source(config: &Config) -> Result<()> {
    const LEN: usize = 16 * PAGE;
    let fixture = Fixture::create(config)?;
    let list = List::of(&fixture.namespace.node()?)?;
    let mut want = data::bytes(1, LEN);
    let file = fixture.written("first", &want)?;
    let other = fixture.sparse("second", 0)?;
    clone(&file, &other)?;
    for page in [3, 9] {
        list.add(sector_of(&fixture.path("first"), page * PAGE)? + 2, 1)?;
    }
    // The bad page alone, and in the middle of a write that begins and ends within pages.
    for (at, len) in [(3 * PAGE, PAGE), (8 * PAGE + 100, 2 * PAGE)] {
        let bytes = data::bytes(at as u64, len);
        file.write_all_at(&bytes, at as u64)
            .with_context(|| format!("write() of {len:#x} bytes at {at:#x}, over bad blocks"))?;
        want[at..at + len].copy_from_slice(&bytes);
    }
    small(&file, LEN)?.require(0, &want, "the first file")?;
    list.require(2, "after the first file got other blocks")?;
    let mut page = [0; PAGE];
    let read = other.read_at(&mut page, 3 * PAGE as u64);
    let errno = read.as_ref().err().and_then(io::Error::raw_os_error);
    ensure!(
        errno == Some(libc::EIO),
        "read() of the bad page of the second file returns {read:?}"
    );
    // A part of a page needs the old data of the rest.
    let part = other.write_at(&[0; 100], 9 * PAGE as u64);
    ensure!(part.is_err(), "a part of a bad page was written");
    drop((file, other));
    fixture.finish()
}

/// Writes two shared pages from a buffer whose second page arrives late, and calls `meanwhile` with
/// a mapping of the file before it does. Returns the file, the mapping and the written bytes.
fn during_write(
    fixture: &Fixture,
    meanwhile: impl FnOnce(&Mapping),
) -> Result<(File, Mapping, Vec<u8>)> {
    let old = data::bytes(1, 16 * PAGE);
    let file = fixture.written("first", &old)?;
    clone(&file, &fixture.sparse("second", 0)?)?;
    let map = small(&file, 16 * PAGE)?;
    let bytes = data::bytes(2, 2 * PAGE);
    let buffer = LateMemory::create(&bytes[..PAGE])?;
    let (same, from) = (file.try_clone().context("dup")?, buffer.map.addr());
    let write = Background::start(move || {
        let from = from as *const libc::c_void;
        // SAFETY: The kernel checks the buffer itself; it exists until the write has ended.
        let done = unsafe { libc::pwrite(same.as_raw_fd(), from, 2 * PAGE, 4 * PAGE as i64) };
        ensure!(
            done == 2 * PAGE as isize,
            "a write of 2 pages returns {done}"
        );
        Ok(())
    });
    buffer.wait()?;
    meanwhile(&map);
    let mut last = [0; PAGE];
    last.copy_from_slice(&bytes[PAGE..]);
    buffer.provide(&last)?;
    write.must_end("a write whose buffer is there")?;
    Ok((file, map, bytes))
}

declare! {
    /// a store to a shared page during a write() of it copies the old data over the written data, and
    /// write() reports success
    "fsdax::clone::differs_store_during_write" for [REFLINK], 60 s => store_during_write
}
fn store_during_write(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let (file, map, mut want) = during_write(&fixture, |map| map.poke(4 * PAGE + 100, 7))?;
    // Either order of the store and the write.
    let mut got = vec![0; 2 * PAGE];
    file.read_exact_at(&mut got, 4 * PAGE as u64)
        .context("read")?;
    if got[100] == 7 {
        want[100] = 7;
    }
    data::require_same(&want, &got, "the pages that were written, by read()")?;
    map.require(
        4 * PAGE,
        &want,
        "the pages that were written, in the mapping",
    )?;
    drop((file, map));
    fixture.finish()
}

declare! {
    /// a load from a shared page during a write() of it keeps the old block mapped: the mapping never
    /// shows the written data, and a store to it faults for ever
    "fsdax::clone::differs_load_during_write" for [REFLINK], 60 s => load_during_write
}
fn load_during_write(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let (file, map, mut want) = during_write(&fixture, |map| {
        map.peek(4 * PAGE);
    })?;
    // A fault for ever is not the end of the test.
    let stored = signal_of(|| map.poke(4 * PAGE + 100, 7))?;
    ensure!(
        stored.is_none(),
        "a store after the write ends by {stored:?}"
    );
    want[100] = 7;
    map.require(
        4 * PAGE,
        &want,
        "the pages that were written, in the mapping",
    )?;
    let mut got = vec![0; 2 * PAGE];
    file.read_exact_at(&mut got, 4 * PAGE as u64)
        .context("read")?;
    data::require_same(&want, &got, "the pages that were written, by read()")?;
    drop((file, map));
    fixture.finish()
}

declare! {
    /// write() to shared blocks from a mapping of these blocks hangs, or writes other bytes
    "fsdax::clone::own-buffer" for [REFLINK], 60 s => own_buffer
}
/// The buffer is the mapping of what is written: the removal of its entries unmaps it.
fn own_buffer(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let want = data::bytes(1, 16 * PAGE);
    let file = fixture.written("first", &want)?;
    clone(&file, &fixture.sparse("second", 0)?)?;
    let map = small(&file, 16 * PAGE)?;
    map.require(0, &want, "the file")?;
    let done = pwrite_asked(&file, &map, 16 * PAGE, 0)?;
    ensure!(
        done == 16 * PAGE,
        "a write from its own pages returns {done}"
    );
    map.require(0, &want, "the file, written from its own pages")?;
    let mut got = vec![0; want.len()];
    file.read_exact_at(&mut got, 0).context("read")?;
    data::require_same(
        &want,
        &got,
        "the file, written from its own pages, by read()",
    )?;
    drop((file, map));
    fixture.finish()
}

/// struct file_dedupe_range with one struct file_dedupe_range_info.
#[repr(C)]
#[derive(Default)]
struct Dedupe {
    at: u64,
    len: u64,
    count: u16,
    reserved: [u16; 3],
    to: i64,
    target: u64,
    done: u64,
    status: i32,
    reserved_too: u32,
}

/// Returns the number of bytes that are shared now; `None` if they differ.
fn deduped(from: &File, at: usize, len: usize, to: &File, target: usize) -> Result<Option<u64>> {
    let mut request = Dedupe {
        at: at as u64,
        len: len as u64,
        count: 1,
        to: to.as_raw_fd().into(),
        target: target as u64,
        ..Dedupe::default()
    };
    // SAFETY: The structure is the one of the request, with the single range that
    // its count names.
    unsafe { fideduperange(from.as_raw_fd(), &mut request) }.context("FIDEDUPERANGE")?;
    match request.status {
        0 => Ok(Some(request.done)),
        1 => Ok(None),
        e => Err(io::Error::from_raw_os_error(-e)).context("FIDEDUPERANGE of a range"),
    }
}

declare! {
    /// FIDEDUPERANGE shares blocks that differ, or does not share equal ones
    "fsdax::clone::dedupe" for [REFLINK], 60 s, essential "xfs-reflink-dev-e820" => dedupe
}
fn dedupe(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let bytes = data::bytes(1, LEN);
    let mut other = bytes.clone();
    other[HUGE + 3 * PAGE + 4095] ^= 1;
    let first = fixture.written("first", &bytes)?;
    let second = fixture.written("second", &other)?;
    let (map, map_other) = (small(&first, LEN)?, small(&second, LEN)?);
    map.prefault_write(PAGE);
    map_other.prefault_write(PAGE);
    let free = free_blocks(&fixture)?;
    for (at, len, equal) in [
        (0, HUGE, true),
        (HUGE, HUGE, false),
        (HUGE + 3 * PAGE, PAGE, false),
        (HUGE + 2 * PAGE, PAGE, true),
        (HUGE + 4 * PAGE, LEN - HUGE - 4 * PAGE, true),
    ] {
        let want = equal.then_some(len as u64);
        let got = deduped(&first, at, len, &second, at)?;
        ensure!(
            got == want,
            "FIDEDUPERANGE of {len:#x} bytes at {at:#x} returns {got:?} instead of {want:?}"
        );
        map.require(0, &bytes, "the first file")?;
        map_other.require(0, &other, "the second file")?;
    }
    first.sync_all().context("fsync")?;
    let gained = free_blocks(&fixture)?.saturating_sub(free);
    ensure!(
        gained > (HUGE / PAGE) as u64,
        "sharing 5 MiB released {gained} blocks"
    );
    map_other.write(8 * PAGE, &[7; 9]);
    other[8 * PAGE..8 * PAGE + 9].fill(7);
    map.require(0, &bytes, "the first file after a store to the second")?;
    map_other.require(0, &other, "the second file after a store")?;
    drop((map, map_other, first, second));
    fixture.finish()?;
    Ok(format!("{gained} blocks released"))
}

/// Returns the number of free blocks of the filesystem.
pub fn free_blocks(fixture: &Fixture) -> Result<u64> {
    let dir = File::open(fixture.mount.dir()).context("cannot open the mount point")?;
    Ok(fstatvfs(dir).context("fstatvfs")?.blocks_available())
}
