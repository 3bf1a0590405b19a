// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! Faults: PTE faults, PMD faults, and the second half of synchronous faults.
//!
//! A PTE fault and a PMD fault take the same steps. A PMD fault has reasons to fall back at each of
//! them.
//!
//! ```text
//!                 PTE fault             PMD fault                  falls back because of
//!   check         inside the file       + inside the VMA, aligned  cow .. eof, thp-off
//!   lock          entry_lock::grab()    the same                   conflict
//!   ask           iomap: 4 KiB          iomap: 2 MiB               short, other
//!   hole          zero page             huge zero folio            no-zero-page, conflict
//!   memory        entry_memory()        + contiguous, aligned      short, device, no-memmap, other
//!   shared block  copy_all()            the same                   (never)
//!   entry         insert_entry()        the same                   (never)
//!   page table    DaxFault::insert()    the same                   other
//! ```
//!
//! If transparent huge pages are off for the VMA or the process, the kernel does not call the PMD
//! fault handler. The first PTE fault of 2 MiB notices that, and counts thp-off.
//!
//! A PMD fault without memory for its entry does not fall back: it ends with `VM_FAULT_OOM`, and is
//! counted as no-memory.
//!
//! Once an entry names the blocks that the filesystem has allocated for a copy, they belong to the
//! file: the filesystem must not take them back, whatever becomes of the page table entry. So
//! [`insert_entry`] returns a [`Named`], without which no result is made.
//!
//! [`EntryMemory`] borrows from the guard that keeps the device from being killed, and both the
//! entry and the page table entry are made while it lives. C releases that guard before it inserts
//! them.
//!
//! A write fault of a `MAP_SYNC` mapping that needs metadata written does not map the page. It
//! returns `VM_FAULT_NEEDDSYNC` and the PFN to the filesystem, which then calls [`finish_sync`].
//!
//! The `unsafe` code in this file encapsulates that the memory which a fault inserts is that of the
//! entry which it has locked.

use crate::{
    debugfs::{count, Event, Reason},
    direct_access::{DaxReadGuard, EntryMemory},
    entry::{byte_of, Entry, NewEntry, Size},
    entry_array::{Cursor, Gfp, Mark},
    entry_lock::{self, GrabError, LockedEntry, UnlockedSlot, WakeMode},
    share::copy_all,
    trace,
    vm_fault::DaxFault,
};
use core::mem::MaybeUninit;
use kernel::{
    dax::AccessMode,
    error::{code::EIO, Result},
    fs::inode::Inode,
    iomap::{IomapFlags, IomapIter, IomapOps, IomapType},
    mm::{
        fault::{PmdEntry, VmFaultResult},
        pfn_t::PfnT,
    },
    page::PAGE_SIZE,
};

/// Handles a PTE fault. Sleeps. C: `dax_iomap_pte_fault()`.
///
/// `sync` receives the PFN if the filesystem has to write metadata first. `iomap_result` receives
/// the result of the filesystem, if it was called.
#[doc(alias = "dax_iomap_pte_fault")]
pub(crate) fn pte_fault(
    fault: &mut DaxFault<'_>,
    sync: Option<&mut MaybeUninit<PfnT>>,
    iomap_result: &mut Option<Result>,
    operations: &IomapOps,
) -> VmFaultResult {
    let inode = fault.mapping().inode();
    trace::pte_fault(inode, fault);
    let result = handle_pte_fault(fault, sync, iomap_result, operations);
    if result != VmFaultResult::NONE && !result.is_error() {
        count(inode, Event::Pte);
    }
    trace::pte_fault_done(inode, fault, result);
    result
}

/// Locks the entry and maps the page. C: `dax_fault_return()` is `VmFaultResult::from_error()`
/// here.
fn handle_pte_fault(
    fault: &mut DaxFault<'_>,
    mut sync: Option<&mut MaybeUninit<PfnT>>,
    iomap_result: &mut Option<Result>,
    operations: &IomapOps,
) -> VmFaultResult {
    let mapping = fault.mapping();
    let inode = mapping.inode();
    let position = byte_of(fault.index());
    // The lock of the filesystem excludes truncation, so the result stays true.
    if position >= inode.size() {
        return VmFaultResult::SIGBUS;
    }
    let write = fault.is_write() && !fault.has_cow_page();
    let flags = (IomapFlags::DAX | IomapFlags::FAULT).set_if(write, IomapFlags::WRITE);

    let mut cursor = Cursor::new(mapping, fault.index(), Size::Pte);
    let mut locked = match entry_lock::grab(&mut cursor, Size::Pte) {
        Ok(locked) => locked,
        Err(error) => return error.fault_result(),
    };
    match fault.pmd() {
        // A PMD fault of another task may have mapped the page meanwhile.
        PmdEntry::Huge | PmdEntry::Device => return VmFaultResult::NOPAGE,
        // The first PTE of the 2 MiB.
        PmdEntry::None => check_thp(fault),
        PmdEntry::Table => (),
    }

    let mut iter = IomapIter::new(inode, position, PAGE_SIZE as u64, flags, operations);
    let mut result = VmFaultResult::NONE;
    let ended = loop {
        match iter.next() {
            Ok(true) => (),
            ended => break ended.map(drop),
        }
        if iter.length() < PAGE_SIZE as u64 {
            kernel::warn_once!("fs_dax: extent shorter than a page for a fault");
            iter.set_processed(Err(EIO));
            continue;
        }
        let handled = map_pte(fault, &iter, &mut locked, sync.as_deref_mut());
        result = handled.result;
        if result != VmFaultResult::SIGBUS && iter.iomap().is_new() {
            fault.count_major();
            result = result | VmFaultResult::MAJOR;
        }
        // The filesystem must not add blocks to the file that have not been filled, nor take back
        // blocks that an entry names.
        if handled.used {
            iter.set_processed(Ok(PAGE_SIZE as u64));
        }
    };
    *iomap_result = Some(ended);
    match ended {
        Err(error) if result == VmFaultResult::NONE => VmFaultResult::from_error(error),
        _ => result,
    }
}

/// The result of a fault for one extent, and whether the blocks of the extent are used.
///
/// C calls blocks used if the fault succeeds. If there is no memory for the page table entry, the
/// filesystem then frees blocks that an entry names.
struct Handled<R> {
    result: R,
    used: bool,
}

impl<R> Handled<R> {
    /// Creates a result for an extent whose blocks no entry names.
    fn unused(result: R) -> Self {
        let used = false;
        Self { result, used }
    }
}

/// The evidence that an entry names what the filesystem has found.
#[must_use = "the filesystem takes blocks back that nothing reports as used"]
struct Named(());

impl Named {
    /// Creates a result for the extent that the entry names.
    fn with<R>(self, result: R) -> Handled<R> {
        let used = true;
        Handled { result, used }
    }
}

/// Maps the page of the extent. C: `dax_fault_iter()`.
#[doc(alias = "dax_fault_iter")]
fn map_pte(
    fault: &mut DaxFault<'_>,
    iter: &IomapIter<'_>,
    locked: &mut LockedEntry<'_, '_>,
    sync: Option<&mut MaybeUninit<PfnT>>,
) -> Handled<VmFaultResult> {
    if fault.has_cow_page() {
        let result = fill_cow_page(fault, iter);
        let used = !result.is_error();
        return Handled { result, used };
    }
    let (iomap, write) = (iter.iomap(), iter.is_write());
    if !write && iomap.iomap_type().reads_as_zeroes() {
        return map_pte_hole(fault, iter, locked);
    }
    if iomap.iomap_type() != IomapType::Mapped && !iomap.is_shared() {
        kernel::warn_once!("fs_dax: extent without blocks for a fault");
        return Handled::unused(VmFaultResult::SIGBUS);
    }

    let position = byte_of(locked.index());
    let guard = DaxReadGuard::new();
    let memory = match guard.entry_memory(iomap, position, Size::Pte) {
        Ok(memory) => memory,
        Err(unsuitable) => {
            return Handled::unused(VmFaultResult::from_error(unsuitable.error()));
        }
    };
    let new = NewEntry::for_memory(&memory);
    let replacement = Replacement::of(locked, iter, *new);
    if replacement == Replacement::Unmap && locked.split(Gfp::Kernel).is_err() {
        return Handled::unused(VmFaultResult::OOM);
    }
    if write && iomap.is_shared() {
        if let Err(error) = copy_shared(locked, &guard, iter, &memory) {
            return Handled::unused(VmFaultResult::from_error(error));
        }
    }
    let named = insert_entry(locked, fault, iter, new, replacement);
    if is_synchronous(fault, iter) {
        return named.with(request_sync(sync, memory.pfn()));
    }
    // SAFETY: The entry, which is locked, is that of this fault: its cursor has been made from the
    // mapping and the index of the fault. By `named` it names this memory.
    named.with(unsafe { fault.insert(&memory, write) })
}

/// Maps the zero page, read-only: reading a hole does not allocate blocks. C: `dax_load_hole()`.
#[doc(alias = "dax_load_hole")]
fn map_pte_hole(
    fault: &mut DaxFault<'_>,
    iter: &IomapIter<'_>,
    locked: &mut LockedEntry<'_, '_>,
) -> Handled<VmFaultResult> {
    let zero = fault.zero_page();
    let new = NewEntry::zero(zero.pfn(), Size::Pte);
    let replacement = Replacement::of(locked, iter, *new);
    if replacement == Replacement::Unmap && discard(locked).is_err() {
        return Handled::unused(VmFaultResult::OOM);
    }
    let named = insert_entry(locked, fault, iter, new, replacement);
    let result = fault.insert_zero_page(zero);
    trace::load_hole(iter.inode(), fault, result);
    named.with(result)
}

/// Fills and maps the private page for a store to a private mapping. C: `dax_fault_cow_page()`.
#[doc(alias = "dax_fault_cow_page")]
fn fill_cow_page(fault: &mut DaxFault<'_>, iter: &IomapIter<'_>) -> VmFaultResult {
    let filled = match iter.iomap().iomap_type() {
        kind if kind.reads_as_zeroes() => {
            fault.clear_cow_page();
            Ok(())
        }
        IomapType::Mapped => {
            let guard = DaxReadGuard::new();
            guard
                .access(iter.iomap(), iter.pos(), PAGE_SIZE, AccessMode::Normal)
                .and_then(|access| fault.copy_to_cow_page(&access))
        }
        _ => {
            kernel::warn_once!("fs_dax: extent without blocks for a private page");
            Err(EIO)
        }
    };
    if let Err(error) = filled {
        return VmFaultResult::from_error(error);
    }
    match fault.finish_cow_page() {
        VmFaultResult::NONE => VmFaultResult::DONE_COW,
        result => result,
    }
}

/// Handles a PMD fault. Sleeps. C: `dax_iomap_pmd_fault()`.
///
/// `sync` receives the PFN if the filesystem has to write metadata first.
#[doc(alias = "dax_iomap_pmd_fault")]
pub(crate) fn pmd_fault(
    fault: &mut DaxFault<'_>,
    sync: Option<&mut MaybeUninit<PfnT>>,
    operations: &IomapOps,
) -> VmFaultResult {
    let inode = fault.mapping().inode();
    let pages = pages_of(inode);
    trace::pmd_fault(inode, fault, pages);
    let result = match handle_pmd_fault(fault, sync, operations, pages) {
        Ok(result) => {
            if result != VmFaultResult::NONE && !result.is_error() {
                count(inode, Event::Pmd);
            } else if result == VmFaultResult::OOM {
                report_fallback(fault, Reason::NoMemory);
            }
            result
        }
        Err(reason) => {
            report_fallback(fault, reason);
            fault.split();
            VmFaultResult::FALLBACK
        }
    };
    trace::pmd_fault_done(inode, fault, pages, result);
    result
}

/// Returns the size of a file in pages.
#[inline(always)]
fn pages_of(inode: &Inode) -> usize {
    // CAST: The size is not negative. OVERFLOW: It is at most `i64::MAX`.
    (inode.size() as usize).wrapping_add(PAGE_SIZE - 1) / PAGE_SIZE
}

/// Counts a PTE fault that could have been a PMD fault, if `MADV_NOHUGEPAGE` or
/// `PR_SET_THP_DISABLE` forbids that: then the kernel does not call the PMD fault handler.
///
/// It is called for the first PTE of the 2 MiB only, so it costs other faults nothing.
#[cold]
fn check_thp(fault: &DaxFault<'_>) {
    let vma = fault.vma();
    if vma.has_huge_fault()
        && vma.is_thp_disabled()
        && check_pmd_fault(fault, pages_of(fault.mapping().inode())).is_ok()
    {
        report_fallback(fault, Reason::ThpOff);
    }
}

/// Counts and traces the reason why a fault is not a PMD fault.
#[cold]
fn report_fallback(fault: &DaxFault<'_>, reason: Reason) {
    let inode = fault.mapping().inode();
    count(inode, Event::Fallback(reason));
    trace::fault_fallback(inode, fault, reason);
}

/// Checks whether the VMA and the file allow a PMD mapping, which costs little. C:
/// `dax_fault_check_fallback()`.
#[doc(alias = "dax_fault_check_fallback")]
fn check_pmd_fault(fault: &DaxFault<'_>, pages: usize) -> Result<(), Reason> {
    let (address, index) = (fault.address(), fault.index());
    let first = address & !(Size::Pmd.bytes() - 1);
    let (start, end) = fault.vma().range();
    if fault.is_write() && !fault.is_shared() {
        return Err(Reason::Cow);
    }
    if first < start {
        return Err(Reason::VmaStart);
    }
    // OVERFLOW: User addresses end before those of the kernel begin.
    if first.wrapping_add(Size::Pmd.bytes()) > end {
        return Err(Reason::VmaEnd);
    }
    // A PMD maps aligned 2 MiB of the file.
    if index & Size::Pmd.colour() != (address / PAGE_SIZE) & Size::Pmd.colour() {
        return Err(Reason::Offset);
    }
    if index | Size::Pmd.colour() >= pages {
        return Err(Reason::Eof);
    }
    Ok(())
}

/// Locks the entry and maps the 2 MiB, or returns why it falls back.
fn handle_pmd_fault(
    fault: &mut DaxFault<'_>,
    mut sync: Option<&mut MaybeUninit<PfnT>>,
    operations: &IomapOps,
    pages: usize,
) -> Result<VmFaultResult, Reason> {
    let mapping = fault.mapping();
    let index = Size::Pmd.align(fault.index());
    // The lock of the filesystem excludes truncation, so the result stays true.
    if index >= pages {
        return Ok(VmFaultResult::SIGBUS);
    }
    check_pmd_fault(fault, pages)?;
    let flags = (IomapFlags::DAX | IomapFlags::FAULT).set_if(fault.is_write(), IomapFlags::WRITE);

    let mut cursor = Cursor::new(mapping, index, Size::Pmd);
    let mut locked = match entry_lock::grab(&mut cursor, Size::Pmd) {
        Ok(locked) => locked,
        Err(GrabError::Conflict) => return Err(Reason::Conflict),
        Err(error) => return Ok(error.fault_result()),
    };
    // A PTE fault of another task may have been faster.
    if fault.pmd() == PmdEntry::Table {
        return Ok(VmFaultResult::NONE);
    }

    let length = Size::Pmd.bytes() as u64;
    let mut iter = IomapIter::new(mapping.inode(), byte_of(index), length, flags, operations);
    let mut result = Err(Reason::Other);
    while let Ok(true) = iter.next() {
        let handled = if iter.length() < length {
            Handled::unused(Err(Reason::Short))
        } else {
            map_pmd(fault, &iter, &mut locked, sync.as_deref_mut())
        };
        result = handled.result;
        // As for a PTE fault.
        if handled.used {
            iter.set_processed(Ok(length));
        }
    }
    result
}

/// Maps the 2 MiB of the extent. C: `dax_fault_iter()`.
fn map_pmd(
    fault: &mut DaxFault<'_>,
    iter: &IomapIter<'_>,
    locked: &mut LockedEntry<'_, '_>,
    sync: Option<&mut MaybeUninit<PfnT>>,
) -> Handled<Result<VmFaultResult, Reason>> {
    let (iomap, write) = (iter.iomap(), iter.is_write());
    if !write && iomap.iomap_type().reads_as_zeroes() {
        return map_pmd_hole(fault, iter, locked);
    }
    if iomap.iomap_type() != IomapType::Mapped && !iomap.is_shared() {
        kernel::warn_once!("fs_dax: extent without blocks for a fault");
        return Handled::unused(Err(Reason::Other));
    }

    let position = byte_of(locked.index());
    let guard = DaxReadGuard::new();
    let memory = match guard.entry_memory(iomap, position, Size::Pmd) {
        Ok(memory) => memory,
        Err(unsuitable) => return Handled::unused(Err(unsuitable.reason())),
    };
    let new = NewEntry::for_memory(&memory);
    let replacement = Replacement::of(locked, iter, *new);
    if write && iomap.is_shared() {
        if let Err(error) = copy_shared(locked, &guard, iter, &memory) {
            return Handled::unused(Ok(VmFaultResult::from_error(error)));
        }
    }
    let named = insert_entry(locked, fault, iter, new, replacement);
    if is_synchronous(fault, iter) {
        return named.with(Ok(request_sync(sync, memory.pfn())));
    }
    // SAFETY: As for a PTE fault, the entry of this fault is locked and names this memory.
    let result = unsafe { fault.insert(&memory, write) };
    named.with(match result {
        VmFaultResult::FALLBACK => Err(Reason::Other),
        result => Ok(result),
    })
}

/// Maps the huge zero folio, read-only. C: `dax_pmd_load_hole()`.
#[doc(alias = "dax_pmd_load_hole")]
fn map_pmd_hole(
    fault: &mut DaxFault<'_>,
    iter: &IomapIter<'_>,
    locked: &mut LockedEntry<'_, '_>,
) -> Handled<Result<VmFaultResult, Reason>> {
    let inode = locked.mapping().inode();
    let Some(zero) = fault.huge_zero() else {
        trace::pmd_load_hole_fallback(inode, fault, None, locked.entry());
        return Handled::unused(Err(Reason::NoZeroPage));
    };
    let new = NewEntry::zero(zero.pfn(), Size::Pmd);
    let replacement = Replacement::of(locked, iter, *new);
    if replacement == Replacement::Unmap {
        clear_marks(locked);
    }
    let named = insert_entry(locked, fault, iter, new, replacement);
    if !fault.insert_huge_zero(zero) {
        trace::pmd_load_hole_fallback(inode, fault, Some(zero), locked.entry());
        return named.with(Err(Reason::Conflict));
    }
    trace::pmd_load_hole(inode, fault, Some(zero), locked.entry());
    named.with(Ok(VmFaultResult::NOPAGE))
}

/// Returns whether the page table entry has to wait until metadata is durable: for a write fault of
/// a `MAP_SYNC` mapping to blocks that have just been allocated. C: `dax_fault_is_synchronous()`.
#[doc(alias = "dax_fault_is_synchronous")]
fn is_synchronous(fault: &DaxFault<'_>, iter: &IomapIter<'_>) -> bool {
    iter.is_write() && fault.is_sync() && iter.iomap().is_dirty()
}

/// Returns the PFN to the filesystem, which makes the metadata durable by calling [`finish_sync`].
/// C: `dax_fault_synchronous_pfnp()`.
#[doc(alias = "dax_fault_synchronous_pfnp")]
fn request_sync(sync: Option<&mut MaybeUninit<PfnT>>, pfn: PfnT) -> VmFaultResult {
    let Some(sync) = sync else {
        kernel::warn_once!("fs_dax: synchronous fault, but the filesystem passed no pfn");
        return VmFaultResult::SIGBUS;
    };
    sync.write(pfn);
    VmFaultResult::NEEDDSYNC
}

/// Fills `memory`, a copy of shared blocks, with the data that the file has there now. Sleeps.
///
/// The entry does not name `memory` yet: if the data cannot be read, the file keeps its old entry.
///
/// # Errors
///
/// Returns `EIO` for bad memory, and the errors of the device.
fn copy_shared(
    locked: &LockedEntry<'_, '_>,
    guard: &DaxReadGuard,
    iter: &IomapIter<'_>,
    memory: &EntryMemory<'_>,
) -> Result {
    let (old, index) = (locked.entry(), locked.index());
    // Stores from now on would be missing from the copy, so the old memory is unmapped first. The
    // entry is locked, so it cannot be faulted in again before it names the copy.
    let mapping = locked.mapping();
    mapping.unmap(old.size().align(index), old.size().pages());
    let (position, len) = (byte_of(memory.size().align(index)), memory.size().bytes());
    copy_all(guard, position, len, iter.srcmap(), memory.access())
}

/// What a fault does with the entry that it has locked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replacement {
    /// It names the memory that the fault has found, alone or as a part of a PMD entry, and stays.
    Keep,
    /// It is empty, or a hole that is still one.
    Store,
    /// It is mapped somewhere and names something else: a hole that has got blocks, blocks that are
    /// about to be copied, or blocks that the file does not have there any more.
    Unmap,
}

impl Replacement {
    /// Returns what is to be done with the entry so that it names the same as `new`.
    #[inline]
    fn of(locked: &LockedEntry<'_, '_>, iter: &IomapIter<'_>, new: Entry) -> Self {
        let old = locked.entry();
        if iter.iomap().is_shared() {
            return Self::Unmap;
        }
        if !old.has_memory() {
            return match old.is_zero() && !new.is_zero() {
                true => Self::Unmap,
                false => Self::Store,
            };
        }
        if old == new || is_part(old, locked.index(), new) {
            return Self::Keep;
        }
        Self::Unmap
    }
}

/// Returns whether `new`, a PTE entry for the page `index`, names the page that the PMD entry `old`
/// has there.
#[inline]
fn is_part(old: Entry, index: usize, new: Entry) -> bool {
    old.size() == Size::Pmd && old.part(index & Size::Pmd.colour()) == Some(new)
}

/// Prepares the entry of blocks that the file has lost for becoming a hole of one page. Sleeps.
///
/// # Errors
///
/// Returns `ENOMEM` if there is no memory for splitting a PMD entry.
#[cold]
fn discard(locked: &mut LockedEntry<'_, '_>) -> Result {
    locked.split(Gfp::Kernel)?;
    clear_marks(locked);
    Ok(())
}

/// Clears the marks of an entry that becomes a hole, which has nothing to write back.
#[cold]
fn clear_marks(locked: &mut LockedEntry<'_, '_>) {
    let mut array = locked.array();
    array.load();
    array.clear_mark(Mark::Dirty);
    array.clear_mark(Mark::ToWrite);
}

/// Stores what the fault has found, device memory or a hole, to the locked entry, and marks it for
/// writeback. C: `dax_insert_entry()`.
///
/// C keeps every entry with memory, without looking which memory that is.
#[doc(alias = "dax_insert_entry")]
#[inline]
fn insert_entry(
    locked: &mut LockedEntry<'_, '_>,
    fault: &DaxFault<'_>,
    iter: &IomapIter<'_>,
    new: NewEntry<'_>,
    replacement: Replacement,
) -> Named {
    let (mapping, old, index) = (locked.mapping(), locked.entry(), locked.index());
    let write = iter.is_write();
    let dirty = write && !is_synchronous(fault, iter);
    let shared = iter.iomap().is_shared();

    if dirty {
        mapping.inode().mark_pages_dirty();
    }
    // A task that has the old memory or the hole mapped must not go on reading it.
    if replacement == Replacement::Unmap {
        mapping.unmap(old.size().align(index), old.size().pages());
    }

    let mut array = if replacement == Replacement::Keep {
        let mut array = locked.array();
        array.load();
        array
    } else {
        // The copy of a shared block is in no other file. (C counts it as shared.)
        locked.replace(new, shared && !write)
    };
    if dirty {
        array.set_mark(Mark::Dirty);
    }
    if write && shared {
        array.set_mark(Mark::ToWrite);
    }
    Named(())
}

/// Handles the second half of a synchronous fault: makes the metadata of the file durable, and then
/// maps `pfn` for writing. Sleeps. C: `dax_finish_sync_fault()`, `dax_insert_pfn_mkwrite()`.
#[doc(alias = "dax_insert_pfn_mkwrite")]
pub(crate) fn finish_sync(fault: &mut DaxFault<'_>, size: Size, pfn: PfnT) -> VmFaultResult {
    if fault.fsync(size).is_err() {
        return VmFaultResult::SIGBUS;
    }
    let mapping = fault.mapping();
    let mut cursor = Cursor::new(mapping, fault.index(), size);
    let mut array = cursor.lock();
    let is_same = match entry_lock::get_unlocked(&mut array, size) {
        UnlockedSlot::Entry(mut found)
            if found.entry().size() == size && found.entry().pfn() == Some(pfn.pfn()) =>
        {
            found.set_mark(Mark::Dirty);
            true
        }
        UnlockedSlot::Entry(found) => {
            found.put(WakeMode::Next);
            false
        }
        _ => false,
    };
    let locked = if is_same {
        LockedEntry::lock(array)
    } else {
        drop(array);
        None
    };
    let Some(locked) = locked else {
        // The entry has been split, removed, or given another PFN meanwhile. The process faults
        // again.
        trace::insert_pfn_mkwrite_no_entry(mapping.inode(), fault, VmFaultResult::NOPAGE);
        return VmFaultResult::NOPAGE;
    };
    // The device may have been unbound since the first half, which held a `DaxReadGuard`.
    let result = fault.insert_locked(&locked, true);
    drop(locked);
    trace::insert_pfn_mkwrite(mapping.inode(), fault, result);
    result
}
