// SPDX-License-Identifier: GPL-2.0

//! Memory that goes bad under a mapped file, as MADV_HWPOISON pretends: each
//! process that has the page mapped is told where, and loses nothing else.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

use anyhow::{bail, ensure, Context, Result};

use super::{large, place, small, Ground, Place, EXT4, EXT4_E820};
use crate::data;
use crate::filesystem::Kind;
use crate::mapping::{Mapping, PAGE};
use crate::memory::HUGE;
use crate::ndctl::{Bus, Map};
use crate::process::{spawn, Gate};
use crate::tests::Test;

const LEN: usize = 3 * HUGE;
/// In the middle of a huge page.
const BAD: usize = HUGE + 37 * PAGE;
const XFS_RMAP: Place = place(Kind::XfsReflink, Map::Mem, Bus::Acpi);

pub fn tests() -> Vec<Test> {
    let mut tests = super::per_place(
        &[EXT4_E820, XFS_RMAP],
        "poison::alone",
        60,
        "the process that touches bad memory gets no SIGBUS, one with the wrong address or size, or cannot use the \
         rest of the file; or the namespace is of no use afterwards",
        alone,
    );
    tests.extend(super::per_place(
        &[EXT4, XFS_RMAP],
        "poison::shared",
        60,
        "a second process that has the bad page mapped is not told, or is told another address than its own",
        shared,
    ));
    tests.push(Test::new(
        "fsdax::poison::clone",
        60,
        "of two files that share the bad block only one process is told, although each maps it by its own file",
        cloned,
    ));
    tests
}

/// What the last SIGBUS said.
struct Told {
    count: AtomicU32,
    code: AtomicI32,
    addr: AtomicUsize,
    lsb: AtomicI32,
}

static TOLD: Told = Told {
    count: AtomicU32::new(0),
    code: AtomicI32::new(0),
    addr: AtomicUsize::new(0),
    lsb: AtomicI32::new(0),
};

extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid structure. For SIGBUS the address is
    // followed by a short, which the libc crate has no name for; both lie
    // within it.
    let (code, addr, lsb) = unsafe {
        let lsb = info.cast::<u8>().add(24).cast::<i16>().read();
        ((*info).si_code, (*info).si_addr() as usize, lsb)
    };
    TOLD.code.store(code, Ordering::SeqCst);
    TOLD.addr.store(addr, Ordering::SeqCst);
    TOLD.lsb.store(lsb.into(), Ordering::SeqCst);
    TOLD.count.fetch_add(1, Ordering::SeqCst);
}

fn listen() -> Result<()> {
    // SAFETY: all zeroes is a value of this structure, and the handler only
    // stores to atomics.
    let rc = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut())
    };
    ensure!(rc == 0, "sigaction: {}", io::Error::last_os_error());
    Ok(())
}

/// Waits for a SIGBUS that says this.
fn require_told(map: &Mapping, code: i32, lsb: i32) -> Result<()> {
    for _ in 0..200 {
        if TOLD.count.load(Ordering::SeqCst) > 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let got = (
        TOLD.count.load(Ordering::SeqCst),
        TOLD.code.load(Ordering::SeqCst),
        TOLD.addr.load(Ordering::SeqCst).wrapping_sub(map.addr()),
        TOLD.lsb.load(Ordering::SeqCst),
    );
    let want = (1, code, BAD, lsb);
    ensure!(
        got == want,
        "SIGBUS (how often, si_code, offset of si_addr, si_addr_lsb) was {got:x?} instead of {want:x?}"
    );
    Ok(())
}

/// All but the bad page.
fn require_rest(map: &Mapping, bytes: &[u8], what: &str) -> Result<()> {
    map.require(0, &bytes[..BAD], what)?;
    map.require(BAD + PAGE, &bytes[BAD + PAGE..], what)
}

fn make_bad(map: &Mapping) -> Result<()> {
    map.advise(BAD, PAGE, libc::MADV_HWPOISON)
        .context("MADV_HWPOISON")
}

/// In huge pages, or in small ones.
fn sized(file: &File, wide: bool) -> Result<Mapping> {
    match wide {
        true => large(file, LEN),
        false => small(file, LEN),
    }
}

/// Stores everywhere, so that every page is mapped and writable.
fn mapped(file: &File, wide: bool, bytes: &[u8]) -> Result<Mapping> {
    let map = sized(file, wide)?;
    map.write(0, bytes);
    Ok(map)
}

fn lsb(wide: bool) -> i32 {
    match wide {
        true => 21,
        false => 12,
    }
}

fn alone(place: &Place) -> Result<String> {
    for wide in [true, false] {
        let ground = Ground::create(place)?;
        let bytes = data::bytes(1, LEN);
        let file = ground.written("data", &bytes)?;
        let child = spawn(|| {
            listen()?;
            let map = mapped(&file, wide, &bytes)?;
            make_bad(&map)?;
            require_told(&map, libc::BUS_MCEERR_AR, lsb(wide))?;
            require_rest(&map, &bytes, "the rest of the file")?;
            map.write(0, &bytes[..HUGE + PAGE]);
            require_rest(&map, &bytes, "the rest of the file, stored to")?;
            file.sync_all().context("fsync")
        })?;
        child.join(30, "the process with bad memory")?;
        // Others see the rest, too, and the file can go.
        let again = large(&file, LEN)?;
        require_rest(&again, &bytes, "another mapping of the file")?;
        drop(again);
        file.set_len(0).context("ftruncate")?;
        drop(file);
        ground.finish()?;
    }
    // Made anew in the same memory, it has no bad page.
    let ground = Ground::create(place)?;
    let bytes = data::bytes(2, LEN);
    let file = ground.written("data", &bytes)?;
    mapped(&file, true, &bytes)?.require(0, &bytes, "a file of the next namespace")?;
    drop(file);
    ground.finish()?;
    Ok(String::new())
}

/// Asks for the signal at once. Without that, a process that did not touch the
/// bad memory itself is told nothing.
fn ask_early() -> Result<()> {
    const UNUSED: libc::c_ulong = 0;
    // SAFETY: takes no pointers.
    let rc = unsafe {
        libc::prctl(
            libc::PR_MCE_KILL,
            libc::PR_MCE_KILL_SET,
            libc::PR_MCE_KILL_EARLY,
            UNUSED,
            UNUSED,
        )
    };
    ensure!(rc == 0, "PR_MCE_KILL: {}", io::Error::last_os_error());
    Ok(())
}

/// A second process with a mapping of its own, of `file`, which must be told.
fn witness(file: &File, bytes: &[u8], wide: bool, (ready, told): (&Gate, &Gate)) -> Result<()> {
    listen()?;
    ask_early()?;
    // At an address of its own.
    let _apart = Mapping::anonymous(3 * HUGE)?;
    let map = sized(file, wide)?;
    map.require(0, bytes, "the second process's view")?;
    ready.open()?;
    told.pass()?;
    require_told(&map, libc::BUS_MCEERR_AO, lsb(wide))?;
    require_rest(&map, bytes, "the rest, in the second process")
}

/// The first process makes a page bad, and both are told, each of the size in which it has mapped it.
fn two(files: (&File, &File), bytes: &[u8], wide: (bool, bool)) -> Result<()> {
    let (ready, told) = (Gate::new()?, Gate::new()?);
    let other = spawn(|| witness(files.1, bytes, wide.1, (&ready, &told)))?;
    ready.pass()?;
    let child = spawn(|| {
        listen()?;
        let map = sized(files.0, wide.0)?;
        map.require(0, bytes, "the first process's view")?;
        make_bad(&map)?;
        require_told(&map, libc::BUS_MCEERR_AR, lsb(wide.0))?;
        require_rest(&map, bytes, "the rest, in the first process")
    })?;
    child.join(30, "the first process")?;
    told.open()?;
    other.join(30, "the second process")
}

fn shared(place: &Place) -> Result<String> {
    // The second process maps first, and small pages make small entries, so that the first would
    // not get large ones either.
    for wide in [(true, true), (false, false), (false, true)] {
        let ground = Ground::create(place)?;
        let bytes = data::bytes(3, LEN);
        let file = ground.written("data", &bytes)?;
        two((&file, &file), &bytes, wide).with_context(|| {
            let (one, other) = (1 << lsb(wide.0), 1 << lsb(wide.1));
            format!("in pages of {one} bytes and, the other process, of {other}")
        })?;
        drop(file);
        ground.finish()?;
    }
    Ok(String::new())
}

fn cloned() -> Result<String> {
    for wide in [true, false] {
        let ground = Ground::create(&XFS_RMAP)?;
        let bytes = data::bytes(4, LEN);
        let first = ground.written("first", &bytes)?;
        let second = ground.sparse("second", 0)?;
        super::clone::clone(&first, &second)?;
        if let Err(e) = two((&first, &second), &bytes, (wide, wide)) {
            bail!("in pages of {} bytes: {e:#}", 1 << lsb(wide));
        }
        drop((first, second));
        ground.finish()?;
    }
    Ok(String::new())
}
