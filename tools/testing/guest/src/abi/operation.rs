// SPDX-License-Identifier: GPL-2.0

//! The operations of the table of bad calls, and their implementation.
//!
//! Every call is made in a child of its own that ends right after it, so
//! mappings and open files need no cleanup here, and a signal ends only the
//! call.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::gup::Device;
use crate::mapping::Mapping;

/// Address space for every mapping of the table.
pub const ROOM: usize = 64 << 20;

/// An operation on an open file.
#[derive(Debug, Clone, Copy)]
pub enum Operation {
    /// Nothing: opening it is the call.
    Open,
    /// Length and position; the buffer is aligned to a page plus the skew.
    Read(usize, i64, usize),
    Write(usize, i64, usize),
    /// Mode, offset, length.
    Allocate(i32, i64, i64),
    Truncate(i64),
    Sync,
    /// Whence, offset.
    Seek(i32, i64),
    /// Request and the words that its argument points to.
    Ioctl(u64, [u64; 3]),
    /// Offset, length, advice.
    Advise(i64, i64, i32),
    /// Use it as swap.
    Swap,
}

/// An operation on a mapping; operations run in order until one fails.
#[derive(Debug, Clone, Copy)]
pub enum Then {
    Load(usize),
    Store(usize),
    /// Start, length, and the arguments of the call.
    Unmap(usize, usize),
    Protect(usize, usize, i32),
    Advise(usize, usize, i32),
    Sync(usize, usize, i32),
    Lock(usize, usize),
    /// Start, old length, new length; the mapping may move.
    Remap(usize, usize, usize),
    Resident(usize, usize),
    /// A long-term pin: start, length, write, fast.
    Pin(usize, usize, bool, bool),
    /// A buffer for io_uring, which is a long-term pin too.
    Register(usize, usize),
    /// Direct read from the guest's scratch disk into the mapping.
    DirectRead(usize, usize),
    /// process_vm_readv() of this process itself.
    Peek(usize, usize),
    /// vmsplice() of its pages into a pipe.
    Splice(usize, usize),
    /// Catch faults with userfaultfd.
    Userfault(usize, usize),
}

fn done(result: i64) -> io::Result<i64> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        n => Ok(n),
    }
}

impl Operation {
    pub fn run(self, file: &File) -> io::Result<i64> {
        let fd = file.as_raw_fd();
        // SAFETY: The pointers that are passed belong to memory that lives
        // until the child ends and is large enough for each call: the buffer
        // has ROOM bytes, and no request of the table takes more than three
        // words.
        unsafe {
            match self {
                Operation::Open => Ok(0),
                Operation::Read(len, at, skew) => {
                    let buffer = buffer()?;
                    let to = (buffer.addr() + skew) as *mut libc::c_void;
                    let n = libc::pread(fd, to, len, at);
                    std::mem::forget(buffer);
                    done(n as i64)
                }
                Operation::Write(len, at, skew) => {
                    let buffer = buffer()?;
                    let from = (buffer.addr() + skew) as *const libc::c_void;
                    let n = libc::pwrite(fd, from, len, at);
                    std::mem::forget(buffer);
                    done(n as i64)
                }
                Operation::Allocate(mode, at, len) => {
                    done(libc::fallocate(fd, mode, at, len).into())
                }
                Operation::Truncate(len) => done(libc::ftruncate(fd, len).into()),
                Operation::Sync => done(libc::fsync(fd).into()),
                Operation::Seek(whence, at) => done(libc::lseek(fd, at, whence)),
                Operation::Ioctl(request, mut words) => {
                    done(libc::ioctl(fd, request as libc::c_ulong, words.as_mut_ptr()).into())
                }
                Operation::Advise(at, len, advice) => {
                    match libc::posix_fadvise(fd, at, len, advice) {
                        0 => Ok(0),
                        e => Err(io::Error::from_raw_os_error(e)),
                    }
                }
                Operation::Swap => {
                    let path = format!("/proc/self/fd/{fd}\0");
                    done(libc::swapon(path.as_ptr().cast(), 0).into())
                }
            }
        }
    }
}

fn buffer() -> io::Result<Mapping> {
    Mapping::anonymous(ROOM).map_err(io::Error::other)
}

impl Then {
    /// Runs the operation. `at` is the mapping's address; the table's numbers
    /// are relative to it.
    pub fn run(self, at: usize, scratch: &Path) -> io::Result<i64> {
        let place = |offset: usize| (at + offset) as *mut libc::c_void;
        // SAFETY: The child's mapping at `at`, and the address space that is
        // reserved around it, are used by nothing else; their change by a call
        // is the purpose of the test.
        unsafe {
            match self {
                Then::Load(o) => Ok(std::ptr::read_volatile(place(o) as *const u8).into()),
                Then::Store(o) => {
                    std::ptr::write_volatile(place(o) as *mut u8, 1);
                    Ok(0)
                }
                Then::Unmap(o, len) => done(libc::munmap(place(o), len).into()),
                Then::Protect(o, len, prot) => done(libc::mprotect(place(o), len, prot).into()),
                Then::Advise(o, len, advice) => done(libc::madvise(place(o), len, advice).into()),
                Then::Sync(o, len, flags) => done(libc::msync(place(o), len, flags).into()),
                Then::Lock(o, len) => done(libc::mlock(place(o), len).into()),
                Then::Remap(o, old, new) => {
                    match libc::mremap(place(o), old, new, libc::MREMAP_MAYMOVE) {
                        libc::MAP_FAILED => Err(io::Error::last_os_error()),
                        _ => Ok(0),
                    }
                }
                Then::Resident(o, len) => {
                    let mut pages = vec![0_u8; len.div_ceil(4096)];
                    done(libc::mincore(place(o), len, pages.as_mut_ptr()).into())
                }
                Then::Pin(o, len, write, fast) => {
                    let device = Device::open().map_err(io::Error::other)?;
                    device.pin_longterm_at(at + o, len, write, fast)?;
                    device.unpin().map(|()| 0)
                }
                Then::Register(o, len) => register(at + o, len),
                Then::DirectRead(o, len) => {
                    let disk = crate::mapping::open_rw(scratch, true).map_err(io::Error::other)?;
                    done(libc::pread(disk.as_raw_fd(), place(o), len, 0) as i64)
                }
                Then::Peek(o, len) => {
                    let buffer = buffer()?;
                    let local = libc::iovec {
                        iov_base: buffer.addr() as *mut libc::c_void,
                        iov_len: len,
                    };
                    let remote = libc::iovec {
                        iov_base: place(o),
                        iov_len: len,
                    };
                    done(libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) as i64)
                }
                Then::Splice(o, len) => {
                    let (_reader, writer) = crate::process::pipe().map_err(io::Error::other)?;
                    let vec = libc::iovec {
                        iov_base: place(o),
                        iov_len: len,
                    };
                    let flags = libc::SPLICE_F_NONBLOCK;
                    done(libc::vmsplice(writer.as_raw_fd(), &vec, 1, flags) as i64)
                }
                Then::Userfault(o, len) => userfault(at + o, len),
            }
        }
    }
}

/// Calls `io_uring_register(IORING_REGISTER_BUFFERS)` on a new ring.
fn register(at: usize, len: usize) -> io::Result<i64> {
    const REGISTER_BUFFERS: u32 = 0;
    // struct io_uring_params has 120 bytes.
    let mut params = [0_u64; 15];
    let vec = libc::iovec {
        iov_base: at as *mut libc::c_void,
        iov_len: len,
    };
    // SAFETY: The parameters are as large as the kernel's structure, and the
    // vector lives until the call returns.
    unsafe {
        let ring = done(libc::syscall(
            libc::SYS_io_uring_setup,
            4,
            params.as_mut_ptr(),
        ))?;
        done(libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            REGISTER_BUFFERS,
            &vec,
            1,
        ))
    }
}

/// Registers a range for missing pages with a userfaultfd.
fn userfault(at: usize, len: usize) -> io::Result<i64> {
    const API: u64 = 0xaa;
    const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
    const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
    const MISSING: u64 = 1;
    let mut api = [API, 0, 0];
    let mut range = [at as u64, len as u64, MISSING, 0];
    // SAFETY: Both arrays are as large as the structures of the requests (24
    // and 32 bytes, which the request numbers encode).
    unsafe {
        let fd = done(libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC))?;
        done(libc::ioctl(fd as i32, UFFDIO_API, api.as_mut_ptr()).into())?;
        done(libc::ioctl(fd as i32, UFFDIO_REGISTER, range.as_mut_ptr()).into())
    }
}
