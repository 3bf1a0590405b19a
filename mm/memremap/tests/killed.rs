// SPDX-License-Identifier: GPL-2.0

//! Teardown by a task that is killed.
//!
//! The `unsafe` code in this file encapsulates signals of the current task and references to pages.

use super::fixture::*;
use kernel::{
    bindings, c_str, current,
    ffi::c_int,
    macros::kunit_tests,
    mm::{
        memremap::{DevPagemap, MemoryType},
        pfn::PhysRange,
    },
    prelude::*,
};

const SIGKILL: c_int = bindings::SIGKILL as c_int;

/// The handling of a signal by a kernel thread. C: `SIG_IGN`, and `SIG_KTHREAD` of
/// `allow_signal()`.
#[derive(Clone, Copy)]
enum Handler {
    Ignore = 1,
    Take = 2,
}

/// Runs `work` with a fatal signal pending that is not handled.
fn killed<T>(work: impl FnOnce() -> T) -> T {
    // `Task` is transparent over `struct task_struct`.
    let task = core::ptr::from_ref(current!()).cast_mut().cast();
    let handle = |handler: Handler| {
        // SAFETY: The value is one that C uses in place of a handler and never calls.
        unsafe {
            bindings::kernel_sigaction(
                SIGKILL,
                core::mem::transmute::<usize, bindings::__sighandler_t>(handler as usize),
            )
        };
    };
    handle(Handler::Take);
    // SAFETY: The pointer is to the current task, which is valid. Tests run on a kernel thread,
    // which a signal does not end.
    unsafe { bindings::send_sig(SIGKILL, task, 1) };
    let result = work();
    // SAFETY: The pointer is to the current task, which is valid.
    unsafe { bindings::flush_signals(task) };
    handle(Handler::Ignore);
    result
}

/// Returns the error with which mapping the range fails, or `None` if it can be mapped.
fn refused(range: PhysRange) -> Option<Error> {
    try_register(MemoryType::FsDax, claim_again(range), &[range])
        .err()
        .map(Error::from)
}

/// Returns whether a driver can claim the range. C: `request_mem_region()`.
#[doc(alias = "request_mem_region")]
fn is_free(range: PhysRange) -> bool {
    let root = &raw mut bindings::iomem_resource;
    let (start, len) = (range.start(), range.len());
    // SAFETY: The root of the resource tree is a static, and the name is a constant. What was
    // claimed is released at once.
    unsafe {
        let name = c_str!("memremap_kunit").as_char_ptr();
        let resource = bindings::__request_region(root, start, len, name, 0);
        if !resource.is_null() {
            bindings::__release_region(root, start, len);
        }
        !resource.is_null()
    }
}

/// Returns success once `is_free` returns `true`, which it is asked for ten seconds. Sleeps.
fn wait_until(mut is_free: impl FnMut() -> bool) -> Result {
    let free = (0..100).any(|_| {
        // SAFETY: Tests run in process context without locks, so they may sleep.
        unsafe { bindings::msleep(100) };
        is_free()
    });
    if free {
        Ok(())
    } else {
        Err(EBUSY)
    }
}

#[kunit_tests(memremap_killed)]
mod tests {
    use super::*;

    /// Returns success if no driver can claim the range of a detached teardown, and the claim of
    /// the driver that is gone was all that was in the way of one beside it.
    fn is_kept() -> Result {
        let area = region()?;
        let (low, gap) = (part(&area, 0, 1)?, part(&area, 1, 1)?);
        let map = register(MemoryType::FsDax, claim_again(low), &[low])?;
        // SAFETY: As in `is_detached`: no page of the pgmap is freed meanwhile.
        unsafe { (*map.pgmap().as_raw()).ops = core::ptr::null() };
        let page = map.page(low.pfns().first()).ok_or(ENOENT)?.as_raw();
        // SAFETY: The page belongs to a mapped pgmap, so it is valid and idle.
        unsafe { bindings::get_page(page) };
        killed(|| drop(map));
        // As the driver's own claim is released after its pgmap was unmapped.
        drop(area);
        let detached = refused(low) == Some(EBUSY);
        let (kept, beside) = (!is_free(low), is_free(gap));
        if detached {
            // SAFETY: The reference was taken above, and the refusal shows that the page is still
            // there.
            unsafe { bindings::put_page(page) };
        }
        assert!(detached && kept && beside);
        wait_until(|| is_free(low))
    }

    /// Fails if a driver, in whichever mode, can claim memory with pinned pages because the task
    /// that unbound the last driver was killed, or if it cannot after the pages were put. C removes
    /// the pages.
    #[test]
    fn differs_the_range_of_a_killed_teardown_cannot_be_claimed() {
        assert_eq!(is_kept(), Ok(()));
    }

    /// Returns success if the teardown of a pgmap with a pinned page is detached, and ends when the
    /// page is put.
    fn is_detached() -> Result {
        let area = region()?;
        let (low, high) = (part(&area, 0, 1)?, part(&area, 4, 1)?);
        let both = claim_again(part(&area, 0, 5)?);
        let map = register(MemoryType::FsDax, both, &[low, high])?;
        // A driver that frees pages has to stay, so its teardown is not detached.
        // SAFETY: No page of the pgmap is freed meanwhile, and no other code reads the operations
        // of FS DAX memory.
        unsafe { (*map.pgmap().as_raw()).ops = core::ptr::null() };
        let pfn = high.pfns().last();
        let page = map.page(pfn).ok_or(ENOENT)?.as_raw();
        // SAFETY: The page belongs to a mapped pgmap, so it is valid and idle.
        unsafe { bindings::get_page(page) };
        killed(|| drop(map));
        if [low, high].iter().any(|r| refused(*r) != Some(EBUSY)) {
            // The memory was removed although the page was pinned.
            return Err(ENOENT);
        }
        assert!(DevPagemap::lookup(pfn, None).is_none());
        // SAFETY: The reference was taken above, and the refusals show that the page is still
        // there.
        unsafe { bindings::put_page(page) };
        [low, high]
            .into_iter()
            .try_for_each(|range| wait_until(|| refused(range).is_none()))
    }

    /// Fails if a task that is killed while it tears down a pgmap removes a pinned page, or if one
    /// of several ranges is forgotten or remains. Hangs if the pin is waited for. C removes the
    /// page.
    #[test]
    fn differs_a_killed_teardown_continues_in_the_background() {
        assert_eq!(is_detached(), Ok(()));
    }

    fn idle_is_unmapped_at_once() -> Result {
        let area = region()?;
        let range = part(&area, 0, 1)?;
        killed(|| drop(register(MemoryType::FsDax, claim_again(range), &[range])));
        refused(range).map_or(Ok(()), Err)
    }

    /// Fails if the teardown of a pgmap without a page in use is detached, only because the task is
    /// being killed: the caller expects the range to be free then.
    #[test]
    fn a_killed_task_unmaps_what_is_idle() {
        assert_eq!(idle_is_unmapped_at_once(), Ok(()));
    }
}
