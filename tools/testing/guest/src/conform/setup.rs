// SPDX-License-Identifier: GPL-2.0

//! Sets up the environment of a test, and restores the machine afterwards.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::{Cmd, Output};
use crate::filesystem::{unmount_devices, DaxMount, Kind};
use crate::ndctl::{self, Bus, Info, Map, Mode, Namespace, Want, GIB, MIB};
use crate::system;
use crate::tests::{external, nfit};

use super::item::{Environment, Item};

/// Mount point of the disk with the built suites.
pub const SUITES: &str = "/opt/suites";
/// The disk's label.
const LABEL: &str = "rust-dax-suites";
/// `$DAX` of the tests.
const DAX: &str = "/mnt/dax";
const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Mounts the suites that were built for this guest, if it has the disk.
pub fn mount_suites() -> Result<()> {
    let mount = Cmd::new("mount -o X-mount.mkdir").arg(format!("LABEL={LABEL}"));
    let mounted = mount.arg(SUITES).run()?;
    if !mounted.status.success() {
        println!("no disk with suites: {}", mounted.stderr.trim());
    }
    Ok(())
}

/// The current setup.
pub struct Setup {
    before: Vec<Info>,
    /// Kept from one test to the next. The mount is dropped first.
    dax: Option<(DaxMount, Namespace)>,
    huge_pages: u64,
}

impl Setup {
    pub fn new() -> Result<Self> {
        Ok(Self {
            before: ndctl::namespaces("")?,
            dax: None,
            huge_pages: system::read_u64(HUGE_PAGES)?,
        })
    }

    /// Runs a test in its environment.
    pub fn run(&mut self, item: &Item) -> Result<Output> {
        let cmd = item
            .command()?
            .env("DAX", DAX)
            .env("SUITES", SUITES)
            .env("PERL5LIB", format!("{SUITES}/perl"));
        match item.environment {
            Environment::Memory | Environment::RealPmem => cmd.run(),
            Environment::HugePages(n) => {
                // A fragmented machine provides fewer; then the test reports
                // it.
                set_huge_pages(n)?;
                cmd.run()
            }
            Environment::MockBus => nfit::with_mock(|| cmd.run()),
            Environment::DaxMount => {
                self.mount()?;
                cmd.run()
            }
        }
    }

    /// Cleans up after a test; `fine` says whether its environment can be used
    /// again.
    pub fn tidy(&mut self, item: &Item, fine: bool) -> Result<()> {
        match item.environment {
            Environment::Memory => Ok(()),
            Environment::HugePages(_) => set_huge_pages(self.huge_pages),
            Environment::MockBus => ndctl::restore(&self.before).map(drop),
            Environment::RealPmem => external::put_away(&self.before).map(drop),
            Environment::DaxMount if fine => empty(Path::new(DAX)),
            Environment::DaxMount => {
                self.dax = None;
                unmount_devices(&["/dev/pmem"])?;
                ndctl::restore(&self.before).map(drop)
            }
        }
    }

    fn mount(&mut self) -> Result<()> {
        if self.dax.is_none() {
            let want = Want {
                mode: Mode::Fsdax,
                align: 2 * MIB,
                map: Map::Dev,
                bus: Bus::Acpi,
            };
            let namespace = Namespace::create_sized(&want, 2 * GIB)?;
            let mount = DaxMount::create(Kind::Ext4, &namespace.node()?, Path::new(DAX))?;
            self.dax = Some((mount, namespace));
        }
        Ok(())
    }
}

fn set_huge_pages(n: u64) -> Result<()> {
    fs::write("/proc/sys/vm/compact_memory", "1").context("cannot compact memory")?;
    fs::write(HUGE_PAGES, n.to_string()).with_context(|| format!("cannot write {HUGE_PAGES}"))
}

/// Removes what a test left in a folder.
fn empty(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry
            .with_context(|| format!("cannot list {}", dir.display()))?
            .path();
        let removed = match path.is_dir() && !path.is_symlink() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}
