// SPDX-License-Identifier: GPL-2.0

//! Programs that follow the stores of a process, as backups and migrations do:
//! userfaultfd in its asynchronous mode with the PAGEMAP_SCAN ioctl, and the
//! soft-dirty bits of pagemap.
//!
//! In C a store to 2 MiB that were write-protected is never reported again, and
//! a page that was write-protected while it was not mapped cannot be accessed:
//! the process faults for ever.

use std::os::fd::FromRawFd;

use super::{large, small, Config, Fixture, EXT4, XFS};
use crate::bench::scan::take_written;
use crate::tests::prelude::*;

/// Number of stores that are followed.
const ROUNDS: u8 = 3;

declare! {
    /// a store to 2 MiB of a file that userfaultfd has write-protected is not reported as written, or
    /// what was not stored to is: a backup misses data
    "fsdax::tracking::differs_written_2M" for [EXT4, XFS], 60 s, essential "ext4-dev-acpi"
        => |config| written(config, HUGE)
}

declare! {
    /// a store to a page of a file that userfaultfd has write-protected is not reported as written,
    /// or another page is: a backup misses data
    "fsdax::tracking::written_4K" for [EXT4], 60 s => |config| written(config, PAGE)
}

declare! {
    /// a store to 2 MiB of a file after a write to clear_refs does not make them soft-dirty, or a
    /// load does
    "fsdax::tracking::soft_dirty_2M" for [EXT4], 60 s, essential "ext4-dev-acpi"
        => |config| soft_dirty(config, HUGE)
}

declare! {
    /// a store to a page of a file after a write to clear_refs does not make it soft-dirty, or a load
    /// does
    "fsdax::tracking::soft_dirty_4K" for [EXT4], 60 s => |config| soft_dirty(config, PAGE)
}

/// `struct uffdio_api`.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// `_IOWR(0xaa, 0x3f, struct uffdio_api)`.
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
/// `_IOWR(0xaa, 0x00, struct uffdio_register)`.
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFD_API: u64 = 0xaa;
const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;
const UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;

/// Makes the kernel follow the stores to a mapping of this process, for as long
/// as the file lives.
fn follow_stores(map: &Mapping) -> Result<File> {
    let mut api = Api {
        api: UFFD_API,
        features: UFFD_FEATURE_WP_ASYNC,
        ioctls: 0,
    };
    let mut register = Register {
        start: map.addr() as u64,
        len: map.len() as u64,
        mode: UFFDIO_REGISTER_MODE_WP,
        ioctls: 0,
    };
    // SAFETY: The system call takes flags only. A new descriptor belongs to
    // nothing else, and the structures are those of their requests and outlive
    // the calls.
    unsafe {
        let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) as i32;
        ensure!(fd >= 0, "userfaultfd: {}", io::Error::last_os_error());
        let file = File::from_raw_fd(fd);
        for (request, arg, what) in [
            (
                UFFDIO_API,
                (&raw mut api).cast::<libc::c_void>(),
                "UFFDIO_API",
            ),
            (
                UFFDIO_REGISTER,
                (&raw mut register).cast(),
                "UFFDIO_REGISTER",
            ),
        ] {
            ensure!(
                libc::ioctl(fd, request, arg) == 0,
                "{what}: {}",
                io::Error::last_os_error()
            );
        }
        Ok(file)
    }
}

/// Maps 4 MiB of a file, such that entries map `size`, and stores to all of it.
fn mapped(fixture: &Fixture, size: usize) -> Result<Mapping> {
    let file = fixture.written("data", &data::bytes(1, 2 * HUGE))?;
    let map = match size {
        HUGE => large(&file, 2 * HUGE)?,
        _ => small(&file, 2 * HUGE)?,
    };
    map.prefault_write(size);
    Ok(map)
}

/// Returns the offsets of the pages of the entry of `size` at `at`.
fn pages(at: usize, size: usize) -> Vec<usize> {
    (at..at + size).step_by(PAGE).collect()
}

/// Tests that each store to mapped memory is reported, and once.
fn written(config: &Config, size: usize) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let map = mapped(&fixture, size)?;
    let uffd = follow_stores(&map)?;
    // What was stored before counts.
    take_written(&map, 0, map.len())?;
    for round in 0..ROUNDS {
        let idle = take_written(&map, 0, map.len())?;
        ensure!(
            idle.is_empty(),
            "round {round}: {} pages are reported that were not stored to, the first at {:#x}",
            idle.len(),
            idle[0]
        );
        map.peek(0);
        let at = HUGE + 7 * PAGE;
        map.poke(at, round);
        let got = take_written(&map, 0, map.len())?;
        ensure!(
            got == pages(at & !(size - 1), size),
            "round {round}: the store to {at:#x} is not what is reported: {} pages, the first at {:x?}",
            got.len(),
            got.first()
        );
    }
    drop((uffd, map));
    fixture.finish()
}

declare! {
    /// a page that was write-protected while it was not mapped cannot be accessed: the process faults
    /// for ever; or a load of it counts as a store, or a store does not
    "fsdax::tracking::differs_unmapped" for [EXT4], 60 s, essential "ext4-dev-acpi" => unmapped
}
/// Tests pages that are write-protected before they are mapped, and a part of a
/// range that is mapped already.
fn unmapped(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let bytes = data::bytes(2, 2 * HUGE);
    let file = fixture.written("data", &bytes)?;
    // In a child, which can be killed if it faults for ever.
    spawn(|| {
        let map = large(&file, 2 * HUGE)?;
        let uffd = follow_stores(&map)?;
        take_written(&map, 0, map.len())?;
        for base in [0, HUGE] {
            map.require(base + PAGE, &bytes[base + PAGE..][..PAGE], "a protected page")?;
            map.poke(base + 3 * PAGE, 1);
            // The page after a load, and not only in the first place.
            map.poke(base + PAGE, 2);
            map.peek(base + 9 * PAGE);
            let got = take_written(&map, 0, map.len())?;
            ensure!(
                got == [base + PAGE, base + 3 * PAGE],
                "stores to the second and the fourth page at {base:#x} were made, {got:x?} are reported"
            );
        }
        drop(uffd);
        Ok(())
    })?
    .join(20, "accesses to pages that were protected while not mapped")?;
    drop(file);
    fixture.finish()
}

declare! {
    /// a write-protected hole that write() fills cannot be accessed: the process faults for ever; or
    /// it has other data
    "fsdax::tracking::differs_filled" for [EXT4], 60 s => filled
}
/// Tests a page that loses its entry while it is write-protected.
fn filled(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let file = fixture.sparse("hole", HUGE as u64)?;
    spawn(|| {
        let map = small(&file, HUGE)?;
        for at in [0, PAGE] {
            ensure!(map.peek(at) == 0, "the hole is not empty");
        }
        let uffd = follow_stores(&map)?;
        take_written(&map, 0, map.len())?;
        file.write_all_at(&[7; 2 * PAGE], 0).context("write")?;
        map.require(0, &[7; PAGE], "the filled hole")?;
        map.poke(PAGE, 8);
        map.require(PAGE + 1, &[7; PAGE - 1], "the filled hole")?;
        let got = take_written(&map, 0, map.len())?;
        ensure!(
            got == [PAGE],
            "a store to the second page was made, {got:x?} are reported"
        );
        drop(uffd);
        Ok(())
    })?
    .join(20, "accesses to a hole that write() has filled")?;
    drop(file);
    fixture.finish()
}

/// Returns whether the page at `at` is soft-dirty.
fn is_soft_dirty(map: &Mapping, at: usize) -> Result<bool> {
    let mut word = [0; 8];
    File::open("/proc/self/pagemap")
        .and_then(|pagemap| pagemap.read_exact_at(&mut word, ((map.addr() + at) / PAGE * 8) as u64))
        .context("cannot read /proc/self/pagemap")?;
    Ok(u64::from_ne_bytes(word) & (1 << 55) != 0)
}

/// Tests that each store makes the memory soft-dirty.
fn soft_dirty(config: &Config, size: usize) -> Result<()> {
    let has = system::kernel_config()?
        .lines()
        .any(|line| line == "CONFIG_MEM_SOFT_DIRTY=y");
    if !has {
        skip!("the kernel does not track soft-dirty pages");
    }
    let fixture = Fixture::create(config)?;
    let map = mapped(&fixture, size)?;
    let at = HUGE + 7 * PAGE;
    for round in 0..ROUNDS {
        fs::write("/proc/self/clear_refs", "4").context("clear_refs")?;
        map.peek(at);
        // It is mapped anew, by a load.
        if round == 1 {
            map.advise(HUGE, HUGE, libc::MADV_DONTNEED)
                .context("MADV_DONTNEED")?;
            map.peek(at);
        }
        ensure!(
            !is_soft_dirty(&map, at)?,
            "round {round}: soft-dirty after clear_refs and a load"
        );
        map.poke(at, round);
        ensure!(
            is_soft_dirty(&map, at)?,
            "round {round}: not soft-dirty after a store"
        );
        ensure!(
            !is_soft_dirty(&map, 0)?,
            "round {round}: other memory is soft-dirty"
        );
    }
    drop(map);
    fixture.finish()
}
