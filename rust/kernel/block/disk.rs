// SPDX-License-Identifier: GPL-2.0

//! Bio-based disks: the driver gets the bios as they are submitted, without a request queue.
//!
//! To write the driver of a bio-based disk, do the following:
//!
//! 1. Implement [`Operations`] for the driver's data. [`Operations::submit`] gets each
//!    [`Bio`] and must end it.
//! 2. Implement [`sysfs::Attribute`] for the attribute that the disk has in sysfs.
//! 3. Allocate the disk with its [`Limits`] ([`GenDiskBuilder::alloc`]), and set its name and
//!    capacity.
//! 4. Add the disk with the driver's data ([`GenDiskBuilder::add`]). Bios are submitted from then
//!    on.
//! 5. Keep the returned [`GenDisk`] until the disk is to be removed; dropping it does that.
//!
//! ```text
//!  GenDiskBuilder::alloc --> GenDiskBuilder ----- add() -----> GenDisk
//!                             |  dropped: freed                 |  dropped: removed, then freed
//! ```
//!
//! An added disk owns one reference to the driver's data, an [`Arc`]. It is dropped when all
//! operations have returned and none can begin any more.
//!
//! The types here that have direct C counterparts are:
//!
//! - [`Operations`]: `struct block_device_operations`.
//! - [`Limits`]: `struct queue_limits`.
//! - [`GenDiskBuilder`] and [`GenDisk`]: `struct gendisk`, before and after `device_add_disk()`.
//!
//! Disks with a request queue are in [`mq`](super::mq).
//!
//! This file encapsulates the private data of a `struct gendisk`, and when C code may use it.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)
//!
//! # Examples
//!
//! A disk of 1 MiB that discards what is written, and cannot be read:
//!
//! ```
//! use kernel::{
//!     block::{
//!         bio::Bio,
//!         disk::{Features, GenDisk, GenDiskBuilder, Limits, Operations},
//!     },
//!     c_str,
//!     device::Device,
//!     mm::node::Node,
//!     page::PAGE_SIZE,
//!     sync::Arc,
//!     sysfs,
//! };
//!
//! # // SAFETY: For code that is built into the kernel, the module is null.
//! # static THIS_MODULE: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };
//! struct Sink;
//!
//! impl Operations for Sink {
//!     const MODULE: &'static ThisModule = &THIS_MODULE;
//!
//!     type Attribute = Level;
//!
//!     fn submit(&self, bio: Bio) {
//!         let result = if bio.is_write() { Ok(()) } else { Err(EIO) };
//!         bio.end(result);
//!     }
//! }
//!
//! /// The file `sink/level`.
//! struct Level;
//!
//! impl sysfs::Attribute<Sink> for Level {
//!     const GROUP: &'static CStr = c_str!("sink");
//!     const NAME: &'static CStr = c_str!("level");
//!     const MODE: u16 = 0o444;
//!
//!     fn show(_sink: &Sink, buffer: &mut sysfs::Buffer) -> Result {
//!         core::fmt::Write::write_str(buffer, "empty\n").map_err(Error::from)
//!     }
//! }
//!
//! /// Allocates the disk and adds it.
//! fn add(parent: &Device) -> Result<GenDisk<Sink>> {
//!     let limits = Limits {
//!         logical_block_size: 512,
//!         physical_block_size: PAGE_SIZE as u32,
//!         max_hw_sectors: u32::MAX,
//!         features: Features::SYNCHRONOUS | Features::NOWAIT,
//!     };
//!     let mut disk = GenDiskBuilder::alloc(&limits, Node::of(parent))?;
//!     disk.set_name(c_str!("sink0"))?;
//!     disk.set_capacity(1 << 20);
//!     disk.add(parent, Arc::new(Sink, GFP_KERNEL)?)
//! }
//! ```

use super::{
    badblocks::Badblocks,
    bio::{Bio, SECTOR_SIZE},
};
use crate::{
    bindings,
    device::Device,
    error::{from_err_ptr, to_result, Result},
    ffi::c_char,
    mm::node::Node,
    prelude::*,
    static_lock_class,
    sync::Arc,
    sysfs::{self, DeviceData, Dirent},
    types::ARef,
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ops::{BitOr, BitOrAssign},
    ptr::{addr_of, addr_of_mut, null_mut, NonNull},
};

/// The features of a disk. C: `BLK_FEAT_*`.
///
/// # Examples
///
/// ```
/// use kernel::block::disk::Features;
///
/// let mut features = Features::WRITE_CACHE | Features::SYNCHRONOUS;
/// features |= Features::FUA;
/// assert!(features == (Features::FUA | Features::SYNCHRONOUS | Features::WRITE_CACHE));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// No features.
    pub const NONE: Self = Self(0);
    /// The disk has a volatile write cache that needs flushes. C: `BLK_FEAT_WRITE_CACHE`.
    #[doc(alias = "BLK_FEAT_WRITE_CACHE")]
    pub const WRITE_CACHE: Self = Self(bindings::BLK_FEAT_WRITE_CACHE);
    /// The disk can write through that cache. C: `BLK_FEAT_FUA`.
    #[doc(alias = "BLK_FEAT_FUA")]
    pub const FUA: Self = Self(bindings::BLK_FEAT_FUA);
    /// I/O has completed when the submission returns. C: `BLK_FEAT_SYNCHRONOUS`.
    #[doc(alias = "BLK_FEAT_SYNCHRONOUS")]
    pub const SYNCHRONOUS: Self = Self(bindings::BLK_FEAT_SYNCHRONOUS);
    /// The driver does not sleep for bios that ask for that, but ends them with `EAGAIN` instead.
    /// C: `BLK_FEAT_NOWAIT`.
    #[doc(alias = "BLK_FEAT_NOWAIT")]
    pub const NOWAIT: Self = Self(bindings::BLK_FEAT_NOWAIT);
    /// The memory of the disk can be mapped. C: `BLK_FEAT_DAX`.
    #[doc(alias = "BLK_FEAT_DAX")]
    pub const DAX: Self = Self(bindings::BLK_FEAT_DAX);
}

impl BitOr for Features {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Features {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The limits and features of a disk. C: `struct queue_limits`.
///
/// # Examples
///
/// ```
/// use kernel::block::disk::{Features, Limits};
///
/// /// Sectors of 4 KiB, and a driver that may sleep.
/// const LIMITS: Limits = Limits {
///     logical_block_size: 4096,
///     physical_block_size: 4096,
///     max_hw_sectors: u32::MAX,
///     features: Features::NONE,
/// };
/// ```
#[doc(alias = "queue_limits")]
#[derive(Clone, Copy)]
pub struct Limits {
    /// The smallest unit that the disk can address, in bytes.
    pub logical_block_size: u32,
    /// The smallest unit that the disk can write without reading first, in bytes.
    pub physical_block_size: u32,
    /// The largest I/O that suits the disk, in sectors. The block layer only announces it and does
    /// not split bios: [`Operations::submit`] may get longer ones.
    pub max_hw_sectors: u32,
    /// The features of the disk.
    pub features: Features,
}

/// The operations of a disk. C: `struct block_device_operations`.
#[doc(alias = "block_device_operations")]
pub trait Operations: Sized + Send + Sync + 'static {
    /// The module of the driver, `&THIS_MODULE`. It cannot be unloaded while the disk is open.
    const MODULE: &'static ThisModule;

    /// The attribute of the disk in sysfs.
    type Attribute: sysfs::Attribute<Self>;

    /// Carries out a bio and ends it. May sleep, except if the disk has [`Features::NOWAIT`] and
    /// the bio [`Bio::is_nowait`]. C: `->submit_bio()`.
    fn submit(&self, bio: Bio);

    /// Returns the list of bad sectors that sysfs shows. C: `disk->bb`.
    fn badblocks(&self) -> Option<&Badblocks> {
        None
    }
}

/// A disk that is not added yet. Dropping it frees the disk. C: `struct gendisk`.
///
/// # Invariants
///
/// `raw` is a disk from `blk_alloc_disk()`, and this value owns that reference to it. The disk is
/// not added, unless the value is part of a [`GenDisk`].
pub struct GenDiskBuilder<T: Operations> {
    raw: NonNull<bindings::gendisk>,
    _operations: PhantomData<fn() -> T>,
}

// SAFETY: A disk is not bound to the task that allocated it, so any thread may add or free it.
unsafe impl<T: Operations> Send for GenDiskBuilder<T> {}

impl<T: Operations> GenDiskBuilder<T> {
    /// The operations table that C calls.
    const TABLE: bindings::block_device_operations = bindings::block_device_operations {
        owner: T::MODULE.as_ptr(),
        submit_bio: Some(Self::submit_bio),
        // SAFETY: The remaining fields are pointers and functions, for which null is valid.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// Allocates a disk, with its memory on `node` if it is given. Sleeps. C: `blk_alloc_disk()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for invalid limits; `ENOMEM`.
    #[doc(alias = "blk_alloc_disk")]
    pub fn alloc(limits: &Limits, node: Option<Node>) -> Result<Self> {
        // SAFETY: Zero is valid for all limits, and selects the defaults.
        let mut lim: bindings::queue_limits = unsafe { MaybeUninit::zeroed().assume_init() };
        lim.logical_block_size = limits.logical_block_size;
        lim.physical_block_size = limits.physical_block_size;
        lim.max_hw_sectors = limits.max_hw_sectors;
        lim.features = limits.features.0;
        // SAFETY: The limits are initialised, the node is a valid one or `NUMA_NO_NODE`, and the
        // lock class is static.
        let disk = from_err_ptr(unsafe {
            bindings::__blk_alloc_disk(&mut lim, Node::to_raw(node), static_lock_class!().as_ptr())
        })?;
        let raw = NonNull::new(disk).ok_or(ENOMEM)?;
        // SAFETY: The disk was just allocated, so this is the only access. The table is a constant.
        unsafe { addr_of_mut!((*raw.as_ptr()).fops).write(const { &Self::TABLE }) };
        // INVARIANT: The disk was just allocated, and its reference belongs to the new value.
        Ok(Self {
            raw,
            _operations: PhantomData,
        })
    }

    /// Sets the name of the disk, which its device node gets.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the name is longer than `DISK_NAME_LEN - 1` bytes.
    pub fn set_name(&mut self, name: &CStr) -> Result {
        let name = name.as_bytes_with_nul();
        if name.len() > bindings::DISK_NAME_LEN as usize {
            return Err(EINVAL);
        }
        // SAFETY: The buffer has `DISK_NAME_LEN` bytes, and the name was checked to fit. The disk
        // is borrowed exclusively, so nothing else uses the buffer.
        unsafe {
            core::ptr::copy_nonoverlapping(
                name.as_ptr(),
                self.name_buffer().cast::<u8>(),
                name.len(),
            );
        }
        Ok(())
    }

    /// Returns the buffer for the name of the disk, of `DISK_NAME_LEN` bytes.
    #[inline]
    pub(crate) fn name_buffer(&mut self) -> *mut c_char {
        // SAFETY: By the type invariants the disk is valid, so the field lies inside of it.
        unsafe { addr_of_mut!((*self.raw.as_ptr()).disk_name) }.cast()
    }

    /// Sets the capacity of the disk, in bytes, rounded down to whole sectors. C: `set_capacity()`.
    pub fn set_capacity(&mut self, bytes: u64) {
        // SAFETY: By the type invariants the disk is valid.
        unsafe { bindings::set_capacity(self.raw.as_ptr(), bytes / SECTOR_SIZE) };
    }

    /// Makes the disk read-only. C: `set_disk_ro()`.
    #[doc(alias = "set_disk_ro")]
    pub fn set_read_only(&mut self) {
        // SAFETY: By the type invariants the disk is valid.
        unsafe { bindings::set_disk_ro(self.raw.as_ptr(), true) };
    }

    /// Returns the disk as C functions take it.
    #[inline]
    pub(crate) fn as_raw(&self) -> *mut bindings::gendisk {
        self.raw.as_ptr()
    }

    /// Adds the disk as a child of `parent`, with the driver's data. Sleeps.
    ///
    /// Partitions are scanned, and bios are submitted, before this returns. C: `device_add_disk()`.
    ///
    /// # Errors
    ///
    /// Those of the driver core. The disk is freed then.
    #[doc(alias = "device_add_disk")]
    pub fn add(self, parent: &Device, data: Arc<T>) -> Result<GenDisk<T>> {
        let raw = self.raw.as_ptr();
        let bad = data.badblocks().map_or(null_mut(), |bad| bad.as_raw());
        let data = Arc::into_raw(data);
        // SAFETY: By the type invariants the disk is valid and not added, so this is the only
        // access. The reference to the data, which includes its list of bad sectors, is dropped
        // only after the disk was removed. The attribute groups are constants.
        let added = to_result(unsafe {
            addr_of_mut!((*raw).private_data).write(data.cast_mut().cast());
            addr_of_mut!((*raw).bb).write(bad);
            bindings::device_add_disk(
                parent.as_raw(),
                raw,
                const { sysfs::groups::<Self, T, T::Attribute>() },
            )
        });
        if let Err(error) = added {
            // SAFETY: The pointer came from `into_raw`. The disk was not added, so no operation of
            // it uses the data.
            drop(unsafe { Arc::from_raw(data) });
            return Err(error);
        }
        // INVARIANT: The disk was just added under `parent`, with that pointer as its data.
        Ok(GenDisk {
            disk: self,
            data,
            parent: parent.into(),
        })
    }

    /// Passes a bio to the driver. C: `->submit_bio()`.
    ///
    /// # Safety
    ///
    /// `bio` must have been submitted to an added disk with the operations of `Self::TABLE`, and
    /// the driver must be the one to end it.
    unsafe extern "C" fn submit_bio(bio: *mut bindings::bio) {
        let Some(bio) = NonNull::new(bio) else {
            return;
        };
        // SAFETY: The caller guarantees that the disk is added and has these operations, so its
        // private data is what `add` stored. The data stays valid until all operations have
        // returned.
        let data = unsafe {
            let disk = (*(*bio.as_ptr()).bi_bdev).bd_disk;
            &*(*disk).private_data.cast::<T>()
        };
        // SAFETY: The caller guarantees that the bio was submitted to this disk and that the driver
        // ends it. Its segments are in the linear mapping, as all memory is on 64-bit machines.
        data.submit(unsafe { Bio::from_raw(bio) });
    }
}

// SAFETY: The attributes belong to the device of an added disk with a `T` as private data. They are
// removed, and their operations waited for, before the data is dropped.
unsafe impl<T: Operations> DeviceData<T> for GenDiskBuilder<T> {
    /// Returns the data of the disk with this device. C: `dev_to_disk()`.
    unsafe fn data<'a>(device: *mut bindings::device) -> &'a T {
        // SAFETY: The caller guarantees that the device is that of an added disk with operations of
        // this type. It is embedded in the disk's first partition, which leads to the disk and to
        // the private data that `add` stored.
        unsafe {
            let part = device
                .wrapping_byte_sub(core::mem::offset_of!(bindings::block_device, bd_device))
                .cast::<bindings::block_device>();
            &*(*(*part).bd_disk).private_data.cast::<T>()
        }
    }
}

impl<T: Operations> Drop for GenDiskBuilder<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this value owns the reference. A disk that was added has
        // been removed before, by `GenDisk`.
        unsafe { bindings::put_disk(self.raw.as_ptr()) };
    }
}

/// An added disk. Dropping it removes the disk, waits until all operations have returned, and drops
/// the driver's data. Sleeps. C: `struct gendisk`, `del_gendisk()`.
///
/// # Invariants
///
/// `disk` was added under `parent`, and its private data is `data`, which `Arc::into_raw` returned.
///
/// # Examples
///
/// ```
/// use kernel::{
///     block::disk::{GenDisk, Operations},
///     c_str,
///     sysfs::Dirent,
/// };
///
/// /// Returns the entry of the list of bad sectors, to wake its pollers.
/// fn badblocks_dirent<T: Operations>(disk: &GenDisk<T>) -> Option<Dirent> {
///     disk.data().badblocks()?;
///     disk.dirent(c_str!("badblocks"))
/// }
/// ```
#[doc(alias = "del_gendisk")]
pub struct GenDisk<T: Operations> {
    disk: GenDiskBuilder<T>,
    data: *const T,
    parent: ARef<Device>,
}

// SAFETY: A disk may be removed by any task, and the data is `Send`, so it may be dropped there.
unsafe impl<T: Operations> Send for GenDisk<T> {}
// SAFETY: A shared reference gives access to the data and the parent only, and both are `Sync`.
unsafe impl<T: Operations> Sync for GenDisk<T> {}

impl<T: Operations> GenDisk<T> {
    /// Returns the disk as C functions take it.
    #[inline]
    pub(crate) fn as_raw(&self) -> *mut bindings::gendisk {
        self.disk.as_raw()
    }

    /// Returns the device under which the disk was added.
    #[inline]
    pub fn parent(&self) -> &Device {
        &self.parent
    }

    /// Returns the driver's data.
    #[inline]
    pub fn data(&self) -> &T {
        // SAFETY: By the type invariants the pointer came from `Arc::into_raw`, and that reference
        // is dropped only with `self`.
        unsafe { &*self.data }
    }

    /// Returns the sysfs entry of an attribute of the disk, to notify its pollers. C:
    /// `sysfs_get_dirent()`.
    #[doc(alias = "sysfs_get_dirent")]
    pub fn dirent(&self, name: &CStr) -> Option<Dirent> {
        // SAFETY: By the type invariants the disk is added, so its device has a directory in sysfs
        // until `self` is dropped.
        unsafe {
            let device = addr_of!((*(*self.as_raw()).part0).bd_device);
            Dirent::get((*device).kobj.sd, name)
        }
    }
}

impl<T: Operations> Drop for GenDisk<T> {
    fn drop(&mut self) {
        let raw = self.as_raw();
        // SAFETY: By the type invariants the disk is added. When `del_gendisk()` returns, no
        // operation runs any more, so nothing uses the list of bad sectors.
        unsafe {
            bindings::del_gendisk(raw);
            addr_of_mut!((*raw).bb).write(null_mut());
        }
        // SAFETY: By the type invariants the pointer came from `into_raw`. The disk was removed, so
        // no operation uses the data any more.
        drop(unsafe { Arc::from_raw(self.data) });
    }
}
