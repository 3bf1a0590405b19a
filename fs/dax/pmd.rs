// SPDX-License-Identifier: GPL-2.0-only

//! Faults of 2 MiB, and why they fall back to pages.

use crate::{
    counts::{count, Event, Reason},
    direct_access::DaxReadGuard,
    entry::{byte_of, Size},
    trace,
    tree::Walk,
};
use crate::{direct_access::UnsuitableMemory, vm_fault::DaxFault};
use crate::{insert, lock, lock::LockedEntry, lock::Refused, pte::need_sync};
use kernel::{
    iomap::{IomapFlags, IomapIter, IomapOps, IomapType},
    mm::{
        fault::{PmdEntry, VmFaultResult},
        pfn_t::PfnT,
    },
    page::PAGE_SIZE,
};

const SIZE: Size = Size::Huge;

/// Deals with the fault. Sleeps.
///
/// `sync` is where the frame goes if the filesystem has to write metadata first.
pub(crate) fn handle(
    fault: &mut DaxFault<'_>,
    sync: Option<&mut PfnT>,
    operations: &IomapOps,
) -> VmFaultResult {
    let inode = fault.mapping().inode();
    // CAST: Sizes are not negative. OVERFLOW: Nor larger than `i64` can count.
    let pages = (inode.size() as usize).wrapping_add(PAGE_SIZE - 1) / PAGE_SIZE;
    trace::pmd_fault(inode, fault, pages);
    let answer = match locked_fault(fault, sync, operations, pages) {
        Ok(answer) => {
            if answer != VmFaultResult::NONE && !answer.is_error() {
                count(inode, Event::Huge);
            } else if answer == VmFaultResult::OOM {
                fall_back(fault, Reason::NoMemory);
            }
            answer
        }
        Err(reason) => {
            fall_back(fault, reason);
            fault.split();
            VmFaultResult::FALLBACK
        }
    };
    trace::pmd_fault_done(inode, fault, pages, answer);
    answer
}

/// Says why.
#[cold]
fn fall_back(fault: &DaxFault<'_>, reason: Reason) {
    let inode = fault.mapping().inode();
    count(inode, Event::Fallback(reason));
    trace::fault_fallback(inode, fault, reason);
}

/// Whether the mapping and the file let the fault be huge: these cost nothing to find out.
fn check(fault: &DaxFault<'_>, pages: usize) -> Result<(), Reason> {
    let (address, index) = (fault.address(), fault.index());
    let first = address & !(SIZE.bytes() - 1);
    let (start, end) = fault.vma().range();
    if fault.is_write() && !fault.is_shared() {
        return Err(Reason::Cow);
    }
    if first < start {
        return Err(Reason::VmaStart);
    }
    // OVERFLOW: There is kernel memory behind that of programs.
    if first.wrapping_add(SIZE.bytes()) > end {
        return Err(Reason::VmaEnd);
    }
    // A huge page of the page table has to be one of the file.
    if index & SIZE.colour() != (address / PAGE_SIZE) & SIZE.colour() {
        return Err(Reason::Offset);
    }
    if index | SIZE.colour() >= pages {
        return Err(Reason::Eof);
    }
    Ok(())
}

fn locked_fault(
    fault: &mut DaxFault<'_>,
    mut sync: Option<&mut PfnT>,
    operations: &IomapOps,
    pages: usize,
) -> Result<VmFaultResult, Reason> {
    let mapping = fault.mapping();
    let index = SIZE.align(fault.index());
    // The filesystem's lock keeps truncate out, so this stays true.
    if index >= pages {
        return Ok(VmFaultResult::SIGBUS);
    }
    check(fault, pages)?;
    let flags = (IomapFlags::DAX | IomapFlags::FAULT).set_if(fault.is_write(), IomapFlags::WRITE);

    let mut walk = Walk::new(mapping, index, SIZE);
    let mut locked = match lock::grab(&mut walk, SIZE) {
        Ok(locked) => locked,
        Err(Refused::Conflict) => return Err(Reason::Conflict),
        Err(refused) => return Ok(refused.answer()),
    };
    // A fault of a page by another task was faster.
    if fault.pmd() == PmdEntry::Table {
        return Ok(VmFaultResult::NONE);
    }

    let length = SIZE.bytes() as u64;
    let mut extents = IomapIter::new(mapping.inode(), byte_of(index), length, flags, operations);
    let mut answer = Err(Reason::Other);
    while let Ok(true) = extents.next() {
        answer = if extents.length() < length {
            Err(Reason::Short)
        } else {
            map_huge(fault, &extents, &mut locked, sync.as_deref_mut())
        };
        // Blocks that are not filled are not to become the file's.
        if answer.is_ok_and(|answer| !answer.is_error()) {
            extents.set_processed(Ok(length));
        }
    }
    answer
}

/// Maps the 2 MiB that the extent has.
fn map_huge(
    fault: &mut DaxFault<'_>,
    extents: &IomapIter<'_>,
    locked: &mut LockedEntry<'_, '_>,
    sync: Option<&mut PfnT>,
) -> Result<VmFaultResult, Reason> {
    let (map, write) = (extents.iomap(), extents.is_write());
    if !write && map.iomap_type().reads_as_zeroes() {
        return map_hole(fault, extents, locked);
    }
    if map.iomap_type() != IomapType::Mapped && !map.is_shared() {
        kernel::warn_once!("fs_dax: the filesystem has no memory for a fault");
        return Err(Reason::Other);
    }

    let position = byte_of(locked.index());
    let reader = DaxReadGuard::new();
    let fit = reader
        .entry_memory(map, position, SIZE)
        .map_err(UnsuitableMemory::reason)?;
    if write && map.is_shared() {
        if let Err(error) = insert::copied(locked, &reader, extents, &fit) {
            return Ok(VmFaultResult::from_error(error));
        }
    }
    insert::frames(locked, fault, extents, &fit);
    if insert::is_synchronous(fault, extents) {
        return Ok(need_sync(sync, fit.pfn()));
    }
    match fault.insert(&fit, write) {
        VmFaultResult::FALLBACK => Err(Reason::Other),
        answer => Ok(answer),
    }
}

/// Maps the huge zero page, read-only.
fn map_hole(
    fault: &mut DaxFault<'_>,
    extents: &IomapIter<'_>,
    locked: &mut LockedEntry<'_, '_>,
) -> Result<VmFaultResult, Reason> {
    let inode = locked.mapping().inode();
    let Some(zero) = fault.huge_zero() else {
        trace::pmd_load_hole_fallback(inode, fault, None, locked.entry());
        return Err(Reason::NoZeroPage);
    };
    insert::zero(locked, fault, extents, zero.pfn(), SIZE);
    if !fault.insert_huge_zero(zero) {
        trace::pmd_load_hole_fallback(inode, fault, Some(zero), locked.entry());
        return Err(Reason::Conflict);
    }
    trace::pmd_load_hole(inode, fault, Some(zero), locked.entry());
    Ok(VmFaultResult::NOPAGE)
}
