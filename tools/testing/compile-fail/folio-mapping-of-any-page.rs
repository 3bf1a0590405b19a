// SPDX-License-Identifier: GPL-2.0

//! Slab pages, page tables and free pages have other words where the folio of a file has its address
//! space, so looking into it needs to know what the folio is.

//@ crate: kernel
//@ error: E0133 call to unsafe function `FolioMapping

use kernel::{interrupt::LocalInterruptDisabled, mm::folio::FolioRef};

fn is_of_shmem(folio: FolioRef<'_>, irq: LocalInterruptDisabled<'_>) -> bool {
    let mapping = folio.mapping(irq);
    //@ wrong
    mapping.file().is_some_and(|file| file.is_shmem())
    //@ right
    mapping.is_anon()
    //@ end
}
