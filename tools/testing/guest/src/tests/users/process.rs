// SPDX-License-Identifier: GPL-2.0

//! Another process's pages, and uses of pages by reference: pipes, ptrace, core
//! dumps, futexes.

use std::io::Read;

use nix::sys::ptrace;
use nix::sys::resource::{setrlimit, Resource, RLIM_INFINITY};
use nix::sys::wait::{waitpid, WaitStatus};
use nix::unistd::Pid;

use crate::futex::wakes_other;
use crate::tests::prelude::*;

const LEN: usize = 4 << 20;

/// Writing a core with a whole page of 1 GiB takes too long.
fn small_sizes() -> impl Iterator<Item = Want> {
    EACH_SIZE.into_iter().filter(|want| want.align < GIB)
}

declare! {
    /// a pipe that holds pages of a DAX mapping by reference returns other bytes, or keeps the pages
    "users::vmsplice" for ONE_OF_EACH, 60 s, essential "devdax-2M-dev-acpi" => spliced
}
fn spliced(want: &Want) -> Result<String> {
    let target = Target::create(want, LEN as u64)?;
    let map = target.map(LEN)?;
    // Across the boundary of a huge page.
    let (at, len) = ((2 << 20) - 3 * PAGE, 8 * PAGE);
    let bytes = data::bytes(31, len);
    map.write(at, &bytes);
    let (mut reader, writer) = pipe()?;
    vmsplice(&map, at, len, &writer)?;
    // By reference: a later store appears in the pipe.
    let later = data::bytes(32, PAGE);
    map.write(at + 4 * PAGE, &later);
    let mut expected = bytes;
    expected[4 * PAGE..5 * PAGE].copy_from_slice(&later);
    let mut got = vec![0; len];
    reader.read_exact(&mut got).context("reading the pipe")?;
    data::require_same(&expected, &got, "the pipe")?;
    drop((map, reader, writer));
    require_unpinned("vmsplice")?;
    target.finish()?;
    Ok(format!("{} pages", len / PAGE))
}

declare! {
    /// a debugger reads or writes other bytes than the process has in its DAX mapping
    "users::ptrace" for EACH_SIZE, 60 s, essential "fsdax-2M-dev-acpi" => traced
}
fn traced(want: &Want) -> Result<String> {
    let target = Target::create(want, LEN as u64)?;
    let map = target.map(LEN)?;
    let addr = map.addr();
    let bytes = data::bytes(33, LEN);
    let (ready, written) = (Gate::new()?, Gate::new()?);
    const NEW: i64 = 0x0123_4567_89ab_cdef;
    let places = [0, PAGE - 8, (2 << 20) - 8, 2 << 20, LEN - 8];
    let child = spawn(|| {
        map.write(0, &bytes);
        ready.open()?;
        written.pass()?;
        let mut expected = bytes.clone();
        for at in places {
            expected[at..at + 8].copy_from_slice(&NEW.to_ne_bytes());
        }
        map.require(0, &expected, "bytes that the debugger wrote")
    })?;
    drop(map);
    ready.pass()?;
    let pid = Pid::from_raw(child.pid());
    ptrace::attach(pid).context("PTRACE_ATTACH")?;
    let stopped = waitpid(pid, None).context("waitpid")?;
    ensure!(
        matches!(stopped, WaitStatus::Stopped(..)),
        "the process did not stop: {stopped:?}"
    );
    for at in places {
        let there = (addr + at) as *mut libc::c_void;
        let word = ptrace::read(pid, there).context("PTRACE_PEEKDATA")?;
        ensure!(
            word.to_ne_bytes() == bytes[at..at + 8],
            "PTRACE_PEEKDATA at {at:#x} returns {word:#x}"
        );
        ptrace::write(pid, there, NEW).context("PTRACE_POKEDATA")?;
    }
    ptrace::detach(pid, None).context("PTRACE_DETACH")?;
    written.open()?;
    child.join(20, "the process that was traced")?;
    target.finish()?;
    Ok(format!("{} words read and written", places.len()))
}

/// Redirects cores while the value lives.
struct CorePattern(String);

impl CorePattern {
    const FILE: &str = "/proc/sys/kernel/core_pattern";

    fn set(pattern: &str) -> Result<Self> {
        let old = fs::read_to_string(Self::FILE).context("cannot read core_pattern")?;
        fs::write(Self::FILE, pattern).context("cannot set core_pattern")?;
        Ok(Self(old))
    }
}

impl Drop for CorePattern {
    fn drop(&mut self) {
        // Nothing else in the guest dumps cores.
        let _ = fs::write(Self::FILE, &self.0);
    }
}

declare! {
    /// the core of a process lacks its DAX mapping though coredump_filter asks for it, or has other
    /// bytes
    "users::core-dump" for small_sizes(), 120 s, essential "fsdax-2M-dev-acpi" => dumped
}
fn dumped(want: &Want) -> Result<String> {
    /// Bits for anonymous memory, and bits 7 and 8: private and shared DAX.
    const FILTER: &str = "0x181";
    let target = Target::create(want, LEN as u64)?;
    let bytes = data::bytes(34, LEN);
    let folder = std::env::temp_dir();
    let _pattern = CorePattern::set(&format!("{}/core.%p", folder.display()))?;
    let mut child = spawn(|| {
        let map = target.map(LEN)?;
        map.write(0, &bytes);
        fs::write("/proc/self/coredump_filter", FILTER).context("coredump_filter")?;
        setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY).context("setrlimit")?;
        std::process::abort()
    })?;
    let pid = child.pid();
    let signal = child.wait_signal(60, "the process that dumps its core")?;
    ensure!(
        signal == Some(libc::SIGABRT),
        "it ended by {signal:?}, not SIGABRT"
    );
    let path = folder.join(format!("core.{pid}"));
    let core = fs::read(&path).with_context(|| format!("no core {}", path.display()))?;
    let _ = fs::remove_file(&path);
    // Segments begin at a page of the file.
    let found = core
        .chunks(PAGE)
        .position(|page| page == &bytes[..PAGE])
        .map(|page| &core[page * PAGE..])
        .context("the core does not have the first page of the mapping")?;
    ensure!(found.len() >= LEN, "the core ends inside the mapping");
    data::require_same(&bytes, &found[..LEN], "the mapping in the core")?;
    target.finish()?;
    Ok(format!("{} KiB of core", core.len() / 1024))
}

declare! {
    /// a futex in a shared DAX mapping is not the same one for two processes: the wake-up is lost
    "users::futex" for ONE_OF_EACH, 60 s, essential "fsdax-2M-dev-acpi" => woken
}
fn woken(want: &Want) -> Result<String> {
    let target = Target::create(want, LEN as u64)?;
    let map = target.map(LEN)?;
    let places = [0, (2 << 20) - 4, LEN - PAGE];
    for at in places {
        wakes_other(&map, at, || target.map(LEN))?;
    }
    drop(map);
    require_unpinned("futexes")?;
    target.finish()?;
    Ok(format!("{} words", places.len()))
}
