// SPDX-License-Identifier: GPL-2.0

//! Detached teardown: what remains when the task that waits for pages is killed.
//!
//! No holder of a pin can be forced to put its page, so the pages stay, and the waiting task may be
//! killed to end the wait. But the pgmap is part of its driver's memory, which is freed next. So a
//! copy takes the place of the pgmap, and a worker waits on:
//!
//! | path to the pgmap | what is done |
//! |---|---|
//! | its entries in the registry | they become those of the copy, whose count is dead, too |
//! | its pages | they are made to belong to the copy |
//! | a reader that followed either before | is waited for: an RCU grace period, and one of tasks |
//!
//! The grace periods are short, because a reader without a live reference does not sleep while it
//! reads. (A task that marks a page dirty reads `page->mapping` likewise, which for device-dax is
//! the mapping of its inode.) When the last page is put, the worker unmaps the copy like any other
//! pgmap. Until then the range can neither be mapped again nor claimed: the driver that is unbound
//! releases its claim (`request_mem_region()`), and the next one of any kind, which might reuse the
//! blocks that a pinned page has, or overwrite a memmap on the device, gets `EBUSY`
//! ([`registry::is_dying_in`]).
//!
//! Only a pgmap that is nothing but memory is detached: an owner that frees pages has to stay.
//!
//! C does not wait in 6.12, so it detaches nothing.
//!
//! The `unsafe` code in this file encapsulates the memory of the copy and the fields of `struct
//! dev_pagemap` and `struct page` that lead to a pgmap.

use crate::{
    page::any_page,
    registry,
    state::{init_completion, Drained, Unmapped},
    wait_idle::Ranges,
};
use core::{
    mem::{offset_of, size_of, MaybeUninit},
    ptr::{addr_of_mut, copy_nonoverlapping, null, null_mut, NonNull},
    sync::atomic::{fence, Ordering},
};
use kernel::{
    alloc::{flags::GFP_KERNEL, KVec},
    bindings,
    error::Result,
    impl_has_work,
    mm::memremap::{DevPagemap, MemoryType, ZoneDevicePage},
    new_work,
    prelude::*,
    sync::rcu,
    workqueue::{self, Work, WorkItem},
};

/// The copy of a pgmap, and the work of tearing it down.
///
/// # Invariants
///
/// `memory` has room for the pgmap with its ranges. Once the work is enqueued, it holds a copy that
/// [`Drained::from_copy`] accepts.
#[pin_data]
struct Detached {
    #[pin]
    work: Work<Self>,
    memory: KVec<MaybeUninit<bindings::dev_pagemap>>,
}

// SAFETY: A pgmap is not tied to a thread.
unsafe impl Send for Detached {}

impl_has_work! {
    impl HasWork<Self> for Detached { self.work }
}

impl WorkItem for Detached {
    type Pointer = Pin<KBox<Self>>;

    fn run(mut this: Pin<KBox<Self>>) {
        // SAFETY: By the type invariants an enqueued copy is complete; it lives until `this` is
        // dropped, after it is unmapped.
        let drained = unsafe { Drained::from_copy(this.as_mut().pgmap()) };
        // When this returns, no path leads to the copy, and dropping `this` frees it.
        let unmapped = drained.wait_idle().unmap();
        pr_info!("{:?}: unmapped\n", Ranges(unmapped.pgmap()));
    }
}

impl Detached {
    /// Allocates room for a copy of a pgmap. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn new(of: &DevPagemap) -> Result<Pin<KBox<Self>>> {
        let room = KVec::with_capacity(
            size_of_pgmap(of).div_ceil(size_of::<bindings::dev_pagemap>()),
            GFP_KERNEL,
        )?;
        KBox::pin_init(
            // INVARIANT: The memory has room for the pgmap, and the work is not enqueued yet.
            pin_init!(Self {
                work <- new_work!("memremap::Detached::work"),
                memory: room,
            }),
            GFP_KERNEL,
        )
    }

    /// Returns a pointer to the memory for the copy.
    fn pgmap(self: Pin<&mut Self>) -> NonNull<bindings::dev_pagemap> {
        // SAFETY: The reference is only used to read a pointer; nothing is moved.
        let memory = unsafe { &mut self.get_unchecked_mut().memory };
        // SAFETY: By the type invariants the memory is allocated, so its pointer is not null.
        unsafe { NonNull::new_unchecked(memory.as_mut_ptr()) }.cast()
    }
}

/// Returns the size of a pgmap with its ranges, in bytes.
fn size_of_pgmap(pgmap: &DevPagemap) -> usize {
    let ranges = pgmap
        .nr_ranges()
        .saturating_mul(size_of::<bindings::range>());
    offset_of!(bindings::dev_pagemap, __bindgen_anon_1)
        .saturating_add(ranges)
        .max(size_of::<bindings::dev_pagemap>())
}

impl Drained {
    /// Returns whether the memory may stay mapped after its owner is gone.
    pub(crate) fn can_detach(&self) -> bool {
        let pgmap = self.pgmap();
        let is_memory = matches!(
            pgmap.memory_type(),
            Some(MemoryType::FsDax | MemoryType::Generic)
        );
        let owner_frees_pages = pgmap.operations().frees_pages;
        self.was_live() && is_memory && !owner_frees_pages
    }

    /// Leaves the wait, and the teardown after it, to a worker. If the pgmap cannot be detached, or
    /// there is no memory for the copy, this waits instead, and signals do not end the wait.
    /// Sleeps.
    pub(crate) fn detach(self) -> Unmapped {
        if !self.can_detach() {
            return self.wait_idle().unmap();
        }
        let copied = Detached::new(self.pgmap()).and_then(|mut detached| {
            self.copy_to(detached.as_mut().pgmap())?;
            Ok(detached)
        });
        match copied {
            Ok(detached) => {
                // INVARIANT: The memory holds the copy, to which count, entries and pages were
                // transferred.
                workqueue::system_unbound().enqueue(detached);
                let ptr = self.as_ptr();
                // SAFETY: After the transfer and the grace periods no reader reaches the pgmap, so
                // these fields may be reset for an owner that maps it again.
                unsafe {
                    addr_of_mut!((*ptr.as_ptr()).altmap.alloc).write(0);
                    addr_of_mut!((*ptr.as_ptr()).ref_).write_bytes(0, 1);
                }
                // SAFETY: The count and the ranges now belong to the copy.
                unsafe { Unmapped::after_detach(ptr) }
            }
            Err(error) => {
                pr_warn!(
                    "{:?}: teardown cannot continue in the background ({:?})\n",
                    Ranges(self.pgmap()),
                    error
                );
                self.wait_idle().unmap()
            }
        }
    }

    /// Copies the pgmap and makes all paths to it lead to the copy. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; nothing has changed then, and no path leads to the copy.
    fn copy_to(&self, to: NonNull<bindings::dev_pagemap>) -> Result {
        let (pgmap, copy) = (self.pgmap(), to.as_ptr());
        // SAFETY: The copy has room for the whole pgmap and cannot be reached yet, and nothing
        // changes a drained pgmap meanwhile.
        unsafe {
            copy_nonoverlapping(
                pgmap.as_raw().cast::<u8>(),
                copy.cast(),
                size_of_pgmap(pgmap),
            );
            // These point to memory of the driver.
            addr_of_mut!((*copy).ops).write(null());
            addr_of_mut!((*copy).owner).write(null_mut());
        }
        // SAFETY: The field lies in the copy, which does not move and is not in use. (The
        // percpu_ref release callback has already run, so nothing completes it.)
        unsafe { init_completion(addr_of_mut!((*copy).done)) };
        // SAFETY: The copy is valid from here on, until the worker has erased its entries.
        let copy = unsafe { DevPagemap::from_raw(copy) };
        // SAFETY: The ranges are committed, and the copy stays valid. Its count, like the pgmap's,
        // is dead: a word, and a pointer to data that nothing changes any more.
        let replaced = unsafe { registry::replace(pgmap, copy) };
        if replaced.is_ok() {
            // SAFETY: The ranges are mapped. The copy stays until its pages are gone, and the pgmap
            // until the grace period below. The data of the count now belongs to the copy, and must
            // point back to it.
            unsafe {
                any_page(
                    pgmap,
                    |_| true,
                    |page| {
                        move_to_pgmap(page, to);
                        // fs/dax may be splitting this folio: it gives the tails the pgmap of the
                        // head, clears the head's flag, and looks at its pgmap again. So either
                        // fs/dax sees the copy, or `any_page` that the folio is split.
                        if page.nr_pages() > 1 {
                            fence(Ordering::SeqCst);
                        }
                        false
                    },
                );
                let count = addr_of_mut!((*to.as_ptr()).ref_);
                (*(*count).data).ref_ = count;
            }
        }
        rcu::synchronize_rcu_tasks();
        replaced
    }
}

/// Moves a page, which is the first page of its folio, to another pgmap, and takes a generic page
/// out of its mapping: the mapping of device-dax is freed with its device.
///
/// # Safety
///
/// No task may take a first reference to the page. `to` must point to a copy of the page's pgmap
/// that stays valid as long as the page does. The pgmap and the mapping that the page pointed to
/// before must stay valid for readers that have loaded them: until a grace period of RCU tasks
/// after this call.
unsafe fn move_to_pgmap(page: ZoneDevicePage<'_>, to: NonNull<bindings::dev_pagemap>) {
    // SAFETY: By the caller's promise the page is the first of its folio, and `to` stays valid as
    // long as the page does. Only this teardown changes the pgmap of its pages.
    unsafe { page.set_pgmap(to) };
    if page.pgmap().memory_type() == Some(MemoryType::Generic) {
        // SAFETY: By the caller's promise no task takes a first reference to the page, so no task
        // gives the page a new owner. Null is a valid value.
        unsafe { page.set_mapping(null_mut()) };
    }
}
