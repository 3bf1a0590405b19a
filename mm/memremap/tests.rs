// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of what no driver can name: the memmap as it is made, and the pass over it at the
//! end. `tests/` has the tests by the API for drivers.
//!
//! C's `memmap_init_zone_device()`, which the kernel still has, makes the memmap to compare with: for
//! the same pages, in the same place.
//!
//! The memory is a part of the physical address space with nothing behind it: a pgmap only needs
//! `struct page`s, and these are real.
//!
//! The object belongs to the kernel image, so it must not panic, as no other code of ours; hence the
//! wrapping arithmetic.
//!
//! The `unsafe` code in this file encapsulates the memmap of a pgmap that no other code uses.

use crate::{
    memmap::{self, Words},
    page::any_page,
    range::RangeOf,
    wait_idle::{is_used, UseCheck},
};
use core::{
    mem::size_of,
    ptr::{addr_of_mut, null_mut},
};
use kernel::{
    bindings, c_str,
    macros::kunit_tests,
    mm::{
        memremap::{
            revoke_hook, DevPagemap, MemoryType, Operations, Options, Region, Registration,
            ZoneDevicePage,
        },
        node::Node,
        pfn::PhysRange,
    },
    prelude::*,
};

/// The pages of 2 MiB, the smallest range that can be mapped.
const UNIT: usize = 512;

/// What no `struct page` has in a word.
const POISON: usize = 0x6b6b_6b6b_6b6b_6b6b;

/// An owner that takes no notice of freed pages.
struct Owner;

// SAFETY: `page_free` does nothing, so it does not sleep.
unsafe impl Operations for Owner {
    type Data = ();

    fn page_free((): (), _page: ZoneDevicePage<'_>) {}
}

/// A pgmap with one range, without a user.
struct TestMap {
    registration: Registration<Owner>,
    range: PhysRange,
    zone: *mut bindings::zone,
    node: Node,
}

impl TestMap {
    /// Maps `units` times 2 MiB. Sleeps.
    fn new(kind: MemoryType, vmemmap_shift: u32, units: usize) -> Result<Self> {
        let bytes = (units as u64).wrapping_shl(bindings::PMD_SHIFT);
        let region = Region::request_free(bytes, c_str!("memremap tests"))?;
        // SAFETY: The tests never access what the pages describe, and map them for no task. The
        // addresses lie beyond all memory and devices of a virtual machine, where even a speculative
        // read does nothing.
        let region = unsafe { region.assume_memory() };
        let range = region.part(0, bytes).ok_or(EINVAL)?;
        let mut regions = KVec::new();
        regions.push(region, GFP_KERNEL)?;
        let options = Options {
            vmemmap_shift,
            ..Options::default()
        };
        let registration = Registration::new(kind, regions, &[range], options, ())?;
        let page = registration.page(range.pfns().first()).ok_or(ENOENT)?;
        // SAFETY: The page is initialised and in its zone.
        let zone = unsafe { bindings::page_zone(page.as_raw()) };
        let node = u32::try_from(page.nid()).ok().and_then(Node::new);
        Ok(Self {
            node: node.ok_or(EINVAL)?,
            registration,
            range,
            zone,
        })
    }

    fn pgmap(&self) -> &DevPagemap {
        self.registration.pgmap()
    }

    /// Declares the first `pages` pages to be no data pages, as if they had the memmap, while `f`
    /// runs.
    fn with_altmap<T>(&self, pages: usize, f: impl FnOnce() -> T) -> T {
        let pgmap = self.pgmap().as_raw();
        // SAFETY: The pgmap stays valid, and no other code reads the fields: it has no user.
        unsafe {
            let altmap = addr_of_mut!((*pgmap).altmap);
            addr_of_mut!((*altmap).base_pfn).write(self.range.pfns().first().nr());
            addr_of_mut!((*altmap).free).write(pages);
            (*pgmap).flags |= bindings::PGMAP_ALTMAP_VALID;
        }
        let result = f();
        // SAFETY: As before, no other code reads these fields of the valid pgmap.
        unsafe {
            (*pgmap).flags &= !bindings::PGMAP_ALTMAP_VALID;
            addr_of_mut!((*pgmap).altmap).write_bytes(0, 1);
        }
        result
    }

    /// Returns the number of pages of which only the first has a count.
    fn unit(&self) -> usize {
        1usize.wrapping_shl(self.pgmap().vmemmap_shift())
    }

    /// Returns the indices of the pages with a count, of `pages` data pages.
    fn heads(&self, pages: usize) -> impl Iterator<Item = usize> {
        let shift = self.pgmap().vmemmap_shift();
        (0..pages.wrapping_shr(shift)).map(move |n| n.wrapping_shl(shift))
    }

    /// Returns the first data page and the number of data pages.
    fn data_pages(&self) -> Result<(*mut bindings::page, usize)> {
        let first = self.pgmap().first_pfn(0, self.range).ok_or(ENOENT)?;
        let end = self.range.pfns().last().nr().wrapping_add(1);
        // SAFETY: The page has a memmap; the function only computes its address.
        let page = unsafe { bindings::pfn_to_page(first.nr()) };
        Ok((page, end.wrapping_sub(first.nr())))
    }

    /// Overwrites the memmap of all data pages. Of a compound page only the first pages may have
    /// one of their own.
    fn poison(&self) -> Result {
        const OWN: usize = 128;

        let (first, pages) = self.data_pages()?;
        for head in self.heads(pages) {
            for n in 0..self.unit().min(OWN) {
                let words = first.wrapping_add(head).wrapping_add(n).cast::<Words>();
                // SAFETY: The `struct page` is in the memmap of this pgmap, which has no user.
                unsafe { words.write([POISON; size_of::<Words>() / 8]) };
            }
        }
        Ok(())
    }

    /// Makes the memmap as C does.
    fn init_by_c(&self) {
        let pfns = self.range.pfns();
        // SAFETY: The pages are in this zone, and the pgmap has no user.
        unsafe {
            bindings::memmap_init_zone_device(
                self.zone,
                pfns.first().nr(),
                pfns.len(),
                self.pgmap().as_raw(),
            )
        };
    }

    /// Makes the memmap as [`Registration`] did.
    fn init(&self) -> Result {
        // SAFETY: The pgmap has one range.
        let of = unsafe { RangeOf::new(self.pgmap(), 0) }?;
        // SAFETY: The pages are in this zone of this node, and the pgmap has no user.
        unsafe { memmap::init(&of, self.zone, self.node) };
        Ok(())
    }

    /// Calls `f` for the first page of each pageblock that begins with a data page.
    fn for_each_pageblock(&self, mut f: impl FnMut(*mut bindings::page, usize)) -> Result {
        let first = self.pgmap().first_pfn(0, self.range).ok_or(ENOENT)?;
        for pfn in first.nr()..self.range.pfns().last().nr().wrapping_add(1) {
            if pfn % bindings::PAGEBLOCK_NR_PAGES == 0 {
                // SAFETY: The page has a memmap; the function only computes its address.
                f(unsafe { bindings::pfn_to_page(pfn) }, pfn);
            }
        }
        Ok(())
    }

    /// Returns how many `struct page`s and migrate types differ from those that C makes.
    fn differences(&self) -> Result<usize> {
        const MASK: usize = (1 << bindings::PB_migratetype_bits) - 1;

        let movable = bindings::migratetype_MIGRATE_MOVABLE as usize;
        let unmovable = bindings::migratetype_MIGRATE_UNMOVABLE as i32;
        // SAFETY: The page is in its zone.
        self.for_each_pageblock(|page, _| unsafe {
            bindings::set_pageblock_migratetype(page, unmovable)
        })?;
        self.poison()?;
        self.init()?;

        let mut differing = 0usize;
        self.for_each_pageblock(|page, pfn| {
            // SAFETY: The page is initialised and in its zone.
            let flags = unsafe { bindings::get_pfnblock_flags_mask(page, pfn, MASK) };
            differing = differing.wrapping_add(usize::from(flags != movable));
        })?;
        let (first, pages) = self.data_pages()?;
        let words = |n| {
            // SAFETY: The `struct page` is in the memmap of this pgmap, which has no user.
            unsafe { first.wrapping_add(n).cast::<Words>().read() }
        };
        let mut ours = KVVec::<Words>::with_capacity(pages, GFP_KERNEL)?;
        let ours = ours.as_mut_ptr();
        for n in 0..pages {
            // SAFETY: There is room for so many elements.
            unsafe { ours.wrapping_add(n).write(words(n)) };
        }
        self.poison()?;
        self.init_by_c();
        for n in 0..pages {
            // SAFETY: So many elements were written above.
            let is_equal = unsafe { ours.wrapping_add(n).read() } == words(n);
            differing = differing.wrapping_add(usize::from(!is_equal));
        }
        Ok(differing)
    }

    /// Makes one compound page of the pages from `first` on, as fs/dax does.
    fn make_folio(&self, first: *mut bindings::page) {
        // SAFETY: The pages are those of this pgmap, which has no user.
        unsafe {
            bindings::prep_compound_page(first, bindings::PMD_SHIFT - bindings::PAGE_SHIFT);
            for n in 1..UNIT {
                bindings::set_page_count(first.wrapping_add(n), 0);
            }
        }
    }

    /// Returns whether a pass over the pgmap visits these data pages, and calls `at` at each.
    fn visits(
        &self,
        mut expected: impl Iterator<Item = usize>,
        mut at: impl FnMut(usize),
    ) -> Result<bool> {
        let (first, _) = self.data_pages()?;
        // SAFETY: The range stays mapped during the call.
        let differs = unsafe {
            any_page(
                self.pgmap(),
                |_| true,
                |page| {
                    let bytes = (page.as_raw() as usize).wrapping_sub(first as usize);
                    let n = bytes / size_of::<bindings::page>();
                    at(n);
                    expected.next() != Some(n)
                },
            )
        };
        Ok(!differs && expected.next().is_none())
    }

    /// Returns whether teardown would wait.
    fn is_used(&self) -> bool {
        // SAFETY: The range stays mapped during the call.
        unsafe { is_used(self.pgmap(), UseCheck::new(self.pgmap())) }
    }

    /// Returns for how many pages teardown would not wait while `set` has marked them as used, or
    /// would wait after that.
    fn overlooked(&self, set: impl Fn(*mut bindings::page, bool)) -> Result<usize> {
        let (first, pages) = self.data_pages()?;
        let mut wrong = usize::from(self.is_used());
        for n in self.heads(pages) {
            let page = first.wrapping_add(n);
            set(page, true);
            wrong = wrong.wrapping_add(usize::from(!self.is_used()));
            set(page, false);
        }
        Ok(wrong.wrapping_add(usize::from(self.is_used())))
    }
}

/// Pins a page, or puts the pin.
fn pin(page: *mut bindings::page, on: bool) {
    // SAFETY: The page is one of a pgmap without another user.
    unsafe { bindings::set_page_count(page, if on { 2 } else { 1 }) };
}

/// Adds pins to a page until their count overflows, or puts them.
fn overflow(page: *mut bindings::page, on: bool) {
    // SAFETY: The page is one of a pgmap without another user.
    unsafe { bindings::set_page_count(page, if on { i32::MIN } else { 1 }) };
}

/// Allocates a page that its owner frees just now, or frees it.
fn freeing(page: *mut bindings::page, on: bool) {
    // SAFETY: The page is one of a pgmap without another user.
    unsafe { bindings::set_page_count(page, if on { 0 } else { 1 }) };
}

/// Gives a page to a file, or takes it.
fn file(page: *mut bindings::page, on: bool) {
    let mapping = if on { 8 as *mut _ } else { null_mut() };
    // SAFETY: The page is one of a pgmap without another user, and no code follows the address.
    unsafe { (*page).__bindgen_anon_1.__bindgen_anon_1.mapping = mapping };
}

#[kunit_tests(memremap_memmap)]
mod tests {
    use super::*;

    /// Runs a test with a pgmap. An error counts as so many mistakes.
    fn mistakes(
        kind: MemoryType,
        shift: u32,
        units: usize,
        altmap: usize,
        test: impl Fn(&TestMap) -> Result<usize>,
    ) -> usize {
        let result = TestMap::new(kind, shift, units).and_then(|map| {
            if altmap == 0 {
                test(&map)
            } else {
                map.with_altmap(altmap, || test(&map))
            }
        });
        result.unwrap_or(usize::MAX)
    }

    fn differences(kind: MemoryType, shift: u32, units: usize, altmap: usize) -> usize {
        mistakes(kind, shift, units, altmap, TestMap::differences)
    }

    /// Fails if a single page has other contents than in C, or a pageblock another migrate type.
    #[test]
    fn single_pages_are_those_of_c() {
        assert_eq!(differences(MemoryType::FsDax, 0, 3, 0), 0);
        assert_eq!(differences(MemoryType::Generic, 0, 1, 0), 0);
        assert_eq!(differences(MemoryType::Private, 0, 1, 0), 0);
        assert_eq!(differences(MemoryType::Coherent, 0, 1, 0), 0);
    }

    /// Fails if pages are left out where the task offers to reschedule.
    #[test]
    fn two_sections_are_those_of_c() {
        assert_eq!(differences(MemoryType::FsDax, 0, 129, 0), 0);
        assert_eq!(differences(MemoryType::Generic, 4, 129, 0), 0);
    }

    /// Fails if a page of a compound page has other contents than in C: of two pages, where only
    /// the first tail is one; of more; and of those with a deduplicated memmap.
    #[test]
    fn compound_pages_are_those_of_c() {
        assert_eq!(differences(MemoryType::Generic, 1, 1, 0), 0);
        assert_eq!(differences(MemoryType::Generic, 2, 1, 0), 0);
        assert_eq!(differences(MemoryType::Generic, 7, 2, 0), 0);
        assert_eq!(differences(MemoryType::Generic, 9, 3, 0), 0);
        assert_eq!(differences(MemoryType::Generic, 10, 4, 0), 0);
        assert_eq!(differences(MemoryType::Coherent, 9, 2, 0), 0);
    }

    /// Fails if the memmap of a namespace that begins with its own memmap differs from C's.
    #[test]
    fn pages_behind_an_altmap_are_those_of_c() {
        assert_eq!(differences(MemoryType::FsDax, 0, 3, 515), 0);
        assert_eq!(differences(MemoryType::Generic, 9, 4, 512), 0);
        assert_eq!(differences(MemoryType::Generic, 3, 2, 16), 0);
    }

    fn overlooked(
        kind: MemoryType,
        shift: u32,
        altmap: usize,
        set: fn(*mut bindings::page, bool),
    ) -> usize {
        mistakes(kind, shift, 2, altmap, |map| map.overlooked(set))
    }

    /// Fails if teardown does not see a page in use, wherever it is, and would free its memmap.
    #[test]
    fn each_page_in_use_is_seen() {
        assert_eq!(overlooked(MemoryType::FsDax, 0, 0, pin), 0);
        assert_eq!(overlooked(MemoryType::FsDax, 0, 3, overflow), 0);
        assert_eq!(overlooked(MemoryType::Generic, 0, 0, freeing), 0);
        assert_eq!(overlooked(MemoryType::Generic, 3, 0, pin), 0);
        assert_eq!(overlooked(MemoryType::Generic, 9, 0, overflow), 0);
        if revoke_hook().is_some() {
            assert_eq!(overlooked(MemoryType::FsDax, 0, 0, file), 0);
            assert_eq!(overlooked(MemoryType::FsDax, 0, 509, file), 0);
        }
    }

    fn visits_of_folios(map: &TestMap) -> Result<usize> {
        const SECOND: usize = UNIT + 1;
        const END: usize = 3 * UNIT;

        let (first, pages) = map.data_pages()?;
        // All pages are single.
        assert!(map.visits(0..pages, |_| ())?);
        // The second 2 MiB are one folio.
        let folio = first.wrapping_add(UNIT);
        map.make_folio(folio);
        let expected = Iterator::chain(0..SECOND, 2 * UNIT..END);
        assert!(map.visits(expected, |_| ())?);
        // A pin of the folio is seen.
        pin(folio, true);
        assert!(map.is_used());
        pin(folio, false);
        assert!(!map.is_used());
        // The folio is split while it is looked at.
        let mut split = false;
        let expected = Iterator::chain(0..SECOND, UNIT..END);
        let visits = map.visits(expected, |n| {
            if n == UNIT && !split {
                split = true;
                map.init_by_c();
            }
        })?;
        assert!(visits);
        Ok(0)
    }

    /// Fails if a pass leaves out a page, or visits a tail page as if it had a count of its own, or
    /// does not see that a folio was split below it.
    #[test]
    fn a_pass_visits_each_count_once() {
        assert_eq!(mistakes(MemoryType::FsDax, 0, 3, 0, visits_of_folios), 0);
    }
}
