// SPDX-License-Identifier: GPL-2.0

//! DAX mappings across fork and mremap, shared and private, touched, pinned
//! and untouched.

use crate::gup::Device;
use crate::tests::prelude::*;

const LEN: usize = 8 << 20;
const HALF: usize = LEN / 2;
const DISK_AT: u64 = 2 << 30;

declare! {
    /// after a fork parent and child do not see each other's stores to a shared DAX mapping, or
    /// direct I/O of the child into it goes elsewhere
    "fork::shared" for MAPPED_KINDS, 60 s, essential "devdax-2M-dev-acpi" => shared
}
fn shared(want: &Want) -> Result<()> {
    let target = Target::create(want, LEN as u64)?;
    let disk = scratch()?;
    let (first, second, third) = (
        data::bytes(31, LEN),
        data::bytes(32, HALF),
        data::bytes(33, HALF),
    );
    let plain = Mapping::anonymous(HALF)?;
    plain.write(0, &third);
    pwrite_all(&disk, &plain, 0, HALF, DISK_AT, HALF).context("preparing the disk")?;
    for touched in [true, false] {
        let map = target.map(LEN)?;
        if touched {
            map.write(0, &first);
        } else {
            // The bytes are stored through another mapping; this one remains
            // untouched until after the fork.
            target.map(LEN)?.write(0, &first);
        }
        let child = spawn(|| {
            map.require(0, &first, "the child's view")?;
            map.write(0, &second);
            pread_all(&disk, &map, HALF, HALF, DISK_AT, HALF).context("the child's direct read")
        })?;
        child.join(30, "fork")?;
        map.require(0, &second, "the child's stores")?;
        map.require(HALF, &third, "the child's direct read")?;
    }
    require_unpinned("the child's direct I/O")?;
    target.finish()
}

declare! {
    /// a page that is pinned while the process forks is replaced or lost: the pin no longer reaches
    /// what parent and child see
    "fork::pinned" for [ONE_OF_EACH[1]], 60 s, essential "devdax-2M-dev-acpi" => pinned
}
fn pinned(want: &Want) -> Result<()> {
    let target = Target::create(want, LEN as u64)?;
    let device = Device::open()?;
    let map = target.map(LEN)?;
    let (first, second) = (data::bytes(41, LEN), data::bytes(42, LEN));
    let copy = Mapping::anonymous(LEN)?;
    for fast in [false, true] {
        map.write(0, &first);
        device.pin_longterm(&map, LEN, true, fast).context("pin")?;
        let gate = Gate::new()?;
        let child = spawn(|| {
            map.require(0, &first, "the child's view of pinned pages")?;
            map.write(0, &second);
            gate.pass()
        })?;
        // The parent's stores after the fork must not move the page either.
        gate.open()?;
        child.join(20, "fork with pinned pages")?;
        map.require(0, &second, "the child's stores to pinned pages")?;
        map.poke(PAGE, 0x5a);
        device
            .read_pinned(&copy)
            .context("reading the pinned pages")?;
        ensure!(
            copy.peek(PAGE) == 0x5a,
            "a store after the fork changed another page than the pinned one"
        );
        copy.poke(PAGE, second[PAGE]);
        copy.require(0, &second, "the pinned pages after the fork")?;
        device.unpin().context("unpin")?;
        require_unpinned("the unpin")?;
    }
    drop(map);
    target.finish()
}

declare! {
    /// a private DAX mapping leaks stores into the file or into the other process, or direct I/O into
    /// it reaches the file instead of the copy
    "fork::private" for [ONE_OF_EACH[0]], 60 s, essential "fsdax-2M-dev-acpi" => private
}
fn private(want: &Want) -> Result<()> {
    let target = Target::create(want, LEN as u64)?;
    let disk = scratch()?;
    let (file, own, theirs) = (
        data::bytes(51, LEN),
        data::bytes(52, PAGE),
        data::bytes(53, PAGE),
    );
    target.map(LEN)?.write(0, &file);
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let map = target.map_with(LEN, prot, libc::MAP_PRIVATE)?;
    map.require(0, &file, "a private mapping")?;
    map.write(0, &own);
    let child = spawn(|| {
        map.require(0, &own, "the child's copy")?;
        map.require(PAGE, &file[PAGE..], "the child's view of the file")?;
        map.write(0, &theirs);
        map.write(2 * PAGE, &theirs);
        Ok(())
    })?;
    child.join(20, "fork of a private mapping")?;
    map.require(0, &own, "the parent's copy after the child's store")?;
    map.require(
        2 * PAGE,
        &file[2 * PAGE..],
        "the file after the child's store",
    )?;
    // A direct read breaks the sharing as a store does.
    let plain = Mapping::anonymous(PAGE)?;
    plain.write(0, &theirs);
    pwrite_all(&disk, &plain, 0, PAGE, DISK_AT, PAGE).context("preparing the disk")?;
    pread_all(&disk, &map, 4 * PAGE, PAGE, DISK_AT, PAGE)
        .context("direct read into a private mapping")?;
    map.require(4 * PAGE, &theirs, "a direct read into a private mapping")?;
    target.map(LEN)?.require(
        0,
        &file,
        "the file after stores and direct I/O to private mappings",
    )?;
    require_unpinned("direct I/O")?;
    drop(map);
    target.finish()
}

declare! {
    /// a DAX mapping that was moved shows other bytes or a page of its old place, or device-dax can
    /// be unmapped inside one of its pages
    "mremap" for MAPPED_KINDS, 60 s, essential "devdax-2M-dev-acpi" => moved
}
fn moved(want: &Want) -> Result<()> {
    let target = Target::create(want, LEN as u64)?;
    let disk = scratch()?;
    let (first, second) = (data::bytes(61, LEN), data::bytes(62, HALF));
    let plain = Mapping::anonymous(HALF)?;
    plain.write(0, &second);
    pwrite_all(&disk, &plain, 0, HALF, DISK_AT, HALF).context("preparing the disk")?;
    let map = target.map(LEN)?;
    map.write(0, &first);
    let old = map.addr();
    let map = map.move_to(target.reserve(LEN)?)?;
    ensure!(map.addr() != old, "mremap did not move");
    map.require(0, &first, "the moved mapping")?;
    pread_all(&disk, &map, HALF, HALF, DISK_AT, HALF)
        .context("direct read into the moved mapping")?;
    map.require(HALF, &second, "direct read into the moved mapping")?;
    map.require(0, &first[..HALF], "the rest of the moved mapping")?;
    if want.mode == Mode::Devdax && want.align > PAGE as u64 {
        let what = format!(
            "munmap inside a device-dax page of {} KiB",
            want.align >> 10
        );
        require_errno(map.punch(PAGE, PAGE), libc::EINVAL, what)?;
    }
    if want.align < GIB {
        // A hole with the device's alignment is permitted, and does not affect
        // the rest.
        map.punch(2 << 20, 2 << 20)
            .context("munmap of an aligned part")?;
        map.require(0, &first[..2 << 20], "the bytes before the hole")?;
        map.require(HALF, &second, "the bytes after the hole")?;
    }
    drop(map);
    require_unpinned("mremap")?;
    target.finish()
}
