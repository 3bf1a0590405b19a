// SPDX-License-Identifier: GPL-2.0

//! The rows' users, and the devices that they need.

use super::lane::Lane;
use super::place::{Place, Spot};
use crate::filesystem::Kind;
use crate::tests::fsdax::{attach_loop, Dm, Undo};
use crate::tests::prelude::*;
use crate::tests::users::Link;

/// A user of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Has the file, the device or the disk open.
    Open,
    /// Has it mapped, and has read all of it.
    Clean,
    /// Has it mapped, and has written all of it.
    Dirty,
    /// Two processes have it mapped, one for reading.
    Two,
    /// Direct I/O from the mapping to a disk that does not answer.
    DirectIo,
    /// A pipe has pages; the file is closed.
    Pipe,
    /// Another process's memory that is copied to a page that does not arrive.
    ProcessVm,
    /// A buffer that is registered with io_uring; the device is closed.
    Fixed,
    /// Memory that is registered with an RDMA device.
    Rdma,
    /// A pipe has pages, and the process forks while the removal waits.
    Fork,
    /// Two threads fault pages in all the time.
    Fault,
    /// The file is closed, and only a mapping has its inode.
    Orphan,
    /// The file is removed, mapped and open.
    Unlinked,
    /// Files are made, synced and renamed all the time.
    Journal,
    /// Swap space is on it, in a loop device. (Nothing can switch off swap on a disk itself that is gone:
    /// swapoff() has to open it.)
    Swap,
    /// A loop device is above it.
    Loop,
    /// A device of device-mapper is above it.
    Dm,
}

impl User {
    pub const ALL: [Self; 17] = [
        Self::Open,
        Self::Clean,
        Self::Dirty,
        Self::Two,
        Self::DirectIo,
        Self::Pipe,
        Self::ProcessVm,
        Self::Fixed,
        Self::Rdma,
        Self::Fork,
        Self::Fault,
        Self::Orphan,
        Self::Unlinked,
        Self::Journal,
        Self::Swap,
        Self::Loop,
        Self::Dm,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Clean => "clean",
            Self::Dirty => "dirty",
            Self::Two => "two",
            Self::DirectIo => "direct-io",
            Self::Pipe => "pipe",
            Self::ProcessVm => "process-vm",
            Self::Fixed => "fixed",
            Self::Rdma => "rdma",
            Self::Fork => "fork",
            Self::Fault => "fault",
            Self::Orphan => "orphan",
            Self::Unlinked => "unlinked",
            Self::Journal => "journal",
            Self::Swap => "swap",
            Self::Loop => "loop",
            Self::Dm => "dm",
        }
    }

    /// Returns whether it makes sense at a place.
    pub fn is_at(self, place: Place) -> bool {
        let kind = place.kind();
        match self {
            Self::Open => true,
            Self::Clean | Self::Dirty | Self::Two | Self::Fault => place != Place::Raw,
            Self::DirectIo | Self::Pipe | Self::ProcessVm | Self::Fork => place != Place::Raw,
            // Filesystems refuse long-term pins.
            Self::Fixed | Self::Rdma => place.is_devdax(),
            Self::Orphan | Self::Unlinked => kind.is_some(),
            Self::Journal => kind.is_some_and(|kind| kind != Kind::Ext2),
            Self::Swap | Self::Loop | Self::Dm => !place.is_devdax(),
        }
    }

    /// Returns whether a lane has what it needs. There is one RDMA device.
    pub fn is_in(self, lane: &Lane) -> bool {
        self != Self::Rdma || lane.is_first()
    }

    /// Returns whether it has pages pinned.
    pub fn pins(self) -> bool {
        matches!(
            self,
            Self::DirectIo | Self::Pipe | Self::ProcessVm | Self::Fixed | Self::Rdma | Self::Fork
        )
    }

    /// Returns whether it has pages pinned and nothing open or mapped.
    pub fn closes(self) -> bool {
        matches!(self, Self::Pipe | Self::Fixed)
    }

    /// Returns whether it touches a mapping of memory that is gone.
    pub fn touches(self, spot: &Spot) -> bool {
        match self {
            Self::Clean | Self::Dirty | Self::Two | Self::Orphan | Self::Unlinked => true,
            Self::DirectIo | Self::ProcessVm | Self::Rdma | Self::Fork | Self::Fault => true,
            Self::Dm => spot.is_dax,
            Self::Open | Self::Pipe | Self::Fixed | Self::Journal | Self::Swap | Self::Loop => {
                false
            }
        }
    }
}

/// Name of the disk that does not answer.
pub const SLOW: &str = "matrix-slow";

/// The devices that a user needs. Fields are dropped in this order.
#[derive(Default)]
pub struct Devices {
    _swap: Option<Undo>,
    _looped: Option<Undo>,
    _link: Option<Link>,
    slow: Option<Dm>,
    /// The device above the memory.
    pub above: Option<PathBuf>,
}

impl Devices {
    pub fn for_user(user: User, spot: &Spot, lane: &Lane) -> Result<Self> {
        let mut this = Self::default();
        match user {
            User::DirectIo => {
                let name = lane.name(SLOW);
                this.slow = Some(Dm::linear(&name, scratch_node()?, 16 << 11)?);
            }
            User::Rdma => this._link = Some(Link::add()?),
            User::Loop => this.set_up_loop(&spot.path)?,
            User::Swap => this.set_up_swap(spot)?,
            _ => {}
        }
        Ok(this)
    }

    /// Returns the disk that does not answer while it is suspended.
    pub fn slow(&self) -> Option<PathBuf> {
        self.slow.as_ref().map(Dm::node)
    }

    fn set_up_loop(&mut self, below: &Path) -> Result<()> {
        let (looped, node) = attach_loop(below)?;
        self._looped = Some(looped);
        let name = node.file_name().context("a loop device without a name")?;
        system::allow_io_errors(&name.to_string_lossy())?;
        self.above = Some(node);
        Ok(())
    }

    fn set_up_swap(&mut self, spot: &Spot) -> Result<()> {
        let below = match &spot.dir {
            None => spot.path.clone(),
            Some(dir) => {
                let path = dir.join("swap");
                fs::write(&path, vec![0; 8 << 20]).context("writing the file for swap")?;
                path
            }
        };
        self.set_up_loop(&below)?;
        let node = self.above.clone().context("no loop device")?;
        // A part of the disk only, so that nothing can overwrite the bytes.
        Cmd::new("mkswap").arg(&node).arg("4096").ok()?;
        Cmd::new("swapon").arg(&node).ok()?;
        self._swap = Some(Undo("swapoff", node));
        Ok(())
    }
}
