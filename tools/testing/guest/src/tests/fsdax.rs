// SPDX-License-Identifier: GPL-2.0

//! fs/dax: files whose pages are the device's own.
//!
//! The tests check what any program may expect of fs/dax, so they are the
//! same on C and on Rust. Where C is known to be wrong, the name of the test
//! begins with `differs_`, and the test must fail there. A feature that only
//! the Rust code has, the reasons why a fault was not of 2 MiB, is skipped on
//! C.

mod cachestat;
mod clone;
pub mod crash;
mod daxstat;
mod erofs;
mod folio;
mod fsx;
mod full;
mod hang;
mod holders;
mod idle;
mod inode;
mod model;
mod no_memory;
mod owner;
mod poison;
mod populate;
mod race;
mod realtime;
mod reasons;
mod recovery;
mod remount;
mod resize;
mod shared;
mod size;
mod split;
mod stores;
mod sync;
mod tracking;
mod views;

use super::Case;
use crate::filesystem::Kind;
use crate::tests::prelude::*;

pub use clone::clone;
pub use daxstat::daxstat;
pub use holders::{attach_loop, Dm, Undo};
pub use idle::Held;
pub use recovery::List;

/// A filesystem and the namespace below it.
#[derive(Debug, Clone, Copy)]
struct Config {
    kind: Kind,
    want: Want,
}

const fn config(kind: Kind, map: Map, bus: Bus) -> Config {
    Config {
        kind,
        want: want(Mode::Fsdax, 2 * MIB, map, bus),
    }
}

const EXT2: Config = config(Kind::Ext2, Map::Dev, Bus::Acpi);
const EXT4: Config = config(Kind::Ext4, Map::Dev, Bus::Acpi);
const XFS: Config = config(Kind::Xfs, Map::Mem, Bus::Acpi);
const EXT4_E820: Config = config(Kind::Ext4, Map::Mem, Bus::E820);
const REFLINK: Config = config(Kind::XfsReflink, Map::Dev, Bus::E820);

/// Each filesystem, each bus and each location of the struct pages. A test uses
/// the configs in which it may take another path; together they cover all.
const EVERY: [Config; 5] = [EXT2, EXT4, XFS, EXT4_E820, REFLINK];

impl Config {
    /// Returns the name for test names: `ext4-dev-acpi`.
    fn name(&self) -> String {
        let bus = match self.want.bus {
            Bus::Acpi => "acpi",
            Bus::E820 => "e820",
        };
        format!("{}-{}-{bus}", self.kind.name(), self.want.map.name())
    }
}

impl Case for Config {
    fn name(&self) -> String {
        Config::name(self)
    }

    /// Puts the kind of filesystem alone where the name has `{kind}`.
    fn test(&self, name: &str) -> String {
        match name.contains("{kind}") {
            true => name.replace("{kind}", self.kind.name()),
            false => format!("{name}::{}", Config::name(self)),
        }
    }
}

/// A new, mounted filesystem on a namespace of its own. Fields are dropped in
/// this order.
struct Fixture {
    mount: DaxMount,
    namespace: Namespace,
    kind: Kind,
}

impl Fixture {
    fn create(config: &Config) -> Result<Self> {
        Self::create_at(config, &mount_point())
    }

    /// Mounts it at a place of its own, beside that of [`create`](Self::create).
    fn create_at(config: &Config, dir: &Path) -> Result<Self> {
        let namespace = Namespace::create(&config.want)?;
        let mount = DaxMount::create(config.kind, &namespace.node()?, dir)?;
        Ok(Self {
            mount,
            namespace,
            kind: config.kind,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.path(name)
    }

    fn open(&self, name: &str) -> Result<File> {
        open_rw(&self.path(name), false)
    }

    /// Creates a file that is one hole.
    fn sparse(&self, name: &str, len: u64) -> Result<File> {
        let path = self.path(name);
        File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let file = self.open(name)?;
        file.set_len(len).context("ftruncate")?;
        Ok(file)
    }

    /// Creates a file with these bytes. A large one is placed such that huge
    /// pages are possible: allocators align a size that is a multiple of their
    /// stripe.
    fn written(&self, name: &str, bytes: &[u8]) -> Result<File> {
        let len = bytes.len() as u64;
        let room = match bytes.len() >= HUGE {
            true => len.next_multiple_of(HUGE as u64),
            false => len,
        };
        let file = match self.kind {
            Kind::Ext2 => self.sparse(name, 0)?,
            _ => self.mount.file(name, room)?,
        };
        file.write_all_at(bytes, 0)
            .and_then(|()| file.set_len(len))
            .with_context(|| format!("cannot write {name}"))?;
        file.sync_all()
            .with_context(|| format!("cannot sync {name}"))?;
        Ok(file)
    }

    /// Calls syncfs(2).
    fn sync(&self) -> Result<()> {
        let dir = File::open(self.mount.dir()).context("cannot open the mount point")?;
        nix::unistd::syncfs(dir).context("syncfs")
    }

    /// Unmounts and mounts again; only the content of the device remains of a
    /// file.
    fn remount(self, options: &str) -> Result<Self> {
        let Self {
            mount,
            namespace,
            kind,
        } = self;
        mount.unmount()?;
        let mount = DaxMount::mount_with(kind, &namespace.node()?, &mount_point(), options)?;
        Ok(Self {
            mount,
            namespace,
            kind,
        })
    }

    /// Unmounts, checks the filesystem and destroys the namespace.
    fn finish(self) -> Result<()> {
        let node = self.namespace.node()?;
        self.mount.unmount()?;
        self.kind.check(&node)?;
        self.namespace.destroy()
    }
}

/// Maps the file's start shared, aligned such that 2 MiB pages are possible.
fn large(file: &File, len: usize) -> Result<Mapping> {
    Mapping::shared(file, 0, len, HUGE)
}

/// Maps the file's start shared, with 4 KiB pages only.
fn small(file: &File, len: usize) -> Result<Mapping> {
    let map = large(file, len)?;
    map.advise(0, len, libc::MADV_NOHUGEPAGE)
        .context("MADV_NOHUGEPAGE")?;
    Ok(map)
}

/// Returns the signal that kills a child that runs `work`, if one does.
fn signal_of(work: impl FnOnce()) -> Result<Option<i32>> {
    let mut child = spawn(|| {
        work();
        Ok(())
    })?;
    child.wait_signal(20, "the child that touches memory")
}

/// Returns an error unless a load at `at` raises SIGBUS.
fn require_sigbus(map: &Mapping, at: usize, what: &str) -> Result<()> {
    let got = signal_of(|| {
        map.peek(at);
    })?;
    ensure!(
        got == Some(libc::SIGBUS),
        "a load {what} ends in {got:?} instead of SIGBUS"
    );
    Ok(())
}

/// Skips a test on the fs/dax in C, with the reason.
fn require_rust(why: &str) -> Result<()> {
    match live::ask()?.fs_dax.implementation {
        Language::C => Err(Skip(format!("fs/dax is in C, {why}")).into()),
        Language::Rust => Ok(()),
    }
}
