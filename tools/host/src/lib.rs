// SPDX-License-Identifier: GPL-2.0

//! What every part of the harness needs of the host: the checkout and the cache
//! (paths, lock), files and programs (files, command), the display of long steps
//! (progress) and the time for them (limit), what a guest prints (lines), and what a kernel is
//! (variant, kernel).

pub mod command;
pub mod files;
pub mod kernel;
pub mod limit;
pub mod lines;
pub mod lock;
pub mod paths;
pub mod progress;
pub mod requirements;
pub mod variant;
