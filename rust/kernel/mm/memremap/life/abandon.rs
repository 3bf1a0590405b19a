// SPDX-License-Identifier: GPL-2.0

//! Teardown whose waiter was killed.
//!
//! Nobody can be made to give a page back, so the pages stay, and who waits for them may want to be
//! rid of that. But the pgmap is part of its driver's memory, which is freed next. So a copy takes
//! its place, and a worker waits on:
//!
//! | what leads to the pgmap | what is done |
//! |---|---|
//! | its entries in the registry | are those of the copy, which is as dead |
//! | its pages | belong to the copy |
//! | who has looked at either before | is waited for: an RCU grace period, and one of tasks |
//!
//! The last is short, because who has no live reference looks, and does not sleep meanwhile. (Who
//! marks a page dirty looks at `page->mapping` likewise, which for device-dax is its inode's.) When the
//! last page was given back, the worker unmaps the copy as any other pgmap. Until then the range
//! cannot be mapped again.
//!
//! This is for pgmaps that are nothing but memory: where the owner takes pages back, it has to be
//! there.

use super::{Drained, Unmapped};
use crate::{
    alloc::{flags::GFP_KERNEL, KVec},
    bindings,
    error::Result,
    impl_has_work,
    mm::memremap::{idle::Ranges, registry, DevPagemap, MemoryType, ZoneDevicePage},
    new_work, pr_info, pr_warn,
    prelude::*,
    sync::{completion::Completion, rcu},
    workqueue::{self, Work, WorkItem},
};
use core::{
    mem::{offset_of, size_of, MaybeUninit},
    ptr::{addr_of_mut, copy_nonoverlapping, null, null_mut, NonNull},
};

/// A pgmap that is ours, and the work of tearing it down.
///
/// # Invariants
///
/// `memory` has room for a pgmap. Once this is enqueued, that is as [`Drained`] says.
#[pin_data]
struct Abandoned {
    #[pin]
    work: Work<Self>,
    memory: KVec<MaybeUninit<bindings::dev_pagemap>>,
}

// SAFETY: A pgmap has no thread of its own.
unsafe impl Send for Abandoned {}

impl_has_work! {
    impl HasWork<Self> for Abandoned { self.work }
}

impl WorkItem for Abandoned {
    type Pointer = Pin<KBox<Self>>;

    fn run(mut this: Pin<KBox<Self>>) {
        // INVARIANT: By the type's invariant; nobody else has it.
        let drained = Drained {
            ptr: this.as_mut().pgmap(),
            restore: None,
        };
        // Nothing leads to it when that returns, and `this` frees it.
        let unmapped = drained.wait_idle().unmap();
        pr_info!(
            "memremap: {:?} is unmapped at last\n",
            Ranges(unmapped.pgmap())
        );
    }
}

impl Abandoned {
    /// Room for a copy of a pgmap. Sleeps.
    fn new(of: &DevPagemap) -> Result<Pin<KBox<Self>>> {
        let room = KVec::with_capacity(
            size_of_pgmap(of).div_ceil(size_of::<bindings::dev_pagemap>()),
            GFP_KERNEL,
        )?;
        KBox::pin_init(
            // INVARIANT: It has that much room.
            pin_init!(Self {
                work <- new_work!("memremap::Abandoned::work"),
                memory: room,
            }),
            GFP_KERNEL,
        )
    }

    fn pgmap(self: Pin<&mut Self>) -> NonNull<bindings::dev_pagemap> {
        // SAFETY: Nothing is moved.
        let memory = unsafe { &mut self.get_unchecked_mut().memory };
        // SAFETY: By the invariant it is allocated.
        unsafe { NonNull::new_unchecked(memory.as_mut_ptr()) }.cast()
    }
}

/// The bytes of a pgmap with its ranges.
fn size_of_pgmap(pgmap: &DevPagemap) -> usize {
    let ranges = pgmap
        .nr_ranges()
        .saturating_mul(size_of::<bindings::range>());
    offset_of!(bindings::dev_pagemap, __bindgen_anon_1)
        .saturating_add(ranges)
        .max(size_of::<bindings::dev_pagemap>())
}

impl Drained {
    /// Whether the pgmap may outlive its owner, who has it mapped, and not tried to.
    pub(super) fn can_be_abandoned(&self) -> bool {
        let pgmap = self.pgmap();
        let is_memory = matches!(
            pgmap.memory_type(),
            Some(MemoryType::FsDax | MemoryType::Generic)
        );
        // A memmap on the device is lost to the next driver that writes there. Ours asks before.
        let is_safe = pgmap.altmap().is_none() || cfg!(CONFIG_RUST_BLK_DEV_PMEM);
        let owner_takes_part = pgmap.operations().frees_pages;
        self.restore.is_none() && is_memory && is_safe && !owner_takes_part
    }

    /// Leaves the waiting, and what comes after it, to a worker. Where that cannot be, or there is no
    /// memory for it, it waits here, and no signal ends it. Sleeps.
    pub fn abandon(self) -> Unmapped {
        if !self.can_be_abandoned() {
            return self.wait_idle().unmap();
        }
        let copied = Abandoned::new(self.pgmap()).and_then(|mut abandoned| {
            self.copy_to(abandoned.as_mut().pgmap())?;
            Ok(abandoned)
        });
        match copied {
            Ok(abandoned) => {
                // INVARIANT: Just made.
                workqueue::system_unbound().enqueue(abandoned);
                // SAFETY: Fields of the pgmap, which nobody looks at any more; its owner may map it
                // again.
                unsafe {
                    let ptr = self.ptr.as_ptr();
                    addr_of_mut!((*ptr).altmap.alloc).write(0);
                    addr_of_mut!((*ptr).ref_).write_bytes(0, 1);
                }
                // INVARIANT: Its count and its ranges are the copy's.
                Unmapped(self.ptr)
            }
            Err(error) => {
                pr_warn!("memremap: no memory to unmap it later ({:?})\n", error);
                self.wait_idle().unmap()
            }
        }
    }

    /// Puts a copy of the pgmap in its place. Sleeps.
    ///
    /// # Errors
    ///
    /// Then nothing has changed, and nobody looks at the copy.
    fn copy_to(&self, to: NonNull<bindings::dev_pagemap>) -> Result {
        let (pgmap, copy) = (self.pgmap(), to.as_ptr());
        // SAFETY: The copy has so much room, and nobody knows it yet. Nobody changes a pgmap that
        // is drained.
        unsafe {
            copy_nonoverlapping(
                pgmap.as_raw().cast::<u8>(),
                copy.cast(),
                size_of_pgmap(pgmap),
            );
            // What belongs to the driver.
            addr_of_mut!((*copy).ops).write(null());
            addr_of_mut!((*copy).owner).write(null_mut());
        }
        // SAFETY: The field lies in the copy. (Whom the count would call was called.)
        let Ok(()) = unsafe {
            PinInit::<Completion, core::convert::Infallible>::__pinned_init(
                Completion::new(),
                addr_of_mut!((*copy).done).cast(),
            )
        };
        // SAFETY: Valid since now, until the worker has erased its entries.
        let copy = unsafe { DevPagemap::from_raw(copy) };
        // SAFETY: As above. Its count is dead, as that of the pgmap: a word, and a pointer to the
        // rest, which nobody changes any more.
        let replaced = unsafe { registry::replace(pgmap, copy) };
        if replaced.is_ok() {
            // SAFETY: The ranges are mapped; the copy stays until the pages are gone, and the pgmap
            // until everybody has stopped looking, below. The rest of the count is the copy's now, and
            // leads back to it.
            unsafe {
                ZoneDevicePage::any(pgmap, |page| {
                    page.move_to_pgmap(to);
                    false
                });
                let count = addr_of_mut!((*to.as_ptr()).ref_);
                (*(*count).data).ref_ = count;
            }
        }
        rcu::synchronize_tasks();
        replaced
    }
}
