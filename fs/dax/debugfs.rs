// SPDX-License-Identifier: GPL-2.0-only

//! Fault counters for each filesystem, and their files in debugfs.
//!
//! `fs_dax/faults` has a line per filesystem: device, type, PTE faults, PMD faults, and for each
//! [`Reason`] the number of faults that fell back to pages because of it. `fs_dax/implementation`
//! says `rust`.
//!
//! `fs_dax/delayed_iputs` has a line for each inode that is removed, and whose blocks are kept
//! because pages of them are still pinned: `device=259:1 fstype=ext4 inode=12 pages=16
//! first=0x140000000 seconds=3`. `pages` is the number of pinned pages and `first` the physical
//! address of the first of them, both as last counted; 0 if they were not counted yet.
//!
//! `fs_dax/folios` has the names of [`FolioEvent`]s, and how often each has happened since boot.
//!
//! A fault increments one per-CPU counter. A table maps filesystems to their counters. Its index is
//! a hash of the device number, which nearly always finds the filesystem at once. A filesystem gets
//! a row with its first fault and keeps it, so its counters can be read after it was unmounted. If
//! a filesystem of another type is mounted from the same device, it takes over the row, and the
//! counters start at 0.
//!
//! This file encapsulates the array of per-CPU counters, which `dax_glue.c` defines.

use crate::{delayed_iput, owner_state::FolioEvent};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::{
    bindings, c_str,
    debugfs::Dir,
    fs::inode::{device_numbers, Inode},
    percpu,
    seq_file::SeqFile,
    seq_print,
    sync::SetOnce,
};

/// The number of rows of the table. Faults of further filesystems are not counted.
const FILESYSTEMS: usize = bindings::DAX_FAULT_FILESYSTEMS as usize;
/// The number of counters of each filesystem.
const COUNTS: usize = bindings::DAX_FAULT_COUNTS as usize;

/// Why a fault that could have been a PMD fault is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Reason {
    /// A store to a private mapping, which copies the page.
    Cow = bindings::dax_fallback_reason_DAX_FALLBACK_COW,
    /// The VMA begins after the start of the 2 MiB.
    VmaStart = bindings::dax_fallback_reason_DAX_FALLBACK_VMA_START,
    /// The VMA ends before the end of the 2 MiB.
    VmaEnd = bindings::dax_fallback_reason_DAX_FALLBACK_VMA_END,
    /// Address and file offset differ modulo 2 MiB.
    Offset = bindings::dax_fallback_reason_DAX_FALLBACK_OFFSET,
    /// The file ends before the end of the 2 MiB.
    Eof = bindings::dax_fallback_reason_DAX_FALLBACK_EOF,
    /// Transparent huge pages are off for the VMA or the process.
    ThpOff = bindings::dax_fallback_reason_DAX_FALLBACK_THP_OFF,
    /// The blocks are not contiguous.
    Short = bindings::dax_fallback_reason_DAX_FALLBACK_SHORT,
    /// The blocks are not aligned on the device.
    Device = bindings::dax_fallback_reason_DAX_FALLBACK_DEVICE,
    /// The device memory has no `struct page`.
    NoMemmap = bindings::dax_fallback_reason_DAX_FALLBACK_NO_MEMMAP,
    /// Some of the 2 MiB is mapped by PTEs already.
    Conflict = bindings::dax_fallback_reason_DAX_FALLBACK_CONFLICT,
    /// The 2 MiB are a hole, and there is no huge zero folio.
    NoZeroPage = bindings::dax_fallback_reason_DAX_FALLBACK_NO_ZERO_PAGE,
    /// There is no memory for an entry or a page table.
    NoMemory = bindings::dax_fallback_reason_DAX_FALLBACK_NO_MEMORY,
    /// The filesystem or the device has failed, or the reason is none of the others.
    Other = bindings::dax_fallback_reason_DAX_FALLBACK_OTHER,
}

impl Reason {
    /// Returns the value for C.
    #[inline]
    pub(crate) const fn as_raw(self) -> u32 {
        self as u32
    }
}

/// The names of the columns: the sizes, then the reasons in the order of their values.
const COLUMNS: [&str; COUNTS] = [
    "4K",
    "2M",
    "cow",
    "vma-start",
    "vma-end",
    "offset",
    "eof",
    "thp-off",
    "short",
    "device",
    "no-memmap",
    "conflict",
    "no-zero-page",
    "no-memory",
    "other",
];

/// An event that is counted.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// A PTE fault was handled.
    Pte,
    /// A PMD fault was handled.
    Pmd,
    /// A fault is not a PMD fault.
    Fallback(Reason),
}

impl Event {
    /// Returns the column of the event.
    #[inline(always)]
    const fn column(self) -> usize {
        match self {
            Self::Pte => 0,
            Self::Pmd => 1,
            // OVERFLOW: There are few reasons.
            Self::Fallback(reason) => (reason as usize).wrapping_add(2),
        }
    }
}

/// A row of the table: one filesystem.
struct Filesystem {
    /// The device number in the upper half, an identifier of the type in the lower; 0 if the row is
    /// free.
    key: AtomicU64,
    /// The name of the type, padded with zeroes.
    name: [AtomicU64; 2],
}

/// The table of filesystems.
static TABLE: [Filesystem; FILESYSTEMS] = {
    // The constant is only copied into the array.
    #[expect(clippy::declare_interior_mutable_const)]
    const FREE: Filesystem = Filesystem {
        key: AtomicU64::new(0),
        name: [const { AtomicU64::new(0) }; 2],
    };
    [FREE; FILESYSTEMS]
};

/// A try-lock for assigning a row.
static ASSIGNING: AtomicBool = AtomicBool::new(false);

/// Returns the first row to try for a device.
#[inline(always)]
fn hash(device: u32) -> usize {
    // Minor numbers, which are the low 20 bits, are consecutive, and so are those of partitions.
    device as usize % FILESYSTEMS
}

/// Returns the key of the filesystem of an inode.
#[inline(always)]
fn key_of(inode: &Inode) -> u64 {
    // The lower half of the address of the `file_system_type` identifies the type.
    (u64::from(inode.device()) << 32) | (inode.filesystem_id() as u64 & 0xffff_ffff)
}

/// Counts an event of the filesystem of an inode. Any context.
#[inline(always)]
pub(crate) fn count(inode: &Inode, event: Event) {
    let row = hash(inode.device());
    match TABLE.get(row) {
        Some(first) if first.key.load(Ordering::Relaxed) == key_of(inode) => increment(row, event),
        _ => count_slow(inode, event),
    }
}

/// Increments a counter of this CPU.
#[inline(always)]
fn increment(row: usize, event: Event) {
    // OVERFLOW: Rows and columns are within the array.
    let index = row.wrapping_mul(COUNTS).wrapping_add(event.column());
    let counts = core::ptr::addr_of!(bindings::dax_fault_counts) as usize;
    // SAFETY: This is the offset of an element of the per-CPU array. Only this CPU writes to its
    // element, except when a row is cleared, which may lose a count.
    unsafe { percpu::increment(counts.wrapping_add(index.wrapping_mul(8))) };
}

/// Counts an event of a filesystem that is not in its first row, or in none yet.
#[cold]
#[inline(never)]
fn count_slow(inode: &Inode, event: Event) {
    if let Some(row) = find(inode).or_else(|| assign(inode)) {
        increment(row, event);
    }
}

/// Returns the first row, in the probe order of this filesystem, whose key `wanted` accepts.
fn find_key(inode: &Inode, wanted: impl Fn(u64) -> bool) -> Option<usize> {
    (0..FILESYSTEMS)
        .map(|n| hash(inode.device()).wrapping_add(n) % FILESYSTEMS)
        .find(|&row| {
            TABLE
                .get(row)
                .is_some_and(|filesystem| wanted(filesystem.key.load(Ordering::Acquire)))
        })
}

/// Returns the row of the filesystem of an inode.
fn find(inode: &Inode) -> Option<usize> {
    let key = key_of(inode);
    find_key(inode, |other| other == key)
}

/// Assigns a row to the filesystem of an inode: that of another filesystem on the same device, or
/// else the first free one.
fn assign(inode: &Inode) -> Option<usize> {
    if ASSIGNING.swap(true, Ordering::Acquire) {
        // Another task is assigning a row. The next fault is counted again.
        return None;
    }
    let key = key_of(inode);
    let row = find(inode).or_else(|| {
        let row = find_key(inode, |other| other >> 32 == key >> 32)
            .or_else(|| find_key(inode, |other| other == 0))?;
        TABLE.get(row)?.occupy(row, key, inode);
        Some(row)
    });
    ASSIGNING.store(false, Ordering::Release);
    row
}

impl Filesystem {
    /// Fills the row for the filesystem of an inode, with counters of 0.
    fn occupy(&self, row: usize, key: u64, inode: &Inode) {
        self.key.store(0, Ordering::Release);
        let first = row.wrapping_mul(COUNTS);
        // SAFETY: The counters of a row are within the array.
        unsafe { bindings::dax_fault_counts_clear(first as _, COUNTS as _) };
        let mut name = [0u8; 16];
        for (to, from) in name
            .iter_mut()
            .zip(inode.filesystem_name().as_bytes_with_nul())
        {
            *to = *from;
        }
        for (to, from) in self.name.iter().zip(name.chunks_exact(8)) {
            let word = from.try_into().map_or(0, u64::from_ne_bytes);
            to.store(word, Ordering::Relaxed);
        }
        self.key.store(key, Ordering::Release);
    }
}

/// The counters of one filesystem.
struct FilesystemCounts {
    /// The device number, with 12 bits for the major and 20 for the minor number.
    device: u32,
    name: [u8; 16],
    /// The counters, in the order of [`COLUMNS`].
    counts: [u64; COUNTS],
}

impl FilesystemCounts {
    /// Returns the name of the filesystem type.
    fn name(&self) -> &str {
        let len = self.name.iter().position(|&byte| byte == 0);
        let name = self.name.get(..len.unwrap_or(self.name.len()));
        name.and_then(|name| core::str::from_utf8(name).ok())
            .unwrap_or("?")
    }
}

/// Returns the counters of all filesystems that had faults.
fn all_counts() -> impl Iterator<Item = FilesystemCounts> {
    (0..FILESYSTEMS).filter_map(|row| {
        let filesystem = TABLE.get(row)?;
        let key = filesystem.key.load(Ordering::Acquire);
        if key == 0 {
            return None;
        }
        let mut name = [0; 16];
        for (to, from) in name.chunks_exact_mut(8).zip(&filesystem.name) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_ne_bytes());
        }
        let first = row.wrapping_mul(COUNTS);
        Some(FilesystemCounts {
            // CAST: The upper half has 32 bits.
            device: (key >> 32) as u32,
            name,
            counts: core::array::from_fn(|column| {
                let index = first.wrapping_add(column);
                // SAFETY: The counters of a row are within the array.
                unsafe { bindings::dax_fault_counts_sum(index as _) as u64 }
            }),
        })
    })
}

/// The directory, which is never removed.
static DIR: SetOnce<Dir> = SetOnce::new();

/// Creates the files. Sleeps.
pub(crate) fn init() {
    let dir = Dir::new(c_str!("fs_dax"));
    // SAFETY: This crate is built in, so its functions stay.
    unsafe {
        dir.read_callback_file(c_str!("implementation"), |file| seq_print!(file, "rust\n"));
        dir.read_callback_file(c_str!("faults"), show_faults);
        dir.read_callback_file(c_str!("delayed_iputs"), delayed_iput::show);
        dir.read_callback_file(c_str!("folios"), show_folios);
    }
    DIR.populate(dir);
}

/// The names of the events of folios, in the order of their values.
const FOLIO_EVENTS: [&str; 7] = [
    "merged",
    "split",
    "unmerged-owned",
    "unmerged-pinned",
    "unmerged-bad",
    "unsplit-owned",
    "unsplit-pinned",
];

/// How often each event of folios has happened.
static FOLIO_COUNTS: [AtomicU64; FOLIO_EVENTS.len()] =
    [const { AtomicU64::new(0) }; FOLIO_EVENTS.len()];

/// Counts an event of a folio. Any context.
#[cold]
pub(crate) fn count_folio(event: FolioEvent) {
    if let Some(count) = FOLIO_COUNTS.get(event as usize) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Prints the content of `fs_dax/folios`.
fn show_folios(file: &SeqFile) {
    for (name, count) in FOLIO_EVENTS.iter().zip(&FOLIO_COUNTS) {
        seq_print!(file, "{name} {}\n", count.load(Ordering::Relaxed));
    }
}

/// Prints the content of `fs_dax/faults`.
fn show_faults(file: &SeqFile) {
    seq_print!(file, "# device fstype");
    for column in COLUMNS {
        seq_print!(file, " {column}");
    }
    seq_print!(file, "\n");
    for filesystem in all_counts() {
        let (major, minor) = device_numbers(filesystem.device);
        seq_print!(file, "{major}:{minor} {}", filesystem.name());
        for count in filesystem.counts {
            seq_print!(file, " {count}");
        }
        seq_print!(file, "\n");
    }
}
