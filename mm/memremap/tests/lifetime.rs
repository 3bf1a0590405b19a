// SPDX-License-Identifier: GPL-2.0

//! References, teardown, and both at once.
//!
//! The `unsafe` code in this file encapsulates references to pages, and the flags of a section.

use super::fixture::*;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use kernel::{
    bindings::{self, page},
    impl_has_work,
    kunit::{expect_splat, expect_splat_end},
    macros::kunit_tests,
    mm::{
        memremap::{DevPagemap, LiveRef, MemoryType, Options},
        pfn::{Pfn, PhysRange},
    },
    new_mutex, new_work,
    prelude::*,
    sync::{completion::Completion, Arc, Mutex},
    time::msecs_to_jiffies,
    workqueue::{self, Work, WorkItem},
};

/// The warning of C, once per boot, when it adds memory over memory that it did not detect.
const WARNING_OF_C: &str = "add_pages";

/// A pgmap that another thread unmaps.
#[pin_data]
struct Teardown {
    #[pin]
    work: Work<Self>,
    #[pin]
    map: Mutex<Option<TestMap>>,
    #[pin]
    done: Completion,
}

impl_has_work! {
    impl HasWork<Self> for Teardown { self.work }
}

impl WorkItem for Teardown {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        drop(this.map.lock().take());
        this.done.complete_all();
    }
}

impl Teardown {
    /// Unmaps a pgmap on another thread.
    fn start(map: TestMap) -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            pin_init!(Self {
                work <- new_work!("memremap_kunit::Teardown::work"),
                map <- new_mutex!(Some(map)),
                done <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        let _ = workqueue::system_unbound().enqueue(this.clone());
        Ok(this)
    }
}

/// Waits until a lookup of a PFN fails, though its pgmap is still there. Returns whether it does;
/// the wait is limited.
fn wait_until_dying(pfn: Pfn) -> bool {
    (0..10_000_000).any(|_| DevPagemap::lookup(pfn, None).is_none())
}

/// A thread that looks the same PFN up until `stop` is set.
#[pin_data]
struct Storm {
    #[pin]
    work: Work<Self>,
    pfn: Pfn,
    stop: AtomicBool,
    found: AtomicUsize,
    missed: AtomicUsize,
    #[pin]
    done: Completion,
}

impl_has_work! {
    impl HasWork<Self> for Storm { self.work }
}

impl WorkItem for Storm {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut cached: Option<LiveRef> = None;
        let mut round = 0usize;
        while !this.stop.load(Ordering::Relaxed) {
            round = round.wrapping_add(1);
            if round % 32 == 0 {
                // Teardown waits for this reference: put it now and then.
                cached = None;
                // SAFETY: This is a work item, which may sleep, and it holds no lock here.
                unsafe { kernel::bindings::schedule() };
            }
            cached = DevPagemap::lookup(this.pfn, cached);
            let counter = if cached.is_some() {
                &this.found
            } else {
                &this.missed
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        drop(cached);
        this.done.complete_all();
    }
}

impl Storm {
    /// Starts the thread.
    fn start(pfn: Pfn) -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            pin_init!(Self {
                work <- new_work!("memremap_kunit::Storm::work"),
                pfn,
                stop: AtomicBool::new(false),
                found: AtomicUsize::new(0),
                missed: AtomicUsize::new(0),
                done <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        let _ = workqueue::system_unbound().enqueue(this.clone());
        Ok(this)
    }
}

/// A section of the memmap that is marked as one that RAM shares with a device, until it is dropped.
/// (No memory of the emulated machine is laid out so.)
struct SharedSection(&'static AtomicUsize);

impl SharedSection {
    const ONLINE: usize = 1 << bindings::SECTION_IS_ONLINE_BIT;

    /// Marks the section of a PFN, which has a memmap for a part of it, and is not online.
    fn mark(pfn: Pfn) -> Option<Self> {
        /// C: `SECTIONS_PER_ROOT`.
        const PER_ROOT: usize = kernel::page::PAGE_SIZE / size_of::<bindings::mem_section>();

        let nr = pfn.nr() >> bindings::PFN_SECTION_SHIFT;
        // SAFETY: The array has a root for each PFN that can exist. A root with a section is never
        // freed. The word of a section is read by all CPUs at any time.
        let word = unsafe {
            let root = bindings::mem_section.add(nr / PER_ROOT).read();
            if root.is_null() {
                return None;
            }
            AtomicUsize::from_ptr(&raw mut (*root.add(nr % PER_ROOT)).section_mem_map)
        };
        let tainted = 1 << bindings::SECTION_TAINT_ZONE_DEVICE_BIT;
        if word.load(Ordering::Relaxed) & (tainted | Self::ONLINE) != tainted {
            return None;
        }
        word.fetch_or(Self::ONLINE, Ordering::Relaxed);
        Some(Self(word))
    }
}

impl Drop for SharedSection {
    fn drop(&mut self) {
        self.0.fetch_and(!Self::ONLINE, Ordering::Relaxed);
    }
}

/// Returns whether the kernel takes a PFN for one of RAM. C: `pfn_to_online_page()`.
#[doc(alias = "pfn_to_online_page")]
fn is_online(pfn: Pfn) -> bool {
    // SAFETY: The function may be called with any PFN. The page is not used.
    !unsafe { bindings::pfn_to_online_page(pfn.nr() as _) }.is_null()
}

#[kunit_tests(memremap_lifetime)]
mod tests {
    use super::*;

    /// Creates a pgmap of this kind, and tears it down while a walker has a live reference.
    fn dying_below_a_walker(kind: MemoryType) -> Result<(PhysRange, LiveRef, Arc<Teardown>)> {
        let region = region()?;
        let range = part(&region, 0, 1)?;
        let map = register(kind, region, &[range])?;
        let live = DevPagemap::lookup(range.pfns().first(), None).ok_or(ENOENT)?;
        let teardown = Teardown::start(map)?;
        assert!(wait_until_dying(range.pfns().first()));
        Ok((range, live, teardown))
    }

    fn teardown_waits_for_a_walker() -> Result {
        let (range, live, teardown) = dying_below_a_walker(MemoryType::Generic)?;
        let pfn = range.pfns().first();
        // Teardown waits for the walker.
        assert!(!teardown.done.is_done());
        assert!(live.covers(pfn));
        drop(live);
        teardown.done.wait_for_completion();
        assert!(DevPagemap::lookup(pfn, None).is_none());
        Ok(())
    }

    /// Fails if a dying pgmap is found, or teardown does not wait for a walker, or does not end
    /// after the walker has put its reference.
    #[test]
    fn a_live_reference_holds_teardown_up() {
        assert_eq!(teardown_waits_for_a_walker(), Ok(()));
    }

    fn online_while_dying() -> Result {
        let (range, live, teardown) = dying_below_a_walker(MemoryType::Generic)?;
        let (first, last) = (range.pfns().first(), range.pfns().last());
        let section = SharedSection::mark(first);
        let online = section
            .as_ref()
            .map(|_| [is_online(first), is_online(last)]);
        drop(section);
        drop(live);
        teardown.done.wait_for_completion();
        match online.ok_or(ENOENT)? {
            [false, false] => Ok(()),
            _ => Err(EEXIST),
        }
    }

    /// Fails if a page of a pgmap that is being torn down, in a section that RAM shares, counts as one
    /// of RAM, which memory failure and others handle as such. C takes it for one.
    #[test]
    fn differs_a_page_of_a_dying_pgmap_is_not_online() {
        assert_eq!(online_while_dying(), Ok(()));
    }

    fn online_while_live() -> Result {
        let region = region()?;
        let range = part(&region, 0, 1)?;
        let map = register(MemoryType::Generic, region, &[range])?;
        let section = SharedSection::mark(range.pfns().first()).ok_or(ENOENT)?;
        assert!(!is_online(range.pfns().first()));
        assert!(!is_online(range.pfns().last()));
        // The rest of the section has no memmap.
        assert!(!is_online(pfn_after(range)));
        drop(section);
        drop(map);
        Ok(())
    }

    /// Fails if a page of a live pgmap, in a section that RAM shares, counts as one of RAM.
    #[test]
    fn a_page_of_a_live_pgmap_is_not_online() {
        assert_eq!(online_while_live(), Ok(()));
    }

    /// Returns whether teardown waits for the second page, to which `take` takes a reference.
    /// `take` is called while the page is idle and its pgmap mapped.
    fn waits_for_a_page(kind: MemoryType, take: impl FnOnce(*mut page)) -> Result<bool> {
        // SAFETY: `take` took the reference, and the page is still there, since teardown waits.
        waits_until(kind, take, |page| unsafe {
            kernel::bindings::put_page(page)
        })
    }

    /// Returns whether teardown waits for the second page, after `take` and until `put`.
    fn waits_until(
        kind: MemoryType,
        take: impl FnOnce(*mut page),
        put: impl FnOnce(*mut page),
    ) -> Result<bool> {
        let region = region()?;
        let range = part(&region, 0, 1)?;
        let map = register(kind, region, &[range])?;
        let second = range.pfns().first().checked_add(1).ok_or(ERANGE)?;
        let page = map.page(second).ok_or(ENOENT)?.as_raw();
        take(page);
        let teardown = Teardown::start(map)?;
        assert!(wait_until_dying(second));
        // Teardown takes some grace periods if it does not wait.
        let waits = !teardown
            .done
            .wait_for_completion_timeout(msecs_to_jiffies(2000));
        if waits {
            put(page);
        }
        teardown.done.wait_for_completion();
        Ok(waits)
    }

    /// Fails if the memory of a pinned page is removed, or if teardown does not continue when the
    /// page is put. C removes it.
    #[test]
    fn differs_teardown_waits_for_a_pinned_page() {
        let pin = |page| {
            // SAFETY: The page belongs to a mapped pgmap, so it is valid and idle.
            unsafe { kernel::bindings::get_page(page) };
        };
        assert_eq!(waits_for_a_page(MemoryType::Generic, pin), Ok(true));
    }

    /// Fails if the memory of a page is removed that has so many references that their number is
    /// negative. C removes it, and so did we while such a count was taken for an idle one.
    #[test]
    fn differs_teardown_waits_for_an_overflowed_page() {
        let set = |count| {
            // SAFETY: The page belongs to a mapped pgmap, or one whose teardown waits for the page,
            // so it is valid, and only this test uses it.
            move |page| unsafe { kernel::bindings::set_page_count(page, count) }
        };
        let waits = waits_until(MemoryType::Generic, set(i32::MIN + 1), set(1));
        assert_eq!(waits, Ok(true));
    }

    /// Fails if the memory of an allocated page is removed, or if teardown does not continue when
    /// the page is freed.
    #[test]
    fn teardown_waits_for_a_private_page() {
        let hand_out = |page| {
            // SAFETY: The page belongs to a mapped pgmap and is idle, and only this test allocates
            // it.
            unsafe {
                kernel::bindings::zone_device_page_init(page);
                kernel::bindings::unlock_page(page);
            }
        };
        assert_eq!(waits_for_a_page(MemoryType::Private, hand_out), Ok(true));
    }

    fn overlap_with_a_dying_one() -> Result<Option<Error>> {
        let (range, live, teardown) = dying_below_a_walker(MemoryType::Private)?;
        if !cfg!(CONFIG_RUST_DEV_PAGEMAP) {
            expect_splat(WARNING_OF_C);
        }
        let refused = try_register(MemoryType::Private, claim_again(range), &[range]);
        if !cfg!(CONFIG_RUST_DEV_PAGEMAP) {
            expect_splat_end(WARNING_OF_C);
        }
        drop(live);
        teardown.done.wait_for_completion();
        Ok(refused.err().map(Error::from))
    }

    /// Fails if the PFNs of a pgmap that is being torn down, which no lookup finds any more, count
    /// as free, or are refused with a warning. C overwrites its entries, and fails when the memory
    /// cannot be added (EEXIST).
    #[test]
    fn differs_overlap_with_a_dying_pgmap_is_refused() {
        assert_eq!(overlap_with_a_dying_one(), Ok(Some(EBUSY)));
    }

    fn cached_in_second_range() -> Result {
        let region = region()?;
        let (low, high) = (part(&region, 0, 1)?, part(&region, 4, 1)?);
        let map = register(MemoryType::Private, region, &[low, high])?;
        let live = DevPagemap::lookup(low.pfns().first(), None).ok_or(ENOENT)?;
        let teardown = Teardown::start(map)?;
        let dying = wait_until_dying(low.pfns().first());

        // A new lookup fails now, so this succeeds only if the reference itself is checked.
        let still = DevPagemap::lookup(high.pfns().last(), Some(live));
        let covered = still.is_some();
        drop(still);
        teardown.done.wait_for_completion();
        if dying && covered {
            Ok(())
        } else {
            Err(ENOENT)
        }
    }

    /// Fails if a cached reference is not recognised for a PFN of the pgmap's second range. C
    /// compares with the first range, and looks all other PFNs up again.
    #[test]
    fn differs_cached_lookup_covers_all_ranges() {
        assert_eq!(cached_in_second_range(), Ok(()));
    }

    fn page_comes_back() -> Result {
        let region = region()?;
        let range = part(&region, 0, 1)?;
        let map = register(MemoryType::Private, region, &[range])?;
        let page = map.page(range.pfns().first()).ok_or(ENOENT)?;
        assert_eq!(page.pfn(), range.pfns().first());
        assert_eq!(page.ref_count(), 0);
        for round in 1..=3 {
            // SAFETY: The page belongs to a mapped pgmap and is idle, and only this test allocates
            // it. The put frees it.
            unsafe {
                kernel::bindings::zone_device_page_init(page.as_raw());
                assert_eq!(page.ref_count(), 1);
                kernel::bindings::unlock_page(page.as_raw());
                kernel::bindings::put_page(page.as_raw());
            }
            assert_eq!(map.data().count(), round);
            assert_eq!(page.ref_count(), 0);
        }
        Ok(())
    }

    /// Fails if a page without references is not freed by its owner, is freed twice, or keeps the
    /// reference to the pgmap: teardown hangs then.
    #[test]
    fn a_private_page_comes_back_to_its_owner() {
        assert_eq!(page_comes_back(), Ok(()));
    }

    fn idle_counts() -> Result {
        for (kind, idle) in [
            (MemoryType::FsDax, 1),
            (MemoryType::Generic, 1),
            (MemoryType::Private, 0),
            (MemoryType::Coherent, 0),
        ] {
            let region = region()?;
            let range = part(&region, 0, 1)?;
            let map = register(kind, region, &[range])?;
            for pfn in [range.pfns().first(), range.pfns().last()] {
                assert_eq!(map.page(pfn).ok_or(ENOENT)?.ref_count(), idle);
            }
            assert!(map.page(pfn_after(range)).is_none());
        }
        Ok(())
    }

    /// Fails if a new page has a count that a page of its type does not have when idle.
    #[test]
    fn pages_are_idle_at_first() {
        assert_eq!(idle_counts(), Ok(()));
    }

    fn pgmap_of_each_page() -> Result {
        const SHIFT: u32 = 9;
        let region = region()?;
        let range = part(&region, 0, 1)?;
        let options = Options {
            vmemmap_shift: SHIFT,
            ..Options::default()
        };
        let map = try_register_with(MemoryType::Generic, region, &[range], options)?;
        for nr in 0..1 << SHIFT {
            let pfn = range.pfns().first().checked_add(nr).ok_or(EINVAL)?;
            let page = map.page(pfn).ok_or(ENOENT)?;
            assert!(core::ptr::eq(page.pgmap(), map.pgmap()));
        }
        Ok(())
    }

    /// Fails if a tail of a compound page, which has another value in the place of the pgmap, does
    /// not lead to the pgmap.
    #[test]
    fn each_page_of_a_compound_page_knows_its_pgmap() {
        assert_eq!(pgmap_of_each_page(), Ok(()));
    }

    fn again_and_again() -> Result {
        let area = region()?;
        let range = part(&area, 3, 1)?;
        for round in 0..20 {
            let kind = if round % 2 == 0 {
                MemoryType::FsDax
            } else {
                MemoryType::Generic
            };
            drop(register(kind, claim_again(range), &[range])?);
            assert!(DevPagemap::lookup(range.pfns().first(), None).is_none());
        }
        Ok(())
    }

    /// Fails if a range cannot be mapped again, as another type, after it was unmapped.
    #[test]
    fn a_range_can_be_mapped_again() {
        assert_eq!(again_and_again(), Ok(()));
    }

    fn storm() -> Result {
        let area = region()?;
        let range = part(&area, 0, 1)?;
        let storms = [
            Storm::start(range.pfns().first())?,
            Storm::start(range.pfns().last())?,
        ];
        let mut mapped = Ok(());
        for _ in 0..15 {
            mapped = register(MemoryType::Private, claim_again(range), &[range]).map(drop);
            if mapped.is_err() {
                break;
            }
        }
        for storm in &storms {
            storm.stop.store(true, Ordering::Relaxed);
        }
        for storm in &storms {
            storm.done.wait_for_completion();
            pr_info!(
                "storm: {} found, {} missed\n",
                storm.found.load(Ordering::Relaxed),
                storm.missed.load(Ordering::Relaxed)
            );
        }
        mapped
    }

    /// Fails, most likely with a KASAN report or a hang, if a lookup can find a pgmap before its
    /// count is initialised, or after it is freed.
    #[test]
    fn lookups_race_with_mapping_and_unmapping() {
        assert_eq!(storm(), Ok(()));
    }
}
