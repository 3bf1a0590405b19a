// SPDX-License-Identifier: GPL-2.0

//! Results of tests, and how they are shown.

pub mod guest_result;
pub mod html;
pub mod ktap;
pub mod live;
pub mod page;
pub mod summary;
