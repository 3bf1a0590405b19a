// SPDX-License-Identifier: GPL-2.0

//! The former name of [`crate::interrupt`].

pub use crate::interrupt::*;
