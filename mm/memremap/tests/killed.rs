// SPDX-License-Identifier: GPL-2.0

//! Teardown by a task that is killed.

use super::fixture::*;
use kernel::{
    bindings, current,
    ffi::c_int,
    macros::kunit_tests,
    mm::{
        memremap::{DevPagemap, MemoryType},
        pfn::PhysRange,
    },
    prelude::*,
};

const SIGKILL: c_int = bindings::SIGKILL as c_int;

/// What a kernel thread does with a signal. C: `SIG_IGN`, and `SIG_KTHREAD` of `allow_signal()`.
#[derive(Clone, Copy)]
enum Handler {
    Ignore = 1,
    Take = 2,
}

/// Runs with a fatal signal pending, which nothing takes.
fn killed<T>(work: impl FnOnce() -> T) -> T {
    // A task is transparent over C's.
    let task = core::ptr::from_ref(current!()).cast_mut().cast();
    let handle = |handler: Handler| {
        // SAFETY: The number of a signal, and what C has in place of a handler: never called.
        unsafe {
            bindings::kernel_sigaction(
                SIGKILL,
                core::mem::transmute::<usize, bindings::__sighandler_t>(handler as usize),
            )
        };
    };
    handle(Handler::Take);
    // SAFETY: The task that runs. Tests run on a kernel thread, which does not die of it.
    unsafe { bindings::send_sig(SIGKILL, task, 1) };
    let result = work();
    // SAFETY: As above.
    unsafe { bindings::flush_signals(task) };
    handle(Handler::Ignore);
    result
}

/// Why the range cannot be mapped, if it cannot.
fn refused(range: PhysRange) -> Option<Error> {
    try_register(MemoryType::FsDax, claim_again(range), &[range])
        .err()
        .map(Error::from)
}

#[kunit_tests(memremap_killed)]
mod tests {
    use super::*;

    /// Whether a pgmap with a page that somebody has goes on by itself, and ends when that is
    /// given back.
    fn goes_on_by_itself() -> Result {
        let area = region()?;
        let (low, high) = (part(&area, 0, 1)?, part(&area, 4, 1)?);
        let both = claim_again(part(&area, 0, 5)?);
        let map = register(MemoryType::FsDax, both, &[low, high])?;
        // A driver that wants pages back has to stay, and is waited for.
        // SAFETY: Nobody looks at them meanwhile, and those of fsdax are not called.
        unsafe { (*map.pgmap().as_raw()).ops = core::ptr::null() };
        let pfn = high.pfns().last();
        let page = map.page(pfn).ok_or(ENOENT)?.as_raw();
        // SAFETY: A page of a pgmap that is mapped.
        unsafe { bindings::get_page(page) };
        killed(|| drop(map));
        if [low, high].iter().any(|r| refused(*r) != Some(EBUSY)) {
            // Gone, in spite of us.
            return Err(ENOENT);
        }
        assert!(DevPagemap::lookup(pfn, None).is_none());
        // SAFETY: It was taken above, and is still there.
        unsafe { bindings::put_page(page) };
        let free = [low, high].iter().all(|range| {
            (0..100).any(|_| {
                // SAFETY: Tests may sleep.
                unsafe { bindings::msleep(100) };
                refused(*range).is_none()
            })
        });
        if free {
            Ok(())
        } else {
            Err(EBUSY)
        }
    }

    /// Fails if a task that is killed while it tears down a pgmap takes a page with it that
    /// somebody has, or if one of several ranges is forgotten or stays. Hangs if it is waited for. In
    /// C the page goes.
    #[test]
    fn differs_a_killed_teardown_goes_on_by_itself() {
        assert_eq!(goes_on_by_itself(), Ok(()));
    }

    fn idle_is_unmapped_at_once() -> Result {
        let area = region()?;
        let range = part(&area, 0, 1)?;
        killed(|| drop(register(MemoryType::FsDax, claim_again(range), &[range])));
        refused(range).map_or(Ok(()), Err)
    }

    /// Fails if a pgmap that nobody has a page of is left to a worker, only because the task is
    /// being killed: who unmaps it expects the range to be free then.
    #[test]
    fn a_killed_task_unmaps_what_is_idle() {
        assert_eq!(idle_is_unmapped_at_once(), Ok(()));
    }
}
