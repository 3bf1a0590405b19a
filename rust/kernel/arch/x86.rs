// SPDX-License-Identifier: GPL-2.0

//! x86-64.

use crate::bindings;

#[cfg(CONFIG_BUG)]
pub mod bug;
pub mod cpufeature;
pub mod nontemporal;
pub mod paravirt;
pub(crate) mod percpu;
pub mod pgprot;
pub mod pgtable;
pub mod tsc;

// `pgtable` names no binding, so that it also compiles on the host. Its bits are checked here.
crate::static_assert!(pgtable::Entry::PRESENT == 1 << bindings::_PAGE_BIT_PRESENT);
crate::static_assert!(pgtable::Entry::RW == 1 << bindings::_PAGE_BIT_RW);
crate::static_assert!(pgtable::Entry::USER == 1 << bindings::_PAGE_BIT_USER);
crate::static_assert!(pgtable::Entry::ACCESSED == 1 << bindings::_PAGE_BIT_ACCESSED);
crate::static_assert!(pgtable::Entry::DIRTY == 1 << bindings::_PAGE_BIT_DIRTY);
crate::static_assert!(pgtable::Entry::PSE == 1 << bindings::_PAGE_BIT_PSE);
crate::static_assert!(pgtable::Entry::PROTNONE == 1 << bindings::_PAGE_BIT_PROTNONE);
crate::static_assert!(pgtable::Entry::SPECIAL == 1 << bindings::_PAGE_BIT_SPECIAL);
crate::static_assert!(pgtable::Entry::SOFT_DIRTY == 1 << bindings::_PAGE_BIT_SOFT_DIRTY);
crate::static_assert!(pgtable::Entry::DEVMAP == 1 << bindings::_PAGE_BIT_DEVMAP);
crate::static_assert!(pgtable::Entry::SAVED_DIRTY == 1 << bindings::_PAGE_BIT_SAVED_DIRTY);
crate::static_assert!(pgtable::Entry::PKEY_SHIFT == bindings::_PAGE_BIT_PKEY_BIT0);
crate::static_assert!(pgtable::PTE_SHIFT == bindings::PAGE_SHIFT);
crate::static_assert!(pgtable::PMD_SHIFT == bindings::PMD_SHIFT);
crate::static_assert!(pgtable::PUD_SHIFT == bindings::PUD_SHIFT);
