// SPDX-License-Identifier: GPL-2.0

//! Attributes of devices in sysfs.
//!
//! An attribute is a type that implements [`Attribute`] for the driver's data of the device. It
//! lies in a directory of its own, and may be hidden. The structures that C needs are built at
//! compile time.
//!
//! The unsafe code here encapsulates the calls from C: from the device to the driver's data, and
//! from a buffer of one page to a [`Buffer`].
//!
//! C header: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)

use crate::{
    bindings, cstr,
    error::{code::EIO, from_result, to_result, Result},
    ffi::{c_char, c_int, c_void},
    str::CStr,
};
use core::{
    fmt,
    marker::PhantomData,
    mem::{offset_of, MaybeUninit},
    ptr::{null, null_mut, NonNull},
};

/// A type of device whose driver has data of type `T`.
///
/// # Safety
///
/// [`DeviceData::data`] must return a reference that is valid as long as attributes of the device
/// are being read or written.
pub(crate) unsafe trait DeviceData<T>: 'static {
    /// Returns the driver's data of `device`.
    ///
    /// # Safety
    ///
    /// `device` must be a device of this type whose attributes exist, and continue to exist for
    /// `'a`.
    unsafe fn data<'a>(device: *mut bindings::device) -> &'a T;
}

/// The output of an attribute that is being read: a page. C: `sysfs_emit()`.
///
/// It is written to with `write!`. Text that does not fit is cut off.
#[doc(alias = "sysfs_emit")]
pub struct Buffer {
    start: *mut c_char,
    len: usize,
}

impl fmt::Write for Buffer {
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> fmt::Result {
        // SAFETY: `start` is the page that sysfs has passed for the output, and C checks `len`
        // against its end. `%pA` takes a pointer to `fmt::Arguments`, which is valid for the call.
        let added = unsafe {
            bindings::sysfs_emit_at(
                self.start,
                self.len as c_int,
                c"%pA".as_ptr().cast(),
                (&raw const text).cast::<c_void>(),
            )
        };
        self.len = self.len.saturating_add(usize::try_from(added).unwrap_or(0));
        Ok(())
    }

    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_fmt(format_args!("{text}"))
    }
}

/// An attribute of a device with driver's data of type `T`: a file in sysfs.
///
/// # Examples
///
/// ```
/// use core::{
///     fmt::Write,
///     sync::atomic::{AtomicBool, Ordering},
/// };
/// use kernel::{c_str, sysfs};
///
/// struct Disk {
///     write_cache: AtomicBool,
/// }
///
/// /// `dax/write_cache`.
/// struct WriteCache;
///
/// impl sysfs::Attribute<Disk> for WriteCache {
///     const GROUP: &'static CStr = c_str!("dax");
///     const NAME: &'static CStr = c_str!("write_cache");
///
///     fn show(disk: &Disk, buffer: &mut sysfs::Buffer) -> Result {
///         let enabled = disk.write_cache.load(Ordering::Relaxed);
///         writeln!(buffer, "{}", u8::from(enabled)).map_err(Error::from)
///     }
///
///     fn store(disk: &Disk, text: &CStr) -> Result {
///         let enabled = sysfs::kstrtobool(text)?;
///         disk.write_cache.store(enabled, Ordering::Relaxed);
///         Ok(())
///     }
/// }
/// ```
#[doc(alias = "device_attribute")]
pub trait Attribute<T>: 'static {
    /// The name of the directory that the attribute lies in, below that of the device. C: `name` of
    /// `struct attribute_group`.
    ///
    /// The attribute is the only one in it: no driver has needed more so far.
    const GROUP: &'static CStr;
    /// The name of the file.
    const NAME: &'static CStr;
    /// The permissions of the file.
    const MODE: u16 = 0o644;

    /// Returns whether the directory and the file exist.
    fn is_visible(_data: &T) -> bool {
        true
    }

    /// Writes the content of the file to `buffer`. May sleep.
    fn show(data: &T, buffer: &mut Buffer) -> Result;

    /// Sets the attribute to what was written to the file. May sleep.
    ///
    /// An attribute without write permission does not implement it.
    fn store(_data: &T, _text: &CStr) -> Result {
        Err(EIO)
    }
}

/// The C structures for attribute `A` of devices `D` with data `T`.
struct Tables<D, T, A>(PhantomData<(D, T, A)>);

impl<D: DeviceData<T>, T: 'static, A: Attribute<T>> Tables<D, T, A> {
    #[cfg_attr(
        not(CONFIG_DEBUG_LOCK_ALLOC),
        expect(clippy::needless_update, reason = "there is more with lockdep")
    )]
    const FILE: &'static bindings::device_attribute = &bindings::device_attribute {
        attr: bindings::attribute {
            name: A::NAME.as_char_ptr(),
            mode: A::MODE,
            // SAFETY: The other fields are pointers and, with lockdep, a key; for both zeroes are
            // valid.
            ..unsafe { MaybeUninit::zeroed().assume_init() }
        },
        show: Some(Self::show),
        store: if A::MODE & 0o222 != 0 {
            Some(Self::store)
        } else {
            None
        },
    };

    const FILES: &'static [*const bindings::attribute; 2] = &[&raw const Self::FILE.attr, null()];

    const GROUP: &'static bindings::attribute_group = &bindings::attribute_group {
        name: A::GROUP.as_char_ptr(),
        is_visible: Some(Self::is_visible),
        attrs: Self::FILES.as_ptr().cast_mut().cast(),
        // SAFETY: The other fields are pointers and functions that may be null.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    const GROUPS: &'static [*const bindings::attribute_group; 2] = &[Self::GROUP, null()];

    /// Reads the attribute.
    ///
    /// # Safety
    ///
    /// `device` must be a `D`, which has its attributes for the call, and `buffer` an empty page.
    unsafe extern "C" fn show(
        device: *mut bindings::device,
        _attr: *mut bindings::device_attribute,
        buffer: *mut c_char,
    ) -> isize {
        // SAFETY: The caller promises a `D` that has its attributes for the call.
        let data = unsafe { D::data(device) };
        let mut buffer = Buffer {
            start: buffer,
            len: 0,
        };
        from_result(|| {
            A::show(data, &mut buffer)?;
            Ok(buffer.len as isize)
        })
    }

    /// Writes the attribute.
    ///
    /// # Safety
    ///
    /// `device` must be a `D`, which has its attributes for the call, and `buffer` a string of
    /// `len` bytes with a NUL behind them.
    unsafe extern "C" fn store(
        device: *mut bindings::device,
        _attr: *mut bindings::device_attribute,
        buffer: *const c_char,
        len: usize,
    ) -> isize {
        // SAFETY: The caller promises a `D` that has its attributes for the call, and a string that
        // ends with a NUL and does not change during the call.
        let (data, text) = unsafe { (D::data(device), cstr::from_char_ptr(buffer)) };
        from_result(|| {
            A::store(data, text)?;
            Ok(len as isize)
        })
    }

    /// Returns the permissions of the attribute, or 0 to hide it.
    ///
    /// # Safety
    ///
    /// `object` must be the kobject in a `D` whose attributes are being created, and `attr` must be
    /// in `FILES`.
    unsafe extern "C" fn is_visible(
        object: *mut bindings::kobject,
        attr: *mut bindings::attribute,
        _index: c_int,
    ) -> bindings::umode_t {
        let device = object
            .wrapping_byte_sub(offset_of!(bindings::device, kobj))
            .cast::<bindings::device>();
        // SAFETY: The caller promises that the object is in a `D`, so `device` points to that.
        if A::is_visible(unsafe { D::data(device) }) {
            // SAFETY: The caller promises that the attribute is in `FILES`, which is a constant.
            unsafe { (*attr).mode }
        } else {
            0
        }
    }
}

/// Returns the list of attribute groups for devices `D` with data `T`, which holds the group of
/// `A`.
pub(crate) const fn groups<D: DeviceData<T>, T: 'static, A: Attribute<T>>(
) -> *mut *const bindings::attribute_group {
    Tables::<D, T, A>::GROUPS.as_ptr().cast_mut()
}

/// Parses a boolean as sysfs and module parameters do: `1`, `y`, `on` etc. C: `kstrtobool()`.
///
/// # Errors
///
/// Returns `EINVAL` for any other text.
///
/// # Examples
///
/// ```
/// use kernel::{c_str, sysfs::kstrtobool};
///
/// assert!(kstrtobool(c_str!("on\n"))?);
/// assert!(!kstrtobool(c_str!("0"))?);
/// assert!(kstrtobool(c_str!("perhaps")).is_err());
/// # Ok::<(), Error>(())
/// ```
pub fn kstrtobool(text: &CStr) -> Result<bool> {
    let mut value = false;
    // SAFETY: `text` is a string that ends with a NUL, and `value` is valid for writes.
    to_result(unsafe { bindings::kstrtobool(text.as_char_ptr(), &mut value) })?;
    Ok(value)
}

/// A file in sysfs, for notifying tasks that poll it. C: `struct kernfs_node`.
///
/// # Invariants
///
/// The value owns a reference to the node.
#[doc(alias = "kernfs_node")]
pub struct Dirent(NonNull<bindings::kernfs_node>);

// SAFETY: The reference count of a node is atomic, so the last reference may be put by any thread.
unsafe impl Send for Dirent {}
// SAFETY: `notify`, the only method, may be called from several threads at once: kernfs does its
// own locking.
unsafe impl Sync for Dirent {}

impl Dirent {
    /// Looks up the file `name` in a directory. Sleeps. C: `sysfs_get_dirent()`.
    ///
    /// # Safety
    ///
    /// `dir` must be null, or point to a directory that is valid for the call.
    #[doc(alias = "sysfs_get_dirent")]
    pub(crate) unsafe fn get(dir: *mut bindings::kernfs_node, name: &CStr) -> Option<Self> {
        if dir.is_null() {
            return None;
        }
        // SAFETY: The caller promises that `dir`, which is not null, points to a directory, and the
        // name is a string that ends with a NUL.
        let node = unsafe { bindings::kernfs_find_and_get_ns(dir, name.as_char_ptr(), null_mut()) };
        // INVARIANT: The function has taken a reference for the caller.
        NonNull::new(node).map(Self)
    }

    /// Wakes tasks that poll the file. Any context. C: `sysfs_notify_dirent()`.
    #[doc(alias = "sysfs_notify_dirent")]
    pub fn notify(&self) {
        // SAFETY: By the type invariants there is a reference, so the node is valid.
        unsafe { bindings::kernfs_notify(self.0.as_ptr()) };
    }
}

impl Drop for Dirent {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the value owns a reference, which ends here.
        unsafe { bindings::kernfs_put(self.0.as_ptr()) };
    }
}
