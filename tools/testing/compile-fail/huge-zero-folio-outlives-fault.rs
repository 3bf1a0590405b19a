// SPDX-License-Identifier: GPL-2.0

//! The huge zero folio is kept by the address space of the fault that it was allocated for, and may
//! be freed with that.

//@ crate: kernel
//@ error: lifetime may not live long enough

use kernel::mm::fault::{HugeZeroFolio, VmFault};

//@ wrong
fn folio(fault: &VmFault<'_>) -> Option<HugeZeroFolio<'static>> {
    //@ right
fn folio<'f>(fault: &VmFault<'f>) -> Option<HugeZeroFolio<'f>> {
    //@ end
    fault.huge_zero()
}
