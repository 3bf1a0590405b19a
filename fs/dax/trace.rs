// SPDX-License-Identifier: GPL-2.0-only

//! The tracepoints of filesystem DAX, `fs_dax:*`.
//!
//! A function here checks whether its tracepoint is enabled, by one load and a branch. Only then it
//! calls the function in `dax_glue.c` that fires the tracepoint, because only a C macro can do
//! that.
//!
//! This file encapsulates the calls of these functions, which read fields of valid objects.
//!
//! C headers: [`include/trace/events/fs_dax.h`](srctree/include/trace/events/fs_dax.h),
//! [`include/trace/events/fs_dax_fallback.h`](srctree/include/trace/events/fs_dax_fallback.h),
//! [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use crate::{debugfs::Reason, entry::Entry};
#[cfg(CONFIG_TRACEPOINTS)]
use core::ptr::addr_of;
use kernel::{
    bindings,
    fs::inode::Inode,
    macros::paste,
    mm::fault::{HugeZeroFolio, VmFault, VmFaultResult},
};

/// Defines a function for each tracepoint `dax_<name>`. Its arguments are the inode and those
/// given, each with its type and the expression to pass to C.
macro_rules! tracepoints {
    ($(
        $(#[$doc:meta])*
        $name:ident($($arg:ident: $type:ty => $raw:expr),*);
    )*) => { paste! { $(
        $(#[$doc])*
        #[inline]
        pub(crate) fn $name(inode: &Inode, $($arg: $type),*) {
            #[cold]
            #[inline(never)]
            fn fire(inode: &Inode, $($arg: $type),*) {
                // SAFETY: The references guarantee that the objects are valid; C only reads fields
                // of them.
                unsafe { bindings::[<rust_do_trace_dax_ $name>](inode.as_raw(), $($raw),*) };
            }
            // C patches a jump for this test; here the count behind the jump is read.
            #[cfg(CONFIG_TRACEPOINTS)]
            // SAFETY: The tracepoint is a static of C. Its count is a word that other CPUs change
            // as a whole, so one volatile read gets one of its values.
            let enabled = unsafe {
                addr_of!(bindings::[<__tracepoint_dax_ $name>].key.enabled.counter).read_volatile()
            } > 0;
            // As the empty inline functions of C; the compiler removes the call.
            #[cfg(not(CONFIG_TRACEPOINTS))]
            let enabled = false;
            if enabled {
                fire(inode, $($arg),*);
            }
        }
    )* } };
}

tracepoints! {
    /// Traces the start of a PMD fault. `pages` is the size of the file.
    pmd_fault(fault: &VmFault<'_> => fault.as_raw(), pages: usize => pages as _);
    /// Traces the end of a PMD fault. `pages` is the size of the file.
    pmd_fault_done(fault: &VmFault<'_> => fault.as_raw(), pages: usize => pages as _,
        result: VmFaultResult => result.as_raw() as _);
    /// Traces the mapping of a hole of 2 MiB.
    pmd_load_hole(fault: &VmFault<'_> => fault.as_raw(),
        zero: Option<HugeZeroFolio<'_>> => HugeZeroFolio::as_raw(zero),
        entry: Entry => entry.into_word() as _);
    /// Traces a hole of 2 MiB that could not be mapped.
    pmd_load_hole_fallback(fault: &VmFault<'_> => fault.as_raw(),
        zero: Option<HugeZeroFolio<'_>> => HugeZeroFolio::as_raw(zero),
        entry: Entry => entry.into_word() as _);
    /// Traces the start of a PTE fault.
    pte_fault(fault: &VmFault<'_> => fault.as_raw());
    /// Traces the end of a PTE fault.
    pte_fault_done(fault: &VmFault<'_> => fault.as_raw(),
        result: VmFaultResult => result.as_raw() as _);
    /// Traces the mapping of a hole of a page.
    load_hole(fault: &VmFault<'_> => fault.as_raw(),
        result: VmFaultResult => result.as_raw() as _);
    /// Traces the end of a synchronous fault.
    insert_pfn_mkwrite(fault: &VmFault<'_> => fault.as_raw(),
        result: VmFaultResult => result.as_raw() as _);
    /// Traces a synchronous fault that could not be finished: the entry has been removed or split.
    insert_pfn_mkwrite_no_entry(fault: &VmFault<'_> => fault.as_raw(),
        result: VmFaultResult => result.as_raw() as _);
    /// Traces the start of the writeback of the pages from `first` to `last`, inclusive.
    writeback_range(first: usize => first as _, last: usize => last as _);
    /// Traces the end of the writeback of the pages from `first` to `last`, inclusive.
    writeback_range_done(first: usize => first as _, last: usize => last as _);
    /// Traces the writeback of an entry of `pages` pages.
    writeback_one(first: usize => first as _, pages: usize => pages as _);
    /// Traces a PMD fault that falls back.
    fault_fallback(fault: &VmFault<'_> => fault.as_raw(), reason: Reason => reason.as_raw());
}
