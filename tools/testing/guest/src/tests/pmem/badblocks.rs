// SPDX-License-Identifier: GPL-2.0

//! A disk's list of bad sectors, on memory without firmware information, which takes a list from
//! sysfs and clears ranges on request.

use crate::memory::{Kind, Memory};
use crate::tests::fsdax::List;
use crate::tests::prelude::*;

const E820: Want = want(Mode::Fsdax, 2 * MIB, Map::Mem, Bus::E820);
/// A place on the disk, and a bad sector of the page behind it.
const AT: u64 = 64 << 20;
const BAD: u64 = AT / 512 + 8 + 3;

declare! {
    /// a program that polls the list of bad sectors of a disk does not learn that it has changed
    "pmem::badblocks-poll", 60 s => polled
}
fn polled() -> Result<()> {
    let namespace = Namespace::create(&E820)?;
    let node = namespace.node()?;
    let list = List::of(&node)?;
    let disk = open_rw(&node, true)?;
    let memory = Mapping::anonymous(2 * PAGE)?;
    pwrite_all(&disk, &memory, 0, 2 * PAGE, AT, 2 * PAGE)?;
    list.add(BAD, 1)?;
    let file = list.open()?;
    let mut text = String::new();
    io::Read::read_to_string(&mut &file, &mut text).context("reading badblocks")?;
    ensure!(!text.trim().is_empty(), "the list is empty");
    ensure!(
        !has_changed(&file, 0)?,
        "the list has changed since it was read, although nothing was done"
    );
    pwrite_all(&disk, &memory, 0, 2 * PAGE, AT, 2 * PAGE)?;
    list.require(0, "after the bad sector was written")?;
    ensure!(
        has_changed(&file, 5000)?,
        "the list was emptied, and a program that polls it is not told"
    );
    drop((file, disk));
    namespace.destroy()
}

/// Waits up to `limit` milliseconds until sysfs reports a change of a file that was read.
fn has_changed(file: &File, limit: i32) -> Result<bool> {
    let mut poll = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLPRI,
        revents: 0,
    };
    // SAFETY: The one structure is valid and outlives the call.
    match unsafe { libc::poll(&mut poll, 1, limit) } {
        -1 => Err(io::Error::last_os_error()).context("poll"),
        _ => Ok(poll.revents & libc::POLLPRI != 0),
    }
}

declare! {
    /// a write over bad sectors, from a huge page, goes to other sectors than it should, or leaves them
    /// bad
    "pmem::badblocks-huge", 60 s => from_huge_page
}
/// A huge page is one segment of a bio; the driver writes the part of each page by itself, since it
/// has to clear errors.
fn from_huge_page() -> Result<()> {
    let namespace = Namespace::create(&E820)?;
    let node = namespace.node()?;
    let list = List::of(&node)?;
    let disk = open_rw(&node, true)?;
    let memory = Memory::create(Kind::Thp, HUGE, 1)?;
    memory.touch()?;
    let around = data::bytes(1, 3 * HUGE);
    let first = AT - HUGE as u64;
    disk_write(&disk, &around, first)?;
    list.add(BAD, 1)?;
    list.add(BAD + 100, 20)?;
    let bytes = data::bytes(2, HUGE);
    memory.map.write(0, &bytes);
    pwrite_all(&disk, &memory.map, 0, HUGE, AT, HUGE).context("a write over bad sectors")?;
    list.require(0, "after its sectors were written")?;
    let read = Mapping::anonymous(3 * HUGE)?;
    pread_all(&disk, &read, 0, 3 * HUGE, first, HUGE).context("reading the disk")?;
    read.require(HUGE, &bytes, "what was written over bad sectors")?;
    read.require(0, &around[..HUGE], "what is before it")?;
    read.require(2 * HUGE, &around[2 * HUGE..], "what is behind it")?;
    drop((memory, disk));
    namespace.destroy()
}

fn disk_write(disk: &File, bytes: &[u8], at: u64) -> Result<()> {
    let memory = Mapping::anonymous(bytes.len())?;
    memory.write(0, bytes);
    pwrite_all(disk, &memory, 0, bytes.len(), at, bytes.len())
}
