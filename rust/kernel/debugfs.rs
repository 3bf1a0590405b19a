// SPDX-License-Identifier: GPL-2.0

//! Files in debugfs.
//!
//! For built-in code: what is made here stays. What a module makes is a [`SessionFile`].
//!
//! C header: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h)

use crate::{bindings, seq_file::SeqFile, str::CStr};
use core::{ffi::c_int, marker::PhantomData, ptr::null_mut};

mod session;
pub use session::{Session, SessionFile};

/// The content of a file.
pub trait Show {
    /// Writes all of it. May sleep.
    fn show(file: &SeqFile);
}

/// A directory that stays.
///
/// # Invariants
///
/// The pointer is what `debugfs_create_dir()` returned, which every function of debugfs takes, an
/// errno included.
pub struct Dir(*mut bindings::dentry);

impl Dir {
    /// Makes a directory at the top. C: `debugfs_create_dir()`. Sleeps.
    ///
    /// It cannot fail for the caller: without debugfs there are no files, and nothing else differs.
    ///
    /// # Safety
    ///
    /// The caller is built into the kernel: what is made here refers to its code, and stays.
    #[doc(alias = "debugfs_create_dir")]
    pub unsafe fn new(name: &'static CStr) -> Self {
        // INVARIANT: So it is.
        // SAFETY: A valid name.
        Self(unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), null_mut()) })
    }

    /// Makes a file that only root can read. C: `debugfs_create_file()`. Sleeps.
    #[doc(alias = "debugfs_create_file")]
    pub fn file<T: Show>(&self, name: &'static CStr) {
        // SAFETY: By the invariant the directory is one that debugfs takes. The operations are in
        // the crate that has the directory, and never freed: that is built in.
        unsafe {
            bindings::debugfs_create_file(
                name.as_char_ptr(),
                0o400,
                self.0,
                null_mut(),
                const { &Operations::<T>::TABLE },
            )
        };
    }
}

/// The operations of a file that shows `T`.
struct Operations<T>(PhantomData<T>);

impl<T: Show> Operations<T> {
    const TABLE: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::single_release),
        // SAFETY: All fields are pointers or functions that may be null, or integers.
        ..unsafe { core::mem::MaybeUninit::zeroed().assume_init() }
    };

    /// # Safety
    ///
    /// C calls it with a file that is being opened.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The caller's promise.
        unsafe { bindings::single_open(file, Some(Self::show), null_mut()) }
    }

    /// # Safety
    ///
    /// C calls it with a file that is being read.
    unsafe extern "C" fn show(
        file: *mut bindings::seq_file,
        _data: *mut core::ffi::c_void,
    ) -> c_int {
        // SAFETY: The caller's promise.
        T::show(unsafe { SeqFile::from_raw(file) });
        0
    }
}
