// SPDX-License-Identifier: GPL-2.0

//! A wait lets the scheduler enable interrupts and run other tasks, so a pgmap that was found with
//! interrupts disabled may be gone when the wait returns.

//@ crate: kernel
//@ error: E0133 call to unsafe function `with_disabled`

use kernel::{
    interrupt::{self, LocalInterruptDisabled},
    mm::{memremap::registry, pfn::Pfn},
    sync::completion::Completion,
};

fn look(irq: LocalInterruptDisabled<'_>) -> usize {
    registry::lookup_irqs_off(Pfn::new(0), irq).map_or(0, |pgmap| pgmap.nr_ranges())
}

fn nr_ranges(done: &Completion) -> usize {
    //@ wrong
    interrupt::with_disabled(|irq| {
        done.wait_for_completion();
        look(irq)
    })
    //@ right
    done.wait_for_completion();
    // SAFETY: A lookup does not sleep.
    unsafe { interrupt::with_disabled(look) }
    //@ end
}
