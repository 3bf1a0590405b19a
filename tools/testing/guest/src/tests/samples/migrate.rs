// SPDX-License-Identifier: GPL-2.0

//! Pages of a program in memory that the CPU cannot address (rust_migrate): they come back with their
//! bytes, in each way in which a page can be touched, and are freed with the mapping.

use std::io::Read;

use crate::tests::prelude::*;

const MODULE: &str = "rust_migrate";
const PAGES: usize = 256;
const LEN: usize = PAGES * PAGE;

/// The request of rust_migrate; `moved` and `used` are the answer.
#[repr(C)]
#[derive(Default)]
struct Request {
    address: u64,
    len: u64,
    moved: u64,
    used: u64,
}

nix::ioctl_readwrite!(migrate, b'M', 1, Request);

/// The device, which has memory of its own for each open file.
struct Device(File);

impl Device {
    fn open(_loaded: &Modules) -> Result<Self> {
        let node = Path::new("/dev").join(MODULE);
        system::wait_for_node(&node)?;
        Ok(Self(open_rw(&node, false)?))
    }

    /// Moves what can be moved; returns how many pages were, and how many are there now.
    fn take(&self, address: usize, len: usize) -> io::Result<(u64, u64)> {
        let mut request = Request {
            address: address as u64,
            len: len as u64,
            ..Request::default()
        };
        // SAFETY: The request is valid for the call. Its addresses are checked by the kernel.
        unsafe { migrate(self.0.as_raw_fd(), &mut request) }?;
        Ok((request.moved, request.used))
    }

    /// Returns how many pages are there.
    fn used(&self) -> Result<u64> {
        Ok(self.take(0, 0).context("the ioctl")?.1)
    }

    /// Moves all pages of a mapping, and requires that none is left.
    fn take_all(&self, map: &Mapping) -> Result<()> {
        let (mut left, limit) = (
            map.len() / PAGE,
            Instant::now() + timeout(Duration::from_secs(10)),
        );
        while left > 0 {
            // A page that another CPU has in a batch of its own has one reference more.
            let (moved, _) = self.take(map.addr(), map.len()).context("the ioctl")?;
            left = left.saturating_sub(moved as usize);
            ensure!(Instant::now() < limit, "{left} pages cannot be moved");
        }
        let present = present(map)?;
        ensure!(present == 0, "{present} pages are still mapped");
        Ok(())
    }
}

/// Returns how many pages of a mapping are in RAM.
fn present(map: &Mapping) -> Result<usize> {
    let mut words = vec![0; map.len() / PAGE * 8];
    let file = File::open("/proc/self/pagemap").context("pagemap")?;
    file.read_exact_at(&mut words, (map.addr() / PAGE * 8) as u64)
        .context("pagemap")?;
    // Bit 63, in the last byte.
    Ok(words
        .chunks_exact(8)
        .filter(|word| word[7] & 0x80 != 0)
        .count())
}

declare! {
    /// pages that a driver has moved to memory of its own by the safe API come back with other bytes, by an
    /// access, in a forked process, to another process, or when the device is closed; a page that is pinned
    /// is moved; or slots are lost
    "samples::migrate", 90 s, essential => moved
}
fn moved() -> Result<()> {
    let module = Modules::load(&[MODULE])?;
    let device = Device::open(&module)?;
    let bytes = data::bytes(62, LEN);
    let map = Mapping::anonymous(LEN)?;
    map.write(0, &bytes);

    // Read, written, and the rest by a process that has forked.
    device.take_all(&map)?;
    ensure!(
        device.used()? == PAGES as u64,
        "{} pages in use",
        device.used()?
    );
    map.require(7 * PAGE, &bytes[7 * PAGE..8 * PAGE], "a page that was read")?;
    map.poke(8 * PAGE, !bytes[8 * PAGE]);
    map.poke(8 * PAGE, bytes[8 * PAGE]);
    ensure!(
        device.used()? == PAGES as u64 - 2,
        "{} pages in use",
        device.used()?
    );
    let child = spawn(|| {
        map.require(0, &bytes, "the memory of a forked process")?;
        map.write(0, &vec![0; LEN]);
        Ok(())
    })?;
    child.join(20, "the forked process")?;
    map.require(0, &bytes, "the memory after a fork")?;
    ensure!(device.used()? == 0, "{} slots are lost", device.used()?);

    // By the kernel for another process, and for a disk.
    device.take_all(&map)?;
    let copy = Mapping::anonymous(LEN)?;
    let this = i32::try_from(std::process::id()).context("a process ID")?;
    let n = cross_copy(this, &copy, map.addr(), LEN / 2, false).context("process_vm_readv")?;
    ensure!(n == LEN / 2, "process_vm_readv moved {n} bytes");
    copy.require(0, &bytes[..LEN / 2], "what process_vm_readv read")?;
    let disk = scratch()?;
    pwrite_all(&disk, &map, 0, LEN, 0, LEN)?;
    copy.write(0, &vec![0; LEN]);
    pread_all(&disk, &copy, 0, LEN, 0, LEN)?;
    copy.require(0, &bytes, "what direct I/O wrote from the memory")?;

    pinned(&device, &map, &bytes)?;
    refused(&device)?;

    // Freed with the mapping, also where nothing was mapped yet.
    let empty = Mapping::anonymous(LEN)?;
    device.take_all(&empty)?;
    empty.require(0, &vec![0; PAGE], "a page that was never touched")?;
    drop(empty);
    ensure!(device.used()? == 0, "{} slots are lost", device.used()?);

    // What is there when the device is closed comes back.
    device.take_all(&map)?;
    drop(device);
    ensure!(present(&map)? == PAGES, "pages did not come back");
    map.require(0, &bytes, "the memory after the device was closed")
}

/// A page that a pipe has stays, and is the same for the pipe.
fn pinned(device: &Device, map: &Mapping, bytes: &[u8]) -> Result<()> {
    let (mut reader, writer) = pipe()?;
    vmsplice(map, 3 * PAGE, PAGE, &writer)?;
    let (moved, used) = device.take(map.addr(), LEN).context("the ioctl")?;
    ensure!(
        moved < PAGES as u64 && used == moved,
        "{moved} moved, {used} used"
    );
    map.require(0, bytes, "the memory beside a pin")?;
    let mut got = vec![0; PAGE];
    reader.read_exact(&mut got).context("the pipe")?;
    data::require_same(&bytes[3 * PAGE..4 * PAGE], &got, "the page in the pipe")
}

/// What is no anonymous memory is refused, or left alone.
fn refused(device: &Device) -> Result<()> {
    let hole = Mapping::reserve(LEN, HUGE)?;
    let cases = [
        (hole.addr() + 1, PAGE, libc::EINVAL),
        (usize::MAX - PAGE + 1, 2 * PAGE, libc::EINVAL),
        (PAGE, PAGE, libc::EFAULT),
    ];
    for (address, len, errno) in cases {
        let what = format!("{len:#x} bytes at {address:#x}");
        require_errno(device.take(address, len), errno, what)?;
    }
    let target = Target::create(&super::super::ONE_OF_EACH[0], HUGE as u64)?;
    let map = target.map(HUGE)?;
    map.prefault_write(PAGE);
    require_errno(
        device.take(map.addr(), PAGE),
        libc::EINVAL,
        "a page of a DAX file",
    )?;
    drop(map);
    target.finish()
}

declare! {
    /// pages that are moved to a device and touched by several threads at once have other bytes, hang
    /// a thread, or are lost; or the device is closed in the midst of it and keeps some
    "samples::migrate-race", 120 s, essential => race
}
fn race() -> Result<String> {
    let module = Modules::load(&[MODULE])?;
    let map = Mapping::anonymous(LEN)?;
    let bytes = data::bytes(63, LEN);
    map.write(0, &bytes);
    let time = runner::race_time(Duration::from_secs(4));
    let (start, stop) = (Instant::now(), AtomicBool::new(false));
    let (taken, opened) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| -> Result<()> {
        let touch = |step: usize| -> Result<()> {
            let mut page = 0;
            while !stop.load(Ordering::Relaxed) {
                page = (page + step) % PAGES;
                let at = page * PAGE + step;
                ensure!(map.peek(at) == bytes[at], "page {page} has another byte");
                map.poke(at, bytes[at]);
            }
            Ok(())
        };
        let take = || -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let device = Device::open(&module)?;
                opened.fetch_add(1, Ordering::Relaxed);
                for _ in 0..8 {
                    let (moved, _) = device.take(map.addr(), LEN).context("the ioctl")?;
                    taken.fetch_add(moved, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let threads = [
            scope.spawn(move || touch(1)),
            scope.spawn(move || touch(7)),
            scope.spawn(take),
            scope.spawn(take),
        ];
        while start.elapsed() < time && !threads.iter().any(|thread| thread.is_finished()) {
            thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        Ok(())
    })?;
    map.require(0, &bytes, "the memory after the race")?;
    ensure!(present(&map)? == PAGES, "pages did not come back");
    let (taken, opened) = (taken.into_inner(), opened.into_inner());
    ensure!(
        taken > PAGES as u64,
        "only {taken} pages were moved: this proves nothing"
    );
    Ok(format!("{taken} pages moved, {opened} devices opened"))
}
