// SPDX-License-Identifier: GPL-2.0

//! Who waits until a page is idle.

use super::fixture::*;
use core::{mem::MaybeUninit, ptr::addr_of_mut};
use kernel::{
    bindings, macros::kunit_tests, mm::memremap::MemoryType, prelude::*, time::msecs_to_jiffies,
};

#[kunit_tests(memremap_waiters)]
mod tests {
    use super::*;

    fn wakes() -> Result<bool> {
        let region = region()?;
        let range = part(&region, 0, 1)?;
        let map = register(MemoryType::Generic, region, &[range])?;
        let page = map.page(range.pfns().first()).ok_or(ENOENT)?.as_raw();
        let mut entry = MaybeUninit::<bindings::wait_bit_queue_entry>::uninit();
        // SAFETY: A page of a pgmap that is mapped, whose count nobody else changes. The entry is
        // initialised by the first call, does not move, and is out of the queue at the end.
        let left = unsafe {
            let key = addr_of_mut!((*page)._refcount).cast();
            let queue = bindings::__var_waitqueue(key);
            bindings::init_wait_var_entry(entry.as_mut_ptr(), key, 0);
            let entry = addr_of_mut!((*entry.as_mut_ptr()).wq_entry);
            bindings::set_page_count(page, 2);
            bindings::dax_page_wait_begin(page);
            bindings::prepare_to_wait_event(queue, entry, bindings::TASK_UNINTERRUPTIBLE as _);
            // The reference goes, and nobody is told: as with `folio_put()`.
            bindings::set_page_count(page, 1);
            let left = bindings::schedule_timeout(msecs_to_jiffies(5_000) as _);
            bindings::finish_wait(queue, entry);
            left
        };
        Ok(left > 0)
    }

    /// Fails if who waits for a page is left asleep when the last reference goes without a wake-up.
    #[test]
    fn differs_a_lost_wake_up_is_made_good() {
        let woken = wakes();
        assert!(woken.is_ok());
        assert_eq!(woken, Ok(true));
    }
}
