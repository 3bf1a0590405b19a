// SPDX-License-Identifier: GPL-2.0

//! Memory that is known to be bad, by the disk's list of bad blocks: mapping or reading it
//! fails, and writing whole pages of it makes it good.
//!
//! The mock platform cannot show this, because it refuses access to all of a disk with
//! bad blocks. A disk without firmware information, on memory that the kernel's command line
//! makes persistent, takes a list from sysfs, and clears ranges on request.

use std::sync::atomic::AtomicUsize;

use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

use super::{config, large, require_sigbus, small, Config, Fixture, EXT4_E820};
use crate::filesystem::Kind;
use crate::kprobe::Kprobe;
use crate::tests::prelude::*;

const LEN: usize = 3 * HUGE;
const SECTOR: usize = 512;
/// Offset of the bad page, in the middle of a huge page.
const BAD: usize = HUGE + 37 * PAGE;
const XFS_E820: Config = config(Kind::Xfs, Map::Dev, Bus::E820);

/// The list of bad blocks of a disk.
pub struct List(PathBuf);

impl List {
    pub fn of(node: &Path) -> Result<Self> {
        let name = node.file_name().context("a disk without a name")?;
        Ok(Self(Path::new("/sys/block").join(name).join("badblocks")))
    }

    pub fn open(&self) -> Result<File> {
        File::open(&self.0).with_context(|| format!("cannot open {}", self.0.display()))
    }

    pub fn add(&self, sector: u64, count: usize) -> Result<()> {
        fs::write(&self.0, format!("{sector} {count}"))
            .with_context(|| format!("cannot add to {}", self.0.display()))
    }

    pub fn require(&self, lines: usize, when: &str) -> Result<()> {
        let known = system::read(&self.0)?;
        ensure!(
            known.lines().filter(|l| !l.trim().is_empty()).count() == lines,
            "{when} the disk lists {known:?}, not {lines} ranges"
        );
        Ok(())
    }
}

/// Returns the sector of the disk that holds a byte of a file.
pub fn sector_of(path: &Path, at: usize) -> Result<u64> {
    let wanted = (at / SECTOR) as u64;
    let listed = Cmd::new("filefrag -v -e -b512").arg(path).ok()?;
    let found = listed.stdout.lines().find_map(|line| {
        let numbers: Vec<u64> = line
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect();
        // Index, logical from and to, physical from.
        match *numbers {
            [_, first, last, start, ..] if line.contains("..") => (first..=last)
                .contains(&wanted)
                .then(|| start + wanted - first),
            _ => None,
        }
    });
    found.with_context(|| format!("byte {at:#x} has no block: {}", listed.stdout))
}

declare! {
    /// memory on the list of bad blocks is mapped or read, good memory next to it is not, a part of a
    /// bad page is written, or whole pages that are written stay bad
    "fsdax::recovery" for [EXT4_E820, XFS_E820], 60 s, essential "xfs-dev-e820" => recovery
}
fn recovery(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let mut bytes = data::bytes(6, LEN);
    drop(fixture.written("data", &bytes)?);
    // Nothing of it is mapped, and it has no entries.
    let fixture = fixture.remount("dax")?;
    let list = List::of(&fixture.namespace.node()?)?;
    let sector = sector_of(&fixture.path("data"), BAD)?;
    list.require(0, "at first")?;
    list.add(sector + 3, 1)?;

    let file = fixture.open("data")?;
    require_readable(&file, &bytes)?;
    list.require(1, "after it was only read and mapped")?;
    let cleared = Kprobe::start("cleared", &["nvdimm_clear_poison".to_owned()])?;
    partly(&file, &bytes)?;
    list.require(1, "after a part of the page could not be written")?;
    let calls = cleared.take_count()?;
    ensure!(
        calls == 0,
        "the device was asked {calls} times to clear a page that cannot be written as a whole"
    );

    // First the bad page alone, then in the middle of others.
    written_over(&file, &mut bytes, BAD, PAGE)?;
    list.require(0, "after the page was written")?;
    ensure!(
        cleared.take_count()? > 0,
        "this proves nothing: no call of nvdimm_clear_poison() was seen"
    );
    drop(cleared);
    list.add(sector, 8)?;
    list.add(sector + 16, 1)?;
    written_over(&file, &mut bytes, BAD - 2 * PAGE, 7 * PAGE)?;
    list.require(0, "after the pages were written")?;

    drop(file);
    let fixture = fixture.remount("dax")?;
    let file = fixture.open("data")?;
    large(&file, LEN)?.require(0, &bytes, "the file, mounted again")?;
    drop(file);
    fixture.finish()
}

/// Where a child's handler stores `si_code`, `si_addr` and `si_addr_lsb`: the address of memory that
/// is shared with the parent.
static SHARED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: The kernel passes a valid structure, in which the address of SIGBUS is followed by a
    // short. The shared memory was mapped before the handler was installed, and `_exit` ends the
    // process without returning to the load.
    unsafe {
        let lsb = info.cast::<u8>().add(24).cast::<i16>().read();
        let to = SHARED.load(Ordering::SeqCst) as *mut u64;
        to.write_volatile((*info).si_code as u64);
        to.add(1).write_volatile((*info).si_addr() as u64);
        to.add(2).write_volatile(lsb as u64);
        libc::_exit(0);
    }
}

/// Requires that a load is reported as a memory error, of one page: a program takes any other SIGBUS
/// for a file that has become shorter.
fn require_memory_error(map: &Mapping, at: usize) -> Result<()> {
    let seen = Mapping::shared_memory(PAGE)?;
    let child = spawn(|| {
        SHARED.store(seen.addr(), Ordering::SeqCst);
        let handler = SigHandler::SigAction(on_sigbus);
        let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
        // SAFETY: The handler stores to memory that is mapped, and exits.
        unsafe { sigaction(Signal::SIGBUS, &action) }.context("sigaction")?;
        map.peek(at);
        bail!("a load of bad memory raises no SIGBUS")
    })?;
    child.join(20, "a load of bad memory")?;
    let [code, addr, lsb] = [0, 8, 16].map(|at| seen.word64(at).load(Ordering::SeqCst));
    let want = (libc::BUS_MCEERR_AR as u64, (map.addr() + at) as u64, 12);
    ensure!(
        (code, addr, lsb) == want,
        "the SIGBUS of bad memory has si_code, si_addr and si_addr_lsb {:x?} instead of {want:x?}",
        (code, addr, lsb)
    );
    Ok(())
}

/// Requires that all but the bad page is readable, in mappings of both sizes and by read().
fn require_readable(file: &File, bytes: &[u8]) -> Result<()> {
    let memory = Mapping::anonymous(PAGE)?;
    for map in [large(file, LEN)?, small(file, LEN)?] {
        require_memory_error(&map, BAD + 100)?;
        map.require(0, &bytes[..BAD], "the bytes before it")?;
        map.require(BAD + PAGE, &bytes[BAD + PAGE..], "the bytes after it")?;
    }
    let read = pread_once(file, &memory, 0, PAGE, BAD as u64);
    require_errno(read, libc::EIO, "read() of it")?;
    for good in [BAD - PAGE, BAD + PAGE] {
        let n = pread_once(file, &memory, 0, PAGE, good as u64).context("read() next to it")?;
        ensure!(n == PAGE, "a short read() next to it");
        memory.require(0, &bytes[good..good + PAGE], "read() next to it")?;
    }
    Ok(())
}

/// Requires that writing a part of a bad page fails, because the other bytes are unknown. As
/// nothing is copied, the errno is that of an unmapped buffer, in C as well.
fn partly(file: &File, bytes: &[u8]) -> Result<()> {
    let memory = Mapping::anonymous(PAGE)?;
    memory.write(0, &bytes[..PAGE]);
    for (at, len) in [(BAD, 100), (BAD + 100, PAGE - 100), (BAD + SECTOR, SECTOR)] {
        let written = pwrite_once(file, &memory, 0, len, at as u64);
        require_errno(
            written,
            libc::EFAULT,
            format!("write() of {len} bytes of it"),
        )?;
    }
    Ok(())
}

declare! {
    /// a bad page of which write() has overwritten only a part, because the buffer ends early,
    /// becomes good, and the rest of it reads as whatever the device has left there
    "fsdax::recovery::differs_short_write" for [EXT4_E820], 60 s => short_write
}
/// A buffer of half a page; the write requests a page.
fn short_write(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let mut bytes = data::bytes(6, LEN);
    drop(fixture.written("data", &bytes)?);
    let fixture = fixture.remount("dax")?;
    let list = List::of(&fixture.namespace.node()?)?;
    list.add(sector_of(&fixture.path("data"), BAD)? + 3, 1)?;
    let file = fixture.open("data")?;
    let memory = Mapping::anonymous(2 * PAGE)?;
    memory.write(0, &data::bytes(8, PAGE));
    memory
        .protect(PAGE, PAGE, libc::PROT_NONE)
        .context("mprotect")?;
    let written = pwrite_once(&file, &memory, PAGE / 2, PAGE, BAD as u64);
    require_errno(written, libc::EFAULT, "write() of half a bad page")?;
    list.require(1, "after half of the page could be written")?;
    let whole = Mapping::anonymous(PAGE)?;
    let read = pread_once(&file, &whole, 0, PAGE, BAD as u64);
    require_errno(read, libc::EIO, "read() of it")?;
    require_sigbus(&large(&file, LEN)?, BAD + 100, "of bad memory")?;
    written_over(&file, &mut bytes, BAD, PAGE)?;
    list.require(0, "after the page was written")?;
    drop(file);
    fixture.finish()
}

fn written_over(file: &File, bytes: &mut [u8], at: usize, len: usize) -> Result<()> {
    let new = data::bytes(at as u64, len);
    let memory = Mapping::anonymous(len)?;
    memory.write(0, &new);
    let mut done = 0;
    // A call may end before the bad memory, or after it.
    while done < len {
        let n = pwrite_once(file, &memory, done, len - done, (at + done) as u64)
            .with_context(|| format!("write() of bad pages, after {done} bytes"))?;
        ensure!(n > 0, "write() of bad pages does nothing");
        done += n;
    }
    bytes[at..at + len].copy_from_slice(&new);
    large(file, LEN)?.require(0, bytes, "the mapping, after bad pages were written")
}
