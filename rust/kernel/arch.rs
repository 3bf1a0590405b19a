// SPDX-License-Identifier: GPL-2.0

//! Code that depends on the processor architecture, one module per architecture.
//!
//! Code that runs on every architecture uses the face without an architecture in its name, where
//! there is one: [`crate::percpu`] and [`crate::bug`].

#[cfg(CONFIG_X86_64)]
pub mod x86;
