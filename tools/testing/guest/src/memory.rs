// SPDX-License-Identifier: GPL-2.0

//! Memory that is not DAX, of each kind that GUP handles separately.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use nix::sys::memfd::{memfd_create, MFdFlags};
use nix::sys::statfs::{fstatfs, EXT4_SUPER_MAGIC};

use crate::mapping::{Mapping, PAGE};
use crate::system;

pub const HUGE: usize = 2 << 20;
/// Folder on a filesystem that tracks dirty pages in the page cache.
const DISK: &str = "/var/tmp";
const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

/// The kinds of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anonymous, 4 KiB pages only.
    Anon,
    /// Anonymous, with transparent huge pages.
    Thp,
    /// Anonymous, with reserved huge pages.
    Hugetlb,
    /// Shared memory, 4 KiB pages.
    Shmem,
    /// A file of reserved huge pages.
    HugetlbFile,
    /// A file in the page cache, mapped shared.
    File,
    /// A private mapping of such a file.
    Private,
    /// Memory that the kernel itself cannot access.
    Secret,
}

impl Kind {
    /// Kinds that GUP accepts: all but secret memory.
    pub const TAKEN: [Kind; 7] = [
        Kind::Anon,
        Kind::Thp,
        Kind::Hugetlb,
        Kind::Shmem,
        Kind::HugetlbFile,
        Kind::File,
        Kind::Private,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Anon => "anon",
            Kind::Thp => "thp",
            Kind::Hugetlb => "hugetlb",
            Kind::Shmem => "shmem",
            Kind::HugetlbFile => "hugetlb-file",
            Kind::File => "file",
            Kind::Private => "private-file",
            Kind::Secret => "secret",
        }
    }

    fn is_hugetlb(self) -> bool {
        matches!(self, Kind::Hugetlb | Kind::HugetlbFile)
    }
}

/// A readable and writable mapping of one kind of memory. Fields are dropped in this order.
pub struct Memory {
    pub map: Mapping,
    /// The mapped file, if there is one.
    pub file: Option<File>,
    kind: Kind,
    _reserved: Option<Reserved>,
}

impl Memory {
    /// Creates `len` bytes that have not been touched, except that a file's pages are in the
    /// page cache. `copies` is the number of processes that will have pages of their own.
    pub fn create(kind: Kind, len: usize, copies: usize) -> Result<Self> {
        let reserved = match kind.is_hugetlb() {
            true => Some(Reserved::new(copies * len / HUGE)?),
            false => None,
        };
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let (map, file) = match kind {
            Kind::Anon | Kind::Thp => (anonymous(kind, len)?, None),
            Kind::Hugetlb => (hugetlb(len)?, None),
            Kind::Shmem => {
                let file = memfd(len, MFdFlags::empty())?;
                (Mapping::shared(&file, 0, len, HUGE)?, Some(file))
            }
            Kind::HugetlbFile => {
                let file = memfd(len, MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB)?;
                (Mapping::shared(&file, 0, len, HUGE)?, Some(file))
            }
            Kind::File => {
                let file = cached(len)?;
                (Mapping::shared(&file, 0, len, HUGE)?, Some(file))
            }
            Kind::Private => {
                let file = cached(len)?;
                let map = Mapping::with(&file, 0, len, HUGE, prot, libc::MAP_PRIVATE)?;
                (map, Some(file))
            }
            Kind::Secret => {
                let file = secret(len)?;
                (Mapping::shared(&file, 0, len, HUGE)?, Some(file))
            }
        };
        Ok(Self {
            map,
            file,
            kind,
            _reserved: reserved,
        })
    }

    /// Populates each page, and checks that the memory is of the requested kind.
    pub fn touch(&self) -> Result<()> {
        let len = self.map.len();
        self.map.prefault_write(PAGE);
        if self.kind != Kind::Thp {
            return Ok(());
        }
        if huge_bytes(&self.map)? < len {
            // Memory was fragmented: now it may be moved.
            self.map
                .advise(0, len, libc::MADV_COLLAPSE)
                .context("collapsing into huge pages")?;
        }
        let huge = huge_bytes(&self.map)?;
        ensure!(
            huge == len,
            "only {huge:#x} of {len:#x} bytes are huge pages"
        );
        Ok(())
    }

    /// Removes the pages from the mapping; a file keeps them.
    pub fn zap(&self) -> Result<()> {
        self.map
            .advise(0, self.map.len(), libc::MADV_DONTNEED)
            .context("MADV_DONTNEED")
    }

    /// Returns the page size, which is also the size of parts that can be unmapped.
    pub fn unit(&self) -> usize {
        match self.kind.is_hugetlb() {
            true => HUGE,
            false => PAGE,
        }
    }
}

fn anonymous(kind: Kind, len: usize) -> Result<Mapping> {
    let map = Mapping::reserve(len, HUGE)?;
    map.protect(0, len, libc::PROT_READ | libc::PROT_WRITE)
        .context("cannot make memory writable")?;
    let advice = match kind {
        Kind::Thp => libc::MADV_HUGEPAGE,
        _ => libc::MADV_NOHUGEPAGE,
    };
    map.advise(0, len, advice)
        .context("the kernel needs CONFIG_TRANSPARENT_HUGEPAGE")?;
    Ok(map)
}

fn hugetlb(len: usize) -> Result<Mapping> {
    let flags = libc::MAP_PRIVATE | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    Mapping::fresh(len, HUGE, flags)
}

/// Converts the result of a system call into a file.
fn opened(fd: i64, what: &str) -> Result<File> {
    match i32::try_from(fd) {
        // SAFETY: The descriptor is new and owned here, so nothing else closes it.
        Ok(fd) if fd >= 0 => Ok(unsafe { File::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()).with_context(|| format!("{what} failed")),
    }
}

fn memfd(len: usize, flags: MFdFlags) -> Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | flags;
    let file = File::from(memfd_create(c"guest-test", flags).context("memfd_create")?);
    file.set_len(len as u64).context("ftruncate of a memfd")?;
    Ok(file)
}

fn secret(len: usize) -> Result<File> {
    // SAFETY: memfd_secret() takes no pointers, so no argument can be invalid memory.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    if fd < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        skip!("the kernel has no memfd_secret()");
    }
    let file = opened(fd, "memfd_secret")?;
    file.set_len(len as u64)
        .context("ftruncate of a secret memfd")?;
    Ok(file)
}

/// Creates a file without a name, all of it in the page cache.
fn cached(len: usize) -> Result<File> {
    let path = Path::new(DISK).join(format!("guest-test-{}", std::process::id()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    let filesystem = fstatfs(&file).context("fstatfs")?.filesystem_type();
    if filesystem != EXT4_SUPER_MAGIC {
        skip!("{DISK} is not on ext4");
    }
    file.write_all_at(&vec![0; len], 0)
        .context("cannot fill a file")?;
    Ok(file)
}

/// Reserved huge pages, which are released when dropped.
struct Reserved {
    before: u64,
}

impl Reserved {
    fn new(pages: usize) -> Result<Self> {
        let before = system::read_u64(NR_HUGEPAGES).context("the kernel needs CONFIG_HUGETLBFS")?;
        let this = Self { before };
        let want = before + pages as u64;
        std::fs::write(NR_HUGEPAGES, want.to_string())
            .with_context(|| format!("cannot write {NR_HUGEPAGES}"))?;
        if system::read_u64(NR_HUGEPAGES)? < want {
            skip!("the kernel cannot reserve {pages} huge pages");
        }
        Ok(this)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Err(e) = std::fs::write(NR_HUGEPAGES, self.before.to_string()) {
            eprintln!("clean-up: {NR_HUGEPAGES}: {e}");
        }
    }
}

/// Returns the number of unused reserved huge pages. A lost reference keeps a page from
/// returning to the pool.
pub fn free_huge_pages() -> Result<i64> {
    let text = system::read("/proc/meminfo")?;
    let number = |name: &str| -> Result<i64> {
        let line = text.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|l| l.trim().parse().ok())
            .with_context(|| format!("/proc/meminfo has no {name}"))
    };
    Ok(number("HugePages_Free:")? - number("HugePages_Total:")?)
}

/// Returns the bytes of transparent huge pages at the start of the mapping's region.
fn huge_bytes(map: &Mapping) -> Result<usize> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").context("cannot read smaps")?;
    match huge_bytes_in(&smaps, map.addr()) {
        Some(bytes) => Ok(bytes.min(map.len())),
        None => bail!("/proc/self/smaps has no entry for {:#x}", map.addr()),
    }
}

fn huge_bytes_in(smaps: &str, addr: usize) -> Option<usize> {
    let mut inside = false;
    for line in smaps.lines() {
        let range = line.split(' ').next().and_then(|r| r.split_once('-'));
        if let Some((start, end)) = range {
            if let (Ok(start), Ok(end)) = (
                usize::from_str_radix(start, 16),
                usize::from_str_radix(end, 16),
            ) {
                inside = (start..end).contains(&addr);
            }
        }
        if let Some(rest) = line.strip_prefix("AnonHugePages:").filter(|_| inside) {
            let kib: usize = rest.trim().trim_end_matches("kB").trim().parse().ok()?;
            return Some(kib << 10);
        }
    }
    None
}

/// A setting of `transparent_hugepage/enabled`, which is undone when this is
/// dropped.
pub struct SystemThp(String);

impl SystemThp {
    const FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

    pub fn set(value: &str) -> Result<Self> {
        let text = system::read(Self::FILE)?;
        let old = text
            .split_whitespace()
            .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
            .context("no setting of huge pages is selected")?;
        let this = Self(old.to_string());
        fs::write(Self::FILE, value).context(Self::FILE)?;
        Ok(this)
    }
}

impl Drop for SystemThp {
    fn drop(&mut self) {
        if let Err(e) = fs::write(Self::FILE, &self.0) {
            eprintln!("{}: {e}", Self::FILE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_in_smaps() {
        let smaps = "7f0000000000-7f0000400000 rw-p 00000000 00:00 0\n\
                     AnonHugePages:      2048 kB\n\
                     7f0000400000-7f0000800000 rw-p 00000000 00:00 0 [x-y]\n\
                     AnonHugePages:      4096 kB\n";
        assert_eq!(huge_bytes_in(smaps, 0x7f00_0000_1000), Some(2 << 20));
        assert_eq!(huge_bytes_in(smaps, 0x7f00_0040_0000), Some(4 << 20));
        assert_eq!(huge_bytes_in(smaps, 0x7f00_0080_0000), None);
    }
}
