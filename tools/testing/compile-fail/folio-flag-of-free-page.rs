// SPDX-License-Identifier: GPL-2.0

//! A flag that is set in a folio which nothing keeps may be that of a free page, or of another owner.

//@ crate: kernel
//@ error: E0133 call to unsafe function `FolioRef::<'a>::set_referenced`

use kernel::mm::folio::FolioRef;

fn look_at(folio: FolioRef<'_>) -> usize {
    //@ wrong
    folio.set_referenced();
    //@ end
    folio.nr_pages()
}
