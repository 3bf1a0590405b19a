// SPDX-License-Identifier: GPL-2.0

//! A pgmap that was found with interrupts disabled would be used when they are enabled again.

//@ crate: kernel
//@ error: lifetime may not live long enough

use kernel::{
    interrupt::{self, LocalInterruptDisabled},
    mm::{memremap::registry, pfn::Pfn},
};

fn look(irq: LocalInterruptDisabled<'_>) -> usize {
    registry::lookup_irqs_off(Pfn::new(0), irq).map_or(0, |pgmap| pgmap.nr_ranges())
}

fn nr_ranges() -> usize {
    //@ wrong
    // SAFETY: A lookup does not sleep.
    let found = unsafe { interrupt::with_disabled(|irq| registry::lookup_irqs_off(Pfn::new(0), irq)) };
    found.map_or(0, |pgmap| pgmap.nr_ranges())
    //@ right
    // SAFETY: A lookup does not sleep.
    unsafe { interrupt::with_disabled(look) }
    //@ end
}
