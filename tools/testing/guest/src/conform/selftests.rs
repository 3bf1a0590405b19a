// SPDX-License-Identifier: GPL-2.0

//! The kernel's own selftests of memory management that concern GUP, device
//! memory, huge pages, copy on write, mremap, madvise and page flags; most as
//! run_vmtests.sh calls them, and those that take a file or a folder again on a
//! DAX filesystem, which run_vmtests.sh does not do.

use anyhow::Result;

use super::item::{Environment, Item, Parse};

const DIR: &str = "/opt/suites/mm";
/// KSFT_SKIP.
const SKIPS: &[i32] = &[4];

/// Programs with results in TAP: name, environment, command, limit in seconds.
const TAP: &[(&str, Environment, &str, u64)] = &[
    (
        "gup_longterm",
        Environment::HugePages(64),
        "./gup_longterm",
        200,
    ),
    (
        "gup_longterm-dax",
        Environment::DaxMount,
        "cd $DAX && $SUITES/mm/gup_longterm",
        200,
    ),
    ("hmm-private", Environment::HugePages(16), HMM, 240),
    (
        "hmm-coherent",
        Environment::HugePages(16),
        HMM_COHERENT,
        240,
    ),
    ("cow", Environment::HugePages(64), "./cow", 300),
    ("mremap_test", Environment::Memory, "./mremap_test", 300),
    (
        "mremap_dontunmap",
        Environment::Memory,
        "./mremap_dontunmap",
        60,
    ),
    ("madv_populate", Environment::Memory, "./madv_populate", 60),
    (
        "hugetlb_dio",
        Environment::HugePages(16),
        "./hugetlb_dio",
        60,
    ),
    (
        "hugetlb_madv_vs_map",
        Environment::HugePages(1),
        "./hugetlb_madv_vs_map",
        60,
    ),
    (
        "hugetlb-soft-offline",
        Environment::HugePages(8),
        "./hugetlb-soft-offline",
        60,
    ),
    (
        "hugepage-mmap",
        Environment::HugePages(160),
        "./hugepage-mmap",
        60,
    ),
    (
        "hugepage-mremap",
        Environment::HugePages(128),
        "./hugepage-mremap",
        60,
    ),
    (
        "map_hugetlb",
        Environment::HugePages(160),
        "./map_hugetlb",
        60,
    ),
    ("thuge-gen", Environment::HugePages(16), "./thuge-gen", 60),
    ("split_huge_page_test", Environment::Memory, SPLIT, 200),
    (
        "transhuge-stress",
        Environment::Memory,
        "./transhuge-stress -d 5",
        60,
    ),
    ("migration", Environment::Memory, "./migration", 200),
    (
        "pagemap_ioctl",
        Environment::HugePages(16),
        "./pagemap_ioctl",
        200,
    ),
    ("mkdirty", Environment::Memory, "./mkdirty", 60),
    ("soft-dirty", Environment::Memory, "./soft-dirty", 60),
    ("map_populate", Environment::Memory, "./map_populate", 60),
    (
        "map_fixed_noreplace",
        Environment::Memory,
        "./map_fixed_noreplace",
        60,
    ),
    ("mlock2-tests", Environment::Memory, "./mlock2-tests", 60),
    (
        "mlock-random-test",
        Environment::Memory,
        "./mlock-random-test",
        60,
    ),
    ("memfd_secret", Environment::Memory, "./memfd_secret", 60),
    (
        "ksm_functional_tests",
        Environment::Memory,
        "./ksm_functional_tests",
        100,
    ),
];

/// Programs that only have an exit status.
const STATUS: &[(&str, Environment, &str, u64)] = &[
    (
        "gup_test-dump",
        Environment::Memory,
        "./gup_test -ct -F 0x1 0 19 0x1000",
        60,
    ),
    (
        "hugetlb-madvise",
        Environment::HugePages(64),
        "./hugetlb-madvise",
        60,
    ),
    (
        "hugetlb_fault_after_madv",
        Environment::HugePages(1),
        "./hugetlb_fault_after_madv",
        60,
    ),
    (
        "hugetlb-read-hwpoison",
        Environment::HugePages(64),
        "./hugetlb-read-hwpoison",
        60,
    ),
    (
        "hugepage-shm",
        Environment::HugePages(160),
        HUGEPAGE_SHM,
        60,
    ),
    (
        "hugepage-vmemmap",
        Environment::HugePages(16),
        "./hugepage-vmemmap",
        60,
    ),
    ("khugepaged", Environment::Memory, "./khugepaged", 300),
];

const HMM: &str = "modprobe test_hmm || exit 4; ./hmm-tests; s=$?; \
    modprobe -r test_hmm || { echo 'test_hmm cannot be unloaded'; exit 1; }; exit $s";
const HMM_COHERENT: &str = "modprobe test_hmm spm_addr_dev0=0x200000000 \
    spm_addr_dev1=0x210000000 || exit 4; ./hmm-tests; s=$?; \
    modprobe -r test_hmm || { echo 'test_hmm cannot be unloaded'; exit 1; }; exit $s";
const HUGEPAGE_SHM: &str =
    "echo 268435456 >/proc/sys/kernel/shmmax; echo 4194304 >/proc/sys/kernel/shmall; ./hugepage-shm";
/// Command that creates a filesystem with large folios, as run_vmtests.sh does.
const SPLIT: &str =
    "modprobe -q xfs; truncate -s 300M /tmp/xfs.img && mkfs.xfs -q /tmp/xfs.img && \
    mkdir -p /mnt/xfs && mount -o loop /tmp/xfs.img /mnt/xfs && \
    { ./split_huge_page_test /mnt/xfs; s=$?; umount /mnt/xfs; rm /tmp/xfs.img; exit $s; }";

/// Calls of gup_test: GUP and pins, fast, plain and long-term.
const CALLS: &[(&str, &str)] = &[
    ("gup-fast", "-u"),
    ("gup", "-U"),
    ("pin-fast", "-a"),
    ("pin", "-b"),
    ("pin-longterm", "-L"),
];
/// Memory for these calls: name, environment, arguments.
const MEMORY: &[(&str, Environment, &str)] = &[
    ("thp", Environment::Memory, "-t -m 16"),
    ("4k", Environment::Memory, "-T -m 16"),
    ("hugetlb", Environment::HugePages(32), "-H -m 16"),
    (
        "dax-write",
        Environment::DaxMount,
        "-w -S -m 16 -f $DAX/gup",
    ),
    ("dax-read", Environment::DaxMount, "-W -S -m 16 -f $DAX/gup"),
    ("dax-private", Environment::DaxMount, "-w -m 16 -f $DAX/gup"),
    (
        "dax-one-by-one",
        Environment::DaxMount,
        "-w -S -m 4 -n 1 -f $DAX/gup",
    ),
];

pub fn items() -> Result<Vec<Item>> {
    let programs = TAP
        .iter()
        .map(|row| (row, Parse::Tap))
        .chain(STATUS.iter().map(|row| (row, Parse::Status)))
        .map(|((name, environment, line, limit), parse)| Item {
            limit_secs: *limit,
            parse,
            ..item(*name, *environment, *line)
        });
    let gup = MEMORY.iter().flat_map(|(memory, environment, arguments)| {
        CALLS.iter().map(move |(call, flag)| {
            let n = if arguments.contains("-n ") {
                ""
            } else {
                "-n 512"
            };
            let file = match environment {
                Environment::DaxMount => "fallocate -l 16M $DAX/gup && ",
                _ => "",
            };
            item(
                format!("gup_test-{memory}-{call}"),
                *environment,
                format!("{file}./gup_test {flag} {arguments} {n} -r 1"),
            )
        })
    });
    Ok(programs.chain(gup).collect())
}

fn item(name: impl Into<String>, environment: Environment, line: impl Into<String>) -> Item {
    Item {
        dir: DIR,
        skips: SKIPS,
        ..Item::shell(name, environment, line)
    }
}
