// SPDX-License-Identifier: GPL-2.0

//! Another process's DAX mapping, and pages without references: operations that only the slow
//! path of GUP does.
//!
//! The lockless walk is for the current process. Access to another process
//! (process_vm_readv(), /proc/PID/mem), and calls that populate pages without references
//! (MADV_POPULATE_*, mlock()), use the slow path, which has separate code for device memory
//! at each level of the page tables.

use super::gup::idle;
use super::pmem;
use crate::tests::prelude::*;

const LEN: usize = 2 * HUGE;

/// The owner of a mapping, in another process: it does one step after another, each on
/// request.
struct Steps {
    go: Gate,
    done: Gate,
}

impl Steps {
    fn new() -> Result<Self> {
        Ok(Self {
            go: Gate::new()?,
            done: Gate::new()?,
        })
    }

    /// Reports, in the owner, that a step is done, and waits for the next.
    fn did(&self) -> Result<()> {
        self.done.open()?;
        self.go.pass()
    }

    /// Waits for the owner's first step.
    fn begin(&self) -> Result<()> {
        self.done.pass()
    }

    /// Lets the owner do its next step.
    fn next(&self) -> Result<()> {
        self.last()?;
        self.done.pass()
    }

    /// Lets the owner end.
    fn last(&self) -> Result<()> {
        self.go.open()
    }
}

/// Returns an errno, or none.
fn errno_of<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|e| e.raw_os_error())
}

declare! {
    /// an access to another process's DAX mapping reads or writes other bytes than its owner sees;
    /// read-only entries are written to without the fault that makes them writable; a page without
    /// rights is read by a process other than a debugger, or cannot be read by a debugger; or an
    /// access does not end where the rights end
    "remote::rights" for EACH_SIZE.into_iter().filter(|want| want.align < GIB), 120 s,
        essential "fsdax-2M-dev-acpi" "devdax-4K-mem-acpi" => rights
}
// With DEBUG_VM, pudp_invalidate() of 6.12 warns of an entry without rights, which is not present for
// it, when mprotect() gives the rights back. That is C code for x86, and does nothing wrong then.
declare! {
    /// the same for pages of 1 GiB
    "remote::rights" for EACH_SIZE.into_iter().filter(|want| want.align == GIB), 120 s,
        may warn "pudp_invalidate" => rights
}
fn rights(want: &Want) -> Result<String> {
    let target = Target::create(want, LEN as u64)?;
    let map = target.map(LEN)?;
    let addr = map.addr();
    let (first, second) = (data::bytes(201, LEN), data::bytes(202, LEN));
    let unit = match target.is_fsdax() {
        true => PAGE,
        false => want.align as usize,
    };
    // Inside the second page table, if possible; a large page is protected as a whole.
    let border = match unit {
        PAGE => HUGE + 5 * PAGE,
        HUGE => HUGE,
        _ => map.len(),
    };
    let steps = Steps::new()?;
    let child = spawn(|| {
        map.write(0, &first);
        // New entries, read-only.
        map.advise(0, map.len(), libc::MADV_DONTNEED)
            .context("MADV_DONTNEED")?;
        for at in (0..LEN).step_by(PAGE) {
            map.peek(at);
        }
        steps.did()?;
        map.require(0, &second, "bytes that the other process wrote")?;
        map.protect(0, map.len(), libc::PROT_NONE)
            .context("mprotect")?;
        steps.did()?;
        map.protect(0, map.len(), libc::PROT_READ | libc::PROT_WRITE)
            .context("mprotect")?;
        map.require(0, &second, "the mapping with its rights restored")?;
        if border < map.len() {
            map.protect(border, map.len() - border, libc::PROT_READ)
                .context("mprotect")?;
        }
        steps.did()
    })?;
    let pid = child.pid();
    let whole = map.len();
    drop(map);
    let buffer = Mapping::anonymous(LEN)?;
    let memory = open_rw(format!("/proc/{pid}/mem").as_ref(), false)?;

    steps.begin()?;
    let n = cross_copy(pid, &buffer, addr, LEN, false).context("process_vm_readv")?;
    ensure!(n == LEN, "process_vm_readv moved {n} of {LEN} bytes");
    buffer.require(0, &first, "bytes that were read")?;
    buffer.write(0, &second);
    let n = cross_copy(pid, &buffer, addr, LEN, true).context("process_vm_writev")?;
    ensure!(n == LEN, "process_vm_writev moved {n} of {LEN} bytes");

    steps.next()?;
    for write in [false, true] {
        let errno = errno_of(cross_copy(pid, &buffer, addr, LEN, write));
        ensure!(
            errno == Some(libc::EFAULT),
            "a copy (write: {write}) of memory without rights returns {errno:?}, not EFAULT"
        );
    }
    // A whole page of 1 GiB has a separate test.
    if want.align < GIB {
        debugger_reads(&memory, addr, &second)?;
    }
    let errno = errno_of(memory.write_at(&first[..PAGE], addr as u64));
    ensure!(
        errno == Some(libc::EIO),
        "/proc/PID/mem writes to a shared mapping without rights: {errno:?}, not EIO"
    );

    steps.next()?;
    if border < whole {
        buffer.write(0, &second);
        let n = cross_copy(pid, &buffer, addr, LEN, true).context("process_vm_writev")?;
        ensure!(
            n == border.min(LEN),
            "process_vm_writev moved {n} bytes of {LEN}, of which {border} can be written to"
        );
        let n = cross_copy(pid, &buffer, addr, LEN, false).context("process_vm_readv")?;
        ensure!(n == LEN, "process_vm_readv moved {n} of {LEN} bytes");
        buffer.require(0, &second, "bytes that were read across the border")?;
    }
    steps.last()?;
    child.join(20, "the owner of the mapping")?;
    require_unpinned("the copies")?;
    let map = target.map(LEN)?;
    map.peek(0);
    idle(&map, LEN, folio(want))?;
    drop(map);
    target.finish()?;
    Ok(format!("{LEN} bytes, rights end at {border:#x}"))
}

declare! {
    /// a copy from another process goes on behind a page of 2 MiB with the next memory of the device,
    /// which belongs to no file, or to another one, instead of the next page of the mapping
    "remote::next-leaf", 60 s => next_leaf
}
/// The 2 MiB between the two that are neighbours in the file have been taken out of it.
fn next_leaf() -> Result<()> {
    let target = Target::create(
        &want(Mode::Fsdax, 2 * MIB, Map::Dev, Bus::Acpi),
        3 * HUGE as u64,
    )?;
    let mut bytes = data::bytes(251, 3 * HUGE);
    let trace = FaultTrace::start()?;
    target.file.write_all_at(&bytes, 0).context("write")?;
    let mode = libc::FALLOC_FL_COLLAPSE_RANGE;
    fallocate(&target.file, mode, HUGE as u64, HUGE as u64).context("taking 2 MiB out")?;
    bytes.drain(HUGE..2 * HUGE);
    let map = target.map(LEN)?;
    trace.take()?;
    [0, HUGE].map(|at| map.poke(at, bytes[at]));
    let got = trace.take()?;
    ensure!(got.pmd == 2, "this proves nothing: {got:?}");
    let buffer = Mapping::anonymous(LEN)?;
    let this = i32::try_from(std::process::id()).context("a process ID")?;
    for (at, len) in [
        (HUGE - PAGE, 2 * PAGE),
        (HUGE - 8 * PAGE, 16 * PAGE),
        (0, LEN),
    ] {
        let n =
            cross_copy(this, &buffer, map.addr() + at, len, false).context("process_vm_readv")?;
        ensure!(n == len, "process_vm_readv moved {n} of {len} bytes");
        buffer.require(
            0,
            &bytes[at..at + len],
            "bytes across the border of two pages of 2 MiB",
        )?;
    }
    require_unpinned("the copies")?;
    drop((trace, map));
    target.finish()
}

/// Requires that a debugger can read memory to which its owner has no rights at the moment.
fn debugger_reads(memory: &File, addr: usize, expected: &[u8]) -> Result<()> {
    let mut got = vec![0; expected.len()];
    memory
        .read_exact_at(&mut got, addr as u64)
        .context("/proc/PID/mem of memory without rights")?;
    data::require_same(expected, &got, "/proc/PID/mem of memory without rights")
}

declare! {
    /// a debugger that reads a mapping of device-dax with pages of 1 GiB and PROT_NONE does not get
    /// its bytes, but takes a fault again and again until it is killed
    "remote::differs_gigabyte_without_rights", 120 s, essential => gigabyte_without_rights
}
/// Tests pages of 1 GiB. In C this never ends: the entry is not present for the walk, and
/// present for the fault.
fn gigabyte_without_rights() -> Result<String> {
    let want = want(Mode::Devdax, GIB, Map::Mem, Bus::Acpi);
    let target = Target::create(&want, LEN as u64)?;
    let map = target.map(LEN)?;
    let bytes = data::bytes(241, LEN);
    let steps = Steps::new()?;
    let owner = spawn(|| {
        map.write(0, &bytes);
        map.protect(0, map.len(), libc::PROT_NONE)
            .context("mprotect")?;
        steps.did()
    })?;
    steps.begin()?;
    let pid = owner.pid();
    let debugger = spawn(|| {
        let memory = File::open(format!("/proc/{pid}/mem")).context("/proc/PID/mem")?;
        debugger_reads(&memory, map.addr(), &bytes)
    })?;
    debugger.join(10, "reading 1 GiB without rights through /proc/PID/mem")?;
    steps.last()?;
    owner.join(20, "the owner of the mapping")?;
    drop(map);
    let map = target.map(LEN)?;
    map.peek(0);
    idle(&map, LEN, folio(&want))?;
    drop(map);
    target.finish()?;
    Ok(format!("{LEN} bytes"))
}

/// Returns the size of the folios of a namespace: those of fsdax are pages.
fn folio(want: &Want) -> usize {
    match want.mode {
        Mode::Fsdax => PAGE,
        Mode::Devdax => want.align as usize,
    }
}

declare! {
    /// MADV_POPULATE_READ, MADV_POPULATE_WRITE or mlock() of a DAX mapping fails, goes beyond its
    /// part, or leaves references
    "remote::populate" for EACH_SIZE, 120 s, essential "devdax-2M-dev-acpi" => populate
}
fn populate(want: &Want) -> Result<()> {
    let target = Target::create(want, LEN as u64)?;
    let bytes = data::bytes(211, LEN);
    let map = target.map(LEN)?;
    map.write(0, &bytes);
    drop(map);
    // The whole, and a part with odd ends; pages that are missing, present, and those that
    // have to become writable.
    for (at, len) in [(0, LEN), (3 * PAGE, HUGE + 2 * PAGE)] {
        let map = target.map(LEN)?;
        let advise = |advice, name| map.advise(at, len, advice).context(name);
        for _ in 0..2 {
            advise(libc::MADV_POPULATE_READ, "MADV_POPULATE_READ")?;
        }
        for _ in 0..2 {
            advise(libc::MADV_POPULATE_WRITE, "MADV_POPULATE_WRITE")?;
        }
        map.require(0, &bytes, "the mapping after MADV_POPULATE_WRITE")?;
        drop(map);
        for touched in [false, true] {
            let map = target.map(LEN)?;
            if touched {
                map.prefault_write(PAGE);
            }
            let locked = map.lock(at, len);
            locked.with_context(|| format!("mlock (touched: {touched})"))?;
            map.require(0, &bytes, "the locked mapping")?;
        }
        // A read-only mapping, for writing: this is refused, and no reference is left.
        let map = target.map_with(LEN, libc::PROT_READ, libc::MAP_SHARED)?;
        let errno = errno_of(map.advise(at, len, libc::MADV_POPULATE_WRITE));
        ensure!(
            errno == Some(libc::EINVAL),
            "MADV_POPULATE_WRITE of a read-only mapping returns {errno:?}, not EINVAL"
        );
        map.advise(at, len, libc::MADV_POPULATE_READ)
            .context("MADV_POPULATE_READ")?;
        idle(&map, LEN, folio(want))?;
    }
    require_unpinned("populating")?;
    target.finish()
}

declare! {
    /// while a device is disabled, reads of another process's mapping of it fail with another errno
    /// than EFAULT or EIO, give wrong bytes, never fail, or the disable hangs
    "remote::teardown" for [
        want(Mode::Devdax, 4 * KIB, Map::Mem, Bus::Acpi),
        want(Mode::Devdax, 2 << 20, Map::Dev, Bus::Acpi),
        want(Mode::Devdax, GIB, Map::Mem, Bus::Acpi),
    ], 480 s, essential "devdax-2M-dev-acpi" => teardown
}
/// Reads single pages, because a page may not be held across the teardown: see `teardown.rs`.
fn teardown(want: &Want) -> Result<String> {
    const ROUNDS: u64 = 4;
    super::teardown::require_no_preemption()?;
    let mut namespace = Namespace::create(want)?;
    let bytes = data::bytes(221, LEN);
    let mut total = 0;
    for round in 0..ROUNDS {
        let node = namespace.node()?;
        let counts = Mapping::shared_memory(PAGE)?;
        let len = LEN.next_multiple_of(want.align as usize);
        let space = Mapping::reserve(len, (want.align as usize).max(HUGE))?;
        let (mapped, gone, reading) = (Gate::new()?, Gate::new()?, Gate::new()?);
        let owner = spawn(|| {
            let file = open_rw(&node, false)?;
            space.renew(&file, 0, len).context("mmap")?;
            space.write(0, &bytes);
            drop(file);
            mapped.open()?;
            gone.pass()
        })?;
        mapped.pass()?;
        let pid = owner.pid();
        let reader = spawn(|| {
            reading.open()?;
            let (taken, refused) = read_until_gone(pid, space.addr(), &bytes)?;
            counts.word64(0).store(taken, Ordering::SeqCst);
            counts.word64(8).store(refused, Ordering::SeqCst);
            Ok(())
        })?;
        reading.pass()?;
        std::thread::sleep(Duration::from_millis(60 + 41 * round));
        namespace.disable()?;
        reader.join(60, "the reading process")?;
        gone.open()?;
        owner.join(20, "the owner of the mapping")?;
        let [taken, refused] = [0, 8].map(|at| counts.word64(at).load(Ordering::SeqCst));
        ensure!(
            taken > 0 && refused > 0,
            "round {round} proves nothing: {taken} pages read, {refused} refused"
        );
        total += taken;
        require_unpinned("the reads")?;
        namespace.enable()?;
        let file = open_rw(&namespace.node()?, false)?;
        let map = Mapping::shared(&file, 0, len, (want.align as usize).max(HUGE))?;
        map.peek(0);
        idle(&map, LEN, folio(want))?;
    }
    namespace.destroy()?;
    Ok(format!("{ROUNDS} rounds, {total} pages read"))
}

/// Reads single pages in two ways, until enough in a row were refused to conclude that none
/// is left. Returns the numbers of pages that were read and refused.
fn read_until_gone(pid: i32, addr: usize, bytes: &[u8]) -> Result<(u64, u64)> {
    let (mut taken, mut refused, mut row) = (0, 0, 0);
    let limit = Instant::now() + timeout(Duration::from_secs(50));
    let memory = File::open(format!("/proc/{pid}/mem")).context("/proc/PID/mem")?;
    let buffer = Mapping::anonymous(PAGE)?;
    let mut got = vec![0; PAGE];
    let mut page = 0;
    while row < 2 * LEN / PAGE {
        ensure!(
            Instant::now() < limit,
            "pages could still be read at the end of the wait, although the device was being disabled"
        );
        page = (page + 7) % (LEN / PAGE);
        let at = page * PAGE;
        // The buffers of both directions are populated: nothing sleeps while a page is held.
        buffer.poke(0, 0);
        let (read, gone) = match page % 2 {
            0 => {
                let read = cross_copy(pid, &buffer, addr + at, PAGE, false);
                buffer.read(0, &mut got);
                (read, libc::EFAULT)
            }
            _ => (memory.read_at(&mut got, (addr + at) as u64), libc::EIO),
        };
        match read {
            Ok(PAGE) => {
                data::require_same(
                    &bytes[at..at + PAGE],
                    &got,
                    format_args!("the page at {at:#x}"),
                )?;
                (taken, row) = (taken + 1, 0);
            }
            Ok(n) => bail!("{n} bytes of a page were read"),
            Err(e) if e.raw_os_error() == Some(gone) => (refused, row) = (refused + 1, row + 1),
            Err(e) => return Err(e).context("reading a page during teardown"),
        }
    }
    Ok((taken, refused))
}

declare! {
    /// reading a process's mapping of a file whose device is gone does not fail with EFAULT, but
    /// returns bytes, or takes the fault again and again until the reader is killed
    "remote::device-gone", 120 s, essential => device_gone
}
/// Tests a filesystem that outlives its device. The device is bound again before the
/// filesystem is unmounted, so that the kernel then finds the pages of its files.
fn device_gone() -> Result<String> {
    const PAGES: usize = 16;
    let want = want(Mode::Fsdax, 4 * KIB, Map::Mem, Bus::Acpi);
    let target = Target::create(&want, LEN as u64)?;
    let bytes = data::bytes(231, PAGES * PAGE);
    let map = target.map(LEN)?;
    map.write(0, &bytes);
    target.file.sync_all().context("fsync")?;
    let node = target.namespace.node()?;
    let disk = node.file_name().context("no name")?.to_string_lossy();
    let device = pmem::device_of(&disk)?;
    let steps = Steps::new()?;
    let owner = spawn(|| {
        for at in (0..PAGES * PAGE).step_by(PAGE) {
            map.peek(at);
        }
        steps.did()
    })?;
    steps.begin()?;
    system::allow_io_errors(&disk)?;
    pmem::bind("unbind", &device)?;
    let reader = spawn(|| {
        let buffer = Mapping::anonymous(PAGES * PAGE)?;
        let errno = errno_of(cross_copy(
            owner.pid(),
            &buffer,
            map.addr(),
            PAGES * PAGE,
            false,
        ));
        ensure!(
            errno == Some(libc::EFAULT),
            "process_vm_readv() of pages whose device is gone returns {errno:?}, not EFAULT"
        );
        Ok(())
    })?;
    // A reader that still runs is killed when it is dropped, and then the page tables are
    // freed.
    let outcome = reader.join(5, "process_vm_readv() of pages whose device is gone");
    let back = pmem::bind("bind", &device).and_then(|()| system::wait_for_node(&node));
    steps.last()?;
    let end = owner.join(20, "the owner of the mapping");
    back?;
    outcome?;
    end?;
    drop(map);
    require_unpinned("reading")?;
    target.finish()?;
    Ok(format!("{PAGES} pages"))
}
