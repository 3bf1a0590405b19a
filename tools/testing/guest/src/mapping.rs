// SPDX-License-Identifier: GPL-2.0

//! Mappings with an owner, and direct I/O into them.
//!
//! The bytes behind a shared mapping change at any time (that is the point of direct I/O into
//! it), so no reference to them is ever created: they are copied in and out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64};

use anyhow::{bail, Context, Result};

use crate::data;

pub const PAGE: usize = 4096;

/// A mapping, which is unmapped when dropped.
pub struct Mapping {
    addr: usize,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes of `file` shared, readable and writable, at an address that is a
    /// multiple of `align`.
    pub fn shared(file: &File, offset: u64, len: usize, align: usize) -> Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        Self::with(file, offset, len, align, prot, libc::MAP_SHARED)
    }

    pub fn with(
        file: &File,
        offset: u64,
        len: usize,
        align: usize,
        prot: i32,
        flags: i32,
    ) -> Result<Self> {
        let reserve = Self::reserve(len, align)?;
        // SAFETY: The range was just reserved and belongs to `reserve`, so MAP_FIXED replaces no
        // other mapping.
        let addr = unsafe {
            libc::mmap(
                reserve.addr as *mut libc::c_void,
                len,
                prot,
                flags | libc::MAP_FIXED,
                file.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if addr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot map {len:#x} bytes at offset {offset:#x}"));
        }
        Ok(reserve)
    }

    /// Reserves aligned address space without access.
    pub fn reserve(len: usize, align: usize) -> Result<Self> {
        let align = align.max(PAGE);
        let whole = len + align;
        // SAFETY: This is a new anonymous mapping at an address that the kernel chooses, so it
        // replaces no other mapping.
        let raw = unsafe {
            libc::mmap(
                ptr::null_mut(),
                whole,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if raw == libc::MAP_FAILED {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot reserve {whole:#x} bytes of address space"));
        }
        let raw = raw as usize;
        let addr = raw.next_multiple_of(align);
        // SAFETY: Both pieces are parts of the mapping created above, outside the part that is
        // kept, so nothing else uses them.
        unsafe {
            if addr > raw {
                libc::munmap(raw as *mut libc::c_void, addr - raw);
            }
            if raw + whole > addr + len {
                libc::munmap((addr + len) as *mut libc::c_void, raw + whole - addr - len);
            }
        }
        Ok(Self { addr, len })
    }

    /// Creates page-aligned private memory.
    pub fn anonymous(len: usize) -> Result<Self> {
        let this = Self::reserve(len, PAGE)?;
        // SAFETY: The range belongs to this object, and more access cannot invalidate anything.
        let rc = unsafe {
            libc::mprotect(
                this.addr as *mut libc::c_void,
                len,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        if rc != 0 {
            return Err(io::Error::last_os_error()).context("cannot make memory writable");
        }
        Ok(this)
    }

    /// Creates page-aligned memory that a forked child shares.
    pub fn shared_memory(len: usize) -> Result<Self> {
        Self::fresh(len, PAGE, libc::MAP_SHARED)
    }

    /// Creates unused memory, readable and writable, at a multiple of `align`; `flags` gives its
    /// kind beside anonymous.
    pub fn fresh(len: usize, align: usize, flags: i32) -> Result<Self> {
        let this = Self::reserve(len, align)?;
        // SAFETY: The mapping replaces this object's own range, to which no reference exists.
        let addr = unsafe {
            libc::mmap(
                this.addr as *mut libc::c_void,
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if addr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot map {len:#x} bytes of memory"));
        }
        Ok(this)
    }

    pub fn addr(&self) -> usize {
        self.addr
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn check(&self, at: usize, len: usize) {
        assert!(
            at.checked_add(len).is_some_and(|end| end <= self.len),
            "access to {at:#x}+{len:#x} in a mapping of {:#x} bytes",
            self.len
        );
    }

    pub fn write(&self, at: usize, bytes: &[u8]) {
        self.check(at, bytes.len());
        // SAFETY: The bytes are inside the mapping, and no reference to them exists anywhere.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), (self.addr + at) as *mut u8, bytes.len())
        };
    }

    pub fn read(&self, at: usize, bytes: &mut [u8]) {
        self.check(at, bytes.len());
        // SAFETY: as in `write`.
        unsafe {
            ptr::copy_nonoverlapping(
                (self.addr + at) as *const u8,
                bytes.as_mut_ptr(),
                bytes.len(),
            )
        };
    }

    /// Reads one byte, which faults the page in.
    pub fn peek(&self, at: usize) -> u8 {
        self.check(at, 1);
        // SAFETY: as in `write`; volatile, so that the access happens.
        unsafe { ptr::read_volatile((self.addr + at) as *const u8) }
    }

    pub fn poke(&self, at: usize, value: u8) {
        self.check(at, 1);
        // SAFETY: as in `write`; volatile, so that the access happens.
        unsafe { ptr::write_volatile((self.addr + at) as *mut u8, value) };
    }

    /// Returns a word of the mapping, for atomic access.
    pub fn word(&self, at: usize) -> &AtomicU32 {
        self.check(at, 4);
        assert!(at % 4 == 0);
        // SAFETY: The word is aligned and inside the mapping, which lives as long as the borrow, and
        // an atomic word may change at any time.
        unsafe { AtomicU32::from_ptr((self.addr + at) as *mut u32) }
    }

    /// Returns a word of 64 bits of the mapping, for atomic access.
    pub fn word64(&self, at: usize) -> &AtomicU64 {
        self.check(at, 8);
        assert!(at % 8 == 0);
        // SAFETY: As in `word`, the word is aligned and inside the mapping, which outlives the borrow.
        unsafe { AtomicU64::from_ptr((self.addr + at) as *mut u64) }
    }

    /// Writes one byte at every multiple of `step`: write faults.
    pub fn prefault_write(&self, step: usize) {
        for at in (0..self.len).step_by(step) {
            let value = self.peek(at);
            self.poke(at, value);
        }
    }

    /// Computes the SHA-256 of the whole mapping.
    pub fn sha256(&self, len: usize) -> String {
        let mut digest = data::Digester::default();
        let mut piece = vec![0; 1 << 20];
        let mut at = 0;
        while at < len {
            let n = piece.len().min(len - at);
            self.read(at, &mut piece[..n]);
            digest.update(&piece[..n]);
            at += n;
        }
        digest.finish()
    }

    /// Returns an error unless the bytes at `at` are `want`.
    pub fn require(&self, at: usize, want: &[u8], what: &str) -> Result<()> {
        let mut got = vec![0; want.len()];
        self.read(at, &mut got);
        data::require_same(want, &got, format_args!("{what}"))
    }

    /// Moves the whole mapping to `to`, which it replaces.
    pub fn move_to(mut self, mut to: Mapping) -> Result<Mapping> {
        if to.len != self.len {
            bail!("mremap target has another size");
        }
        // SAFETY: Both ranges are owned here; `to` is replaced, and `self` is unmapped by the
        // move, so neither is used otherwise.
        let addr = unsafe {
            libc::mremap(
                self.addr as *mut libc::c_void,
                self.len,
                self.len,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                to.addr as *mut libc::c_void,
            )
        };
        if addr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("mremap failed");
        }
        // The old range is no longer ours to unmap; the new one belongs to `to`.
        self.len = 0;
        to.addr = addr as usize;
        Ok(to)
    }

    /// Calls mprotect(2) on a part.
    pub fn protect(&self, at: usize, len: usize, prot: i32) -> io::Result<()> {
        self.check(at, len);
        // SAFETY: The part is inside this object's own range, to which no reference exists, so a
        // change of access is sound.
        errno_result(unsafe { libc::mprotect((self.addr + at) as *mut libc::c_void, len, prot) })
    }

    /// Calls madvise(2) on a part, whose bytes may be lost.
    pub fn advise(&self, at: usize, len: usize, advice: i32) -> io::Result<()> {
        self.check(at, len);
        // SAFETY: As in `protect`, the part is inside this object's own range, to which no
        // reference exists.
        errno_result(unsafe { libc::madvise((self.addr + at) as *mut libc::c_void, len, advice) })
    }

    /// Unmaps a part and returns the kernel's result. The part remains reserved for this
    /// object's own final munmap, which tolerates holes.
    pub fn punch(&self, at: usize, len: usize) -> io::Result<()> {
        self.check(at, len);
        // SAFETY: The part is inside this object's own range, to which no reference exists.
        errno_result(unsafe { libc::munmap((self.addr + at) as *mut libc::c_void, len) })
    }

    /// Calls mlock(2) on a part.
    pub fn lock(&self, at: usize, len: usize) -> io::Result<()> {
        self.check(at, len);
        // SAFETY: The part is inside this object's own range, whose bytes the call does not change.
        errno_result(unsafe { libc::mlock((self.addr + at) as *const libc::c_void, len) })
    }

    /// Calls munlock(2) on a part.
    pub fn unlock(&self, at: usize, len: usize) -> io::Result<()> {
        self.check(at, len);
        // SAFETY: As in `lock`, the call does not change the bytes.
        errno_result(unsafe { libc::munlock((self.addr + at) as *const libc::c_void, len) })
    }

    /// Calls msync(2) with MS_SYNC.
    pub fn sync(&self, at: usize, len: usize) -> io::Result<()> {
        self.check(at, len);
        let from = (self.addr + at) as *mut libc::c_void;
        // SAFETY: The part is inside this object's own range, whose bytes the call does not
        // change.
        errno_result(unsafe { libc::msync(from, len, libc::MS_SYNC) })
    }

    /// Unmaps a part and immediately maps it again, from `file` at the same offset.
    pub fn renew(&self, file: &File, at: usize, len: usize) -> io::Result<()> {
        self.place(Some((file, at)), at, len, libc::MAP_FIXED)
    }

    /// Maps a part from `file` at `offset`, in place of what is there.
    pub fn show(&self, file: &File, at: usize, offset: usize, len: usize) -> io::Result<()> {
        self.place(Some((file, offset)), at, len, libc::MAP_FIXED)
    }

    /// Maps a part that was unmapped again: from `file` at the same offset, or new memory. Fails
    /// if something else has been mapped there meanwhile.
    pub fn mend(&self, file: Option<&File>, at: usize, len: usize) -> io::Result<()> {
        let file = file.map(|file| (file, at));
        self.place(file, at, len, libc::MAP_FIXED_NOREPLACE)
    }

    fn place(
        &self,
        file: Option<(&File, usize)>,
        at: usize,
        len: usize,
        fixed: i32,
    ) -> io::Result<()> {
        self.check(at, len);
        let (flags, fd, offset) = match file {
            Some((file, offset)) => (libc::MAP_SHARED, file.as_raw_fd(), offset as libc::off_t),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
        };
        // SAFETY: The part is inside this object's own range, to which no reference exists.
        let addr = unsafe {
            libc::mmap(
                (self.addr + at) as *mut libc::c_void,
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags | fixed,
                fd,
                offset,
            )
        };
        match addr {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Moves a part to the same offset of `aside`, where it was unmapped, and back.
    pub fn move_aside_and_back(&self, aside: &Mapping, at: usize, len: usize) -> io::Result<()> {
        self.check(at, len);
        aside.check(at, len);
        for (from, to) in [(self, aside), (aside, self)] {
            // SAFETY: Both ranges belong to the two objects; a part that was moved away is a
            // hole, and no other code maps anything into it meanwhile.
            let addr = unsafe {
                libc::mremap(
                    (from.addr + at) as *mut libc::c_void,
                    len,
                    len,
                    libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                    (to.addr + at) as *mut libc::c_void,
                )
            };
            if addr == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

/// Converts the return value 0 or -1 of a system call.
fn errno_result(rc: i32) -> io::Result<()> {
    match rc {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: The range belongs to this object and nothing refers to it, so unmapping it
            // invalidates no memory in use.
            let rc = unsafe { libc::munmap(self.addr as *mut libc::c_void, self.len) };
            if rc != 0 {
                eprintln!("munmap: {}", io::Error::last_os_error());
            }
        }
    }
}

/// Opens a device or file for reading and writing; `direct` adds O_DIRECT.
pub fn open_rw(path: &Path, direct: bool) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(if direct { libc::O_DIRECT } else { 0 })
        .open(path)
        .with_context(|| format!("cannot open {} for reading and writing", path.display()))
}

/// Calls pread once into a mapping; the caller handles short reads.
pub fn pread_once(
    file: &File,
    map: &Mapping,
    at: usize,
    len: usize,
    pos: u64,
) -> io::Result<usize> {
    map.check(at, len);
    // SAFETY: The kernel writes inside the mapping, to which no reference exists.
    let n = unsafe {
        libc::pread(
            file.as_raw_fd(),
            (map.addr + at) as *mut libc::c_void,
            len,
            pos as libc::off_t,
        )
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Calls pwrite once from a mapping.
pub fn pwrite_once(
    file: &File,
    map: &Mapping,
    at: usize,
    len: usize,
    pos: u64,
) -> io::Result<usize> {
    map.check(at, len);
    // SAFETY: The kernel reads inside the mapping, which is valid memory.
    let n = unsafe {
        libc::pwrite(
            file.as_raw_fd(),
            (map.addr + at) as *const libc::c_void,
            len,
            pos as libc::off_t,
        )
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Reads `len` bytes in pieces of `chunk`.
pub fn pread_all(
    file: &File,
    map: &Mapping,
    at: usize,
    len: usize,
    pos: u64,
    chunk: usize,
) -> Result<()> {
    in_pieces(len, chunk, "reading into", |done, want| {
        pread_once(file, map, at + done, want, pos + done as u64)
    })
}

/// Writes `len` bytes in pieces of `chunk`.
pub fn pwrite_all(
    file: &File,
    map: &Mapping,
    at: usize,
    len: usize,
    pos: u64,
    chunk: usize,
) -> Result<()> {
    in_pieces(len, chunk, "writing from", |done, want| {
        pwrite_once(file, map, at + done, want, pos + done as u64)
    })
}

/// Calls `once` with the number of bytes that were moved and that of the next piece, until all were.
fn in_pieces(
    len: usize,
    chunk: usize,
    what: &str,
    once: impl Fn(usize, usize) -> io::Result<usize>,
) -> Result<()> {
    let mut done = 0;
    while done < len {
        let want = chunk.min(len - done);
        match once(done, want) {
            Ok(0) => bail!("{what} a mapping ends after {done} of {len} bytes"),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                let what = format!("{what} a mapping: {want} bytes after {done} of {len} failed");
                return Err(e).context(what);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_is_aligned() -> Result<()> {
        let map = Mapping::reserve(3 * PAGE, 2 << 20)?;
        assert_eq!(map.addr() % (2 << 20), 0);
        Ok(())
    }

    #[test]
    fn copies_and_digests() -> Result<()> {
        let map = Mapping::anonymous(2 * PAGE)?;
        let bytes = data::bytes(3, 2 * PAGE);
        map.write(0, &bytes);
        map.require(0, &bytes, "anonymous memory")?;
        let mut digest = data::Digester::default();
        digest.update(&bytes);
        assert_eq!(map.sha256(2 * PAGE), digest.finish());
        map.poke(5, !bytes[5]);
        assert!(map.require(0, &bytes, "anonymous memory").is_err());
        Ok(())
    }

    #[test]
    fn moving() -> Result<()> {
        let map = Mapping::anonymous(PAGE)?;
        map.poke(1, 42);
        let map = map.move_to(Mapping::reserve(PAGE, 1 << 20)?)?;
        assert_eq!((map.peek(1), map.addr() % (1 << 20)), (42, 0));
        Ok(())
    }
}
