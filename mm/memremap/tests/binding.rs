// SPDX-License-Identifier: GPL-2.0

//! The end of a driver's binding, which waits for the resources of the driver: the memory that
//! pgmaps describe is one.
//!
//! The `unsafe` code in this file encapsulates a device of the test, which has no driver.

use core::{
    ptr::null_mut,
    sync::atomic::{AtomicBool, Ordering},
};
use kernel::{
    bindings, c_str,
    device::Device,
    devres::{Binding, BoundDevice},
    error::from_err_ptr,
    impl_has_work,
    macros::kunit_tests,
    new_mutex, new_work,
    prelude::*,
    sync::{completion::Completion, Arc, Mutex},
    time::{ktime_ms_delta, Ktime},
    types::ARef,
    workqueue::{self, Work, WorkItem},
};

/// A device without a bus. Dropping it removes it. C: `root_device_register()`.
struct RootDevice(*mut bindings::device);

impl RootDevice {
    #[doc(alias = "root_device_register")]
    fn register() -> Result<Self> {
        let name = c_str!("memremap_kunit").as_char_ptr();
        // SAFETY: The name is a constant. Without an owner there is no link to a module.
        let device = unsafe { bindings::__root_device_register(name, null_mut()) };
        from_err_ptr(device).map(Self)
    }

    fn device(&self) -> ARef<Device> {
        // SAFETY: The device is registered, so it is valid and its count is not 0.
        unsafe { Device::get_device(self.0) }
    }
}

impl Drop for RootDevice {
    fn drop(&mut self) {
        // SAFETY: The device was registered by the same module, and is removed once.
        unsafe { bindings::root_device_unregister(self.0) };
    }
}

/// A thread that drops a proof that a device is bound, and executes code of this module for a while
/// after that, without sleeping.
#[pin_data]
struct Dropper {
    #[pin]
    work: Work<Self>,
    #[pin]
    bound: Mutex<Option<BoundDevice>>,
    has_left: AtomicBool,
    #[pin]
    done: Completion,
}

impl_has_work! {
    impl HasWork<Self> for Dropper { self.work }
}

/// The time for which the thread goes on: some time slices of a CPU that another one emulates.
const LONG_MS: i64 = 500;

impl WorkItem for Dropper {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let bound = this.bound.lock().take();
        drop(bound);
        let start = Ktime::ktime_get();
        while ktime_ms_delta(Ktime::ktime_get(), start) < LONG_MS {
            core::hint::spin_loop();
        }
        this.has_left.store(true, Ordering::Release);
        this.done.complete_all();
    }
}

impl Dropper {
    /// Starts the thread.
    fn start(bound: BoundDevice) -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            pin_init!(Self {
                work <- new_work!("memremap_kunit::Dropper::work"),
                bound <- new_mutex!(Some(bound)),
                has_left: AtomicBool::new(false),
                done <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        let _ = workqueue::system_unbound().enqueue(this.clone());
        Ok(this)
    }
}

#[kunit_tests(memremap_binding)]
mod tests {
    use super::*;

    fn left_when_idle() -> Result<bool> {
        let root = RootDevice::register()?;
        // SAFETY: No driver core takes part: the device counts as bound until the wait below.
        let binding = unsafe { Binding::begin(&root.device()) }?;
        // SAFETY: The wait comes after this.
        let bound = unsafe { binding.bound_device() };
        let dropper = Dropper::start(bound)?;
        binding.wait_idle();
        let has_left = dropper.has_left.load(Ordering::Acquire);
        // The code of this module stays until the thread has left it.
        dropper.done.wait_for_completion();
        Ok(has_left)
    }

    /// Fails if the wait for a driver's resources ends while the thread that has dropped the last one
    /// executes code of the driver's module: the module may be unloaded then.
    #[test]
    fn the_end_of_a_binding_waits_for_the_thread_that_drops_the_last_resource() {
        assert_eq!(left_when_idle(), Ok(true));
    }

    fn idle_at_once() -> Result {
        let root = RootDevice::register()?;
        // SAFETY: No driver core takes part: the device counts as bound until the wait below.
        let binding = unsafe { Binding::begin(&root.device()) }?;
        // SAFETY: The wait comes after this.
        let bound = unsafe { binding.bound_device() };
        let again = bound.clone();
        drop(bound);
        drop(again);
        // The completion of an earlier time, when the number has dropped to 0, is no reason to go on.
        // SAFETY: The wait comes after this.
        let dropper = Dropper::start(unsafe { binding.bound_device() })?;
        binding.wait_idle();
        assert!(dropper.has_left.load(Ordering::Acquire));
        dropper.done.wait_for_completion();
        Ok(())
    }

    /// Fails if the wait takes the completion of an earlier time, at which the driver had no resources,
    /// for that of now.
    #[test]
    fn an_earlier_completion_does_not_end_the_wait() {
        assert_eq!(idle_at_once(), Ok(()));
    }
}
