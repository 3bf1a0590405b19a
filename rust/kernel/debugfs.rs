// SPDX-License-Identifier: GPL-2.0

//! Directories and files in debugfs.
//!
//! A [`Dir`] removes its files when it is dropped, so a module that keeps it in its own structure
//! leaves nothing behind. Built-in code keeps it in a static [`SetOnce`](crate::sync::SetOnce).
//!
//! In kernels without debugfs the same functions create nothing.
//!
//! There are two types of file:
//!
//! * [`Dir::read_callback_file`]: each read shows what a function prints;
//! * [`Dir::command_file`]: each write is a command, and a read returns the reply to it.
//!
//! The unsafe code here encapsulates the operations of these files. debugfs keeps an operation from
//! running into the removal of its file, and the operations of a command file hold their module while
//! the file is open. That the code of a file stays until its directory is dropped is the promise of
//! the code that creates the file: a directory that is forgotten is not removed when its module is.
//!
//! C header: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h)

use crate::{
    bindings,
    error::{code::EINVAL, from_result, Result},
    ffi::{c_char, c_int, c_void},
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    str::{CStr, CString},
    sync::Mutex,
    types::ForeignOwnable,
    uaccess::UserSlice,
};
use core::{
    marker::PhantomData,
    mem::{transmute, MaybeUninit},
    ptr::null_mut,
};

/// A directory at the top of debugfs, which is removed with its files when it is dropped.
///
/// # Invariants
///
/// The pointer was returned by `debugfs_create_dir()`, and the directory was not removed. (It may
/// be an error pointer, which every function of debugfs accepts.)
///
/// # Examples
///
/// ```
/// use kernel::{c_str, debugfs::Dir, seq_print};
///
/// let dir = Dir::new(c_str!("rust_doctest"));
/// // SAFETY: The function is there until the directory is dropped.
/// unsafe { dir.read_callback_file(c_str!("answer"), |file| seq_print!(file, "{}\n", 42)) };
/// drop(dir);
/// ```
pub struct Dir(*mut bindings::dentry);

// SAFETY: debugfs does its own locking, and a dentry may be used from any thread.
unsafe impl Send for Dir {}
// SAFETY: Methods that take `&self` only call debugfs, which does its own locking.
unsafe impl Sync for Dir {}

impl Dir {
    /// Creates a directory at the top of debugfs. Sleeps. C: `debugfs_create_dir()`.
    ///
    /// It does not report errors: without debugfs, or without memory, there are no files, and the
    /// caller works as usual.
    #[doc(alias = "debugfs_create_dir")]
    pub fn new(name: &CStr) -> Self {
        // INVARIANT: The directory was just created.
        // SAFETY: The name is a valid string, which C copies.
        Self(unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), null_mut()) })
    }

    /// Creates a file, readable only by root, whose content `show` prints. Sleeps. C:
    /// `debugfs_create_file()`.
    ///
    /// `show` may sleep. If its output does not fit the buffer, it is called again with a larger
    /// one.
    ///
    /// # Safety
    ///
    /// `show` must stay loaded until the directory is dropped: it must be built in, or its module
    /// must drop the directory before it is unloaded. The file does not hold the module.
    #[doc(alias = "debugfs_create_file")]
    pub unsafe fn read_callback_file(&self, name: &CStr, show: fn(&SeqFile)) {
        // SAFETY: By the type invariants debugfs accepts the pointer to the directory. The
        // operations are a constant of this crate, which is built in. What they expect as data is a
        // function of this type, which the caller promises to keep loaded.
        unsafe {
            bindings::debugfs_create_file(
                name.as_char_ptr(),
                0o400,
                self.0,
                show as *mut c_void,
                SEQ_FILE_OPERATIONS,
            )
        };
    }

    /// Creates a file, readable and writable only by root, that takes commands. Sleeps. C:
    /// `debugfs_create_file()`.
    ///
    /// # Safety
    ///
    /// [`CommandFile::MODULE`] must be the module that `T` is part of. That module must drop the
    /// directory before it is unloaded.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     c_str,
    ///     debugfs::{CommandFile, Dir},
    ///     fmt,
    ///     str::CString,
    /// };
    ///
    /// /// Replies with the sum of the numbers that were written since the file was opened.
    /// struct Sum(u64);
    ///
    /// impl CommandFile for Sum {
    ///     const MODULE: Option<&'static ThisModule> = None;
    ///
    ///     fn open() -> Result<Self> {
    ///         Ok(Self(0))
    ///     }
    ///
    ///     fn command(&mut self, text: &str) -> Result<CString> {
    ///         self.0 = self.0.wrapping_add(text.parse().map_err(|_| EINVAL)?);
    ///         CString::try_from_fmt(fmt!("{}\n", self.0))
    ///     }
    /// }
    ///
    /// let dir = Dir::new(c_str!("rust_doctest"));
    /// // SAFETY: This code is built in.
    /// unsafe { dir.command_file::<Sum>(c_str!("sum")) };
    /// ```
    #[doc(alias = "debugfs_create_file")]
    pub unsafe fn command_file<T: CommandFile>(&self, name: &CStr) {
        // SAFETY: By the type invariants debugfs accepts the pointer to the directory. The
        // operations are a constant of the module that `T` is in. By the caller's promise that
        // module removes the file before it is unloaded, and debugfs holds it while the file is
        // open.
        unsafe {
            bindings::debugfs_create_file(
                name.as_char_ptr(),
                0o600,
                self.0,
                null_mut(),
                const { &CommandFileOperations::<T>::TABLE },
            )
        };
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the directory was not removed. debugfs waits until no
        // operation of its files runs, and starts no new ones.
        unsafe { bindings::debugfs_remove(self.0) };
    }
}

/// The operations of a file created by [`Dir::read_callback_file`].
const SEQ_FILE_OPERATIONS: &bindings::file_operations = &bindings::file_operations {
    open: Some(seq_file_open),
    read: Some(bindings::seq_read),
    llseek: Some(bindings::seq_lseek),
    release: Some(bindings::single_release),
    // SAFETY: All fields are integers, or pointers or functions that may be null.
    ..unsafe { MaybeUninit::zeroed().assume_init() }
};

/// Opens a file created by [`Dir::read_callback_file`].
///
/// # Safety
///
/// `inode` must be that of such a file, and `file` must be a file that is being opened.
unsafe extern "C" fn seq_file_open(
    inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: The caller promises valid pointers. `i_private` is the data that the file was created
    // with, which is what `seq_file_show` expects.
    unsafe { bindings::single_open(file, Some(seq_file_show), (*inode).i_private) }
}

/// Prints the content of a file created by [`Dir::read_callback_file`].
///
/// # Safety
///
/// `file` must be a `struct seq_file` that is being read, whose data is a `fn(&SeqFile)`.
unsafe extern "C" fn seq_file_show(file: *mut bindings::seq_file, _data: *mut c_void) -> c_int {
    // SAFETY: The caller promises a valid file, whose data was converted from a function of this
    // type. The function's module is still loaded, because debugfs runs no operation of a removed
    // file.
    let (file, show) = unsafe {
        (
            SeqFile::from_raw(file),
            transmute::<*mut c_void, fn(&SeqFile)>((*file).private),
        )
    };
    show(file);
    0
}

/// The longest command, in bytes.
const MAX_COMMAND: usize = 256;

/// The state of one open command file.
///
/// A value exists for each `open()` of the file, until the last close.
pub trait CommandFile: Send + Sized + 'static {
    /// The module that implements the file, which is held while the file is open:
    /// `Some(&THIS_MODULE)`; `None` for built-in code.
    const MODULE: Option<&'static ThisModule>;

    /// Creates the state for a file that is being opened. May sleep.
    fn open() -> Result<Self>;

    /// Executes a command, given without the newline at its end, and returns the reply, which the
    /// next read gets. May sleep.
    fn command(&mut self, text: &str) -> Result<CString>;
}

/// The state of an open command file, and the reply to its last command.
struct State<T> {
    file: T,
    reply: Option<CString>,
}

type SharedState<T> = Pin<KBox<Mutex<State<T>>>>;

/// The operations of a file created by [`Dir::command_file`].
struct CommandFileOperations<T>(PhantomData<T>);

impl<T: CommandFile> CommandFileOperations<T> {
    const TABLE: bindings::file_operations = bindings::file_operations {
        owner: match T::MODULE {
            Some(module) => module.as_ptr(),
            None => null_mut(),
        },
        open: Some(Self::open),
        read: Some(Self::read),
        write: Some(Self::write),
        release: Some(Self::release),
        // SAFETY: All fields are integers, or pointers or functions that may be null.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// Returns the state of an open file.
    ///
    /// # Safety
    ///
    /// `file` must be open, with these operations, and stay open for `'a`.
    unsafe fn state<'a>(file: *mut bindings::file) -> Pin<&'a Mutex<State<T>>> {
        // SAFETY: `open` has stored the state there, and only `release`, which is called at the
        // last close, takes it out.
        unsafe { SharedState::<T>::borrow((*file).private_data.cast_const()) }
    }

    /// Opens the file.
    ///
    /// # Safety
    ///
    /// `file` must be a file that is being opened with these operations.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            let state = State {
                file: T::open()?,
                reply: None,
            };
            let state: SharedState<T> =
                KBox::pin_init(new_mutex!(state, "debugfs::State"), GFP_KERNEL)?;
            // SAFETY: The caller promises a valid file. The field belongs to the operations of the
            // file.
            unsafe { (*file).private_data = state.into_foreign().cast_mut() };
            Ok(0)
        })
    }

    /// Frees the state at the last close.
    ///
    /// # Safety
    ///
    /// `file` must be a file that `open` has opened, and on which no operation runs any more.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `open` has stored the state there. The caller promises that no other operation
        // runs, so no reference to the state exists.
        drop(unsafe { SharedState::<T>::from_foreign((*file).private_data.cast_const()) });
        0
    }

    /// Executes the command that is written.
    ///
    /// # Safety
    ///
    /// `file` must be open with these operations, and `pos` must be valid. `from` is an address in
    /// user space, which need not be valid.
    unsafe extern "C" fn write(
        file: *mut bindings::file,
        from: *const c_char,
        len: usize,
        pos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: The caller promises an open file and a valid pointer to the position, which no
        // other operation uses at the same time.
        let (state, pos) = unsafe { (Self::state(file), &mut *pos) };
        // The next read gets the reply from its beginning.
        *pos = 0;
        let command = || -> Result<usize> {
            let mut bytes = [0u8; MAX_COMMAND];
            let text = bytes.get_mut(..len).ok_or(EINVAL)?;
            UserSlice::new(from as _, len).reader().read_slice(text)?;
            let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
            let mut state = state.lock();
            state.reply = None;
            state.reply = Some(state.file.command(text.trim_end())?);
            Ok(len)
        };
        to_size(command())
    }

    /// Copies the rest of the reply to user space.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write), with `to` in place of `from`.
    unsafe extern "C" fn read(
        file: *mut bindings::file,
        to: *mut c_char,
        len: usize,
        pos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: The caller promises an open file and a valid pointer to the position, which no
        // other operation uses at the same time.
        let (state, pos) = unsafe { (Self::state(file), &mut *pos) };
        let mut copy = || -> Result<usize> {
            let state = state.lock();
            let reply = state.reply.as_ref().map_or(&[][..], |text| text.as_bytes());
            let rest = usize::try_from(*pos)
                .ok()
                .and_then(|pos| reply.get(pos..))
                .unwrap_or_default();
            let part = rest.get(..len).unwrap_or(rest);
            UserSlice::new(to as _, part.len())
                .writer()
                .write_slice(part)?;
            // CAST: The position is at most the length of the reply.
            *pos = pos.wrapping_add(part.len() as bindings::loff_t);
            Ok(part.len())
        };
        to_size(copy())
    }
}

/// Converts the result of a read or write to the value that C expects.
fn to_size(result: Result<usize>) -> isize {
    match result {
        // CAST: At most the length that C asked for, which it limits to `MAX_RW_COUNT`.
        Ok(bytes) => bytes as isize,
        Err(error) => error.to_errno() as isize,
    }
}
