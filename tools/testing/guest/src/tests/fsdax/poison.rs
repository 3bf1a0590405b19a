// SPDX-License-Identifier: GPL-2.0

//! Memory errors under a mapped file, as MADV_HWPOISON simulates them: each process that has the
//! page mapped is signalled with the address, and loses nothing else.

use std::sync::atomic::{AtomicI32, AtomicUsize};

use nix::sys::prctl;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

use super::{config, large, small, Config, Fixture, EXT4, EXT4_E820};
use crate::filesystem::Kind;
use crate::tests::prelude::*;

const LEN: usize = 3 * HUGE;
/// Offset of the bad page, in the middle of a huge page.
const BAD: usize = HUGE + 37 * PAGE;
const XFS_RMAP: Config = config(Kind::XfsReflink, Map::Mem, Bus::Acpi);

/// The information of the last SIGBUS.
struct LastSigbus {
    count: AtomicU32,
    code: AtomicI32,
    addr: AtomicUsize,
    lsb: AtomicI32,
}

static LAST_SIGBUS: LastSigbus = LastSigbus {
    count: AtomicU32::new(0),
    code: AtomicI32::new(0),
    addr: AtomicUsize::new(0),
    lsb: AtomicI32::new(0),
};

extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: The kernel passes a valid structure. For SIGBUS the address is followed by a short,
    // for which the libc crate has no name; both are within the structure.
    let (code, addr, lsb) = unsafe {
        let lsb = info.cast::<u8>().add(24).cast::<i16>().read();
        ((*info).si_code, (*info).si_addr() as usize, lsb)
    };
    LAST_SIGBUS.code.store(code, Ordering::SeqCst);
    LAST_SIGBUS.addr.store(addr, Ordering::SeqCst);
    LAST_SIGBUS.lsb.store(lsb.into(), Ordering::SeqCst);
    LAST_SIGBUS.count.fetch_add(1, Ordering::SeqCst);
}

fn listen() -> Result<()> {
    let handler = SigHandler::SigAction(on_sigbus);
    let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: The handler only stores to atomics, so it is async-signal-safe.
    unsafe { sigaction(Signal::SIGBUS, &action) }.context("sigaction")?;
    Ok(())
}

/// Waits for a SIGBUS with this information.
fn require_signal(map: &Mapping, code: i32, lsb: i32) -> Result<()> {
    require_signal_at(map, BAD, code, lsb)
}

/// Waits for a SIGBUS with this information, for this offset in a mapping.
fn require_signal_at(map: &Mapping, at: usize, code: i32, lsb: i32) -> Result<()> {
    for _ in 0..200 {
        if LAST_SIGBUS.count.load(Ordering::SeqCst) > 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let got = (
        LAST_SIGBUS.count.load(Ordering::SeqCst),
        LAST_SIGBUS.code.load(Ordering::SeqCst),
        LAST_SIGBUS
            .addr
            .load(Ordering::SeqCst)
            .wrapping_sub(map.addr()),
        LAST_SIGBUS.lsb.load(Ordering::SeqCst),
    );
    let want = (1, code, at, lsb);
    ensure!(
        got == want,
        "SIGBUS (how often, si_code, offset of si_addr, si_addr_lsb) was {got:x?} instead of {want:x?}"
    );
    Ok(())
}

/// Requires all bytes but those of the bad page.
fn require_rest(map: &Mapping, bytes: &[u8], what: &str) -> Result<()> {
    map.require(0, &bytes[..BAD], what)?;
    map.require(BAD + PAGE, &bytes[BAD + PAGE..], what)
}

fn make_bad(map: &Mapping) -> Result<()> {
    map.advise(BAD, PAGE, libc::MADV_HWPOISON)
        .context("MADV_HWPOISON")
}

/// Maps with huge pages, or with small ones.
fn sized(file: &File, wide: bool) -> Result<Mapping> {
    match wide {
        true => large(file, LEN),
        false => small(file, LEN),
    }
}

/// Stores to all bytes, so that every page is mapped and writable.
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

declare! {
    /// the process that touches bad memory gets no SIGBUS, or one with the wrong address or size, or
    /// cannot use the rest of the file; or the namespace cannot be used afterwards
    "fsdax::poison::single" for [EXT4_E820, XFS_RMAP], 60 s => alone
}
fn alone(config: &Config) -> Result<()> {
    for wide in [true, false] {
        let fixture = Fixture::create(config)?;
        let bytes = data::bytes(1, LEN);
        let file = fixture.written("data", &bytes)?;
        let child = spawn(|| {
            listen()?;
            let map = mapped(&file, wide, &bytes)?;
            make_bad(&map)?;
            require_signal(&map, libc::BUS_MCEERR_AR, lsb(wide))?;
            require_rest(&map, &bytes, "the rest of the file")?;
            map.write(0, &bytes[..HUGE + PAGE]);
            require_rest(&map, &bytes, "the rest of the file, stored to")?;
            file.sync_all().context("fsync")
        })?;
        child.join(30, "the process with bad memory")?;
        // Other mappings see the rest too, and the file can be removed.
        let again = large(&file, LEN)?;
        require_rest(&again, &bytes, "another mapping of the file")?;
        drop(again);
        file.set_len(0).context("ftruncate")?;
        drop(file);
        fixture.finish()?;
    }
    // A namespace that is created again in the same memory has no bad page.
    let fixture = Fixture::create(config)?;
    let bytes = data::bytes(2, LEN);
    let file = fixture.written("data", &bytes)?;
    mapped(&file, true, &bytes)?.require(0, &bytes, "a file of the next namespace")?;
    drop(file);
    fixture.finish()
}

/// Makes page `n` of a file bad in a process of its own, which must be told where it has it mapped.
pub fn require_bad_page(file: &File, n: usize) -> Result<()> {
    let child = spawn(|| {
        listen()?;
        let map = large(file, HUGE)?;
        map.peek(0);
        map.advise(n * PAGE, PAGE, libc::MADV_HWPOISON)
            .context("MADV_HWPOISON")?;
        require_signal_at(&map, n * PAGE, libc::BUS_MCEERR_AR, lsb(true))
    })?;
    child.join(30, "the process with bad memory")
}

/// Requests an early kill signal. Without that, a process that did not touch the bad memory itself
/// is not signalled.
fn ask_early() -> Result<()> {
    let early = prctl::PrctlMCEKillPolicy::PR_MCE_KILL_EARLY;
    prctl::set_mce_kill(early).context("PR_MCE_KILL")
}

/// Runs a second process with its own mapping of `file`, which must be signalled.
fn second_process(
    file: &File,
    bytes: &[u8],
    wide: bool,
    (ready, signalled): (&Gate, &Gate),
) -> Result<()> {
    listen()?;
    ask_early()?;
    // Mapped at a different address.
    let _apart = Mapping::anonymous(3 * HUGE)?;
    let map = sized(file, wide)?;
    map.require(0, bytes, "the second process's view")?;
    ready.open()?;
    signalled.pass()?;
    require_signal(&map, libc::BUS_MCEERR_AO, lsb(wide))?;
    require_rest(&map, bytes, "the rest, in the second process")
}

/// Poisons a page in the first process; both must be signalled, each with the size of its own
/// mapping.
fn two(files: (&File, &File), bytes: &[u8], wide: (bool, bool)) -> Result<()> {
    let (ready, signalled) = (Gate::new()?, Gate::new()?);
    let other = spawn(|| second_process(files.1, bytes, wide.1, (&ready, &signalled)))?;
    ready.pass()?;
    let child = spawn(|| {
        listen()?;
        let map = sized(files.0, wide.0)?;
        map.require(0, bytes, "the first process's view")?;
        make_bad(&map)?;
        require_signal(&map, libc::BUS_MCEERR_AR, lsb(wide.0))?;
        require_rest(&map, bytes, "the rest, in the first process")
    })?;
    child.join(30, "the first process")?;
    signalled.open()?;
    other.join(30, "the second process")
}

declare! {
    /// a second process that has the bad page mapped is not signalled, or with another address than
    /// its own
    "fsdax::poison::shared" for [EXT4, XFS_RMAP], 60 s, essential "ext4-dev-acpi" => shared
}
fn shared(config: &Config) -> Result<String> {
    // The second process maps first, and small pages make small entries, so the first would not get
    // large ones either.
    for wide in [(true, true), (false, false), (false, true)] {
        let fixture = Fixture::create(config)?;
        let bytes = data::bytes(3, LEN);
        let file = fixture.written("data", &bytes)?;
        two((&file, &file), &bytes, wide).with_context(|| {
            let (one, other) = (1 << lsb(wide.0), 1 << lsb(wide.1));
            format!("in pages of {one} bytes and, the other process, of {other}")
        })?;
        drop(file);
        fixture.finish()?;
    }
    Ok(String::new())
}

declare! {
    /// of two processes that map the bad block by different files only one is signalled
    "fsdax::poison::clone", 60 s, essential => cloned
}
fn cloned() -> Result<String> {
    for wide in [true, false] {
        let fixture = Fixture::create(&XFS_RMAP)?;
        let bytes = data::bytes(4, LEN);
        let first = fixture.written("first", &bytes)?;
        let second = fixture.sparse("second", 0)?;
        super::clone::clone(&first, &second)?;
        if let Err(e) = two((&first, &second), &bytes, (wide, wide)) {
            bail!("in pages of {} bytes: {e:#}", 1 << lsb(wide));
        }
        drop((first, second));
        fixture.finish()?;
    }
    Ok(String::new())
}
