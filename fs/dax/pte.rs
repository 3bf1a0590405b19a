// SPDX-License-Identifier: GPL-2.0-only

//! Faults of a page.

use crate::vm_fault::DaxFault;
use crate::{
    counts::{count, Event},
    direct_access::DaxReadGuard,
    entry::{byte_of, Size},
    trace,
    tree::{Patience, Walk},
};
use crate::{insert, lock, lock::LockedEntry};
use kernel::{
    dax::AccessMode,
    error::{code::EIO, Result},
    iomap::{IomapFlags, IomapIter, IomapOps, IomapType},
    mm::{
        fault::{PmdEntry, VmFaultResult},
        pfn_t::PfnT,
    },
    page::PAGE_SIZE,
};

/// Deals with the fault. Sleeps.
///
/// `sync` is where the frame goes if the filesystem has to write metadata first; `result` what the
/// filesystem has said, if it was asked.
pub(crate) fn handle(
    fault: &mut DaxFault<'_>,
    sync: Option<&mut PfnT>,
    result: &mut Option<Result>,
    operations: &IomapOps,
) -> VmFaultResult {
    let inode = fault.mapping().inode();
    trace::pte_fault(inode, fault);
    let answer = locked_fault(fault, sync, result, operations);
    if answer != VmFaultResult::NONE && !answer.is_error() {
        count(inode, Event::Page);
    }
    trace::pte_fault_done(inode, fault, answer);
    answer
}

fn locked_fault(
    fault: &mut DaxFault<'_>,
    mut sync: Option<&mut PfnT>,
    result: &mut Option<Result>,
    operations: &IomapOps,
) -> VmFaultResult {
    let mapping = fault.mapping();
    let inode = mapping.inode();
    let position = byte_of(fault.index());
    // The filesystem's lock keeps truncate out, so this stays true.
    if position >= inode.size() {
        return VmFaultResult::SIGBUS;
    }
    let write = fault.is_write() && !fault.has_cow_page();
    let flags = (IomapFlags::DAX | IomapFlags::FAULT).set_if(write, IomapFlags::WRITE);

    let mut walk = Walk::new(mapping, fault.index(), Size::Page);
    let mut locked = match lock::grab(&mut walk, Size::Page) {
        Ok(locked) => locked,
        Err(refused) => return refused.answer(),
    };
    // A huge fault of another task was faster.
    if matches!(fault.pmd(), PmdEntry::Huge | PmdEntry::Device) {
        return VmFaultResult::NOPAGE;
    }

    let mut extents = IomapIter::new(inode, position, PAGE_SIZE as u64, flags, operations);
    let mut answer = VmFaultResult::NONE;
    let ended = loop {
        match extents.next() {
            Ok(true) => (),
            ended => break ended.map(drop),
        }
        if extents.length() < PAGE_SIZE as u64 {
            kernel::warn_once!("fs_dax: the filesystem has less than a page for a fault");
            extents.set_processed(Err(EIO));
            continue;
        }
        answer = map_page(fault, &extents, &mut locked, sync.as_deref_mut());
        if answer != VmFaultResult::SIGBUS && extents.iomap().is_new() {
            fault.count_major();
            answer = answer | VmFaultResult::MAJOR;
        }
        if !answer.is_error() {
            extents.set_processed(Ok(PAGE_SIZE as u64));
        }
    };
    *result = Some(ended);
    match ended {
        Err(error) if answer == VmFaultResult::NONE => VmFaultResult::from_error(error),
        _ => answer,
    }
}

/// Maps the page that the extent has.
fn map_page(
    fault: &mut DaxFault<'_>,
    extents: &IomapIter<'_>,
    locked: &mut LockedEntry<'_, '_>,
    sync: Option<&mut PfnT>,
) -> VmFaultResult {
    if fault.has_cow_page() {
        return fill_private_page(fault, extents);
    }
    let (map, write) = (extents.iomap(), extents.is_write());
    if !write && map.iomap_type().reads_as_zeroes() {
        return map_hole(fault, extents, locked);
    }
    if map.iomap_type() != IomapType::Mapped && !map.is_shared() {
        kernel::warn_once!("fs_dax: the filesystem has no memory for a fault");
        return VmFaultResult::SIGBUS;
    }

    let position = byte_of(locked.index());
    let reader = DaxReadGuard::new();
    let fit = match reader.entry_memory(map, position, Size::Page) {
        Ok(fit) => fit,
        Err(refused) => return VmFaultResult::from_error(refused.error()),
    };
    if map.is_shared() && locked.split(Patience::Some).is_err() {
        return VmFaultResult::OOM;
    }
    if write && map.is_shared() {
        if let Err(error) = insert::copied(locked, &reader, extents, &fit) {
            return VmFaultResult::from_error(error);
        }
    }
    insert::frames(locked, fault, extents, &fit);
    if insert::is_synchronous(fault, extents) {
        return need_sync(sync, fit.pfn());
    }
    fault.insert(&fit, write)
}

/// The page table entry has to wait for the filesystem, which has to come back with the frame.
pub(crate) fn need_sync(sync: Option<&mut PfnT>, pfn: PfnT) -> VmFaultResult {
    let Some(sync) = sync else {
        kernel::warn_once!("fs_dax: a synchronous fault of a filesystem that knows of none");
        return VmFaultResult::SIGBUS;
    };
    *sync = pfn;
    VmFaultResult::NEEDDSYNC
}

/// Maps the zero page, read-only: reading a hole does not allocate blocks.
fn map_hole(
    fault: &mut DaxFault<'_>,
    extents: &IomapIter<'_>,
    locked: &mut LockedEntry<'_, '_>,
) -> VmFaultResult {
    let zero = fault.zero_page();
    insert::zero(locked, fault, extents, zero.pfn(), Size::Page);
    let answer = fault.insert_zero_page(zero);
    trace::load_hole(extents.inode(), fault, answer);
    answer
}

/// Fills the private page of a store to a private mapping.
fn fill_private_page(fault: &mut DaxFault<'_>, extents: &IomapIter<'_>) -> VmFaultResult {
    let filled = match extents.iomap().iomap_type() {
        kind if kind.reads_as_zeroes() => {
            fault.clear_cow_page();
            Ok(())
        }
        IomapType::Mapped => {
            let reader = DaxReadGuard::new();
            reader
                .access(
                    extents.iomap(),
                    extents.pos(),
                    PAGE_SIZE,
                    AccessMode::Normal,
                )
                .and_then(|direct| fault.copy_to_cow_page(&direct))
        }
        _ => {
            kernel::warn_once!("fs_dax: an extent without memory");
            Err(EIO)
        }
    };
    if let Err(error) = filled {
        return VmFaultResult::from_error(error);
    }
    match fault.finish_cow_page() {
        VmFaultResult::NONE => VmFaultResult::DONE_COW,
        answer => answer,
    }
}
