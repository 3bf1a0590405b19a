// SPDX-License-Identifier: GPL-2.0

//! Paths of the checkout and of the cache folder, which holds everything that
//! can be created again.
//!
//! The checkout is only read. The cache is `$RUST_DAX_CACHE`, else
//! `~/.cache/rust-dax`; under `sudo` that is root's.

use std::env;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use fs_err as fs;
use tempfile::TempDir;

use crate::variant::Variant;

/// The two root folders.
#[derive(Clone, Debug)]
pub struct Paths {
    pub checkout: PathBuf,
    pub cache: PathBuf,
}

impl Paths {
    /// Finds the checkout and the cache, and creates the cache folder.
    pub fn find() -> Result<Paths> {
        let paths = Paths {
            checkout: find_checkout()?,
            cache: find_cache()?,
        };
        fs::create_dir_all(&paths.cache).with_context(|| {
            format!(
                "cannot make the cache folder {}; set RUST_DAX_CACHE to a folder you can write",
                paths.cache.display()
            )
        })?;
        if nix::unistd::access(&paths.cache, nix::unistd::AccessFlags::W_OK).is_err() {
            bail!(
                "the cache folder {} is not writable for you (was it made with sudo?); \
                 set RUST_DAX_CACHE to another folder, or change its owner",
                paths.cache.display()
            );
        }
        Ok(paths)
    }

    /// Returns the unpacked kernel of this release, with overlay and patches.
    pub fn src(&self, release: &impl Display) -> PathBuf {
        self.src_root().join(format!("linux-{release}"))
    }

    /// Returns the folder of all unpacked kernels.
    pub fn src_root(&self) -> PathBuf {
        self.cache.join("src")
    }

    /// Returns the output directory (`O=`) of a variant.
    pub fn build(&self, variant: Variant) -> PathBuf {
        self.build_named(variant.name())
    }

    /// Returns an output directory that belongs to no variant, for example
    /// `clippy`.
    pub fn build_named(&self, name: &str) -> PathBuf {
        self.cache.join("build").join(name)
    }

    /// Returns the log of a kernel build.
    pub fn build_log(&self, variant: Variant) -> PathBuf {
        self.cache
            .join("build")
            .join(format!("{}.log", variant.name()))
    }

    /// Returns the log of any other long step.
    pub fn log(&self, name: &str) -> PathBuf {
        self.cache.join("log").join(format!("{name}.log"))
    }

    /// Returns that log, without what an earlier run wrote.
    pub fn new_log(&self, name: &str) -> Result<PathBuf> {
        let log = self.log(name);
        crate::files::remove_file(&log)?;
        Ok(log)
    }

    /// Returns the path of a command's results, as a file for other programs.
    pub fn result(&self, name: &str) -> PathBuf {
        self.cache.join("results").join(name)
    }

    /// Returns the folder of the guest's images.
    pub fn rootfs(&self) -> PathBuf {
        self.cache.join("rootfs")
    }

    /// Returns the folder of the temporary directories of running guests.
    pub fn run(&self) -> PathBuf {
        self.cache.join("run")
    }

    /// Creates a folder for one guest. Its name holds the owner's process id, so that
    /// folders of killed harnesses can be recognised and removed.
    pub fn run_dir(&self) -> Result<TempDir> {
        let root = self.run();
        crate::files::make_dir(&root)?;
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name
                .to_str()
                .and_then(|n| n.split('-').next()?.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        tempfile::Builder::new()
            .prefix(&format!("{}-", std::process::id()))
            .tempdir_in(&root)
            .with_context(|| format!("cannot make a folder in {}", root.display()))
    }

    /// Returns the C compiler's cache.
    pub fn ccache(&self) -> PathBuf {
        self.cache.join("ccache")
    }
}

/// Finds the checkout: from `tools/harness`, or else by looking upwards.
fn find_checkout() -> Result<PathBuf> {
    if let Some(root) = env::var_os("RUST_DAX_CHECKOUT").map(PathBuf::from) {
        if is_checkout(&root) {
            return Ok(root);
        }
    }
    let cwd = env::current_dir().context("cannot determine the current directory")?;
    cwd.ancestors()
        .find(|d| is_checkout(d))
        .map(Path::to_path_buf)
        .with_context(|| {
            format!(
                "{} is not inside a checkout of rust-dax; change to one and call again",
                cwd.display()
            )
        })
}

fn is_checkout(dir: &Path) -> bool {
    dir.join("tools/xtask/Cargo.toml").is_file() && dir.join("config/base.config").is_file()
}

/// Finds the cache by the same rule as `tools/setup --cache`.
fn find_cache() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("RUST_DAX_CACHE").filter(|d| !d.is_empty()) {
        let dir = PathBuf::from(dir);
        if !dir.is_absolute() {
            bail!(
                "RUST_DAX_CACHE must be an absolute path, not {}",
                dir.display()
            );
        }
        return Ok(dir);
    }
    let root_home = || {
        env::var_os("SUDO_USER").filter(|_| nix::unistd::geteuid().is_root())?;
        let root = nix::unistd::User::from_uid(nix::unistd::geteuid());
        root.ok()?.map(|u| u.dir)
    };
    root_home()
        .or_else(|| env::var_os("HOME").map(PathBuf::from))
        .map(|home| home.join(".cache/rust-dax"))
        .context("neither RUST_DAX_CACHE nor HOME is set; set one of them")
}
