// SPDX-License-Identifier: GPL-2.0

//! The `pfn_t` that a filesystem passes for the result of a fault is not initialised.

//@ within: fs/dax/dax.rs
//@ error: E0308 mismatched types

use crate::{fault::pmd_fault, vm_fault::DaxFault};
use core::mem::MaybeUninit;
use kernel::{iomap::IomapOps, mm::pfn_t::PfnT};

//@ wrong
fn handle(fault: &mut DaxFault<'_>, sync: &mut PfnT, ops: &IomapOps) {
    //@ right
fn handle(fault: &mut DaxFault<'_>, sync: &mut MaybeUninit<PfnT>, ops: &IomapOps) {
    //@ end
    let _ = pmd_fault(fault, Some(sync), ops);
}
