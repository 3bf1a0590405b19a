// SPDX-License-Identifier: GPL-2.0

//! Namespaces, and the devices that claim one.
//!
//! ```text
//!  Context::namespace() --> Namespace -- enable() --> EnabledNamespace -- probe_btt(), probe_pfn() ..
//!  Context::claim() ------> NdPfn ---------------------- set_up() --> params, InfoBlock
//!           \------------> NdBtt -- Namespace::attach_btt() --> Btt
//!  Namespace::reserve() --> Reservation, for DeviceMemory
//! ```
//!
//! This file encapsulates which calls of libnvdimm need a claimed, an enabled or an attached
//! namespace: there is a type for each.

use super::{Context, Region};
use crate::{
    bindings,
    block::{
        badblocks::Badblocks,
        disk::{GenDiskBuilder, Operations},
    },
    device::Device,
    devres::BoundDevice,
    error::{
        code::{EBUSY, EINVAL, ENODEV},
        from_err_ptr, to_result, Result,
    },
    mm::{
        device_memory::{PgmapParams, Reservation},
        pfn::PhysRange,
    },
    page::PAGE_SIZE,
};
use core::{
    marker::PhantomData,
    ptr::{addr_of, addr_of_mut, NonNull},
};

/// The least distance between the start of a namespace and its data, in bytes: 8 KiB of info
/// blocks, rounded up to whole pages. C: `nd_info_block_reserve()`.
pub(super) const INFO_BLOCK_RESERVE: u64 = (8_u64 << 10).next_multiple_of(PAGE_SIZE as u64);

/// The claim of a device on a namespace. C: `enum nvdimm_claim_class`.
#[doc(alias = "nvdimm_claim_class")]
pub enum Claim<'a> {
    /// The device makes a block translation table of a namespace.
    Btt(NdBtt<'a>),
    /// The device gives a namespace pages, for filesystem DAX.
    Pfn(NdPfn<'a>),
    /// The device is the namespace itself.
    None,
}

impl<'a> Claim<'a> {
    /// Returns the claim of a bound device. C: `is_nd_btt()`, `is_nd_pfn()`.
    #[inline]
    pub(super) fn of(bound: &'a BoundDevice) -> Self {
        let device = bound.as_raw();
        // SAFETY: The device is valid, and each conversion comes after the check of its type.
        unsafe {
            #[cfg(CONFIG_BTT)]
            if bindings::is_nd_btt(device) {
                let btt = NonNull::new(bindings::to_nd_btt(device));
                return btt.map_or(Self::None, |btt| {
                    // INVARIANT: The BTT is the bound device.
                    Self::Btt(NdBtt {
                        btt,
                        _bound: PhantomData,
                    })
                });
            }
            #[cfg(CONFIG_NVDIMM_PFN)]
            if bindings::is_nd_pfn(device) {
                let pfn = NonNull::new(bindings::to_nd_pfn(device));
                return pfn.map_or(Self::None, |pfn| {
                    // INVARIANT: The pfn device is the bound device.
                    Self::Pfn(NdPfn {
                        pfn,
                        _bound: PhantomData,
                    })
                });
            }
        }
        let _ = device;
        Self::None
    }
}

/// A namespace that a driver may use. C: `struct nd_namespace_common`.
///
/// # Invariants
///
/// `raw` is the namespace that the bound device is or claims, and is a `struct nd_namespace_io`.
/// The lock of the bound device is held.
///
/// # Examples
///
/// ```
/// use kernel::{
///     block::disk::{GenDiskBuilder, Limits, Operations},
///     nvdimm::{Context, Namespace},
/// };
///
/// /// Allocates a disk for a namespace: name, size and sectors are those of the namespace.
/// fn alloc_disk<T: Operations>(
///     context: &Context<'_>,
///     namespace: &Namespace<'_>,
///     limits: Limits,
/// ) -> Result<GenDiskBuilder<T>> {
///     let limits = Limits { logical_block_size: namespace.sector_size(), ..limits };
///     let mut disk = GenDiskBuilder::alloc(&limits, context.node())?;
///     namespace.name_disk(&mut disk);
///     disk.set_capacity(namespace.range()?.len());
///     Ok(disk)
/// }
/// ```
#[doc(alias = "nd_namespace_common")]
pub struct Namespace<'a> {
    raw: NonNull<bindings::nd_namespace_common>,
    bound: &'a BoundDevice,
}

impl<'a> Context<'a> {
    /// Returns the namespace behind the device, if the driver may use it. Sleeps.
    ///
    /// C: `nvdimm_namespace_common_probe()`.
    ///
    /// # Errors
    ///
    /// `ENXIO` if another device claims the namespace; `EBUSY` if it is in use without a claim;
    /// `EACCES` if it is locked; `ENODEV` if it is too small, has no name or does not exist;
    /// `EOPNOTSUPP` if it is not aligned for mapping.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::nvdimm::Context;
    ///
    /// /// Returns the size of the namespace behind a device, in bytes.
    /// fn size(context: &Context<'_>) -> Result<u64> {
    ///     Ok(context.namespace()?.range()?.len())
    /// }
    /// ```
    #[doc(alias = "nvdimm_namespace_common_probe")]
    #[inline]
    pub fn namespace(&self) -> Result<Namespace<'a>> {
        // SAFETY: By the invariants of the context the device is on the nvdimm bus, is a namespace
        // or claims one, and its lock is held.
        let raw = from_err_ptr(unsafe { bindings::nvdimm_namespace_common_probe(self.as_raw()) })?;
        // INVARIANT: The function returns the namespace that the device is or claims. All
        // namespaces of memory are a `struct nd_namespace_io`, and the context has the lock for
        // `'a`.
        Ok(Namespace {
            raw: NonNull::new(raw).ok_or(ENODEV)?,
            bound: self.bound,
        })
    }
}

impl<'a> Namespace<'a> {
    /// Returns the namespace as C functions take it.
    #[inline]
    pub(super) fn as_raw(&self) -> *mut bindings::nd_namespace_common {
        self.raw.as_ptr()
    }

    /// Returns the device of the namespace, which is not the driver's device if that claims the
    /// namespace.
    #[inline]
    pub fn device(&self) -> &Device {
        // SAFETY: By the type invariants the namespace is valid, and the device is part of it, so
        // it stays valid as long.
        unsafe { Device::as_ref(addr_of_mut!((*self.as_raw()).dev)) }
    }

    /// Returns the physical range of the namespace. C: `nsio->res`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the resource is not a valid range.
    #[inline]
    pub fn range(&self) -> Result<PhysRange> {
        // SAFETY: By the type invariants `raw` is the first field of a `struct nd_namespace_io`.
        // Its resource does not change while a driver is bound.
        let (start, end) = unsafe {
            let nsio = self.as_raw().cast::<bindings::nd_namespace_io>();
            (
                addr_of!((*nsio).res.start).read(),
                addr_of!((*nsio).res.end).read(),
            )
        };
        PhysRange::new(start, end).ok_or(EINVAL)
    }

    /// Returns the UUID of the namespace, which is zero if it has no label, or `None` if it is of no
    /// known type. Any context. C: `nd_dev_to_uuid()`.
    #[doc(alias = "nd_dev_to_uuid")]
    #[inline]
    pub fn uuid(&self) -> Option<[u8; 16]> {
        // SAFETY: By the type invariants the namespace is valid, so its device is. The UUID that the
        // function returns does not change while a driver is bound, and the lock is held.
        unsafe { bindings::nd_dev_to_uuid(self.device().as_raw()).as_ref() }.map(|uuid| uuid.b)
    }

    /// Returns whether the administrator wants a raw disk, whatever info block there is. Any
    /// context. C: `force_raw`.
    #[inline]
    pub fn is_forced_raw(&self) -> bool {
        // SAFETY: By the type invariants the namespace is valid. The field changes with the lock of
        // its device held only.
        unsafe { addr_of!((*self.as_raw()).force_raw).read() != 0 }
    }

    /// Reserves the memory of the namespace for the driver. Sleeps. C: `devm_request_mem_region()`.
    ///
    /// # Errors
    ///
    /// `EBUSY`, which is logged, if the range is reserved already or pages of an earlier use are
    /// still referenced; `EINVAL` if the namespace has no valid range; `ENOMEM`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{mm::device_memory::DeviceMemory, nvdimm::Context};
    ///
    /// /// Reserves and maps the namespace behind a device, without pages.
    /// fn map(context: &Context<'_>) -> Result<DeviceMemory<()>> {
    ///     DeviceMemory::map(context.namespace()?.reserve()?)
    /// }
    /// ```
    #[doc(alias = "devm_request_mem_region")]
    #[inline]
    pub fn reserve(&self) -> Result<Reservation> {
        let range = self.range()?;
        // SAFETY: By the type invariants the range is the memory that the bound device is or
        // claims, and the device's lock is held until the driver's function returns. A
        // `Reservation` is not `Send`, so it cannot be part of the data that the driver keeps after
        // that.
        unsafe { Reservation::new(self.bound, range, self.device()) }
    }

    /// Returns the size of the sectors, in bytes: 512 or 4096. C: `pmem_sector_size()`.
    #[doc(alias = "pmem_sector_size")]
    #[inline]
    pub fn sector_size(&self) -> u32 {
        // SAFETY: By the type invariants the namespace is valid.
        unsafe { bindings::pmem_sector_size(self.as_raw()) }
    }

    /// Sets the name of a disk to `pmem<region>[.<namespace>]`. C: `nvdimm_namespace_disk_name()`.
    #[doc(alias = "nvdimm_namespace_disk_name")]
    #[inline]
    pub fn name_disk<T: Operations>(&self, disk: &mut GenDiskBuilder<T>) {
        // SAFETY: By the type invariants the namespace is valid. The buffer has `DISK_NAME_LEN`
        // bytes and is borrowed exclusively; a name with two numbers fits.
        unsafe { bindings::nvdimm_namespace_disk_name(self.as_raw(), disk.name_buffer()) };
    }

    /// Makes the info blocks accessible until the returned value is dropped. Sleeps.
    ///
    /// C: `devm_namespace_enable()`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the memory is reserved already, or pages of an earlier use are still referenced;
    /// `ENXIO` if it cannot be mapped; `ENOMEM`.
    #[doc(alias = "devm_namespace_enable")]
    #[inline]
    pub fn enable(&self) -> Result<EnabledNamespace<'_>> {
        // SAFETY: By the type invariants both are valid, and the device is bound, so resources can
        // be added to its devres list.
        to_result(unsafe {
            bindings::devm_namespace_enable(self.bound.as_raw(), self.as_raw(), INFO_BLOCK_RESERVE)
        })?;
        // INVARIANT: The namespace was just enabled for the bound device.
        Ok(EnabledNamespace { namespace: self })
    }

    /// Makes a disk of sectors that are written atomically. Sleeps.
    ///
    /// C: `nvdimm_namespace_attach_btt()`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the BTT is attached already; `ENODEV` if it is not configured; `ENXIO` if the
    /// namespace is too small; `ENOMEM`.
    #[doc(alias = "nvdimm_namespace_attach_btt")]
    #[inline]
    pub fn attach_btt(&self, claim: &NdBtt<'a>) -> Result<Btt> {
        // C notices when it reserves the memory again, and warns in the log.
        // SAFETY: By the type invariants of `claim` the BTT is valid. Only attaching and detaching
        // change the field, both with the lock of the bound device held.
        if !unsafe { addr_of!((*claim.btt.as_ptr()).btt).read() }.is_null() {
            return Err(EBUSY);
        }
        // SAFETY: By the type invariants the bound device claims the namespace, and by those of
        // `claim` it is a BTT, so the namespace's claim is the BTT that the function looks for.
        to_result(unsafe { bindings::nvdimm_namespace_attach_btt(self.as_raw()) })?;
        // INVARIANT: The BTT of the bound device was just attached.
        Ok(Btt {
            btt: claim.btt,
            bound: self.bound.clone(),
        })
    }
}

/// A namespace with accessible info blocks. Dropping it disables the access. Sleeps.
///
/// # Invariants
///
/// The namespace is enabled for the device that the driver is bound to.
#[doc(alias = "devm_namespace_disable")]
pub struct EnabledNamespace<'a> {
    namespace: &'a Namespace<'a>,
}

/// A C function that looks for an info block of one kind.
type Probe = unsafe extern "C" fn(
    *mut bindings::device,
    *mut bindings::nd_namespace_common,
) -> crate::ffi::c_int;

impl<'a> EnabledNamespace<'a> {
    /// Returns the namespace.
    #[inline]
    pub(super) fn namespace(&self) -> &Namespace<'a> {
        self.namespace
    }

    /// Calls a C function that looks for an info block.
    #[inline]
    fn probe(&self, probe: Probe) -> Result {
        let namespace = self.namespace;
        // SAFETY: By the type invariants the namespace is enabled for the device, so the function
        // may read its info blocks.
        to_result(unsafe { probe(namespace.bound.as_raw(), namespace.as_raw()) })
    }

    /// Looks for the info block of a BTT. If there is one, a BTT device claims the namespace and is
    /// offered to drivers. Sleeps.
    ///
    /// C: `nd_btt_probe()`.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no such block, and others.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::nvdimm::Namespace;
    ///
    /// /// Fails if a BTT claims the namespace.
    /// fn require_no_btt(namespace: &Namespace<'_>) -> Result {
    ///     match namespace.enable()?.probe_btt() {
    ///         Ok(()) => Err(ENXIO),
    ///         Err(_) => Ok(()),
    ///     }
    /// }
    /// ```
    #[doc(alias = "nd_btt_probe")]
    #[inline]
    pub fn probe_btt(&self) -> Result {
        #[cfg(CONFIG_BTT)]
        return self.probe(bindings::nd_btt_probe);
        #[cfg(not(CONFIG_BTT))]
        Err(ENODEV)
    }

    /// Looks for the info block of a namespace with pages. If there is one, a pfn device claims the
    /// namespace and is offered to drivers. Sleeps.
    ///
    /// C: `nd_pfn_probe()`.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no such block; `EOPNOTSUPP` if there is one that cannot be used;
    /// others.
    #[doc(alias = "nd_pfn_probe")]
    #[inline]
    pub fn probe_pfn(&self) -> Result {
        #[cfg(CONFIG_NVDIMM_PFN)]
        return self.probe(bindings::nd_pfn_probe);
        #[cfg(not(CONFIG_NVDIMM_PFN))]
        Err(ENODEV)
    }

    /// Looks for the info block of device-dax. If there is one, a dax device claims the namespace
    /// and is offered to drivers. Sleeps.
    ///
    /// C: `nd_dax_probe()`.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no such block; `EOPNOTSUPP` if there is one that cannot be used;
    /// others.
    #[doc(alias = "nd_dax_probe")]
    #[inline]
    pub fn probe_dax(&self) -> Result {
        #[cfg(CONFIG_NVDIMM_DAX)]
        return self.probe(bindings::nd_dax_probe);
        #[cfg(not(CONFIG_NVDIMM_DAX))]
        Err(ENODEV)
    }
}

impl Drop for EnabledNamespace<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants the namespace is enabled for this device, and it is not
        // used as an enabled one after this.
        unsafe {
            bindings::devm_namespace_disable(self.namespace.bound.as_raw(), self.namespace.as_raw())
        };
    }
}

/// A device that claims a namespace and gives it pages. C: `struct nd_pfn`.
///
/// # Invariants
///
/// `pfn` is the device that the driver is bound to.
#[doc(alias = "nd_pfn")]
pub struct NdPfn<'a> {
    pfn: NonNull<bindings::nd_pfn>,
    _bound: PhantomData<&'a BoundDevice>,
}

/// The settings of a device that gives a namespace pages, as the administrator made them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PfnSettings {
    /// Whether the device has a UUID, without which it is not configured.
    pub has_uuid: bool,
    /// Where the page structures are to be: 0 for not set, 1 for ordinary memory, 2 for the
    /// namespace. C: `enum nd_pfn_mode`.
    pub mode: u32,
    /// The alignment of the data, in bytes.
    pub align: u64,
}

impl NdPfn<'_> {
    /// Returns the settings of the device. Any context.
    #[inline]
    pub fn settings(&self) -> PfnSettings {
        let pfn = self.pfn.as_ptr();
        // SAFETY: By the type invariants the device is valid and bound; its settings cannot be
        // changed while it is.
        unsafe {
            PfnSettings {
                has_uuid: !addr_of!((*pfn).uuid).read().is_null(),
                mode: addr_of!((*pfn).mode).read(),
                align: addr_of!((*pfn).align).read() as u64,
            }
        }
    }

    /// Reads the info block, or writes a new one, and returns the pages that it asks for, and the
    /// offset of the data from the start of the mapped range, in bytes. Sleeps.
    ///
    /// Both come from the medium: any value is possible. The namespace is disabled after the call. C:
    /// `nvdimm_setup_pfn()`.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the device is not configured; `EINVAL`, `ENXIO` and others for an info block
    /// that cannot be used.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::nvdimm::{Namespace, NdPfn};
    ///
    /// /// Returns the offset of the data, in bytes.
    /// fn data_offset(namespace: &Namespace<'_>, pfn: &NdPfn<'_>) -> Result<u64> {
    ///     let (_params, offset) = pfn.set_up(namespace.enable()?)?;
    ///     Ok(offset)
    /// }
    /// ```
    #[doc(alias = "nvdimm_setup_pfn")]
    #[inline]
    pub fn set_up(&self, enabled: EnabledNamespace<'_>) -> Result<(PgmapParams, u64)> {
        // New, and so zeroed: C does not write the altmap if the device has none.
        let params = PgmapParams::new()?;
        #[cfg(CONFIG_ND_CLAIM)]
        {
            // SAFETY: By the type invariants the device is valid and bound, and its namespace is
            // enabled. The pgmap is owned exclusively and not mapped yet.
            let result = to_result(unsafe {
                bindings::nvdimm_setup_pfn(self.pfn.as_ptr(), params.as_raw())
            });
            if let Err(error) = result {
                // C disables and enables the namespace in between, and may fail when it is
                // disabled. It is left as it is, then: the driver core releases the rest when the
                // probe fails.
                core::mem::forget(enabled);
                return Err(error);
            }
            drop(enabled);
            // SAFETY: By the type invariants the device is valid, and the call above has succeeded,
            // so it has an info block.
            let data_offset = unsafe {
                let block = addr_of!((*self.pfn.as_ptr()).pfn_sb).read();
                addr_of!((*block).dataoff).read_unaligned()
            };
            Ok((params, u64::from_le(data_offset)))
        }
        #[cfg(not(CONFIG_ND_CLAIM))]
        {
            let _ = (self.pfn, enabled, params);
            Err(crate::error::code::ENXIO)
        }
    }
}

/// A device that claims a namespace for a BTT, before the BTT is attached. C: `struct nd_btt`.
///
/// # Invariants
///
/// `btt` is the device that the driver is bound to.
#[doc(alias = "nd_btt")]
pub struct NdBtt<'a> {
    btt: NonNull<bindings::nd_btt>,
    _bound: PhantomData<&'a BoundDevice>,
}

/// An attached block translation table, which has a disk. Dropping it removes the disk. Sleeps. C:
/// `struct btt`.
///
/// # Invariants
///
/// `btt` is the bound device, and its BTT is attached.
///
/// # Examples
///
/// ```
/// use kernel::nvdimm::{Btt, Event};
///
/// /// Handles an event of a namespace with a BTT.
/// fn notify(btt: &Btt, event: Event) {
///     match event {
///         Event::RevalidatePoison => btt.revalidate_poison(),
///         Event::RevalidateRegion => btt.check_and_set_read_only(),
///         Event::Unknown(_) => (),
///     }
/// }
/// ```
#[doc(alias = "nvdimm_namespace_detach_btt")]
pub struct Btt {
    btt: NonNull<bindings::nd_btt>,
    bound: BoundDevice,
}

// SAFETY: A BTT is not bound to the task that attached it, so any thread may use and detach it.
unsafe impl Send for Btt {}
// SAFETY: The methods that take a shared reference read fields that are constant while the BTT is
// attached, and call functions that lock where they need to.
unsafe impl Sync for Btt {}

impl Btt {
    /// Updates the namespace's list of bad sectors from the region. Sleeps.
    ///
    /// C: `nvdimm_badblocks_populate()`.
    #[inline]
    pub fn revalidate_poison(&self) {
        // SAFETY: By the type invariants the BTT is attached, so it has a namespace, which is the
        // first field of a `struct nd_namespace_io` with an initialised list. Both stay while it is
        // attached.
        unsafe {
            let nsio = addr_of!((*self.btt.as_ptr()).ndns)
                .read()
                .cast::<bindings::nd_namespace_io>();
            let range = PhysRange::new((*nsio).res.start, (*nsio).res.end);
            if let Some(range) = range {
                let bad = Badblocks::from_raw(addr_of_mut!((*nsio).bb));
                Region::of(&self.bound).populate_badblocks(bad, range);
            }
        }
    }

    /// Makes the disk read-only or writable, as the region is. May sleep.
    ///
    /// C: `nvdimm_check_and_set_ro()`.
    #[inline]
    pub fn check_and_set_read_only(&self) {
        // SAFETY: By the type invariants the BTT is attached, so it has a disk, and the parent of
        // that is below a region.
        unsafe { bindings::nvdimm_check_and_set_ro((*(*self.btt.as_ptr()).btt).btt_disk) };
    }
}

impl Drop for Btt {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants the BTT is attached, and it is not used after this.
        unsafe { bindings::nvdimm_namespace_detach_btt(self.btt.as_ptr()) };
    }
}
