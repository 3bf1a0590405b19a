// SPDX-License-Identifier: GPL-2.0-only

//! Filesystem DAX: files whose memory is the device's.
//!
//! These are the entry points of `fs/dax.c`, for filesystems that cannot tell the difference: same
//! names, same licence class, same errnos, same tracepoints. Each turns raw arguments into types,
//! calls safe code, and turns the answer back.
//!
//! ```text
//!   fault ---- pte.rs, pmd.rs ---- lock.rs        an entry is locked
//!                 |                access.rs      memory, as long as the device is alive
//!                 |                insert.rs      what the entry is now
//!                 |                copy.rs        what is around a copy
//!                 +- MAP_SYNC ---- sync_fault.rs
//!   read, write -- rw.rs           zero, unshare, compare -- zero.rs, share.rs
//!   fsync -------- writeback.rs    truncate ---------------- layout.rs, invalidate.rs
//!   bad memory --- failure.rs      the device goes --------- revoke.rs
//!   what happened  listing.rs
//! ```
//!
//! An entry is what a mapping remembers of a page; the types are in `rust/kernel/dax/entry.rs`, the
//! array they are in is in `tree.rs` there, waiting in `wait.rs`. The protocol is in [`lock`].
//!
//! Where this differs from `fs/dax.c` on purpose, see `Documentation/filesystems/dax-rust.rst`.
//!
//! C header: [`include/linux/dax.h`](srctree/include/linux/dax.h)

use crate::{
    direct_access::DaxDeviceRef,
    entry::{page_of, Size},
    folio::Folio,
    mapping::DaxMapping,
    vm_fault::DaxFault,
};
use core::ptr::{null_mut, NonNull};
use kernel::{
    bindings,
    error::{code::EIO, Result},
    ffi::{c_int, c_uint, c_ulong},
    fs::{inode::Inode, kiocb::Kiocb},
    iomap::IomapOps,
    iov_iter::IovIter,
    macros::export,
    mm::{
        fault::VmFaultResult,
        memremap::{set_revoke_hook, ZoneDevicePage},
        pfn_t::PfnT,
    },
};

mod copy;
mod counts;
mod debugfs;
mod direct_access;
mod entry;
mod folio;
mod insert;
mod invalidate;
mod layout;
mod lock;
mod mapping;
mod memory_failure;
mod pages;
mod pmd;
mod pte;
mod revoke;
mod rw;
mod share;
mod sync_fault;
mod trace;
mod tree;
mod vm_fault;
mod wait;
mod writeback;
mod zero;

const __LOG_PREFIX: &[u8] = b"fs_dax\0";

fn init() {
    // SAFETY: The boot code calls it once, before the first filesystem is mounted.
    unsafe { wait::init() };
    set_revoke_hook(revoke_pages);
}

kernel::fs_initcall!(fsdax_init, init);
kernel::late_initcall!(dax_debugfs_init, debugfs::init);

/// Revokes the pages of a pgmap, whose device is dead, from page tables and from the files of the
/// filesystem that this page of it belongs to. Returns whether there were any. Sleeps.
///
/// This is the [`RevokeHook`](kernel::mm::memremap::RevokeHook). The caller must hold no lock of a
/// filesystem.
fn revoke_pages(page: ZoneDevicePage<'_>) -> bool {
    let Some(folio) = NonNull::new(page.as_raw()) else {
        return false;
    };
    // SAFETY: By its type's invariants the page is one of a pgmap and stays valid. A page of FS DAX is
    // a folio of its own.
    let folio = unsafe { Folio::from_raw(folio.cast()) };
    revoke::from_files(page.pgmap(), folio.owners()) != 0
}

/// The size of an entry, if there are entries of that order.
fn size_of(order: c_uint) -> Option<Size> {
    [Size::Page, Size::Huge]
        .into_iter()
        .find(|size| size.order() == order)
}

/// Deals with a fault of a DAX file. Sleeps.
///
/// # Safety
///
/// `vmf` is a fault that is being dealt with, of a file of a filesystem with DAX, which keeps
/// truncate out and whose operations `ops` are. `pfnp` and `iomap_errp` are each null or valid for
/// writes.
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
    // SAFETY: The caller's promises. A `PfnT` is a `pfn_t`.
    let (mut fault, sync, ops) = unsafe {
        (
            DaxFault::from_raw(vmf),
            pfnp.cast::<PfnT>().as_mut(),
            IomapOps::from_raw(ops),
        )
    };
    if size == Size::Huge {
        return pmd::handle(&mut fault, sync, ops).as_raw();
    }
    let mut result = None;
    let answer = pte::handle(&mut fault, sync, &mut result, ops);
    // SAFETY: The caller's promise.
    if let (Some(result), Some(errp)) = (result, unsafe { iomap_errp.as_mut() }) {
        *errp = errno(result);
    }
    answer.as_raw()
}

fn errno(result: Result) -> c_int {
    result.map_or_else(|error| error.to_errno(), |()| 0)
}

/// Makes metadata durable, and maps what a synchronous fault has left to be mapped. Sleeps.
///
/// # Safety
///
/// As for `dax_iomap_fault()`, which has given `pfn` for this fault.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_finish_sync_fault(
    vmf: *mut bindings::vm_fault,
    order: c_uint,
    pfn: bindings::pfn_t,
) -> bindings::vm_fault_t {
    let (Some(vmf), Some(size)) = (NonNull::new(vmf), size_of(order)) else {
        return VmFaultResult::FALLBACK.as_raw();
    };
    // SAFETY: The caller's promise.
    let mut fault = unsafe { DaxFault::from_raw(vmf) };
    sync_fault::finish(&mut fault, size, PfnT::from_raw(pfn)).as_raw()
}

/// Reads or writes a DAX file. Sleeps. Returns the number of bytes, or an errno.
///
/// # Safety
///
/// `iocb` is a request for a file of a filesystem with DAX, whose operations `ops` are, and `iter`
/// is its data. Nobody else uses them. The inode is locked as the direction needs it.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_iomap_rw(
    iocb: *mut bindings::kiocb,
    iter: *mut bindings::iov_iter,
    ops: *const bindings::iomap_ops,
) -> isize {
    // SAFETY: The caller's promises.
    let (iocb, iter, ops) = unsafe {
        (
            Kiocb::from_raw(iocb),
            IovIter::from_raw(iter),
            IomapOps::from_raw(ops),
        )
    };
    // CAST: `usize` has 64 bits wherever there are DAX mappings.
    rw::transfer(iocb, iter, ops).map_or_else(|error| error.to_errno() as isize, |n| n as isize)
}

/// Zeroes a range of a file. Sleeps. Returns 0 or an errno.
///
/// # Safety
///
/// `inode` is valid, of a filesystem with DAX, whose operations `ops` are. `did_zero` is null or
/// valid for writes.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_zero_range(
    inode: *mut bindings::inode,
    pos: bindings::loff_t,
    len: bindings::loff_t,
    did_zero: *mut bool,
    ops: *const bindings::iomap_ops,
) -> c_int {
    // SAFETY: The caller's promises.
    unsafe {
        zeroing(inode, did_zero, ops, |inode, zeroed, ops| {
            // CAST: A negative length is none that a filesystem asks for.
            zero::range(inode, pos, len as u64, zeroed, ops)
        })
    }
}

/// Zeroes a file from `pos` to the end of the block. Sleeps. Returns 0 or an errno.
///
/// # Safety
///
/// As for `dax_zero_range()`.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_truncate_page(
    inode: *mut bindings::inode,
    pos: bindings::loff_t,
    did_zero: *mut bool,
    ops: *const bindings::iomap_ops,
) -> c_int {
    // SAFETY: The caller's promises.
    unsafe {
        zeroing(inode, did_zero, ops, |inode, zeroed, ops| {
            zero::block_from(inode, pos, zeroed, ops)
        })
    }
}

/// # Safety
///
/// As for `dax_zero_range()`.
unsafe fn zeroing(
    inode: *mut bindings::inode,
    did_zero: *mut bool,
    ops: *const bindings::iomap_ops,
    work: impl FnOnce(&Inode, &mut bool, &IomapOps) -> Result,
) -> c_int {
    // SAFETY: The caller's promises.
    let (inode, ops) = unsafe { (Inode::from_raw(inode), IomapOps::from_raw(ops)) };
    let mut zeroed = false;
    let result = work(inode, &mut zeroed, ops);
    // SAFETY: The caller's promise.
    if let (true, Some(did_zero)) = (zeroed, unsafe { did_zero.as_mut() }) {
        *did_zero = true;
    }
    errno(result)
}

/// Gives a file blocks of its own for a range. Sleeps. Returns 0 or an errno.
///
/// # Safety
///
/// `inode` is valid, of a filesystem with DAX, whose operations `ops` are.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_file_unshare(
    inode: *mut bindings::inode,
    pos: bindings::loff_t,
    len: bindings::loff_t,
    ops: *const bindings::iomap_ops,
) -> c_int {
    // SAFETY: The caller's promises.
    let (inode, ops) = unsafe { (Inode::from_raw(inode), IomapOps::from_raw(ops)) };
    errno(share::unshare(inode, pos, len, ops))
}

/// Checks and prepares files whose blocks are to be shared. Sleeps. Returns 0 or an errno.
///
/// # Safety
///
/// The files are open and of one filesystem with DAX, whose operations `ops` are; `len` is valid.
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
    // SAFETY: The caller's promises.
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

/// Compares ranges of two files. Sleeps. Returns 0, and the result in `same`; or an errno.
///
/// # Safety
///
/// The inodes are valid and of a filesystem with DAX, whose operations `ops` are. `same` is valid
/// for writes.
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
    // SAFETY: The caller's promises.
    let (src, dest, ops, same) = unsafe {
        (
            Inode::from_raw(src),
            Inode::from_raw(dest),
            IomapOps::from_raw(ops),
            &mut *is_same,
        )
    };
    // CAST: A negative length is none that a filesystem asks for.
    errno(share::compare(
        (src, srcoff),
        (dest, destoff),
        len as u64,
        same,
        ops,
    ))
}

/// The first page from the byte `start` to the byte `end` that somebody has; null if there is none.
/// Sleeps.
///
/// # Safety
///
/// `mapping` is valid; if it is one of a DAX file, the filesystem keeps new mappings out.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_layout_busy_page_range(
    mapping: *mut bindings::address_space,
    start: bindings::loff_t,
    end: bindings::loff_t,
) -> *mut bindings::page {
    // SAFETY: The caller's promise.
    let mapping = unsafe { DaxMapping::from_raw(mapping) };
    let last = match end {
        i64::MAX => usize::MAX,
        end => page_of(end),
    };
    layout::busy_page(mapping, page_of(start), last).map_or(null_mut(), |page| page.as_raw())
}

/// The same for the whole file. Sleeps.
///
/// # Safety
///
/// As for `dax_layout_busy_page_range()`.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_layout_busy_page(
    mapping: *mut bindings::address_space,
) -> *mut bindings::page {
    // SAFETY: The caller's promise.
    unsafe { dax_layout_busy_page_range(mapping, 0, i64::MAX) }
}

/// Waits until nobody has a page of the inode. Sleeps.
///
/// # Safety
///
/// `inode` is being freed, and is still valid.
#[export]
pub unsafe extern "C" fn dax_break_layout_final(inode: *mut bindings::inode) {
    // SAFETY: The caller's promise. Not `i_mapping`: that of a device's inode may be another's.
    layout::wait_all_idle(unsafe { DaxMapping::from_raw(&raw mut (*inode).i_data) });
}

/// Writes back what was stored through mappings. Sleeps. Returns 0 or an errno.
///
/// # Safety
///
/// `mapping` is one of a DAX file, `dax_dev` the device of its filesystem, and `wbc` valid.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn dax_writeback_mapping_range(
    mapping: *mut bindings::address_space,
    dax_dev: *mut bindings::dax_device,
    wbc: *mut bindings::writeback_control,
) -> c_int {
    let Some(device) = NonNull::new(dax_dev) else {
        return EIO.to_errno();
    };
    // SAFETY: The caller's promises.
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

/// The pages from `first` to `end`, not included, are about to be truncated: splits the entries that
/// are on both sides of a bound. Sleeps.
///
/// # Safety
///
/// `mapping` is one of a DAX file, and nobody faults pages of this range in until they are truncated.
#[export]
pub unsafe extern "C" fn dax_split_bounds(
    mapping: *mut bindings::address_space,
    first: c_ulong,
    end: c_ulong,
) {
    // SAFETY: The caller's promise.
    let mapping = unsafe { DaxMapping::from_raw(mapping) };
    invalidate::split_bounds(mapping, first, end);
}

/// Takes an entry out because the file is truncated. Sleeps. Returns 1.
///
/// # Safety
///
/// `mapping` is one of a DAX file.
#[export]
pub unsafe extern "C" fn dax_delete_mapping_entry(
    mapping: *mut bindings::address_space,
    index: c_ulong,
) -> c_int {
    // SAFETY: The caller's promise.
    let mapping = unsafe { DaxMapping::from_raw(mapping) };
    let removed = invalidate::remove(mapping, index, invalidate::When::Truncated);
    if !removed {
        kernel::warn_once!("fs_dax: an entry is gone before it was truncated");
    }
    c_int::from(removed)
}

/// Takes an entry out, unless it is dirty. Sleeps. Returns whether it has.
///
/// # Safety
///
/// `mapping` is one of a DAX file.
#[export]
pub unsafe extern "C" fn dax_invalidate_mapping_entry_sync(
    mapping: *mut bindings::address_space,
    index: c_ulong,
) -> c_int {
    // SAFETY: The caller's promise.
    let mapping = unsafe { DaxMapping::from_raw(mapping) };
    c_int::from(invalidate::remove(mapping, index, invalidate::When::Clean))
}
