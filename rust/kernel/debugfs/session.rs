// SPDX-License-Identifier: GPL-2.0

//! A file that takes commands.
//!
//! Who opens it has a session of their own. Each write is a command, and a read gives the answer to
//! the last one. The close ends the session, and drops what it owned.
//!
//! For modules: the file goes when its owner is dropped, and a session keeps the module.

use crate::{
    bindings,
    error::{code::EINVAL, from_result, Result},
    ffi::{c_char, c_int},
    new_mutex,
    prelude::*,
    str::{CStr, CString},
    sync::Mutex,
    types::ForeignOwnable,
    uaccess::UserSlice,
};
use core::{marker::PhantomData, mem::MaybeUninit, ptr::null_mut};

/// The longest command, in bytes.
const LONGEST: usize = 256;

/// What a file of this kind does.
pub trait Session: Send + Sized + 'static {
    /// The module that it is in, which a session keeps: `&THIS_MODULE`.
    const MODULE: &'static ThisModule;

    /// Begins one. May sleep.
    fn begin() -> Result<Self>;

    /// Does what is asked for, in text without the newline at its end; the answer is what a read
    /// gives. May sleep.
    fn command(&mut self, text: &str) -> Result<CString>;
}

/// What hangs on an open file.
struct State<T> {
    session: T,
    answer: Option<CString>,
}

type Shared<T> = Pin<KBox<Mutex<State<T>>>>;

/// A file in a directory of its own; dropped means removed.
///
/// # Invariants
///
/// `dir` is what `debugfs_create_dir()` returned.
pub struct SessionFile<T: Session> {
    dir: *mut bindings::dentry,
    _session: PhantomData<fn() -> T>,
}

// SAFETY: debugfs has its own locks, and nothing is read through a shared reference.
unsafe impl<T: Session> Send for SessionFile<T> {}
// SAFETY: As above.
unsafe impl<T: Session> Sync for SessionFile<T> {}

impl<T: Session> SessionFile<T> {
    const TABLE: bindings::file_operations = bindings::file_operations {
        owner: T::MODULE.as_ptr(),
        open: Some(Self::open),
        read: Some(Self::read),
        write: Some(Self::write),
        release: Some(Self::release),
        // SAFETY: All fields are pointers or functions that may be null, or integers.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// Makes the directory at the top of debugfs and the file, for root only. Sleeps.
    pub fn new(dir: &CStr, file: &CStr) -> Self {
        // SAFETY: Valid names. The operations are the module's, which stays while the file is open,
        // also after it was removed.
        let dir = unsafe {
            let dir = bindings::debugfs_create_dir(dir.as_char_ptr(), null_mut());
            bindings::debugfs_create_file(
                file.as_char_ptr(),
                0o600,
                dir,
                null_mut(),
                const { &Self::TABLE },
            );
            dir
        };
        // INVARIANT: So it was made.
        Self {
            dir,
            _session: PhantomData,
        }
    }

    /// # Safety
    ///
    /// `file` is an open file of this kind, and stays so.
    unsafe fn state<'a>(file: *mut bindings::file) -> Pin<&'a Mutex<State<T>>> {
        // SAFETY: `open` has put it there, and `release` has not taken it yet.
        unsafe { Shared::<T>::borrow((*file).private_data.cast_const()) }
    }

    /// # Safety
    ///
    /// C calls it with a file that is being opened.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            let session = T::begin()?;
            let state: Shared<T> = KBox::pin_init(
                new_mutex!(
                    State {
                        session,
                        answer: None,
                    },
                    "debugfs::State"
                ),
                GFP_KERNEL,
            )?;
            // SAFETY: The caller's promise; the field is the file's own to use.
            unsafe { (*file).private_data = state.into_foreign().cast_mut() };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// C calls it once, with a file that nobody has open any more.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `open` has put it there, and nobody uses it any more.
        drop(unsafe { Shared::<T>::from_foreign((*file).private_data.cast_const()) });
        0
    }

    /// # Safety
    ///
    /// C calls it with an open file, memory of user space, and the position in the file.
    unsafe extern "C" fn write(
        file: *mut bindings::file,
        from: *const c_char,
        len: usize,
        at: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: The caller's promise.
        let (state, at) = unsafe { (Self::state(file), &mut *at) };
        // The answer is read from its beginning.
        *at = 0;
        let work = || -> Result<usize> {
            let mut bytes = [0u8; LONGEST];
            let text = bytes.get_mut(..len).ok_or(EINVAL)?;
            UserSlice::new(from as _, len).reader().read_slice(text)?;
            let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
            let mut state = state.lock();
            state.answer = None;
            state.answer = Some(state.session.command(text.trim_end())?);
            Ok(len)
        };
        count(work())
    }

    /// # Safety
    ///
    /// C calls it with an open file, memory of user space, and the position in the file.
    unsafe extern "C" fn read(
        file: *mut bindings::file,
        to: *mut c_char,
        len: usize,
        at: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: The caller's promise.
        let (state, at) = unsafe { (Self::state(file), &mut *at) };
        let mut work = || -> Result<usize> {
            let state = state.lock();
            let answer = state
                .answer
                .as_ref()
                .map_or(&[][..], |text| text.as_bytes());
            let left = usize::try_from(*at)
                .ok()
                .and_then(|at| answer.get(at..))
                .unwrap_or_default();
            let part = left.get(..len).unwrap_or(left);
            UserSlice::new(to as _, part.len())
                .writer()
                .write_slice(part)?;
            // CAST: an answer is not that long.
            *at = at.wrapping_add(part.len() as bindings::loff_t);
            Ok(part.len())
        };
        count(work())
    }
}

/// What a read or write returns to C.
fn count(done: Result<usize>) -> isize {
    match done {
        // CAST: not more than what was asked for, which C limits.
        Ok(bytes) => bytes as isize,
        Err(error) => error.to_errno() as isize,
    }
}

impl<T: Session> Drop for SessionFile<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariant ours to remove. C waits for who is in one of the operations.
        unsafe { bindings::debugfs_remove(self.dir) };
    }
}
