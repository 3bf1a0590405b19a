// SPDX-License-Identifier: GPL-2.0

//! A guest: its image, its machine, its console, and a command in it.

pub mod console;
pub mod guest;
pub mod job;
pub mod kvm;
mod label;
pub mod options;
pub mod outcome;
pub mod qemu;
mod qmp;
pub mod rootfs;
pub mod running;
pub mod shell;
pub mod splat;
pub mod suites;
