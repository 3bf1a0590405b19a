// SPDX-License-Identifier: GPL-2.0

//! The entries by which a process maps a range, from /proc/PID/pagemap.
//!
//! smaps leaves out device memory, so the request `PAGEMAP_SCAN` (Linux 6.7) is used, which skips
//! holes and returns runs of entries; it changes nothing. A walk over a mapping with entries of
//! 1 GiB would split them, so the caller does not ask for these.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use super::Span;
use crate::ranges::HUGE;

/// Values from linux/fs.h.
const PAGEMAP_SCAN: u64 = 0xc060_6610;
const IS_PRESENT: u64 = 1 << 3;
const IS_PFNZERO: u64 = 1 << 5;
const IS_HUGE: u64 = 1 << 6;

/// The size of a page.
const PAGE: u64 = 4096;
/// The number of pages whose addresses are read at most in one mapping: 16 GiB of 4 KiB.
const MOST: u64 = 1 << 22;

/// struct pm_scan_arg.
#[repr(C)]
#[derive(Default)]
struct Argument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// struct page_region.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// How much of a range is mapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Entries of 2 MiB.
    pub huge: u64,
    /// Entries of 4 KiB.
    pub small: u64,
    /// Whether some of it is in the physical ranges that were asked for; `None` if they cannot be
    /// told.
    pub inside: Option<bool>,
}

/// Counts the present entries of `span`. With physical ranges, looks also whether one of them is
/// mapped. Entries of the zero page are left out.
///
/// # Errors
///
/// ENOTTY before Linux 6.7.
pub fn count(pagemap: &File, span: Span, ranges: &[Span]) -> io::Result<Count> {
    let mut regions = [Region::default(); 512];
    let mut total = Count {
        inside: (!ranges.is_empty()).then_some(false),
        ..Count::default()
    };
    let mut left = MOST;
    let (mut at, end) = (span.start, span.end.saturating_add(1));
    while at < end {
        let mut argument = Argument {
            size: size_of::<Argument>() as u64,
            start: at,
            end,
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            category_mask: IS_PRESENT,
            return_mask: IS_PRESENT | IS_HUGE | IS_PFNZERO,
            ..Argument::default()
        };
        // SAFETY: The argument has the layout of the request, and names an array that has this many
        // elements; both outlive the call.
        let n = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &mut argument) };
        let Ok(n) = usize::try_from(n) else {
            return Err(io::Error::last_os_error());
        };
        let found = regions.iter().take(n);
        for region in found.filter(|r| r.categories & IS_PFNZERO == 0) {
            let len = region.end.saturating_sub(region.start);
            let step = match region.categories & IS_HUGE != 0 {
                true => HUGE,
                false => PAGE,
            };
            let entries = len.div_ceil(step);
            match step {
                HUGE => total.huge += entries,
                _ => total.small += entries,
            }
            if total.inside == Some(false) {
                total.inside = inside(pagemap, region, step, ranges, &mut left);
            }
        }
        // Without progress there is nothing more.
        if argument.walk_end <= at {
            break;
        }
        at = argument.walk_end;
    }
    Ok(total)
}

/// Returns whether a page of a region is in one of the ranges; `None` if the kernel hides the
/// addresses, or there are too many.
fn inside(
    pagemap: &File,
    region: &Region,
    step: u64,
    ranges: &[Span],
    left: &mut u64,
) -> Option<bool> {
    const PFN: u64 = (1 << 55) - 1;
    let mut words = [0u8; 8 * 512];
    let mut at = region.start;
    while at < region.end {
        // Of a huge entry the first page is enough.
        let pages = match step {
            HUGE => 1,
            _ => ((region.end - at) / PAGE).clamp(1, 512),
        };
        *left = left.checked_sub(pages)?;
        let bytes = words.get_mut(..usize::try_from(pages).ok()? * 8)?;
        pagemap.read_exact_at(bytes, at / PAGE * 8).ok()?;
        for word in bytes.chunks_exact(8) {
            let pfn = u64::from_ne_bytes(word.try_into().ok()?) & PFN;
            if pfn == 0 {
                return None;
            }
            let page = Span::new(pfn.checked_mul(PAGE)?, step)?;
            if ranges.iter().any(|r| r.overlaps(page)) {
                return Some(true);
            }
        }
        at = at.checked_add(pages * step)?;
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request's number has the size of the structure.
    #[test]
    fn layout() {
        assert_eq!(size_of::<Argument>(), 0x60);
        assert_eq!(size_of::<Region>(), 24);
        assert_eq!(
            PAGEMAP_SCAN,
            (3 << 30) | (0x60 << 16) | (u64::from(b'f') << 8) | 16
        );
    }

    #[test]
    fn memory_of_this_process() -> io::Result<()> {
        let memory = vec![1u8; 64 * PAGE as usize];
        let first = (memory.as_ptr() as u64).next_multiple_of(PAGE);
        let span = Span {
            start: first,
            end: first + 32 * PAGE - 1,
        };
        match count(&File::open("/proc/self/pagemap")?, span, &[]) {
            Ok(found) => assert!(found.huge > 0 || found.small == 32, "{found:?}"),
            // An older kernel.
            Err(e) => assert_eq!(e.raw_os_error(), Some(libc::ENOTTY)),
        }
        Ok(())
    }
}
