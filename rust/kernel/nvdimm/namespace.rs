// SPDX-License-Identifier: GPL-2.0

//! Namespaces, and the devices that claim one.

use super::{Context, Region};
use crate::{
    bindings,
    block::{
        badblocks::Badblocks,
        disk::{GenDiskBuilder, Operations},
    },
    dev_err,
    device::Device,
    devres::BoundDevice,
    error::{
        code::{EBUSY, EINVAL, ENODEV},
        from_err_ptr, to_result, Result,
    },
    mm::{
        device_memory::{Blueprint, Reservation},
        memremap,
        pfn::PhysRange,
    },
    page::PAGE_SIZE,
};
use core::{
    marker::PhantomData,
    ptr::{addr_of, addr_of_mut, NonNull},
};

/// What is between the start of a namespace and its data at least: 8 KiB of info blocks, in whole
/// pages. C: `nd_info_block_reserve()`.
const INFO_BLOCKS: u64 = (8_u64 << 10).next_multiple_of(PAGE_SIZE as u64);

/// What kind of device a driver binds to.
pub enum Claim<'a> {
    /// A block translation table on a namespace.
    Btt(NdBtt<'a>),
    /// A namespace with pages for DAX.
    Pfn(NdPfn<'a>),
    /// The namespace itself.
    None,
}

impl<'a> Claim<'a> {
    #[inline]
    pub(super) fn of(token: &'a BoundDevice) -> Self {
        let device = token.device().as_raw();
        // SAFETY: A valid device. The conversions are of what was just seen.
        unsafe {
            #[cfg(CONFIG_BTT)]
            if bindings::is_nd_btt(device) {
                let btt = NonNull::new(bindings::to_nd_btt(device));
                return btt.map_or(Self::None, |btt| {
                    Self::Btt(NdBtt {
                        btt,
                        _token: PhantomData,
                    })
                });
            }
            #[cfg(CONFIG_NVDIMM_PFN)]
            if bindings::is_nd_pfn(device) {
                let pfn = NonNull::new(bindings::to_nd_pfn(device));
                return pfn.map_or(Self::None, |pfn| {
                    Self::Pfn(NdPfn {
                        pfn,
                        _token: PhantomData,
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
/// `raw` is the namespace that the token's device is or claims; it is a `struct nd_namespace_io`.
#[doc(alias = "nd_namespace_common")]
pub struct Namespace<'a> {
    raw: NonNull<bindings::nd_namespace_common>,
    token: &'a BoundDevice,
}

impl<'a> Context<'a> {
    /// The namespace behind the device, if it may be used. Sleeps. C:
    /// `nvdimm_namespace_common_probe()`.
    ///
    /// # Errors
    ///
    /// `ENXIO` if it is claimed by another, `EBUSY` if it is in use without being claimed, or
    /// somebody has pages of it since before (then the log says so), `EACCES` if it is locked,
    /// `ENODEV` if it is too small, has no name or there is none, `EOPNOTSUPP` if it is not aligned
    /// to be mapped.
    #[doc(alias = "nvdimm_namespace_common_probe")]
    #[inline]
    pub fn namespace(&self) -> Result<Namespace<'a>> {
        // SAFETY: A device of the bus, under its lock.
        let raw = from_err_ptr(unsafe { bindings::nvdimm_namespace_common_probe(self.as_raw()) })?;
        // INVARIANT: As C returns it. All namespaces that are memory are `nd_namespace_io`.
        let namespace = Namespace {
            raw: NonNull::new(raw).ok_or(ENODEV)?,
            token: self.token,
        };
        namespace.require_unmapped()?;
        Ok(namespace)
    }
}

impl<'a> Namespace<'a> {
    #[inline]
    fn as_raw(&self) -> *mut bindings::nd_namespace_common {
        self.raw.as_ptr()
    }

    /// Who unbound its last driver may have been killed, while somebody had pages of it. What they
    /// write to it, a network card even, would land in what its next user stores.
    #[inline]
    fn require_unmapped(&self) -> Result {
        if self.range().is_ok_and(memremap::is_dying_in) {
            dev_err!(
                self.device(),
                "pages of it are still in use: see dev_pagemap/ranges in debugfs\n"
            );
            return Err(EBUSY);
        }
        Ok(())
    }

    /// The device of the namespace, which may be another than that of the driver.
    #[inline]
    pub fn device(&self) -> &Device {
        // SAFETY: By the invariant it is valid, and so is its device.
        unsafe { Device::as_ref(addr_of_mut!((*self.as_raw()).dev)) }
    }

    /// Its memory.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is no range.
    #[inline]
    pub fn range(&self) -> Result<PhysRange> {
        // SAFETY: By the invariant it is the first field of a `struct nd_namespace_io`.
        let (start, end) = unsafe {
            let nsio = self.as_raw().cast::<bindings::nd_namespace_io>();
            (
                addr_of!((*nsio).res.start).read(),
                addr_of!((*nsio).res.end).read(),
            )
        };
        PhysRange::new(start, end).ok_or(EINVAL)
    }

    /// Reserves its memory for the driver. Sleeps. C: `devm_request_mem_region()`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody else has it, which is in the log then; `EINVAL` if it is no range;
    /// `ENOMEM`.
    #[doc(alias = "devm_request_mem_region")]
    #[inline]
    pub fn reserve(&self) -> Result<Reservation> {
        let range = self.range()?;
        // SAFETY: By the invariant it is the memory that the token's device is or claims. We come
        // from a context, so the device's lock is held until the driver's function returns. The
        // value is not `Send`, and so cannot be among what the driver keeps.
        unsafe { Reservation::new(self.token, range, self.device()) }
    }

    /// The size of its sectors, in bytes: 512 or 4096. C: `pmem_sector_size()`.
    #[doc(alias = "pmem_sector_size")]
    #[inline]
    pub fn sector_size(&self) -> u32 {
        // SAFETY: By the invariant it is valid.
        unsafe { bindings::pmem_sector_size(self.as_raw()) }
    }

    /// Gives a disk its name: `pmem<region>[.<namespace>]`. C: `nvdimm_namespace_disk_name()`.
    #[doc(alias = "nvdimm_namespace_disk_name")]
    #[inline]
    pub fn name_disk<T: Operations>(&self, disk: &mut GenDiskBuilder<T>) {
        // SAFETY: By the invariant it is valid; two numbers fit into the name of a disk.
        unsafe { bindings::nvdimm_namespace_disk_name(self.as_raw(), disk.name_buffer()) };
    }

    /// Makes the info blocks accessible until the value is dropped. Sleeps. C:
    /// `devm_namespace_enable()`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the memory is reserved by another; `ENXIO`, `ENOMEM`.
    #[doc(alias = "devm_namespace_enable")]
    #[inline]
    pub fn enable(&self) -> Result<EnabledNamespace<'_>> {
        // SAFETY: By the invariant both are valid, and the device is bound.
        to_result(unsafe {
            bindings::devm_namespace_enable(
                self.token.device().as_raw(),
                self.as_raw(),
                INFO_BLOCKS,
            )
        })?;
        // INVARIANT: Just enabled.
        Ok(EnabledNamespace { namespace: self })
    }

    /// Makes a disk of sectors that are written all or not at all. Sleeps. C:
    /// `nvdimm_namespace_attach_btt()`.
    ///
    /// # Errors
    ///
    /// `ENODEV` if it was not set up; `ENXIO` if it is too small; `ENOMEM`.
    #[doc(alias = "nvdimm_namespace_attach_btt")]
    #[inline]
    pub fn attach_btt(&self, claim: &NdBtt<'a>) -> Result<Btt> {
        // SAFETY: By the invariant it is claimed by the token's device, which is that BTT.
        to_result(unsafe { bindings::nvdimm_namespace_attach_btt(self.as_raw()) })?;
        // INVARIANT: Just attached.
        Ok(Btt {
            btt: claim.btt,
            token: self.token.clone(),
        })
    }
}

/// A namespace whose info blocks can be read and written. Dropping it ends that.
///
/// # Invariants
///
/// The namespace is enabled for the device of its token.
pub struct EnabledNamespace<'a> {
    namespace: &'a Namespace<'a>,
}

/// One of the C functions that look for an info block.
type Probe = unsafe extern "C" fn(
    *mut bindings::device,
    *mut bindings::nd_namespace_common,
) -> crate::ffi::c_int;

impl EnabledNamespace<'_> {
    #[inline]
    fn probe(&self, probe: Probe) -> Result {
        let namespace = self.namespace;
        // SAFETY: By the invariant it is enabled for the device.
        to_result(unsafe { probe(namespace.token.device().as_raw(), namespace.as_raw()) })
    }

    /// Whether a BTT has claimed the namespace, which then goes to that. Sleeps. C:
    /// `nd_btt_probe()`.
    #[doc(alias = "nd_btt_probe")]
    #[inline]
    pub fn probe_btt(&self) -> Result {
        #[cfg(CONFIG_BTT)]
        return self.probe(bindings::nd_btt_probe);
        #[cfg(not(CONFIG_BTT))]
        Err(ENODEV)
    }

    /// The same for pages. `EOPNOTSUPP` is a claim that cannot be met. C: `nd_pfn_probe()`.
    #[doc(alias = "nd_pfn_probe")]
    #[inline]
    pub fn probe_pfn(&self) -> Result {
        #[cfg(CONFIG_NVDIMM_PFN)]
        return self.probe(bindings::nd_pfn_probe);
        #[cfg(not(CONFIG_NVDIMM_PFN))]
        Err(ENODEV)
    }

    /// The same for device-dax. `EOPNOTSUPP` is a claim that cannot be met. C: `nd_dax_probe()`.
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
        // SAFETY: By the invariant it is enabled for that device.
        unsafe {
            bindings::devm_namespace_disable(
                self.namespace.token.device().as_raw(),
                self.namespace.as_raw(),
            )
        };
    }
}

/// A device that gives a namespace pages. C: `struct nd_pfn`.
///
/// # Invariants
///
/// `pfn` is the token's device.
#[doc(alias = "nd_pfn")]
pub struct NdPfn<'a> {
    pfn: NonNull<bindings::nd_pfn>,
    _token: PhantomData<&'a BoundDevice>,
}

/// What the info block says about where the data is. It comes from the medium: any value is
/// possible.
#[derive(Clone, Copy, Debug)]
pub struct InfoBlock {
    /// The first byte of the data, from the start of the range with pages on.
    pub data_offset: u64,
}

impl NdPfn<'_> {
    /// Reads the info block, or writes a new one, and plans the pages that it asks for. Sleeps. C:
    /// `nvdimm_setup_pfn()`.
    ///
    /// The namespace is enabled no more after it.
    ///
    /// # Errors
    ///
    /// `ENODEV` if it was not set up; `EINVAL`, `ENXIO` and others for an info block that cannot be
    /// used.
    #[doc(alias = "nvdimm_setup_pfn")]
    #[inline]
    pub fn set_up(&self, enabled: EnabledNamespace<'_>) -> Result<(Blueprint, InfoBlock)> {
        // A fresh one: C leaves the altmap alone where the device has none.
        let blueprint = Blueprint::new()?;
        #[cfg(CONFIG_ND_CLAIM)]
        {
            // SAFETY: By the invariant the device is valid and bound, and its namespace is enabled;
            // the pgmap is ours and not mapped.
            let result = to_result(unsafe {
                bindings::nvdimm_setup_pfn(self.pfn.as_ptr(), blueprint.as_raw())
            });
            if let Err(error) = result {
                // C disables the namespace on its way, and may fail before it is enabled again. What
                // is left goes when the device is not bound.
                core::mem::forget(enabled);
                return Err(error);
            }
            drop(enabled);
            // SAFETY: By the invariant the device is valid, and now there is an info block.
            let data_offset = unsafe {
                let block = addr_of!((*self.pfn.as_ptr()).pfn_sb).read();
                addr_of!((*block).dataoff).read_unaligned()
            };
            let block = InfoBlock {
                data_offset: u64::from_le(data_offset),
            };
            Ok((blueprint, block))
        }
        #[cfg(not(CONFIG_ND_CLAIM))]
        {
            let _ = (self.pfn, enabled, blueprint);
            Err(crate::error::code::ENXIO)
        }
    }
}

/// A device that makes a BTT of a namespace, before that was done.
pub struct NdBtt<'a> {
    btt: NonNull<bindings::nd_btt>,
    _token: PhantomData<&'a BoundDevice>,
}

/// The disk of a block translation table. Dropping it takes the disk away (sleeps). C: `struct
/// nd_btt`.
///
/// # Invariants
///
/// `btt` is the token's device, and attached.
#[doc(alias = "nd_btt")]
pub struct Btt {
    btt: NonNull<bindings::nd_btt>,
    token: BoundDevice,
}

// SAFETY: A BTT has no thread of its own.
unsafe impl Send for Btt {}
// SAFETY: What a shared reference does is done under the device's lock.
unsafe impl Sync for Btt {}

impl Btt {
    /// Asks anew which sectors are bad. Sleeps.
    #[inline]
    pub fn revalidate_poison(&self) {
        // SAFETY: By the invariant it is attached, so it has a namespace, which is the first field
        // of a `struct nd_namespace_io` with an initialised list.
        unsafe {
            let nsio = addr_of!((*self.btt.as_ptr()).ndns)
                .read()
                .cast::<bindings::nd_namespace_io>();
            let range = PhysRange::new((*nsio).res.start, (*nsio).res.end);
            if let Some(range) = range {
                let bad = Badblocks::from_raw(addr_of_mut!((*nsio).bb));
                Region::of(&self.token).populate(bad, range);
            }
        }
    }

    /// Makes its disk read-only or writable, as the region is. May sleep.
    #[inline]
    pub fn check_and_set_read_only(&self) {
        // SAFETY: By the invariant it is attached, so it has a disk.
        unsafe { bindings::nvdimm_check_and_set_ro((*(*self.btt.as_ptr()).btt).btt_disk) };
    }
}

impl Drop for Btt {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the invariant it is attached.
        unsafe { bindings::nvdimm_namespace_detach_btt(self.btt.as_ptr()) };
    }
}
