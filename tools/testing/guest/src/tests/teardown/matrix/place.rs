// SPDX-License-Identifier: GPL-2.0

//! The rows' places: a namespace, what is on it, and the bytes that are there.

use std::os::unix::fs::MetadataExt;

use nix::sys::stat::minor;

use super::lane::Lane;
use crate::filesystem::Kind;
use crate::ndctl::Info;
use crate::tests::fsdax::Dm;
use crate::tests::prelude::*;

/// Number of bytes that are written and compared.
pub const LEN: usize = 4 << 20;
/// Their offset on a raw disk.
const RAW_AT: u64 = 16 << 20;
/// Name of the file that has them.
const DATA: &str = "data";
/// Sectors of the device of device-mapper, if one is above the disk.
const DM_SECTORS: u64 = 400 << 11;

/// A kind of filesystem, of device, or of disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Ext2,
    Ext4,
    Xfs,
    XfsReflink,
    Devdax4K,
    Devdax2M,
    Devdax1G,
    Raw,
}

impl Place {
    pub const ALL: [Self; 8] = [
        Self::Ext2,
        Self::Ext4,
        Self::Xfs,
        Self::XfsReflink,
        Self::Devdax4K,
        Self::Devdax2M,
        Self::Devdax1G,
        Self::Raw,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Devdax4K => "devdax-4K",
            Self::Devdax2M => "devdax-2M",
            Self::Devdax1G => "devdax-1G",
            Self::Raw => "raw",
            Self::Ext2 | Self::Ext4 | Self::Xfs | Self::XfsReflink => {
                self.kind().map_or("", Kind::name)
            }
        }
    }

    /// Returns the kind of filesystem, if there is one.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::Ext2 => Some(Kind::Ext2),
            Self::Ext4 => Some(Kind::Ext4),
            Self::Xfs => Some(Kind::Xfs),
            Self::XfsReflink => Some(Kind::XfsReflink),
            Self::Devdax4K | Self::Devdax2M | Self::Devdax1G | Self::Raw => None,
        }
    }

    pub fn is_devdax(self) -> bool {
        self.align().is_some()
    }

    /// Returns whether there is room for it in a lane.
    pub fn is_in(self, lane: &Lane) -> bool {
        // Not every region begins at a multiple of 1 GiB.
        self != Self::Devdax1G || lane.is_first()
    }

    /// Returns the unit of the mappings of a device.
    fn align(self) -> Option<u64> {
        match self {
            Self::Devdax4K => Some(4 * KIB),
            Self::Devdax2M => Some(2 * MIB),
            Self::Devdax1G => Some(GIB),
            _ => None,
        }
    }

    /// Returns the arguments of ndctl, and the size.
    fn arguments(self) -> (&'static str, u64) {
        match self {
            Self::Ext2 | Self::Ext4 | Self::XfsReflink => ("-m fsdax -M dev -a 2M", 512 * MIB),
            Self::Xfs => ("-m fsdax -M mem -a 2M", 512 * MIB),
            Self::Devdax4K => ("-m devdax -M mem -a 4K", 512 * MIB),
            Self::Devdax2M => ("-m devdax -M dev -a 2M", 512 * MIB),
            Self::Devdax1G => ("-m devdax -M mem -a 1G", 3 * GIB),
            Self::Raw => ("-m raw", 512 * MIB),
        }
    }
}

/// A namespace, which is destroyed when dropped.
pub struct Memory {
    pub info: Info,
    pub region: String,
    gone: bool,
}

impl Memory {
    fn create(place: Place, lane: &Lane) -> Result<Self> {
        let (arguments, size) = place.arguments();
        let region = lane.region(size)?;
        let this = Self {
            info: ndctl::create(&format!("{arguments} -r {region} -s {size}"))?,
            region,
            gone: false,
        };
        system::wait_for_node(&this.info.node()?)?;
        Ok(this)
    }

    /// Reads its names again, which may change when it is enabled.
    fn refresh(&mut self) -> Result<()> {
        let mut all = ndctl::namespaces("")?.into_iter();
        self.info = all
            .find(|info| info.uuid == self.info.uuid)
            .context("the namespace is gone")?;
        system::wait_for_node(&self.info.node()?)
    }

    fn destroy(mut self) -> Result<()> {
        self.gone = true;
        destroy(&self.info.dev)
    }
}

/// Destroys a namespace, if it exists.
fn destroy(dev: &str) -> Result<()> {
    if ndctl::namespace(dev)?.is_some() {
        let command = Cmd::new("ndctl destroy-namespace -f").arg(dev);
        command.limit_secs(120).ok()?;
    }
    Ok(())
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !self.gone {
            clean_up(destroy(&self.info.dev));
        }
    }
}

/// Repairs a filesystem without a journal whose disk was taken away: only what was synced is right. (The
/// kernel syncs a filesystem when it removes its disk, but not one on a device of device-mapper, and a
/// removed file that was open stays allocated.)
fn repair(kind: Kind, node: &Path) -> Result<()> {
    if kind != Kind::Ext2 {
        return Ok(());
    }
    let out = Cmd::new("e2fsck -fy").arg(node).limit_secs(120).run()?;
    // 1: errors were corrected.
    ensure!(
        out.code() <= 1,
        "e2fsck cannot repair {}: {}",
        node.display(),
        out.all().trim()
    );
    Ok(())
}

/// What a user needs in order to reach the bytes.
pub struct Spot {
    /// The file, the device or the disk.
    pub path: PathBuf,
    /// The folder of the filesystem.
    pub dir: Option<PathBuf>,
    /// The offset of the bytes.
    pub at: u64,
    /// Whether the bytes can be mapped and the pages are the device's own.
    pub is_dax: bool,
    align: usize,
    pub bytes: Vec<u8>,
}

impl Spot {
    pub fn open(&self) -> Result<File> {
        open_rw(&self.path, false)
    }

    /// Maps the bytes of an open file, or of another one.
    pub fn map(&self, file: &File) -> Result<Mapping> {
        let len = LEN.next_multiple_of(self.align);
        Mapping::shared(file, 0, len, self.align.max(HUGE))
    }

    /// Reads from the disk itself, or from another one with the same bytes, past the page cache.
    pub fn read_direct(&self, disk: &File, at: u64) -> Result<()> {
        let memory = Mapping::anonymous(16 * PAGE)?;
        pread_all(disk, &memory, 0, memory.len(), at, memory.len())?;
        memory.require(0, &self.bytes[..memory.len()], "bytes of the disk")
    }
}

/// A place with its bytes. Fields are dropped in this order.
pub struct Ground<'a> {
    pub place: Place,
    pub lane: &'a Lane,
    mount: Option<DaxMount>,
    dm: Option<Dm>,
    pub memory: Memory,
    /// Whether a device of device-mapper is above the disk.
    through_dm: bool,
    bytes: Vec<u8>,
    seed: u64,
}

impl<'a> Ground<'a> {
    pub fn create(place: Place, through_dm: bool, lane: &'a Lane) -> Result<Self> {
        let mut this = Self {
            place,
            lane,
            mount: None,
            dm: None,
            memory: Memory::create(place, lane)?,
            through_dm,
            bytes: Vec::new(),
            seed: 300,
        };
        this.set_up(true)?;
        Ok(this)
    }

    /// Stacks what is above the disk, with a new filesystem or that which is there.
    fn set_up(&mut self, fresh: bool) -> Result<()> {
        let mut node = self.memory.info.node()?;
        if self.through_dm {
            let dm = Dm::linear(&self.lane.name("matrix"), &node, DM_SECTORS)?;
            node = dm.node();
            self.dm = Some(dm);
        }
        if let Some(kind) = self.place.kind() {
            let mount = match fresh {
                true => {
                    let mount = DaxMount::create(kind, &node, &mount_point())?;
                    drop(mount.file(DATA, LEN as u64)?);
                    mount
                }
                false => {
                    repair(kind, &node)?;
                    DaxMount::mount(kind, &node, &mount_point())?
                }
            };
            self.mount = Some(mount);
        }
        // The disk is taken away, and what is above it fails.
        let disk = self.memory.info.blockdev.as_deref();
        disk.map_or(Ok(()), system::allow_io_errors)?;
        if self.through_dm {
            let number = fs::metadata(&node).context("the node of dm")?.rdev();
            system::allow_io_errors(&format!("dm-{}", minor(number)))?;
        }
        Ok(())
    }

    /// Takes down what is above the disk, which may be gone.
    pub fn take_down(&mut self) -> Result<()> {
        let unmounted = self.mount.take().map_or(Ok(()), DaxMount::unmount);
        self.dm = None;
        unmounted
    }

    /// Stacks it again on a namespace that was enabled again.
    pub fn restore(&mut self) -> Result<()> {
        self.memory.refresh()?;
        self.set_up(false)
    }

    /// Makes the namespace anew.
    pub fn renew(&mut self) -> Result<()> {
        destroy(&self.memory.info.dev)?;
        // The next one may get the same name.
        self.memory.gone = true;
        self.memory = Memory::create(self.place, self.lane)?;
        self.set_up(true)
    }

    fn node(&self) -> Result<PathBuf> {
        match &self.dm {
            Some(dm) => Ok(dm.node()),
            None => self.memory.info.node(),
        }
    }

    pub fn spot(&self) -> Result<Spot> {
        Ok(Spot {
            path: match &self.mount {
                Some(mount) => mount.path(DATA),
                None => self.node()?,
            },
            dir: self.mount.as_ref().map(|mount| mount.dir().to_owned()),
            at: match self.place {
                Place::Raw => RAW_AT,
                _ => 0,
            },
            is_dax: self.place != Place::Raw,
            align: self.place.align().map_or(PAGE, |align| align as usize),
            bytes: self.bytes.clone(),
        })
    }

    /// Writes other bytes than before, and syncs them.
    pub fn write(&mut self) -> Result<()> {
        self.seed += 1;
        self.bytes = data::bytes(self.seed, LEN);
        let spot = self.spot()?;
        let file = spot.open()?;
        if self.place.is_devdax() {
            spot.map(&file)?.write(0, &self.bytes);
            return Ok(());
        }
        file.write_all_at(&self.bytes, spot.at).context("write")?;
        file.sync_all().context("fsync")
    }

    /// Requires that the bytes are there.
    pub fn require(&self) -> Result<()> {
        const WHAT: &str = "the bytes when the memory is enabled again";
        let spot = self.spot()?;
        let file = spot.open()?;
        if self.place.is_devdax() {
            return spot.map(&file)?.require(0, &self.bytes, WHAT);
        }
        let mut got = vec![0; LEN];
        file.read_exact_at(&mut got, spot.at).context("read")?;
        data::require_same(&self.bytes, &got, WHAT)
    }

    /// Takes everything down and checks the filesystem.
    pub fn finish(mut self) -> Result<()> {
        let mount = self.mount.take();
        mount.map_or(Ok(()), DaxMount::unmount)?;
        if let Some(kind) = self.place.kind() {
            kind.check(&self.node()?)?;
        }
        self.dm = None;
        self.memory.destroy()
    }
}
