// SPDX-License-Identifier: GPL-2.0

//! The guest tests, by subject. A name is `subject::case` or
//! `subject::case::namespace`; a doc string says what a failure would mean.

mod devmap;
mod direct_io;
pub mod external;
mod fork;
pub mod fsdax;
mod gup;
mod lifecycle;
pub mod nfit;
mod pins;
mod pmem;
mod ranges;
pub mod reboot;
mod refuse;
mod remote;
mod teardown;
mod truncate;
mod users;

use anyhow::Result;

use crate::ndctl::{Bus, Map, Mode, Want, GIB, KIB, MIB};

/// One test. `run` returns a detail for the output.
pub struct Test {
    pub name: String,
    pub doc: &'static str,
    pub limit_secs: u64,
    /// Text of a warning that the test may cause and that is no fault.
    pub may_warn: Option<&'static str>,
    pub run: Box<dyn Fn() -> Result<String>>,
}

impl Test {
    pub fn is_essential(&self) -> bool {
        ESSENTIAL.contains(&self.name.as_str())
    }

    fn new(
        name: impl Into<String>,
        limit_secs: u64,
        doc: &'static str,
        run: impl Fn() -> Result<String> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            doc,
            limit_secs,
            may_warn: None,
            run: Box::new(run),
        }
    }

    /// Permits one kernel warning that contains these words.
    fn may_warn(mut self, words: &'static str) -> Self {
        self.may_warn = Some(words);
        self
    }
}

/// Tests that a debug kernel runs unless all are requested: every kind of test,
/// with the namespaces that take different paths. Under TCG all of them would
/// take hours.
const ESSENTIAL: &[&str] = &[
    "lifecycle::fsdax-2M-dev-acpi",
    "lifecycle::devdax-4K-dev-e820",
    "lifecycle::devdax-2M-mem-acpi",
    "lifecycle::devdax-1G-mem-acpi",
    "ranges::fsdax-native-e820",
    "ranges::devdax-2M-dev-acpi",
    "refuse::align",
    "refuse::too-small",
    "pins::cycle::fsdax-2M-dev-acpi",
    "pins::cycle::devdax-2M-mem-acpi",
    "pins::cycle::devdax-1G-mem-acpi",
    "pins::held::devdax-2M-dev-acpi",
    "direct-io::fsdax-2M-dev-acpi",
    "direct-io::devdax-2M-mem-acpi",
    "process-vm::fsdax-2M-dev-acpi",
    "users::fio-uring-nvme::fsdax-2M-dev-acpi",
    "users::fixed-buffers::devdax-4K-mem-acpi",
    "users::rdma::fsdax-2M-dev-acpi",
    "users::rdma::devdax-2M-dev-acpi",
    "users::p2pdma",
    "users::vmsplice::devdax-2M-dev-acpi",
    "users::ptrace::fsdax-2M-dev-acpi",
    "users::core-dump::fsdax-2M-dev-acpi",
    "users::futex::fsdax-2M-dev-acpi",
    "remote::rights::fsdax-2M-dev-acpi",
    "remote::rights::devdax-4K-mem-acpi",
    "remote::populate::devdax-2M-dev-acpi",
    "remote::teardown::devdax-2M-dev-acpi",
    "remote::device-gone",
    "remote::differs_gigabyte_without_rights",
    "fork::shared::devdax-2M-dev-acpi",
    "fork::pinned::devdax-2M-dev-acpi",
    "fork::private::fsdax-2M-dev-acpi",
    "mremap::devdax-2M-dev-acpi",
    "devmap::load-store::fsdax-2M-mem-acpi",
    "devmap::load-store::devdax-4K-mem-acpi",
    "devmap::protect::devdax-2M-dev-acpi",
    "devmap::concurrent::fsdax-2M-mem-acpi",
    "devmap::concurrent::devdax-1G-mem-acpi",
    "devmap::cache-mode::2M",
    "devmap::differs_cache_mode_1G",
    "gup::levels",
    "gup::cycle::thp",
    "gup::held::private-file",
    "gup::fork-before::thp",
    "gup::storm::thp",
    "gup::storm::fsdax-4K-dev-acpi",
    "gup::storm::devdax-2M-dev-acpi",
    "gup::undo::fsdax-2M-dev-acpi",
    "truncate::pipe-read-truncate::ext4",
    "truncate::pipe-close-punch::xfs",
    "truncate::slow-disk::ext4",
    "truncate::futex::ext4",
    "truncate::race::ext4",
    "fsdax::size::ext4-dev-acpi",
    "fsdax::views::xfs-mem-acpi",
    "fsdax::truncate::ext2-dev-acpi",
    "fsdax::fallocate::ext4-mem-e820",
    "fsdax::sync::clean::ext4-dev-acpi",
    "fsdax::sync::shutdown::xfs-mem-acpi",
    "fsdax::inode::ext4-dev-acpi",
    "fsdax::clone::store-large::xfs-reflink-dev-e820",
    "fsdax::clone::dedupe::xfs-reflink-dev-e820",
    "fsdax::clone::differs_short_write::xfs-reflink-dev-e820",
    "fsdax::shared::differs_pin::xfs-reflink-dev-e820",
    "fsdax::shared::differs_futex::xfs-reflink-dev-e820",
    "fsdax::split::differs_truncate::ext4-dev-acpi",
    "fsdax::split::differs_punch::ext4-dev-acpi",
    "fsdax::split::pin::ext4-dev-acpi",
    "fsdax::full::device::xfs-mem-acpi",
    "fsdax::fsx::ext4-dev-acpi",
    "fsdax::race::punch::ext4-dev-acpi",
    "fsdax::race::punch::xfs-mem-acpi",
    "fsdax::race::truncate::xfs-mem-acpi",
    "fsdax::race::sync::ext4-dev-acpi",
    "fsdax::race::unmap::ext4-dev-acpi",
    "fsdax::race::direct::xfs-mem-acpi",
    "fsdax::race::reclaim::ext4-mem-e820",
    "fsdax::race::unmount::xfs-mem-acpi",
    "fsdax::race::clone::xfs-reflink-dev-e820",
    "fsdax::poison::shared::ext4-dev-acpi",
    "fsdax::poison::clone",
    "fsdax::recovery::xfs-dev-e820",
    "fsdax::idle::differs_unmapped_truncate_ext4",
    "fsdax::idle::unmounted_ext4",
    "fsdax::hang::differs_self_xfs",
    "fsdax::hang::differs_umount_ext4",
    "fsdax::idle::differs_written_back_ext4",
    "fsdax::reasons::ext4-dev-acpi",
    "fsdax::reasons::memory::ext4-dev-acpi",
    "fsdax::tracking::differs_written_2M::ext4-dev-acpi",
    "fsdax::tracking::differs_unmapped::ext4-dev-acpi",
    "fsdax::tracking::soft_dirty_2M::ext4-dev-acpi",
    "fsdax::cachestat::differs_counts::ext4-dev-acpi",
    "fsdax::populate::ext4-dev-acpi",
    "fsdax::daxstat::table",
    "fsdax::realtime",
    "fsdax::erofs::erofs-dev-acpi",
    "teardown::lookup-race::devdax-2M-dev-acpi",
    "teardown::sigbus::devdax-2M-dev-acpi",
    "teardown::differs_pinned::fsdax-2M-dev-acpi",
    "teardown::differs_pinned::devdax-2M-dev-acpi",
    "teardown::differs_mounted::ext4",
    "teardown::mounted::xfs-reflink",
    "teardown::storm::ext4",
    "teardown::storm::devdax-2M-dev-acpi",
    "suite::dax-pmd",
    "suite::hmm-private",
    "suite::hmm-coherent",
    "pmem::module",
    "pmem::modes",
    "pmem::io::fsdax",
    "pmem::rebind::fsdax-mem",
    "pmem::no-memory::fsdax-dev",
    "pmem::garbage::info-block",
    "pmem::garbage::info-block-devdax",
    "pmem::virtio",
    "pmem::second-driver",
    "pmem::poison",
    "nfit::smoke",
];

/// Returns all tests, in the order in which they run. Tests that load other
/// modules are last.
pub fn all() -> Vec<Test> {
    let mut tests = lifecycle::tests();
    tests.extend(ranges::tests());
    tests.extend(refuse::tests());
    tests.extend(pmem::tests());
    tests.extend(pins::tests());
    tests.extend(direct_io::tests());
    tests.extend(users::tests());
    tests.extend(remote::tests());
    tests.extend(fork::tests());
    tests.extend(devmap::tests());
    tests.extend(gup::tests());
    tests.extend(truncate::tests());
    tests.extend(fsdax::tests());
    tests.extend(teardown::tests());
    tests.extend(external::tests());
    tests.extend(nfit::tests());
    tests
}

const fn want(mode: Mode, align: u64, map: Map, bus: Bus) -> Want {
    Want {
        mode,
        align,
        map,
        bus,
    }
}

/// Returns every kind of namespace that is worth a full life cycle.
fn every_kind() -> Vec<Want> {
    use {Bus::*, Map::*, Mode::*};
    vec![
        want(Fsdax, 4 * KIB, Dev, Acpi),
        want(Fsdax, 4 * KIB, Mem, Acpi),
        want(Fsdax, 2 * MIB, Dev, Acpi),
        want(Fsdax, 2 * MIB, Mem, Acpi),
        want(Fsdax, GIB, Dev, Acpi),
        want(Devdax, 4 * KIB, Dev, Acpi),
        want(Devdax, 4 * KIB, Mem, Acpi),
        want(Devdax, 2 * MIB, Dev, Acpi),
        want(Devdax, 2 * MIB, Mem, Acpi),
        want(Devdax, GIB, Dev, Acpi),
        want(Devdax, GIB, Mem, Acpi),
        want(Fsdax, 4 * KIB, Mem, E820),
        want(Fsdax, 2 * MIB, Dev, E820),
        want(Devdax, 4 * KIB, Dev, E820),
        want(Devdax, 2 * MIB, Mem, E820),
        want(Devdax, GIB, Dev, E820),
    ]
}

/// Returns the kinds of namespaces in which GUP behaves differently.
fn mapped_kinds() -> Vec<Want> {
    use {Bus::*, Map::*, Mode::*};
    vec![
        want(Fsdax, 4 * KIB, Dev, Acpi),
        want(Fsdax, 2 * MIB, Dev, Acpi),
        want(Devdax, 4 * KIB, Mem, Acpi),
        want(Devdax, 2 * MIB, Dev, Acpi),
        want(Devdax, 2 * MIB, Mem, Acpi),
        want(Devdax, GIB, Mem, Acpi),
        want(Fsdax, 2 * MIB, Mem, E820),
        want(Devdax, 2 * MIB, Dev, E820),
    ]
}

/// Returns each size of page table entries, of files and of devices.
fn each_size() -> [Want; 5] {
    use {Bus::*, Map::*, Mode::*};
    [
        want(Fsdax, 4 * KIB, Dev, Acpi),
        want(Fsdax, 2 * MIB, Dev, Acpi),
        want(Devdax, 4 * KIB, Mem, Acpi),
        want(Devdax, 2 * MIB, Dev, Acpi),
        want(Devdax, GIB, Mem, Acpi),
    ]
}

/// Returns one of each mode, 2 MiB aligned.
fn one_of_each() -> [Want; 2] {
    use {Bus::*, Map::*, Mode::*};
    [
        want(Fsdax, 2 * MIB, Dev, Acpi),
        want(Devdax, 2 * MIB, Dev, Acpi),
    ]
}

/// Returns a test per namespace.
fn per_kind(
    kinds: &[Want],
    name: &str,
    limit_secs: u64,
    doc: &'static str,
    run: fn(&Want) -> Result<String>,
) -> Vec<Test> {
    kinds
        .iter()
        .map(|want| {
            let want = *want;
            Test::new(
                format!("{name}::{}", want.name()),
                limit_secs,
                doc,
                move || run(&want),
            )
        })
        .collect()
}

#[cfg(test)]
mod checks {
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_documented() {
        let all = super::all();
        let names: HashSet<&str> = all.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|t| t.doc.len() > 20 && t.limit_secs > 0));
        let essential = all.iter().filter(|t| t.is_essential()).count();
        assert_eq!(essential, super::ESSENTIAL.len(), "a name does not exist");
    }
}
