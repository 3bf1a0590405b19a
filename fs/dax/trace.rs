// SPDX-License-Identifier: GPL-2.0

//! The tracepoints of filesystem DAX, `fs_dax:*`. C fires them, in `fs/dax/dax_glue.c`.
//!
//! C headers: [`include/trace/events/fs_dax.h`](srctree/include/trace/events/fs_dax.h),
//! [`include/trace/events/fs_dax_fallback.h`](srctree/include/trace/events/fs_dax_fallback.h)

use crate::{counts::Reason, entry::Entry};
use kernel::{
    bindings,
    fs::inode::Inode,
    mm::fault::{HugeZeroFolio, VmFault, VmFaultResult},
    tracepoint_enabled,
};

/// Defines a function per tracepoint: name, tracepoint, function of the glue, arguments.
macro_rules! tracepoints {
    ($(
        $(#[$doc:meta])*
        $name:ident = $point:ident, $glue:ident($($arg:ident: $type:ty => $raw:expr),*);
    )*) => { $(
        $(#[$doc])*
        #[inline]
        pub(crate) fn $name(inode: &Inode, $($arg: $type),*) {
            #[cold]
            #[inline(never)]
            fn fire(inode: &Inode, $($arg: $type),*) {
                // SAFETY: Valid objects, of which C only reads fields.
                unsafe { bindings::$glue(inode.as_raw(), $($raw),*) };
            }
            if tracepoint_enabled!($point) {
                fire(inode, $($arg),*);
            }
        }
    )* };
}

tracepoints! {
    /// A huge fault begins.
    pmd_fault = __tracepoint_dax_pmd_fault, dax_glue_pmd_fault(
        fault: &VmFault<'_>  => fault.as_raw(), pages: usize => pages as _);
    /// A huge fault ends.
    pmd_fault_done = __tracepoint_dax_pmd_fault_done, dax_glue_pmd_fault_done(
        fault: &VmFault<'_> => fault.as_raw(), pages: usize => pages as _,
        answer: VmFaultResult => answer.as_raw() as _);
    /// A huge hole was mapped.
    pmd_load_hole = __tracepoint_dax_pmd_load_hole, dax_glue_pmd_load_hole(
        fault: &VmFault<'_> => fault.as_raw(), zero: Option<HugeZeroFolio> => HugeZeroFolio::as_raw(zero),
        entry: Entry => entry.into_word() as _);
    /// A huge hole was not mapped.
    pmd_load_hole_fallback = __tracepoint_dax_pmd_load_hole_fallback,
        dax_glue_pmd_load_hole_fallback(
        fault: &VmFault<'_> => fault.as_raw(), zero: Option<HugeZeroFolio> => HugeZeroFolio::as_raw(zero),
        entry: Entry => entry.into_word() as _);
    /// A fault of a page begins.
    pte_fault = __tracepoint_dax_pte_fault, dax_glue_pte_fault(
        fault: &VmFault<'_> => fault.as_raw());
    /// A fault of a page ends.
    pte_fault_done = __tracepoint_dax_pte_fault_done, dax_glue_pte_fault_done(
        fault: &VmFault<'_> => fault.as_raw(), answer: VmFaultResult => answer.as_raw() as _);
    /// A hole was mapped.
    load_hole = __tracepoint_dax_load_hole, dax_glue_load_hole(
        fault: &VmFault<'_> => fault.as_raw(), answer: VmFaultResult => answer.as_raw() as _);
    /// A synchronous fault was finished.
    insert_pfn_mkwrite = __tracepoint_dax_insert_pfn_mkwrite, dax_glue_insert_pfn_mkwrite(
        fault: &VmFault<'_> => fault.as_raw(), answer: VmFaultResult => answer.as_raw() as _);
    /// A synchronous fault could not be finished: the entry is gone, or smaller.
    insert_pfn_mkwrite_no_entry = __tracepoint_dax_insert_pfn_mkwrite_no_entry,
        dax_glue_insert_pfn_mkwrite_no_entry(
        fault: &VmFault<'_> => fault.as_raw(), answer: VmFaultResult => answer.as_raw() as _);
    /// Writeback of a range of pages begins.
    writeback_range = __tracepoint_dax_writeback_range, dax_glue_writeback_range(
        first: usize => first as _, last: usize => last as _);
    /// Writeback of a range of pages ends.
    writeback_range_done = __tracepoint_dax_writeback_range_done, dax_glue_writeback_range_done(
        first: usize => first as _, last: usize => last as _);
    /// An entry was written back.
    writeback_one = __tracepoint_dax_writeback_one, dax_glue_writeback_one(
        first: usize => first as _, pages: usize => pages as _);
    /// A fault that might have been huge is not.
    fault_fallback = __tracepoint_dax_fault_fallback, dax_glue_fault_fallback(
        fault: &VmFault<'_> => fault.as_raw(), reason: Reason => reason.as_raw());
}
