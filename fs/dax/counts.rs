// SPDX-License-Identifier: GPL-2.0

//! How many faults each filesystem had, of which size, and why not a larger one.
//!
//! A fault adds one to a number of its CPU. Which number that is, depends on the filesystem's
//! place in a table; the place is found by a hash of its device number, nearly always at once. A
//! filesystem gets its place with its first fault, and keeps it, so that its numbers can be read
//! when it is not mounted any more. When one of another type has the device, they begin anew.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::{bindings, fs::inode::Inode, percpu};

/// How many filesystems there is room for. Those that come later are not counted.
const FILESYSTEMS: usize = bindings::DAX_FAULT_FILESYSTEMS as usize;
/// The numbers of each.
const COUNTS: usize = bindings::DAX_FAULT_COUNTS as usize;

/// Why a fault that might have been huge is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Reason {
    /// The page is written to privately: it is a copy.
    Cow = bindings::dax_fallback_reason_DAX_FALLBACK_COW,
    /// The mapping begins behind where the huge page would.
    VmaStart = bindings::dax_fallback_reason_DAX_FALLBACK_VMA_START,
    /// The mapping ends before the huge page would.
    VmaEnd = bindings::dax_fallback_reason_DAX_FALLBACK_VMA_END,
    /// The address is not aligned as the offset in the file is.
    Offset = bindings::dax_fallback_reason_DAX_FALLBACK_OFFSET,
    /// The file ends before the huge page would.
    Eof = bindings::dax_fallback_reason_DAX_FALLBACK_EOF,
    /// The blocks are not in one piece.
    Short = bindings::dax_fallback_reason_DAX_FALLBACK_SHORT,
    /// The blocks are not aligned on the device.
    Device = bindings::dax_fallback_reason_DAX_FALLBACK_DEVICE,
    /// The device has no pages.
    NoMemmap = bindings::dax_fallback_reason_DAX_FALLBACK_NO_MEMMAP,
    /// Some of it is mapped in small pages already.
    Conflict = bindings::dax_fallback_reason_DAX_FALLBACK_CONFLICT,
    /// It is a hole, and there is no huge zero page.
    NoZeroPage = bindings::dax_fallback_reason_DAX_FALLBACK_NO_ZERO_PAGE,
    /// There is no memory for it.
    NoMemory = bindings::dax_fallback_reason_DAX_FALLBACK_NO_MEMORY,
    /// Anything else: the filesystem or the device has failed.
    Other = bindings::dax_fallback_reason_DAX_FALLBACK_OTHER,
}

impl Reason {
    /// What C takes.
    #[inline]
    pub(crate) const fn as_raw(self) -> u32 {
        self as u32
    }
}

/// The columns of the listing: the sizes, then the reasons in the order of their numbers.
pub(crate) const COLUMNS: [&str; COUNTS] = [
    "4K",
    "2M",
    "cow",
    "vma-start",
    "vma-end",
    "offset",
    "eof",
    "short",
    "device",
    "no-memmap",
    "conflict",
    "no-zero-page",
    "no-memory",
    "other",
];

/// What is counted.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// A page was faulted in.
    Page,
    /// 2 MiB were faulted in.
    Huge,
    /// Might have been huge, and was not.
    Fallback(Reason),
}

impl Event {
    #[inline(always)]
    const fn column(self) -> usize {
        match self {
            Self::Page => 0,
            Self::Huge => 1,
            // OVERFLOW: A small number.
            Self::Fallback(reason) => (reason as usize).wrapping_add(2),
        }
    }
}

/// A filesystem's place.
struct Place {
    /// The device number in the upper half, what tells its type in the lower; 0 if the place is
    /// free.
    key: AtomicU64,
    /// The type's name, padded with zeroes.
    name: [AtomicU64; 2],
}

static PLACES: [Place; FILESYSTEMS] = {
    // Only ever copied into the array.
    #[expect(clippy::declare_interior_mutable_const)]
    const FREE: Place = Place {
        key: AtomicU64::new(0),
        name: [const { AtomicU64::new(0) }; 2],
    };
    [FREE; FILESYSTEMS]
};

/// Whether somebody is giving out a place.
static GIVING: AtomicBool = AtomicBool::new(false);

#[inline(always)]
fn hash(device: u32) -> usize {
    // Minor numbers, 20 bits, follow each other, and are alike for partitions.
    device as usize % FILESYSTEMS
}

#[inline(always)]
fn key_of(inode: &Inode) -> u64 {
    // Types are words in memory that is never the same for two.
    (u64::from(inode.device()) << 32) | (inode.filesystem_id() as u64 & 0xffff_ffff)
}

/// Counts an event of a filesystem. Any context.
#[inline(always)]
pub(crate) fn count(inode: &Inode, event: Event) {
    let place = hash(inode.device());
    match PLACES.get(place) {
        Some(first) if first.key.load(Ordering::Relaxed) == key_of(inode) => add(place, event),
        _ => count_slowly(inode, event),
    }
}

/// Adds one on this CPU.
#[inline(always)]
fn add(place: usize, event: Event) {
    // OVERFLOW: Within the array, as places and columns are within theirs.
    let index = place.wrapping_mul(COUNTS).wrapping_add(event.column());
    let counts = core::ptr::addr_of!(bindings::dax_fault_counts) as usize;
    // SAFETY: An element of a per-CPU array. Nobody else writes to this CPU's numbers but who clears
    // them, and that may lose a count.
    unsafe { percpu::increment(counts.wrapping_add(index.wrapping_mul(8))) };
}

#[cold]
#[inline(never)]
fn count_slowly(inode: &Inode, event: Event) {
    if let Some(place) = find(inode).or_else(|| take(inode)) {
        add(place, event);
    }
}

/// The first place, in the order in which places are given to this filesystem, with such a key.
fn find_key(inode: &Inode, wanted: impl Fn(u64) -> bool) -> Option<usize> {
    (0..FILESYSTEMS)
        .map(|n| hash(inode.device()).wrapping_add(n) % FILESYSTEMS)
        .find(|&number| {
            PLACES
                .get(number)
                .is_some_and(|place| wanted(place.key.load(Ordering::Acquire)))
        })
}

fn find(inode: &Inode) -> Option<usize> {
    let key = key_of(inode);
    find_key(inode, |other| other == key)
}

/// Gives the filesystem a place: that of another on the same device, or a free one, near its hash if
/// possible.
fn take(inode: &Inode) -> Option<usize> {
    if GIVING.swap(true, Ordering::Acquire) {
        // The next fault is counted.
        return None;
    }
    let key = key_of(inode);
    let number = find(inode).or_else(|| {
        let number = find_key(inode, |other| other >> 32 == key >> 32)
            .or_else(|| find_key(inode, |other| other == 0))?;
        PLACES.get(number)?.occupy(number, key, inode);
        Some(number)
    });
    GIVING.store(false, Ordering::Release);
    number
}

impl Place {
    fn occupy(&self, number: usize, key: u64, inode: &Inode) {
        self.key.store(0, Ordering::Release);
        let first = number.wrapping_mul(COUNTS);
        // SAFETY: The numbers of a place.
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

/// The numbers of a filesystem.
pub(crate) struct Line {
    /// Its device number, as the kernel has it: 12 and 20 bits.
    pub device: u32,
    name: [u8; 16],
    /// In the order of [`COLUMNS`].
    pub counts: [u64; COUNTS],
}

impl Line {
    /// The name of the type.
    pub(crate) fn name(&self) -> &str {
        let len = self.name.iter().position(|&byte| byte == 0);
        let name = self.name.get(..len.unwrap_or(self.name.len()));
        name.and_then(|name| core::str::from_utf8(name).ok())
            .unwrap_or("?")
    }
}

/// All filesystems that had faults.
pub(crate) fn lines() -> impl Iterator<Item = Line> {
    (0..FILESYSTEMS).filter_map(|number| {
        let place = PLACES.get(number)?;
        let key = place.key.load(Ordering::Acquire);
        if key == 0 {
            return None;
        }
        let mut name = [0; 16];
        for (to, from) in name.chunks_exact_mut(8).zip(&place.name) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_ne_bytes());
        }
        let first = number.wrapping_mul(COUNTS);
        Some(Line {
            // CAST: The upper half.
            device: (key >> 32) as u32,
            name,
            counts: core::array::from_fn(|column| {
                let index = first.wrapping_add(column);
                // SAFETY: An element of the array.
                unsafe { bindings::dax_fault_counts_sum(index as _) as u64 }
            }),
        })
    })
}
