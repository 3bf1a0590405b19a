// SPDX-License-Identifier: GPL-2.0

//! Bits that no VMA gives its process would make an entry that is a swap entry, or maps the kernel.

//@ crate: kernel
//@ error: E0133 call to unsafe function `PageProt::from_raw`

use kernel::{
    bindings::pgprot_t,
    mm::{prot::PageProt, virt::VmaRef},
};

fn protection(vma: VmaRef<'_>) -> PageProt {
    //@ wrong
    let _ = vma;
    PageProt::from_raw(pgprot_t { pgprot: 0 })
    //@ right
    let _ = pgprot_t { pgprot: 0 };
    vma.prot()
    //@ end
}
