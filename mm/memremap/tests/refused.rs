// SPDX-License-Identifier: GPL-2.0

//! Pgmaps that the registry refuses, and the effects of that, which are none.
//!
//! The `unsafe` code in this file encapsulates a call of `memremap_pages()` that fails.

use super::fixture::*;
use core::ptr::null_mut;
use kernel::{
    bindings,
    error::from_err_ptr,
    kunit::{expect_splat, expect_splat_end},
    macros::kunit_tests,
    mm::{
        memremap::{DevPagemap, MemoryType, Options},
        node::Node,
        pfn::PhysRange,
    },
    prelude::*,
};

/// The warning about an overlap.
const CONFLICT: &str = "Conflicting mapping in same section";

/// Maps one range, tries to map another one, and checks that the first is still complete.
fn refuses(first: PhysRange, second: PhysRange, owner: kernel::mm::memremap::Region) -> Result {
    let map = register(MemoryType::Private, owner, &[first])?;
    let refused = try_register(MemoryType::Private, claim_again(second), &[second]);
    let error = refused.err().map(Error::from);

    let survivors = [first.pfns().first(), first.pfns().last()]
        .into_iter()
        .filter_map(|pfn| DevPagemap::lookup(pfn, None))
        .filter(|live| core::ptr::eq(&**live, map.pgmap()))
        .count();
    drop(map);
    if error != Some(ENOMEM) {
        return Err(error.unwrap_or(EEXIST));
    }
    if survivors != 2 {
        return Err(ENOENT);
    }
    Ok(())
}

/// Maps a pgmap with this setup by the C function, and returns its error.
fn raw_map(setup: impl FnOnce(&mut bindings::dev_pagemap)) -> Result {
    let mut pgmap = KBox::new(bindings::dev_pagemap::default(), GFP_KERNEL)?;
    setup(&mut pgmap);
    // SAFETY: The pgmap is zeroed but for the setup, so the function refuses it, and it is not used
    // after that.
    from_err_ptr(unsafe { bindings::memremap_pages(&mut *pgmap, -1) }).map(|_| ())
}

/// Tries twice to map one pgmap by the C function, while another one has its range. Returns the
/// errors, and the number of its ranges after each attempt.
fn map_refused_twice() -> Result<[(Result, i32); 2]> {
    let area = region()?;
    let taken = part(&area, 2, 2)?;
    let blocker = register(MemoryType::Private, claim_again(taken), &[taken])?;
    let mut pgmap = KBox::new(bindings::dev_pagemap::default(), GFP_KERNEL)?;
    pgmap.type_ = bindings::memory_type_MEMORY_DEVICE_GENERIC;
    pgmap.nr_range = 1;
    // SAFETY: The union has one range, as a pgmap with that number of ranges does.
    unsafe { *pgmap.__bindgen_anon_1.range.as_mut() = taken.as_raw() };
    let mut attempt = || {
        expect_splat(CONFLICT);
        // SAFETY: The range belongs to another pgmap, so the function refuses it and keeps no
        // pointer to this one, which is valid until the end of this function.
        let answer = from_err_ptr(unsafe { bindings::memremap_pages(&mut *pgmap, -1) });
        expect_splat_end(CONFLICT);
        (answer.map(|_| ()), pgmap.nr_range)
    };
    let answers = [attempt(), attempt()];
    drop(blocker);
    Ok(answers)
}

#[kunit_tests(memremap_refused)]
mod tests {
    use super::*;

    fn overlap(first: (u64, u64), second: (u64, u64), is_seen: bool) -> Result {
        let region = region()?;
        let first = part(&region, first.0, first.1)?;
        let second = part(&region, second.0, second.1)?;
        if is_seen {
            expect_splat(CONFLICT);
        }
        let answer = refuses(first, second, region);
        if is_seen {
            expect_splat_end(CONFLICT);
        }
        answer
    }

    /// Fails if a range can be mapped twice, or the refusal removes the first mapping.
    #[test]
    fn overlap_at_an_end_is_refused() {
        assert_eq!(overlap((2, 2), (2, 2), true), Ok(()));
        assert_eq!(overlap((2, 2), (1, 2), true), Ok(()));
        assert_eq!(overlap((2, 2), (3, 2), true), Ok(()));
    }

    /// Fails if a range around another one is not detected. C checks the ends only: it goes on
    /// until the memory cannot be added (EEXIST), and then erases the entries of the inner pgmap.
    #[test]
    fn differs_overlap_around_another_range_is_refused() {
        // C warns where the memory cannot be added, but once only: see `lifetime.rs`.
        let is_seen = cfg!(CONFIG_RUST_DEV_PAGEMAP);
        assert_eq!(overlap((3, 1), (1, 5), is_seen), Ok(()));
    }

    fn bad_ranges() -> Result {
        let area = region()?;
        let inside = part(&area, 0, 1)?;
        let half = area.part(0, UNIT / 2).ok_or(EINVAL)?;
        let outside = PhysRange::with_len(area.range().end() + 1, UNIT).ok_or(EINVAL)?;
        let answer = |ranges: &[PhysRange]| {
            let mine = claim_again(area.range());
            try_register(MemoryType::Private, mine, ranges)
                .err()
                .map(Error::from)
        };
        assert_eq!(answer(&[]), Some(EINVAL));
        assert_eq!(answer(&[half]), Some(EINVAL));
        assert_eq!(answer(&[inside, outside]), Some(EINVAL));
        // The failures left nothing behind.
        assert!(answer(&[inside]).is_none());
        Ok(())
    }

    /// Fails if mapping begins for a range that is misaligned or does not belong to the driver.
    #[test]
    fn ranges_are_checked_before_anything_is_done() {
        assert_eq!(bad_ranges(), Ok(()));
    }

    fn bad_options() -> Result {
        let area = region()?;
        let range = part(&area, 0, 1)?;
        let answer = |kind, node, vmemmap_shift| {
            let options = Options {
                vmemmap_shift,
                node,
            };
            try_register_with(kind, claim_again(range), &[range], options)
                .err()
                .map(Error::from)
        };
        assert_eq!(answer(MemoryType::PciP2pdma, None, 0), Some(EINVAL));
        // Pages of 4 MiB, which do not fit into the range, pages larger than a PUD, and no valid
        // order.
        for shift in [10, 19, u32::MAX] {
            assert_eq!(answer(MemoryType::Generic, None, shift), Some(EINVAL));
        }
        // Pages of 2 MiB fit, but not for files.
        assert_eq!(answer(MemoryType::FsDax, None, 9), Some(EINVAL));
        // The failures left nothing behind.
        let first = Node::new(0).ok_or(ENXIO)?;
        assert!(answer(MemoryType::Generic, Some(first), 0).is_none());
        Ok(())
    }

    /// Fails if mapping begins for a kind of pages that cannot exist.
    #[test]
    fn options_are_checked_before_anything_is_done() {
        assert_eq!(bad_options(), Ok(()));
    }

    fn without_memory() -> Result {
        let kinds = [
            (MemoryType::Coherent, Some(EINVAL)),
            (MemoryType::FsDax, Some(EINVAL)),
            (MemoryType::Generic, Some(EINVAL)),
            (MemoryType::Private, None),
        ];
        for (kind, expected) in kinds {
            let area = region_without_memory()?;
            let range = part(&area, 0, 1)?;
            let refused = try_register(kind, area, &[range]);
            assert_eq!(refused.err().map(Error::from), expected);
        }
        Ok(())
    }

    /// Fails if addresses without memory get a linear mapping, through which the CPU reads
    /// speculatively.
    #[test]
    fn addresses_without_memory_are_private() {
        assert_eq!(without_memory(), Ok(()));
    }

    fn second_range_fails() -> Result {
        let area = region()?;
        let (free, taken) = (part(&area, 0, 1)?, part(&area, 8, 1)?);
        let blocker = register(MemoryType::Private, claim_again(taken), &[taken])?;

        expect_splat(CONFLICT);
        let refused = try_register(
            MemoryType::Private,
            claim_again(area.range()),
            &[free, taken],
        );
        expect_splat_end(CONFLICT);
        assert_eq!(refused.err().map(Error::from), Some(ENOMEM));

        // The first range was undone, and the conflicting pgmap was not.
        assert!(DevPagemap::lookup(free.pfns().first(), None).is_none());
        assert!(DevPagemap::lookup(taken.pfns().first(), None).is_some());
        drop(blocker);
        // The range can be mapped now.
        drop(register(MemoryType::Private, area, &[free, taken])?);
        Ok(())
    }

    /// Fails if a pgmap with one range that cannot be mapped leaves another range mapped.
    #[test]
    fn all_ranges_are_mapped_or_none() {
        assert_eq!(second_range_fails(), Ok(()));
    }

    /// Fails if a refused pgmap has lost its ranges: a driver that tries again, as device-dax does,
    /// would be refused for ever, with another error.
    #[test]
    fn a_refused_pgmap_keeps_its_ranges() {
        assert_eq!(map_refused_twice(), Ok([(Err(ENOMEM), 1); 2]));
    }

    /// Fails if a pgmap without ranges is taken for a mapped one, or the refusal gives no reason.
    #[test]
    fn a_pgmap_has_ranges() {
        expect_splat("nr_range must be specified");
        let answer = raw_map(|pgmap| pgmap.type_ = bindings::memory_type_MEMORY_DEVICE_GENERIC);
        expect_splat_end("nr_range must be specified");
        assert_eq!(answer, Err(EINVAL));
    }

    /// Fails if System RAM can be mapped as device memory, or the refusal gives no reason.
    #[test]
    fn system_ram_is_refused() {
        // The kernel's own image is near the start of RAM.
        let ram = PhysRange::with_len(UNIT, UNIT);
        expect_splat("attempted on");
        let answer = raw_map(|pgmap| {
            pgmap.type_ = bindings::memory_type_MEMORY_DEVICE_GENERIC;
            pgmap.nr_range = 1;
            if let Some(ram) = ram {
                // SAFETY: The union has one range, as a pgmap with that number of ranges does.
                unsafe { *pgmap.__bindgen_anon_1.range.as_mut() = ram.as_raw() };
            }
        });
        expect_splat_end("attempted on");
        assert_eq!(answer, Err(ENXIO));
    }

    /// Fails if an incomplete setup is not reported, or is mapped all the same.
    #[test]
    fn private_memory_needs_operations_and_owner() {
        let kind = bindings::memory_type_MEMORY_DEVICE_PRIVATE;
        expect_splat("Missing migrate_to_ram method");
        let answer = raw_map(|pgmap| {
            pgmap.type_ = kind;
            pgmap.nr_range = 1;
        });
        expect_splat_end("Missing migrate_to_ram method");
        assert_eq!(answer, Err(EINVAL));
    }

    /// Fails, with an oops, if the operations of coherent memory are used although they are not
    /// set. C does that, so this runs with Rust only.
    #[test]
    fn coherent_memory_needs_operations() {
        if !cfg!(CONFIG_RUST_DEV_PAGEMAP) {
            return;
        }
        expect_splat("Missing page_free method");
        let answer = raw_map(|pgmap| {
            pgmap.type_ = bindings::memory_type_MEMORY_DEVICE_COHERENT;
            pgmap.nr_range = 1;
            pgmap.ops = null_mut();
        });
        expect_splat_end("Missing page_free method");
        assert_eq!(answer, Err(EINVAL));
    }
}
