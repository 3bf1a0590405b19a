// SPDX-License-Identifier: GPL-2.0

//! Mappings with an owner, and direct I/O into them.
//!
//! The bytes behind a shared mapping change under the program's feet (that is
//! what direct I/O into them means), so no reference to them is ever made:
//! they are copied in and out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr;

use anyhow::{bail, Context, Result};

use crate::data;

pub const PAGE: usize = 4096;

/// A mapping; dropped means unmapped.
pub struct Mapping {
    addr: usize,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes of `file` shared, readable and writable, at an
    /// address that is a multiple of `align`.
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
        // SAFETY: the range was reserved just now and belongs to `reserve`.
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

    /// Address space without access, aligned.
    pub fn reserve(len: usize, align: usize) -> Result<Self> {
        let align = align.max(PAGE);
        let whole = len + align;
        // SAFETY: a new anonymous mapping wherever the kernel likes.
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
        // SAFETY: both pieces are parts of the mapping made above, outside
        // the part that is kept.
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

    /// Page-aligned private memory.
    pub fn anonymous(len: usize) -> Result<Self> {
        let this = Self::reserve(len, PAGE)?;
        // SAFETY: the range is this object's own.
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

    /// Page-aligned memory that a forked child shares.
    pub fn shared_memory(len: usize) -> Result<Self> {
        Self::fresh(len, PAGE, libc::MAP_SHARED)
    }

    /// Memory that is nobody's yet, readable and writable, at a multiple of
    /// `align`; `flags` says what kind, besides that it is anonymous.
    pub fn fresh(len: usize, align: usize, flags: i32) -> Result<Self> {
        let this = Self::reserve(len, align)?;
        // SAFETY: replaces this object's own range.
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
        // SAFETY: inside the mapping; no reference to it exists anywhere.
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

    /// One byte, which faults the page in.
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

    /// Writes one byte into every `step`th place: faults for writing.
    pub fn prefault_write(&self, step: usize) {
        for at in (0..self.len).step_by(step) {
            let value = self.peek(at);
            self.poke(at, value);
        }
    }

    /// SHA-256 of the whole mapping.
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

    /// An error unless the bytes at `at` are `want`.
    pub fn require(&self, at: usize, want: &[u8], what: &str) -> Result<()> {
        let mut got = vec![0; want.len()];
        self.read(at, &mut got);
        match data::first_difference(want, &got) {
            None => Ok(()),
            Some(diff) => bail!("{what}: {diff}"),
        }
    }

    /// Moves the whole mapping to `to`, which it replaces.
    pub fn move_to(mut self, mut to: Mapping) -> Result<Mapping> {
        if to.len != self.len {
            bail!("mremap target has another size");
        }
        // SAFETY: both ranges are owned here; `to` is replaced, `self` is
        // unmapped by the move.
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
        // The old range is no longer ours to unmap; the new one is `to`'s.
        self.len = 0;
        to.addr = addr as usize;
        Ok(to)
    }

    /// mprotect(2) of a part.
    pub fn protect(&self, at: usize, len: usize, prot: i32) -> io::Result<()> {
        self.check(at, len);
        // SAFETY: inside this object's own range, to which no reference exists.
        answer(unsafe { libc::mprotect((self.addr + at) as *mut libc::c_void, len, prot) })
    }

    /// madvise(2) of a part. What is advised may lose its bytes.
    pub fn advise(&self, at: usize, len: usize, advice: i32) -> io::Result<()> {
        self.check(at, len);
        // SAFETY: as in `protect`.
        answer(unsafe { libc::madvise((self.addr + at) as *mut libc::c_void, len, advice) })
    }

    /// Unmaps a part, with the kernel's answer. The part stays reserved for
    /// this object's own final munmap, which tolerates holes.
    pub fn punch(&self, at: usize, len: usize) -> io::Result<()> {
        self.check(at, len);
        // SAFETY: inside this object's own range.
        answer(unsafe { libc::munmap((self.addr + at) as *mut libc::c_void, len) })
    }

    /// msync(2), until it is done.
    pub fn sync(&self, at: usize, len: usize) -> io::Result<()> {
        self.check(at, len);
        let from = (self.addr + at) as *mut libc::c_void;
        // SAFETY: inside this object's own range, whose bytes it does not change.
        answer(unsafe { libc::msync(from, len, libc::MS_SYNC) })
    }

    /// Takes a part away and maps it anew at once, of `file` at the same
    /// offset.
    pub fn renew(&self, file: &File, at: usize, len: usize) -> io::Result<()> {
        self.place(Some(file), at, len, libc::MAP_FIXED)
    }

    /// Maps a part again that was unmapped: of `file` at the same offset, or new memory. Fails if
    /// something else is there meanwhile.
    pub fn mend(&self, file: Option<&File>, at: usize, len: usize) -> io::Result<()> {
        self.place(file, at, len, libc::MAP_FIXED_NOREPLACE)
    }

    fn place(&self, file: Option<&File>, at: usize, len: usize, fixed: i32) -> io::Result<()> {
        self.check(at, len);
        let (flags, fd, offset) = match file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd(), at as libc::off_t),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
        };
        // SAFETY: inside this object's own range, to which no reference exists.
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

    /// Moves a part into the same place of `aside`, of which that was unmapped, and back.
    pub fn move_aside_and_back(&self, aside: &Mapping, at: usize, len: usize) -> io::Result<()> {
        self.check(at, len);
        aside.check(at, len);
        for (from, to) in [(self, aside), (aside, self)] {
            // SAFETY: both ranges belong to the two objects; what is moved away from one of them
            // is a hole there, and nobody else maps anything into it meanwhile.
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

/// What a system call that returns 0 or -1 says.
fn answer(rc: i32) -> io::Result<()> {
    match rc {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the range is this object's own and nothing refers to it.
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

/// One pread into a mapping; short reads are the caller's business.
pub fn pread_once(
    file: &File,
    map: &Mapping,
    at: usize,
    len: usize,
    pos: u64,
) -> io::Result<usize> {
    map.check(at, len);
    // SAFETY: the kernel writes inside the mapping, to which no reference
    // exists.
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

/// One pwrite from a mapping.
pub fn pwrite_once(
    file: &File,
    map: &Mapping,
    at: usize,
    len: usize,
    pos: u64,
) -> io::Result<usize> {
    map.check(at, len);
    // SAFETY: the kernel reads inside the mapping.
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
    let mut done = 0;
    while done < len {
        let want = chunk.min(len - done);
        match pread_once(file, map, at + done, want, pos + done as u64) {
            Ok(0) => bail!("end of file after {done} of {len} bytes of a read into a mapping"),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                return Err(e).with_context(|| {
                    format!("reading {want} bytes into a mapping failed after {done} of {len}")
                })
            }
        }
    }
    Ok(())
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
    let mut done = 0;
    while done < len {
        let want = chunk.min(len - done);
        match pwrite_once(file, map, at + done, want, pos + done as u64) {
            Ok(0) => bail!("nothing more could be written after {done} of {len} bytes"),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                return Err(e).with_context(|| {
                    format!("writing {want} bytes from a mapping failed after {done} of {len}")
                })
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
