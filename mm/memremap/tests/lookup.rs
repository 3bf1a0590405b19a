// SPDX-License-Identifier: GPL-2.0

//! Lookups of PFNs, `pfn_t`, and the arithmetic of ranges and altmaps.
//!
//! The `unsafe` code in this file encapsulates a call of C's `__pfn_to_pfn_t()`.

use super::fixture::*;
use kernel::{
    bindings,
    macros::kunit_tests,
    mm::{
        memremap::{Altmap, DevPagemap, MemoryType, Options},
        pfn::{Pfn, PfnRange, PhysRange},
        pfn_t::{PfnFlags, PfnT},
    },
    prelude::*,
};

#[kunit_tests(memremap_lookup)]
mod tests {
    use super::*;

    /// Fails if a flag is not the bit that C assigns to it: a driver in C and a fault handler in
    /// Rust would disagree about the kind of memory.
    #[test]
    fn pfn_t_flags_are_those_of_c() {
        let flags = [
            (PfnFlags::SG_CHAIN, bindings::PFN_SG_CHAIN as u64),
            (PfnFlags::SG_LAST, bindings::PFN_SG_LAST),
            (PfnFlags::DEV, bindings::PFN_DEV),
            (PfnFlags::MAP, bindings::PFN_MAP),
            (PfnFlags::SPECIAL, bindings::PFN_SPECIAL),
        ];
        for (ours, theirs) in flags {
            assert_eq!(ours.bits(), theirs);
        }
        for pfn in [0, 1, 0x24_0000, (1 << 52) - 1] {
            // Every set of flags.
            for set in 0..1u32 << flags.len() {
                let chosen = (0..flags.len()).filter(|bit| set & (1 << bit) != 0);
                let ours = chosen
                    .filter_map(|bit| flags.get(bit))
                    .fold(PfnFlags::NONE, |all, (flag, _)| all | *flag);
                let ours = PfnT::new(Pfn::new(pfn), ours);
                // SAFETY: The function only computes with its arguments.
                let (theirs, has_page, devmap) = unsafe {
                    let theirs = bindings::__pfn_to_pfn_t(pfn, ours.flags().bits());
                    (
                        theirs,
                        bindings::pfn_t_has_page(theirs),
                        bindings::pfn_t_devmap(theirs),
                    )
                };
                assert_eq!(ours, PfnT::from_raw(theirs));
                assert_eq!(ours.has_page(), has_page);
                assert_eq!(ours.is_devmap(), devmap);
            }
        }
    }

    /// Fails if a PFN without a `struct page` counts as one with a page, or the other way round.
    #[test]
    fn pfn_t_has_a_page_with_map_or_without_dev() {
        let with = |flags| PfnT::new(Pfn::new(0x12_3456), flags);
        assert!(with(PfnFlags::NONE).has_page());
        assert!(with(PfnFlags::MAP).has_page());
        assert!(with(PfnFlags::DEV | PfnFlags::MAP).has_page());
        assert!(!with(PfnFlags::DEV).has_page());
        assert!(!with(PfnFlags::DEV | PfnFlags::SPECIAL).has_page());

        assert!(with(PfnFlags::DEV | PfnFlags::MAP).is_devmap());
        assert!(!with(PfnFlags::DEV).is_devmap());
        assert!(!with(PfnFlags::MAP).is_devmap());
        assert_eq!(with(PfnFlags::DEV | PfnFlags::MAP).phys(), 0x1_2345_6000);
        // Bits of a PFN do not become flags.
        assert_eq!(
            PfnT::new(Pfn::new(usize::MAX), PfnFlags::NONE).flags(),
            PfnFlags::NONE
        );
    }

    /// Fails if a range is accepted that ends before it starts, or has a length that does not fit.
    #[test]
    fn ranges_are_checked() {
        assert!(PhysRange::new(1, 0).is_none());
        assert!(PhysRange::new(0, u64::MAX).is_none());
        assert!(PhysRange::with_len(u64::MAX, 2).is_none());
        assert!(PhysRange::with_len(0, 0).is_none());
        assert!(PfnRange::new(Pfn::new(2), Pfn::new(1)).is_none());
        let last_page = PhysRange::new(u64::MAX - 0xfff, u64::MAX);
        assert!(last_page.is_some_and(|range| range.len() == 0x1000 && range.pfns().len() == 1));
    }

    /// Fails if the sums of an altmap wrap, or count pages twice.
    #[test]
    fn altmap_sums() {
        let altmap = Altmap {
            base: Pfn::new(0x24_0000),
            reserve: 2,
            free: 0x4000 - 2,
            align: 6,
            alloc: 0x200,
        };
        assert_eq!(altmap.offset(), Some(0x4000));
        assert_eq!(altmap.next_pfn(), Some(Pfn::new(0x24_0208)));
        assert_eq!(altmap.available(), 0x4000 - 2 - 0x200 - 6);
        assert_eq!(
            Altmap {
                free: usize::MAX,
                ..altmap
            }
            .offset(),
            None
        );
        assert_eq!(
            Altmap {
                alloc: usize::MAX,
                ..altmap
            }
            .next_pfn(),
            None
        );
        assert_eq!(
            Altmap {
                alloc: usize::MAX,
                ..altmap
            }
            .available(),
            0
        );
    }

    /// Fails if RAM, or a PFN that cannot exist, belongs to a pgmap.
    #[test]
    fn absent_pfns_have_no_pgmap() {
        assert!(DevPagemap::lookup(Pfn::new(1), None).is_none());
        assert!(DevPagemap::lookup(Pfn::new(1 << 50), None).is_none());
    }

    fn every_edge_of_a_range() -> Result {
        let region = region()?;
        let range = part(&region, 1, 2)?;
        assert!(DevPagemap::lookup(range.pfns().first(), None).is_none());

        let map = register(MemoryType::Private, region, &[range])?;
        for pfn in [
            range.pfns().first(),
            Pfn::new(range.pfns().first().nr() + 700),
            range.pfns().last(),
        ] {
            let live = DevPagemap::lookup(pfn, None).ok_or(ENOENT)?;
            assert!(core::ptr::eq(&*live, map.pgmap()));
            // The cached reference is returned as it is.
            let again = DevPagemap::lookup(range.pfns().last(), Some(live)).ok_or(ENOENT)?;
            assert!(core::ptr::eq(&*again, map.pgmap()));
        }
        assert!(DevPagemap::lookup(pfn_before(range), None).is_none());
        assert!(DevPagemap::lookup(pfn_after(range), None).is_none());
        // A cached reference that does not cover the PFN is dropped, not returned; teardown
        // would hang if it were leaked.
        let live = DevPagemap::lookup(range.pfns().first(), None);
        assert!(live.is_some());
        assert!(DevPagemap::lookup(pfn_after(range), live).is_none());

        drop(map);
        assert!(DevPagemap::lookup(range.pfns().first(), None).is_none());
        assert!(DevPagemap::lookup(range.pfns().last(), None).is_none());
        Ok(())
    }

    /// Fails if a lookup finds a PFN beside a range, or misses one at its edges.
    #[test]
    fn a_range_is_found_from_its_first_to_its_last_pfn() {
        assert_eq!(every_edge_of_a_range(), Ok(()));
    }

    fn tail_page() -> Result {
        let area = region()?;
        let range = part(&area, 0, 1)?;
        let options = Options {
            vmemmap_shift: 9,
            ..Options::default()
        };
        let map = try_register_with(MemoryType::Generic, area, &[range], options)?;
        let tail = range.pfns().first().checked_add(1).ok_or(ENXIO)?;
        let page = map.page(tail).ok_or(ENXIO)?;
        assert!(core::ptr::eq(page.pgmap(), map.pgmap()));
        assert!(page.is_zone_device() && !page.is_pci_p2pdma_page());
        Ok(())
    }

    /// Fails if a tail page, which has the address of its head where the head has that of the pgmap,
    /// is taken for a page of another pgmap.
    #[test]
    fn a_tail_page_belongs_to_the_pgmap_of_its_head() {
        assert_eq!(tail_page(), Ok(()));
    }

    fn two_ranges() -> Result {
        let region = region()?;
        let (low, high) = (part(&region, 0, 1)?, part(&region, 4, 2)?);
        let map = register(MemoryType::Private, region, &[low, high])?;
        assert_eq!(map.pgmap().nr_ranges(), 2);

        let live = DevPagemap::lookup(low.pfns().last(), None).ok_or(ENOENT)?;
        let live = DevPagemap::lookup(high.pfns().first(), Some(live)).ok_or(ENOENT)?;
        let live = DevPagemap::lookup(low.pfns().first(), Some(live)).ok_or(ENOENT)?;
        // Between the ranges.
        assert!(DevPagemap::lookup(pfn_after(low), Some(live)).is_none());
        assert!(map.pgmap().has_data_page(high.pfns().last()));
        assert!(!map.pgmap().has_data_page(pfn_after(low)));

        drop(map);
        assert!(DevPagemap::lookup(low.pfns().first(), None).is_none());
        assert!(DevPagemap::lookup(high.pfns().last(), None).is_none());
        Ok(())
    }

    /// Fails if the second range of a pgmap is not found, or not removed.
    #[test]
    fn a_pgmap_may_have_several_ranges() {
        assert_eq!(two_ranges(), Ok(()));
    }
}
