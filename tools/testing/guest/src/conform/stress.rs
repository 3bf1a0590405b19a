// SPDX-License-Identifier: GPL-2.0

//! stress-ng's stressors of memory mappings and asynchronous I/O, on a DAX
//! mount: a fixed number of operations each, with --verify, so that a run
//! proves data and not speed.

use anyhow::Result;

use super::item::{Environment, Item};

/// Exit statuses if the machine lacks something: no resource, not implemented.
const SKIPS: &[i32] = &[3, 4];

/// Name and stressors. Each has two workers, so that they interfere with each
/// other.
const STRESSORS: &[(&str, &str)] = &[
    ("mmap", "--mmap 2 --mmap-ops 16 --mmap-bytes 8m"),
    (
        "mmap-file",
        "--mmap 2 --mmap-ops 4 --mmap-bytes 4m --mmap-file",
    ),
    (
        "mmap-odirect",
        "--mmap 2 --mmap-ops 4 --mmap-bytes 4m --mmap-odirect",
    ),
    ("mremap", "--mremap 2 --mremap-ops 60 --mremap-bytes 2m"),
    ("madvise", "--madvise 2 --madvise-ops 60"),
    ("vm-splice", "--vm-splice 2 --vm-splice-ops 20000"),
    ("aio", "--aio 2 --aio-ops 4000"),
    ("aiol", "--aiol 2 --aiol-ops 2000"),
    ("io-uring", "--io-uring 2 --io-uring-ops 2000"),
];

pub fn items() -> Result<Vec<Item>> {
    Ok(STRESSORS
        .iter()
        .map(|(name, arguments)| Item {
            limit_secs: 150,
            skips: SKIPS,
            ..Item::shell(
                *name,
                Environment::DaxMount,
                format!(
                    "stress-ng --verify --metrics --timeout 120 --seed 1 --temp-path $DAX {arguments}"
                ),
            )
        })
        .collect())
}
