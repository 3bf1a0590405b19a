// SPDX-License-Identifier: GPL-2.0

//! Files in sysfs that belong to a device.
//!
//! A file is a type that implements [`Attribute`] for the data of the device; a [`Group`] is a
//! folder of them, each of which may be hidden. The tables that C wants are made at compile time.
//!
//! C header: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)

use crate::{
    bindings, cstr,
    error::{from_result, to_result, Result},
    ffi::{c_char, c_int, c_void},
    str::CStr,
};
use core::{
    fmt,
    marker::PhantomData,
    mem::{offset_of, MaybeUninit},
    ptr::{null, null_mut, NonNull},
};

/// How the data of a driver is found from the device.
///
/// # Safety
///
/// [`DeviceData::data`] returns the data of the device, valid for as long as files of the device
/// are being read or written.
pub unsafe trait DeviceData<T>: 'static {
    /// The data of `device`.
    ///
    /// # Safety
    ///
    /// `device` is one that this type was made for, and has its files now.
    unsafe fn data<'a>(device: *mut bindings::device) -> &'a T;
}

/// Where the text of a file goes: a page. C: `sysfs_emit()`.
#[doc(alias = "sysfs_emit")]
pub struct Page {
    start: *mut c_char,
    len: usize,
}

impl fmt::Write for Page {
    /// Appends; what does not fit is cut off.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> fmt::Result {
        // SAFETY: The buffer is the page that sysfs gave us, and `%pA` takes `fmt::Arguments`.
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

/// A file that can be read and written.
pub trait Attribute<T>: 'static {
    /// Its name.
    const NAME: &'static CStr;
    /// Who may do what with it.
    const MODE: u16 = 0o644;

    /// Writes all of its content. May sleep.
    fn show(data: &T, page: &mut Page) -> Result;

    /// Takes what was written to it. May sleep.
    fn store(data: &T, text: &CStr) -> Result;
}

/// A folder of files.
pub trait Group<T>: 'static {
    /// Its name.
    const NAME: &'static CStr;
    /// The only file in it. (More of them need a list here; nobody has had more yet.)
    type File: Attribute<T>;

    /// Whether the file is there.
    fn is_visible(_data: &T) -> bool {
        true
    }
}

/// The tables of a group of the devices `D` with the data `T`.
struct Tables<D, T, G>(PhantomData<(D, T, G)>);

impl<D: DeviceData<T>, T: 'static, G: Group<T>> Tables<D, T, G> {
    #[cfg_attr(
        not(CONFIG_DEBUG_LOCK_ALLOC),
        expect(clippy::needless_update, reason = "there is more with lockdep")
    )]
    const FILE: &'static bindings::device_attribute = &bindings::device_attribute {
        attr: bindings::attribute {
            name: G::File::NAME.as_char_ptr(),
            mode: G::File::MODE,
            // SAFETY: What is left are pointers and, for lockdep, an empty key.
            ..unsafe { MaybeUninit::zeroed().assume_init() }
        },
        show: Some(Self::show),
        store: Some(Self::store),
    };

    const FILES: &'static [*const bindings::attribute; 2] = &[&raw const Self::FILE.attr, null()];

    const GROUP: &'static bindings::attribute_group = &bindings::attribute_group {
        name: G::NAME.as_char_ptr(),
        is_visible: Some(Self::is_visible),
        attrs: Self::FILES.as_ptr().cast_mut().cast(),
        // SAFETY: The other fields are pointers that may be null.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    const GROUPS: &'static [*const bindings::attribute_group; 2] = &[Self::GROUP, null()];

    /// # Safety
    ///
    /// C calls it for a device of `D`, with a page for a buffer.
    unsafe extern "C" fn show(
        device: *mut bindings::device,
        _attr: *mut bindings::device_attribute,
        buffer: *mut c_char,
    ) -> isize {
        // SAFETY: The caller's promise.
        let data = unsafe { D::data(device) };
        let mut page = Page {
            start: buffer,
            len: 0,
        };
        from_result(|| {
            G::File::show(data, &mut page)?;
            Ok(page.len as isize)
        })
    }

    /// # Safety
    ///
    /// C calls it for a device of `D`, with a string of `len` bytes and a zero behind it.
    unsafe extern "C" fn store(
        device: *mut bindings::device,
        _attr: *mut bindings::device_attribute,
        buffer: *const c_char,
        len: usize,
    ) -> isize {
        // SAFETY: The caller's promise.
        let (data, text) = unsafe { (D::data(device), cstr::from_ptr(buffer)) };
        from_result(|| {
            G::File::store(data, text)?;
            Ok(len as isize)
        })
    }

    /// # Safety
    ///
    /// C calls it for the object inside a device of `D`.
    unsafe extern "C" fn is_visible(
        object: *mut bindings::kobject,
        attr: *mut bindings::attribute,
        _index: c_int,
    ) -> bindings::umode_t {
        let device = object
            .wrapping_byte_sub(offset_of!(bindings::device, kobj))
            .cast::<bindings::device>();
        // SAFETY: The caller's promise: the object is in a device of `D`.
        if G::is_visible(unsafe { D::data(device) }) {
            // SAFETY: The attribute is the one in the table.
            unsafe { (*attr).mode }
        } else {
            0
        }
    }
}

/// The list of groups that C wants for devices `D` with the data `T`: `G` alone.
pub(crate) const fn groups<D: DeviceData<T>, T: 'static, G: Group<T>>(
) -> *mut *const bindings::attribute_group {
    Tables::<D, T, G>::GROUPS.as_ptr().cast_mut()
}

/// Whether a text means yes or no, in the many ways that sysfs knows. C: `kstrtobool()`.
///
/// # Errors
///
/// `EINVAL` for anything else.
///
/// # Examples
///
/// ```
/// use kernel::{c_str, sysfs::parse_bool};
///
/// assert!(parse_bool(c_str!("on\n"))?);
/// assert!(!parse_bool(c_str!("0"))?);
/// assert!(parse_bool(c_str!("perhaps")).is_err());
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "kstrtobool")]
pub fn parse_bool(text: &CStr) -> Result<bool> {
    let mut value = false;
    // SAFETY: A valid string and a valid place for the answer.
    to_result(unsafe { bindings::kstrtobool(text.as_char_ptr(), &mut value) })?;
    Ok(value)
}

/// The entry of a file, for those who poll it. C: `struct kernfs_node`.
///
/// # Invariants
///
/// A node to which we have a reference.
#[doc(alias = "kernfs_node")]
pub struct Dirent(NonNull<bindings::kernfs_node>);

// SAFETY: A node is counted, and has the locks of its tree.
unsafe impl Send for Dirent {}
// SAFETY: As for `Send`.
unsafe impl Sync for Dirent {}

impl Dirent {
    /// The file `name` of a folder. Sleeps. C: `sysfs_get_dirent()`.
    ///
    /// # Safety
    ///
    /// `folder` is null or valid.
    pub(crate) unsafe fn find(folder: *mut bindings::kernfs_node, name: &CStr) -> Option<Self> {
        if folder.is_null() {
            return None;
        }
        // SAFETY: The caller's promise.
        let node =
            unsafe { bindings::kernfs_find_and_get_ns(folder, name.as_char_ptr(), null_mut()) };
        // INVARIANT: It comes with a reference.
        NonNull::new(node).map(Self)
    }

    /// Wakes who polls it. Any context. C: `sysfs_notify_dirent()`.
    #[doc(alias = "sysfs_notify_dirent")]
    pub fn notify(&self) {
        // SAFETY: By the invariant it is valid.
        unsafe { bindings::kernfs_notify(self.0.as_ptr()) };
    }
}

impl Drop for Dirent {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours.
        unsafe { bindings::kernfs_put(self.0.as_ptr()) };
    }
}
