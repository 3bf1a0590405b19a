// SPDX-License-Identifier: GPL-2.0

//! Disks without request queue: the driver gets the bios as they are submitted.
//!
//! ```text
//!  GenDiskBuilder::alloc ----> GenDiskBuilder ----------- add() ----------> GenDisk
//!                     |  dropped: freed                  |  dropped: taken away, then freed
//! ```
//!
//! The data of the driver ([`Operations`]) is behind an [`Arc`] of which an added disk has one: it
//! is dropped when no operation runs any more and none can begin.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

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

/// What a disk can do. C: `BLK_FEAT_*`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// Nothing in particular.
    pub const NONE: Self = Self(0);
    /// It has a cache that has to be flushed. C: `BLK_FEAT_WRITE_CACHE`.
    #[doc(alias = "BLK_FEAT_WRITE_CACHE")]
    pub const WRITE_CACHE: Self = Self(bindings::BLK_FEAT_WRITE_CACHE);
    /// It can write through that cache. C: `BLK_FEAT_FUA`.
    #[doc(alias = "BLK_FEAT_FUA")]
    pub const FUA: Self = Self(bindings::BLK_FEAT_FUA);
    /// I/O is done when submitting returns. C: `BLK_FEAT_SYNCHRONOUS`.
    #[doc(alias = "BLK_FEAT_SYNCHRONOUS")]
    pub const SYNCHRONOUS: Self = Self(bindings::BLK_FEAT_SYNCHRONOUS);
    /// It does what it is asked for without sleeping, or says `EAGAIN`, where the bio wants that.
    /// C: `BLK_FEAT_NOWAIT`.
    #[doc(alias = "BLK_FEAT_NOWAIT")]
    pub const NOWAIT: Self = Self(bindings::BLK_FEAT_NOWAIT);
    /// Its memory can be mapped. C: `BLK_FEAT_DAX`.
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

/// What the block layer may ask of a disk. C: `struct queue_limits`.
#[doc(alias = "queue_limits")]
#[derive(Clone, Copy)]
pub struct Limits {
    /// The smallest unit that it addresses, in bytes.
    pub logical_block_size: u32,
    /// The smallest unit that it writes without reading first, in bytes.
    pub physical_block_size: u32,
    /// How many sectors at once are good for it. The block layer tells others, and does not split
    /// bios: [`Operations::submit`] may get longer ones.
    pub max_hw_sectors: u32,
    /// What it can do.
    pub features: Features,
}

/// What a disk does. C: `struct block_device_operations`.
#[doc(alias = "block_device_operations")]
pub trait Operations: Sized + Send + Sync + 'static {
    /// The module of the driver, which stays while the disk is open: `&THIS_MODULE`.
    const MODULE: &'static ThisModule;

    /// The files that the disk has in sysfs.
    type Attributes: sysfs::Group<Self>;

    /// Does what the bio asks for, and ends it. May sleep, unless the disk has
    /// [`Features::NOWAIT`] and [`Bio::is_nowait`].
    fn submit(&self, bio: Bio);

    /// The sectors that are known to be bad, which sysfs shows.
    fn badblocks(&self) -> Option<&Badblocks> {
        None
    }
}

/// A disk that is not there yet for others. Dropping it frees it.
///
/// # Invariants
///
/// The pointer is a disk from `blk_alloc_disk()` that was not added, and ours.
pub struct GenDiskBuilder<T: Operations> {
    raw: NonNull<bindings::gendisk>,
    _operations: PhantomData<fn() -> T>,
}

// SAFETY: A disk has no thread of its own.
unsafe impl<T: Operations> Send for GenDiskBuilder<T> {}

impl<T: Operations> GenDiskBuilder<T> {
    const TABLE: bindings::block_device_operations = bindings::block_device_operations {
        owner: T::MODULE.as_ptr(),
        submit_bio: Some(Self::submit_bio),
        // SAFETY: All fields are pointers or functions that may be null.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// A new disk, its memory on the node `node`. Sleeps. C: `blk_alloc_disk()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for limits that make no sense; `ENOMEM`.
    #[doc(alias = "blk_alloc_disk")]
    pub fn alloc(limits: &Limits, node: Node) -> Result<Self> {
        // SAFETY: Zero is valid for all limits, and means the default.
        let mut lim: bindings::queue_limits = unsafe { MaybeUninit::zeroed().assume_init() };
        lim.logical_block_size = limits.logical_block_size;
        lim.physical_block_size = limits.physical_block_size;
        lim.max_hw_sectors = limits.max_hw_sectors;
        lim.features = limits.features.0;
        // SAFETY: The limits are initialised, the node is one or none in particular, the lock class
        // is static.
        let disk = from_err_ptr(unsafe {
            bindings::__blk_alloc_disk(&mut lim, node.as_raw(), static_lock_class!().as_ptr())
        })?;
        let raw = NonNull::new(disk).ok_or(ENOMEM)?;
        // SAFETY: The disk is ours; the table is never freed.
        unsafe { addr_of_mut!((*raw.as_ptr()).fops).write(const { &Self::TABLE }) };
        // INVARIANT: Just allocated.
        Ok(Self {
            raw,
            _operations: PhantomData,
        })
    }

    /// How many bytes it has; what is less than a sector is left out. C: `set_capacity()`.
    pub fn set_capacity(&mut self, bytes: u64) {
        // SAFETY: By the invariant the disk is valid.
        unsafe { bindings::set_capacity(self.raw.as_ptr(), bytes / SECTOR_SIZE) };
    }

    /// Lets nobody write to it, once it is added. C: `set_disk_ro()`.
    #[doc(alias = "set_disk_ro")]
    pub fn set_read_only(&mut self) {
        // SAFETY: By the invariant the disk is valid and ours.
        unsafe { bindings::set_disk_ro(self.raw.as_ptr(), true) };
    }

    /// Where its name goes: `DISK_NAME_LEN` bytes.
    #[inline]
    pub(crate) fn name_buffer(&mut self) -> *mut c_char {
        // SAFETY: By the invariant the disk is valid and ours.
        unsafe { addr_of_mut!((*self.raw.as_ptr()).disk_name) }.cast()
    }

    /// What C code takes.
    #[inline]
    pub(crate) fn as_raw(&self) -> *mut bindings::gendisk {
        self.raw.as_ptr()
    }

    /// Shows the disk to everybody, as a child of `parent`: partitions are scanned, and bios come
    /// in before this returns. Sleeps. C: `device_add_disk()`.
    ///
    /// # Errors
    ///
    /// What the driver core answers; the disk is freed then.
    #[doc(alias = "device_add_disk")]
    pub fn add(self, parent: &Device, data: Arc<T>) -> Result<GenDisk<T>> {
        let raw = self.raw.as_ptr();
        let bad = data.badblocks().map_or(null_mut(), |bad| bad.as_raw());
        let data = Arc::into_raw(data);
        // SAFETY: By the invariant the disk is valid and not shared. The data, its list of bad
        // blocks included, is given back when the disk is gone only. The groups are never freed.
        let added = to_result(unsafe {
            addr_of_mut!((*raw).private_data).write(data.cast_mut().cast());
            addr_of_mut!((*raw).bb).write(bad);
            bindings::device_add_disk(
                parent.as_raw(),
                raw,
                const { sysfs::groups::<Self, T, T::Attributes>() },
            )
        });
        if let Err(error) = added {
            // SAFETY: The disk is not shared, so nobody has the data.
            drop(unsafe { Arc::from_raw(data) });
            return Err(error);
        }
        // INVARIANT: Just added.
        Ok(GenDisk {
            disk: self,
            data,
            parent: parent.into(),
        })
    }

    /// # Safety
    ///
    /// `bio` was submitted to a disk of this type, which is added.
    unsafe extern "C" fn submit_bio(bio: *mut bindings::bio) {
        let Some(bio) = NonNull::new(bio) else {
            return;
        };
        // SAFETY: The disk is added, so its private data is what `add` has put there, and stays
        // until there are no operations any more.
        let data = unsafe {
            let disk = (*(*bio.as_ptr()).bi_bdev).bd_disk;
            &*(*disk).private_data.cast::<T>()
        };
        // SAFETY: The caller's promise: the driver is to end it. Disks of this type do not ask for
        // memory outside of the linear mapping, and there is none on 64-bit machines.
        data.submit(unsafe { Bio::from_raw(bio) });
    }
}

// SAFETY: The files belong to the device of an added disk, whose private data is a `T`; they are
// taken away before the data goes.
unsafe impl<T: Operations> DeviceData<T> for GenDiskBuilder<T> {
    unsafe fn data<'a>(device: *mut bindings::device) -> &'a T {
        // SAFETY: The device is that of the whole disk, which is in its first partition.
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
        // SAFETY: By the invariant it is ours; `GenDisk` has taken it away before.
        unsafe { bindings::put_disk(self.raw.as_ptr()) };
    }
}

/// A disk that is there. Dropping it takes it away, waits until no operation runs any more, and
/// drops the driver's data. Sleeps. C: `del_gendisk()`.
///
/// # Invariants
///
/// The disk was added under `parent`; `data` is what `Arc::into_raw` returned.
#[doc(alias = "del_gendisk")]
pub struct GenDisk<T: Operations> {
    disk: GenDiskBuilder<T>,
    data: *const T,
    parent: ARef<Device>,
}

// SAFETY: A disk has no thread of its own, and the data may be dropped anywhere.
unsafe impl<T: Operations> Send for GenDisk<T> {}
// SAFETY: A shared reference gives nothing but the data.
unsafe impl<T: Operations> Sync for GenDisk<T> {}

impl<T: Operations> GenDisk<T> {
    /// What C code takes.
    #[inline]
    pub(crate) fn as_raw(&self) -> *mut bindings::gendisk {
        self.disk.as_raw()
    }

    /// The device under which it was added.
    #[inline]
    pub fn parent(&self) -> &Device {
        &self.parent
    }

    /// The driver's data.
    #[inline]
    pub fn data(&self) -> &T {
        // SAFETY: By the invariant it is that of an `Arc` that we have.
        unsafe { &*self.data }
    }

    /// The entry in sysfs of one of its files, to tell who polls that it changed.
    pub fn dirent(&self, name: &CStr) -> Option<Dirent> {
        // SAFETY: The disk is added, so its device has a directory.
        unsafe {
            let device = addr_of!((*(*self.as_raw()).part0).bd_device);
            Dirent::find((*device).kobj.sd, name)
        }
    }
}

impl<T: Operations> Drop for GenDisk<T> {
    fn drop(&mut self) {
        let raw = self.as_raw();
        // SAFETY: By the invariant the disk was added. After this there are no operations, so
        // nobody needs the list of bad blocks any more.
        unsafe {
            bindings::del_gendisk(raw);
            addr_of_mut!((*raw).bb).write(null_mut());
        }
        // SAFETY: It came from `into_raw`, and no operation has it any more.
        drop(unsafe { Arc::from_raw(self.data) });
    }
}
