// SPDX-License-Identifier: GPL-2.0

//! A built kernel: what a build leaves, and what a guest boots.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use crate::variant::Variant;

/// A built kernel.
#[derive(Clone, Debug)]
pub struct Built {
    pub variant: Variant,
    pub bzimage: PathBuf,
    /// Folder to mount at /lib/modules, which holds one folder per release.
    pub modules: PathBuf,
    /// The same with nfit_test and the modules that it replaces in `updates/`,
    /// which modprobe prefers.
    pub nfit_modules: PathBuf,
    /// Output of `uname -r` in the guest.
    pub release_string: String,
    /// The source tree.
    pub source: PathBuf,
    /// Keeps the files of the three paths above, if they are copies.
    pub _copies: Option<Arc<TempDir>>,
}
