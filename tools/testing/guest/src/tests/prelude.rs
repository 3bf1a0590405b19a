// SPDX-License-Identifier: GPL-2.0

//! The names that most tests use.

pub(super) use std::fs::{self, File};
pub(super) use std::io;
pub(super) use std::os::fd::AsRawFd;
pub(super) use std::os::unix::fs::FileExt;
pub(super) use std::path::{Path, PathBuf};
pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
pub(super) use std::sync::Arc;
pub(super) use std::thread;
pub(super) use std::time::{Duration, Instant};

pub(super) use anyhow::{anyhow, bail, ensure, Context, Result};

pub(super) use super::direct_io::{cross_copy, scratch, scratch_node};
pub(super) use super::truncate::Background;
pub(super) use super::{each, mark_essential, want, Test};
pub(super) use super::{EACH_SIZE, EVERY_KIND, MAPPED_KINDS, ONE_OF_EACH};
pub(super) use crate::command::{timeout, whereabouts, Cmd};
pub(super) use crate::data::{self, Random};
pub(super) use crate::filesystem::{fallocate, DaxMount};
pub(super) use crate::live::{self, Language};
pub(super) use crate::mapping::{
    open_rw, pread_all, pread_once, pwrite_all, pwrite_once, Mapping, PAGE,
};
pub(super) use crate::memory::HUGE;
pub(super) use crate::modules::Modules;
pub(super) use crate::ndctl::{self, Bus, Map, Mode, Namespace, Want, GIB, KIB, MIB};
pub(super) use crate::process::{pipe, spawn, vmsplice, Child, Gate};
pub(super) use crate::runner;
pub(super) use crate::skip::Skip;
pub(super) use crate::system::{self, clean_up, require_errno};
pub(super) use crate::target::{mount_point, Target};
pub(super) use crate::trace::FaultTrace;
pub(super) use crate::vmstat::{require_unpinned, settled};
