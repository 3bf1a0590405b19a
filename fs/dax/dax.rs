// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! Filesystem DAX: files whose pages are the memory of the device.
//!
//! This replaces `fs/dax.c`. A filesystem cannot tell the difference: names, licence classes,
//! errnos and tracepoints of the entry points are the same. Each entry point converts raw arguments
//! to types, calls safe code, and converts the result back.
//!
//! # One fault
//!
//! 1. The fault locks the *entry* of the page, or of the 2 MiB, in the mapping of the file. An
//!    entry takes the place of a page in the page cache. Other faults of the same page, writeback
//!    and truncation wait for it ([`entry`], [`entry_array`], [`entry_lock`]).
//! 2. The filesystem finds, or allocates, the blocks of the file (iomap).
//! 3. The device returns their memory, and is not killed while the fault uses it
//!    ([`direct_access`]).
//! 4. The entry names the memory from now on, and its pages name the file ([`owner`]).
//! 5. The page table entry is inserted ([`vm_fault`]), and the entry is unlocked.
//!
//! The way back is in the same order: truncation unmaps the page, waits until it is not pinned, and
//! then removes the entry ([`wait_idle`], [`invalidate`]). If the last reference to an inode is put
//! while a page is pinned, a worker waits instead ([`delayed_iput`]); and pins of a file that is not
//! removed are remembered beyond an unmount ([`evicted_pins`]). If the device is removed, its
//! teardown removes the entries of all files ([`revoke`]).
//!
//! # Files
//!
//! ```text
//!   fault ------------------------ fault.rs   (vm_fault.rs, direct_access.rs)
//!   read, write ------------------ rw.rs
//!   zero, unshare, compare ------- zero.rs, share.rs
//!   fsync ------------------------ writeback.rs
//!   truncate --------------------- invalidate.rs
//!   break layouts ---------------- wait_idle.rs
//!   eviction of inodes ----------- delayed_iput.rs, evicted_pins.rs
//!   memory failure --------------- memory_failure.rs
//!   removal of the device -------- revoke.rs
//!   entries ---------------------- entry.rs, entry_array.rs, entry_lock.rs, mapping.rs,
//!                                  owner.rs, owner_state.rs
//!   counters and tracepoints ----- debugfs.rs, trace.rs, dax_glue.c
//! ```
//!
//! Deliberate differences from `fs/dax.c` are listed in `Documentation/filesystems/dax-rust.rst`.
//!
//! This file encapsulates the raw arguments of the entry points.
//!
//! C header: [`include/linux/dax.h`](srctree/include/linux/dax.h)

use crate::{
    direct_access::DaxDeviceRef,
    entry::{page_of, Size},
    mapping::DaxMapping,
    vm_fault::DaxFault,
};
use core::{
    mem::MaybeUninit,
    ptr::{null_mut, NonNull},
};
use kernel::{
    bindings,
    error::{code::EIO, Result},
    ffi::{c_int, c_uint, c_ulong},
    fs::{
        address_space::{AddressSpace, InvalidateLock},
        inode::Inode,
        kiocb::Kiocb,
        super_block::ActiveInode,
    },
    iomap::IomapOps,
    iov_iter::IovIter,
    macros::export,
    mm::{fault::VmFaultResult, memremap::set_revoke_hook, pfn_t::PfnT},
};

mod debugfs;
mod delayed_iput;
mod direct_access;
mod entry;
mod entry_array;
mod entry_lock;
mod evicted_pins;
mod fault;
mod invalidate;
mod mapping;
mod memory_failure;
mod owner;
mod owner_state;
mod revoke;
mod rw;
mod share;
mod trace;
mod vm_fault;
mod wait_idle;
mod writeback;
mod zero;

const __LOG_PREFIX: &[u8] = b"fs_dax\0";

/// Initialises the wait queues of entries, the list of delayed iputs and that of evicted pins, and
/// registers with the pgmap registry.
fn init() {
    delayed_iput::init();
    evicted_pins::init();
    // SAFETY: The initcall runs once, at boot, before the first filesystem with DAX is mounted.
    unsafe { entry_lock::init() };
    // SAFETY: This crate is built in, so its functions stay.
    unsafe { set_revoke_hook(revoke::revoke_pages) };
}

kernel::fs_initcall!(fsdax_init, init);
kernel::late_initcall!(dax_debugfs_init, debugfs::init);

/// Returns the size of entries of this order, if there are any.
fn size_of(order: c_uint) -> Option<Size> {
    [Size::Pte, Size::Pmd]
        .into_iter()
        .find(|size| size.order() == order)
}

/// Converts a result to 0 or an errno.
fn errno(result: Result) -> c_int {
    result.map_or_else(|error| error.to_errno(), |()| 0)
}

/// Handles a fault of a DAX file. Sleeps. Returns `VM_FAULT_*`.
///
/// # Safety
///
/// `vmf` must be null or a fault that is being handled, of a file of a filesystem with DAX, which
/// excludes truncation, and which has the operations `ops`. `pfnp` and `iomap_errp` must each be
/// null or valid for writes.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_iomap_fault(
    vmf: *mut bindings::vm_fault,
    order: c_uint,
    pfnp: *mut bindings::pfn_t,
    iomap_errp: *mut c_int,
    ops: *const bindings::iomap_ops,
) -> bindings::vm_fault_t {
    let (Some(vmf), Some(size)) = (NonNull::new(vmf), size_of(order)) else {
        return VmFaultResult::FALLBACK.as_raw();
    };
    // SAFETY: The caller promises that the fault is one of a DAX file and that `pfnp` is null or
    // valid for writes; it need not be initialised. A `PfnT` has the layout of a `pfn_t`. It
    // promises that `ops` are those of
    // the filesystem.
    let (mut fault, sync, ops) = unsafe {
        (
            DaxFault::from_raw(vmf),
            pfnp.cast::<MaybeUninit<PfnT>>().as_mut(),
            IomapOps::from_raw(ops),
        )
    };
    if size == Size::Pmd {
        return fault::pmd_fault(&mut fault, sync, ops).as_raw();
    }
    let mut iomap_result = None;
    let result = fault::pte_fault(&mut fault, sync, &mut iomap_result, ops);
    // SAFETY: The caller promises that `iomap_errp` is null or valid for writes.
    if let (Some(iomap_result), Some(errp)) = (iomap_result, unsafe { iomap_errp.as_mut() }) {
        *errp = errno(iomap_result);
    }
    result.as_raw()
}

/// Makes the metadata for a synchronous fault durable, and then maps `pfn`. Sleeps. Returns
/// `VM_FAULT_*`.
///
/// # Safety
///
/// `vmf` must be null or a fault that is being handled, for which `dax_iomap_fault()` has returned
/// `VM_FAULT_NEEDDSYNC` and `pfn`.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_finish_sync_fault(
    vmf: *mut bindings::vm_fault,
    order: c_uint,
    pfn: bindings::pfn_t,
) -> bindings::vm_fault_t {
    let (Some(vmf), Some(size)) = (NonNull::new(vmf), size_of(order)) else {
        return VmFaultResult::FALLBACK.as_raw();
    };
    // SAFETY: The caller promises that `dax_iomap_fault()` has handled this fault, so it is one of
    // a DAX file.
    let mut fault = unsafe { DaxFault::from_raw(vmf) };
    fault::finish_sync(&mut fault, size, PfnT::from_raw(pfn)).as_raw()
}

/// Reads or writes a DAX file. Sleeps. Returns the number of bytes, or an errno.
///
/// # Safety
///
/// `iocb` must be a request for a file of a filesystem with DAX that has the operations `ops`, and
/// `iter` the buffers of the request. No other code may use the two during the call. The inode must
/// be locked as the direction requires.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_iomap_rw(
    iocb: *mut bindings::kiocb,
    iter: *mut bindings::iov_iter,
    ops: *const bindings::iomap_ops,
) -> isize {
    // SAFETY: The caller promises that the request and the buffers are valid and exclusively used
    // here, and that `ops` are those of the filesystem.
    let (iocb, iter, ops) = unsafe {
        (
            Kiocb::from_raw(iocb),
            IovIter::from_raw(iter),
            IomapOps::from_raw(ops),
        )
    };
    // CAST: `isize` has 64 bits wherever there are DAX mappings.
    rw::transfer(iocb, iter, ops).map_or_else(|error| error.to_errno() as isize, |n| n as isize)
}

/// Fills a range of a file with zeroes. Sleeps. Returns 0 or an errno.
///
/// # Safety
///
/// `inode` must be a valid inode of a filesystem with DAX that has the operations `ops`. `did_zero`
/// must be null or valid for writes.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_zero_range(
    inode: *mut bindings::inode,
    pos: bindings::loff_t,
    len: bindings::loff_t,
    did_zero: *mut bool,
    ops: *const bindings::iomap_ops,
) -> c_int {
    // SAFETY: The caller makes the promises that `zero` requires.
    unsafe {
        zero(inode, did_zero, ops, |inode, zeroed, ops| {
            // CAST: No filesystem passes a negative length.
            zero::range(inode, pos, len as u64, zeroed, ops)
        })
    }
}

/// Fills a file with zeroes from `pos` to the end of the block. Sleeps. Returns 0 or an errno.
///
/// # Safety
///
/// `inode` must be a valid inode of a filesystem with DAX that has the operations `ops`. `did_zero`
/// must be null or valid for writes.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_truncate_page(
    inode: *mut bindings::inode,
    pos: bindings::loff_t,
    did_zero: *mut bool,
    ops: *const bindings::iomap_ops,
) -> c_int {
    // SAFETY: The caller makes the promises that `zero` requires.
    unsafe {
        zero(inode, did_zero, ops, |inode, zeroed, ops| {
            zero::to_block_end(inode, pos, zeroed, ops)
        })
    }
}

/// Calls `work`, and stores to `did_zero` if it has zeroed anything.
///
/// # Safety
///
/// `inode` must be a valid inode of a filesystem with DAX that has the operations `ops`. `did_zero`
/// must be null or valid for writes.
unsafe fn zero(
    inode: *mut bindings::inode,
    did_zero: *mut bool,
    ops: *const bindings::iomap_ops,
    work: impl FnOnce(&Inode, &mut bool, &IomapOps) -> Result,
) -> c_int {
    // SAFETY: The caller promises that the inode is valid and that `ops` are those of its
    // filesystem.
    let (inode, ops) = unsafe { (Inode::from_raw(inode), IomapOps::from_raw(ops)) };
    let mut zeroed = false;
    let result = work(inode, &mut zeroed, ops);
    // SAFETY: The caller promises that `did_zero` is null or valid for writes.
    if let (true, Some(did_zero)) = (zeroed, unsafe { did_zero.as_mut() }) {
        *did_zero = true;
    }
    errno(result)
}

/// Gives a file blocks of its own for a range in which it shares blocks. Sleeps. Returns 0 or an
/// errno.
///
/// # Safety
///
/// `inode` must be a valid inode of a filesystem with DAX that has the operations `ops`.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_file_unshare(
    inode: *mut bindings::inode,
    pos: bindings::loff_t,
    len: bindings::loff_t,
    ops: *const bindings::iomap_ops,
) -> c_int {
    // SAFETY: The caller promises that the inode is valid and that `ops` are those of its
    // filesystem.
    let (inode, ops) = unsafe { (Inode::from_raw(inode), IomapOps::from_raw(ops)) };
    errno(share::unshare(inode, pos, len, ops))
}

/// Checks and prepares two files that are to share blocks. Sleeps. Returns 0 or an errno.
///
/// # Safety
///
/// The files must be open files of one filesystem with DAX that has the operations `ops`, and `len`
/// must be valid for reads and writes.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_remap_file_range_prep(
    file_in: *mut bindings::file,
    pos_in: bindings::loff_t,
    file_out: *mut bindings::file,
    pos_out: bindings::loff_t,
    len: *mut bindings::loff_t,
    remap_flags: c_uint,
    ops: *const bindings::iomap_ops,
) -> c_int {
    // SAFETY: The caller makes the promises that this function requires: open files of one
    // filesystem, valid `len`, and the operations of the filesystem.
    unsafe {
        bindings::__generic_remap_file_range_prep(
            file_in,
            pos_in,
            file_out,
            pos_out,
            len,
            remap_flags,
            ops,
        )
    }
}

/// Compares ranges of two files. Sleeps. Returns 0, and stores to `is_same` whether they are equal;
/// or returns an errno.
///
/// # Safety
///
/// The inodes must be valid inodes of a filesystem with DAX that has the operations `ops`.
/// `is_same` must be valid for reads and writes.
#[export]
pub unsafe extern "C" fn dax_dedupe_file_range_compare(
    src: *mut bindings::inode,
    srcoff: bindings::loff_t,
    dest: *mut bindings::inode,
    destoff: bindings::loff_t,
    len: bindings::loff_t,
    is_same: *mut bool,
    ops: *const bindings::iomap_ops,
) -> c_int {
    // SAFETY: The caller promises that the inodes and `is_same` are valid, and that `ops` are those
    // of the filesystem.
    let (src, dest, ops, same) = unsafe {
        (
            Inode::from_raw(src),
            Inode::from_raw(dest),
            IomapOps::from_raw(ops),
            &mut *is_same,
        )
    };
    // CAST: No filesystem passes a negative length.
    errno(share::compare(
        (src, srcoff),
        (dest, destoff),
        len as u64,
        same,
        ops,
    ))
}

/// Unmaps the pages that contain the bytes from `start` to `end`, and returns the first one that is
/// pinned; null if there is none. Sleeps.
///
/// # Safety
///
/// `mapping` must be valid. If it is that of a DAX file, the filesystem must exclude faults.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_layout_busy_page_range(
    mapping: *mut bindings::address_space,
    start: bindings::loff_t,
    end: bindings::loff_t,
) -> *mut bindings::page {
    // SAFETY: The caller promises that the mapping is valid.
    let mapping = unsafe { AddressSpace::from_raw(mapping) };
    let last = match end {
        i64::MAX => usize::MAX,
        end => page_of(end),
    };
    invalidate::busy_page(mapping, page_of(start), last).map_or(null_mut(), NonNull::as_ptr)
}

/// Unmaps all pages of the file, and returns the first one that is pinned; null if there is none.
/// Sleeps.
///
/// # Safety
///
/// `mapping` must be valid. If it is that of a DAX file, the filesystem must exclude faults.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_layout_busy_page(
    mapping: *mut bindings::address_space,
) -> *mut bindings::page {
    // SAFETY: The caller promises that the mapping is valid.
    let mapping = unsafe { AddressSpace::from_raw(mapping) };
    invalidate::busy_page(mapping, 0, usize::MAX).map_or(null_mut(), NonNull::as_ptr)
}

/// Waits until none of the pages that contain the bytes from `start` to `end` is pinned, before the
/// file loses their blocks. Sleeps, and releases `invalidate_lock` meanwhile. Returns 0, with the
/// pages unmapped, or `-ERESTARTSYS` if a signal is pending.
///
/// # Safety
///
/// `inode` must be a valid inode. The task must hold `invalidate_lock` of its mapping for writing.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_break_layout(
    inode: *mut bindings::inode,
    start: bindings::loff_t,
    end: bindings::loff_t,
) -> c_int {
    // SAFETY: The caller promises that the inode is valid.
    let mapping = unsafe { Inode::from_raw(inode) }.mapping();
    let last = match end {
        i64::MAX => usize::MAX,
        end => page_of(end),
    };
    // SAFETY: The caller promises that the task holds the lock for writing.
    errno(unsafe {
        InvalidateLock::with_held(mapping, |lock| {
            wait_idle::break_layout(lock, page_of(start), last)
        })
    })
}

/// Returns whether a page of the inode is pinned. If so, an active reference to the superblock has
/// been taken; `false` is returned as well if there is none to be had, because the filesystem is
/// being shut down. Sleeps.
///
/// # Safety
///
/// `inode` must be a valid DAX inode to which there is no reference, and which has `I_WILL_FREE`
/// set, so that none can be taken.
#[export]
pub unsafe extern "C" fn dax_inode_busy(inode: *mut bindings::inode) -> bool {
    // SAFETY: The caller promises that the inode is valid.
    delayed_iput::is_busy(unsafe { Inode::from_raw(inode) })
}

/// Leaves it to a worker to put a reference to an inode whose pages are pinned, and the active
/// reference to its superblock. Sleeps.
///
/// # Safety
///
/// `dax_inode_busy()` must have returned `true` for the inode. The caller must own a reference to
/// it, and gives that up.
#[export]
pub unsafe extern "C" fn dax_add_delayed_iput(inode: *mut bindings::inode) {
    // SAFETY: By the caller's promise `dax_inode_busy()` has taken the active reference, and the
    // caller gives up its reference to the inode.
    delayed_iput::add(unsafe { ActiveInode::from_raw(inode) });
}

/// Writes stores that were made through mappings back. Sleeps. Returns 0 or an errno.
///
/// # Safety
///
/// `mapping` must be that of a DAX file, `dax_dev` null or the device of its filesystem, and `wbc`
/// valid.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_writeback_mapping_range(
    mapping: *mut bindings::address_space,
    dax_dev: *mut bindings::dax_device,
    wbc: *mut bindings::writeback_control,
) -> c_int {
    let Some(device) = NonNull::new(dax_dev) else {
        return EIO.to_errno();
    };
    // SAFETY: The caller promises that the mapping is that of a DAX file, that `dax_dev` is the
    // device of its filesystem, which holds it, and that `wbc` is valid.
    let (mapping, device, wbc) = unsafe {
        (
            DaxMapping::from_raw(mapping),
            DaxDeviceRef::from_raw(device),
            &*wbc,
        )
    };
    let all = wbc.sync_mode == bindings::writeback_sync_modes_WB_SYNC_ALL;
    errno(writeback::range(
        mapping,
        device,
        wbc.range_start,
        wbc.range_end,
        all,
    ))
}

/// Splits the entries that cross a bound of the pages from `start` to `end`, exclusive, which are
/// about to be truncated. If they are because the inode is evicted, and it has a name, remembers those
/// that are pinned. Sleeps.
///
/// # Safety
///
/// `mapping` must be that of a DAX file, and faults of this range must be excluded until it is
/// truncated.
#[export]
pub unsafe extern "C" fn dax_split_bounds(
    mapping: *mut bindings::address_space,
    start: c_ulong,
    end: c_ulong,
) {
    // SAFETY: The caller promises that the mapping is that of a DAX file.
    let mapping = unsafe { DaxMapping::from_raw(mapping) };
    if mapping.inode().is_freeing() && mapping.inode().link_count() != 0 {
        evicted_pins::record(mapping);
    }
    invalidate::split_bounds(mapping, start, end);
}

/// Removes an entry because the file is truncated. Sleeps. Returns 1.
///
/// # Safety
///
/// `mapping` must be that of a DAX file.
#[export]
pub unsafe extern "C" fn dax_delete_mapping_entry(
    mapping: *mut bindings::address_space,
    index: c_ulong,
) -> c_int {
    // SAFETY: The caller promises that the mapping is that of a DAX file.
    let mapping = unsafe { DaxMapping::from_raw(mapping) };
    let removed = invalidate::remove(mapping, index, invalidate::Removal::Truncate);
    if !removed {
        kernel::warn_once!("fs_dax: truncated page has no entry");
    }
    c_int::from(removed)
}

/// Removes an entry unless it is dirty. Sleeps. Returns 1 if it was removed, else 0.
///
/// # Safety
///
/// `mapping` must be that of a DAX file.
#[export]
pub unsafe extern "C" fn dax_invalidate_mapping_entry_sync(
    mapping: *mut bindings::address_space,
    index: c_ulong,
) -> c_int {
    // SAFETY: The caller promises that the mapping is that of a DAX file.
    let mapping = unsafe { DaxMapping::from_raw(mapping) };
    let removal = invalidate::Removal::InvalidateClean;
    c_int::from(invalidate::remove(mapping, index, removal))
}
