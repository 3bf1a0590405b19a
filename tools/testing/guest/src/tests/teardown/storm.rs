// SPDX-License-Identifier: GPL-2.0

//! The driver is unbound while programs pin pages of its device, fault them in and
//! release them.

use std::io::Read;

use super::bound::Bound;
use super::mounted::{fsdax, FILESYSTEMS};
use crate::filesystem::Kind;
use crate::tests::prelude::*;

const LEN: usize = 4 << 20;
/// Offset on the scratch disk at which this test writes.
const DISK_AT: u64 = 3 << 30;
/// Number of pages that a pipe of the default size holds.
const PAGES: usize = 16;

declare! {
    /// unbinding a driver while pages of its device are pinned, faulted in and written hangs, ends in a
    /// kernel complaint, or loses a pin
    "teardown::storm" for FILESYSTEMS, 300 s, essential "ext4"
        => |&(_, (kind, map))| storm(Some(kind), &fsdax(map))
}
declare! {
    /// unbinding a driver while pages of its device are pinned, faulted in and written hangs, ends in a
    /// kernel complaint, or loses a pin
    "teardown::storm" for DEVICES, 300 s, essential "devdax-2M-dev-acpi" => |want| storm(None, want)
}
const DEVICES: [Want; 2] = [
    want(Mode::Devdax, 4 * KIB, Map::Mem, Bus::Acpi),
    want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi),
];

fn storm(kind: Option<Kind>, want: &Want) -> Result<String> {
    if live::ask()?.registry.implementation == Language::C {
        skip!("6.12 in C oopses when a filesystem, or a pin, outlives the driver below it");
    }
    let namespace = Namespace::create(want)?;
    let mut bound = Bound::of(&namespace)?;
    let mut node = namespace.node()?;
    let long = runner::race_time(Duration::from_secs(5));
    let (start, mut rounds, mut done) = (Instant::now(), 0u64, 0);
    while rounds == 0 || start.elapsed() < long {
        let mount = match (kind, rounds) {
            (None, _) => None,
            (Some(kind), 0) => Some(DaxMount::create(kind, &node, &mount_point())?),
            (Some(kind), _) => Some(DaxMount::mount(kind, &node, &mount_point())?),
        };
        let path = match &mount {
            Some(mount) => {
                mount.file("data", LEN as u64)?;
                mount.path("data")
            }
            None => node.clone(),
        };
        let (ready, stop) = (Gate::new()?, Gate::new()?);
        let counted = Mapping::shared_memory(PAGE)?;
        let mut child = spawn(|| {
            let file = open_rw(&path, false)?;
            let map = Mapping::shared(&file, 0, LEN, LEN)?;
            let file = mount.is_some().then_some(file);
            pins(&map, file.as_ref(), &ready, &stop, &counted)
        })?;
        ready.pass()?;
        thread::sleep(Duration::from_millis(40 + 53 * (rounds % 7)));
        bound.unbind().must_end("unbinding the driver during I")?;
        stop.open()?;
        match child.wait_signal(60, "the process that pins")? {
            None => {}
            // XFS reports it to memory failure handling, which kills processes that
            // have a page mapped.
            Some(libc::SIGBUS) if matches!(kind, Some(Kind::Xfs | Kind::XfsReflink)) => {}
            Some(signal) => bail!("the process that pins died of signal {signal}"),
        }
        if let Some(mount) = mount {
            mount.unmount()?;
        }
        require_unpinned("the storm")?;
        done += counted.word64(0).load(Ordering::Relaxed);
        node = bound.bind()?;
        rounds += 1;
    }
    ensure!(
        done > rounds,
        "{rounds} rounds with {done} pins prove nothing"
    );
    drop(bound);
    namespace.destroy()?;
    Ok(format!("{rounds} rounds, {done} times pinned"))
}

/// Pins and releases until `stop` is set, and returns how often: direct I/O in both
/// directions, a pipe, and stores by the kernel. All of them may start to fail at
/// some time.
fn pins(
    map: &Mapping,
    file: Option<&File>,
    ready: &Gate,
    stop: &Gate,
    counted: &Mapping,
) -> Result<()> {
    let disk = scratch()?;
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let again = |what: &str, expected: &[i32], work: &dyn Fn(usize) -> Result<()>| -> Result<()> {
        let mut at = 0;
        while !over.load(Ordering::Relaxed) {
            at = (at + 37 * PAGE) % (LEN - PAGES * PAGE);
            match work(at) {
                Ok(()) => {
                    let n = count.fetch_add(1, Ordering::Relaxed);
                    counted.word64(0).store(n, Ordering::Relaxed);
                }
                Err(e) => {
                    let errno = e.downcast_ref().and_then(io::Error::raw_os_error);
                    ensure!(
                        errno.is_some_and(|errno| expected.contains(&errno)),
                        "{what} fails with another errno than it may: {e:#}"
                    );
                    // While entries are unmapped one by one, it may still work elsewhere; in the
                    // end it fails everywhere.
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
        Ok(())
    };
    let moved = |n: usize| -> Result<()> {
        ensure!(n > 0, "direct I/O of no byte");
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let mut threads = vec![
            scope.spawn(|| {
                again("a direct read", &[libc::EFAULT], &|at| {
                    moved(pread_once(&disk, map, at, PAGES * PAGE, DISK_AT)?)
                })
            }),
            scope.spawn(|| {
                again("a direct write", &[libc::EFAULT], &|at| {
                    moved(pwrite_once(&disk, map, at, PAGES * PAGE, DISK_AT)?)
                })
            }),
            scope.spawn(|| again("vmsplice()", &[libc::EFAULT], &|at| piped(map, at))),
        ];
        if let Some(file) = file {
            // The filesystem may have shut down, be read-only, or find its device gone. (In C, EFAULT as
            // well: the device dies between the look at it and the copy, which then copies nothing.)
            let expected = [libc::EIO, libc::EROFS, libc::ENODEV, libc::ENXIO];
            threads.push(scope.spawn(move || {
                again("write()", &expected, &|at| {
                    Ok(file.write_all_at(&[1; PAGE], at as u64)?)
                })
            }));
        }
        let passed = ready.open().and_then(|()| stop.pass());
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        passed
    })
}

/// Puts some pages into a pipe briefly. Where the device goes meanwhile, only the first of them may
/// get there.
fn piped(map: &Mapping, at: usize) -> Result<()> {
    let (mut reader, writer) = pipe()?;
    let vector = libc::iovec {
        iov_base: (map.addr() + at) as *mut libc::c_void,
        iov_len: PAGES * PAGE,
    };
    map.check(at, PAGES * PAGE);
    // SAFETY: The vector describes a part of `map`, and the kernel holds references to the pages
    // behind it.
    let n = unsafe { libc::vmsplice(writer.as_raw_fd(), &vector, 1, 0) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    let mut bytes = vec![0; n];
    reader.read_exact(&mut bytes).context("reading the pipe")
}
