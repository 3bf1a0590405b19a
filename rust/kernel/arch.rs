// SPDX-License-Identifier: GPL-2.0

//! Code that depends on the processor architecture, one module per architecture.
//!
//! Code that runs on every architecture uses the face without an architecture in its name, where
//! there is one: [`crate::percpu`] and [`crate::bug`].

// UML has X86_64 as well, and neither its page tables nor its per-CPU segment.
#[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
pub mod x86;
