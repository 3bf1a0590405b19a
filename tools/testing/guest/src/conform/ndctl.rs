// SPDX-License-Identifier: GPL-2.0

//! ndctl's own tests: the suites "dax" and "ndctl" of its meson.build,
//! including the destructive ones. Those of `make check` come from its tables;
//! this file has only the others.

use anyhow::Result;

use crate::tests::{external, nfit};

use super::item::{Environment, Item};

/// Tests on real memory, beyond `make check`: name, limit in seconds.
/// daxctl-create needs a region of the cxl_test mock and skips without it.
const MORE_ON_REAL_PMEM: &[(&str, u64)] = &[("daxctl-create.sh", 120)];

/// Tests on the mock bus, beyond `make check`.
const MORE_ON_THE_MOCK: &[(&str, u64)] = &[
    ("dsm-fail", 180),
    ("btt-check.sh", 180),
    ("label-compat.sh", 120),
    ("inject-error.sh", 180),
    ("btt-errors.sh", 180),
    ("btt-pad-compat.sh", 180),
    ("ack-shutdown-count-set", 120),
    ("rescan-partitions.sh", 180),
    ("inject-smart.sh", 120),
    ("monitor.sh", 180),
    ("max_available_extent_ns.sh", 120),
    ("firmware-update.sh", 180),
    ("nfit-security.sh", 180),
];

/// Returns the tests on e820 memory and on QEMU's NVDIMMs.
pub fn on_real_pmem() -> Result<Vec<Item>> {
    let mut items = vec![Item {
        dir: "/root",
        limit_secs: 300,
        ..Item::shell(
            "dax-pmd",
            Environment::DaxMount,
            "fallocate -l 256M $DAX/data && exec /usr/src/ndctl/build/test/dax-pmd $DAX/data",
        )
    }];
    let all = external::NDCTL_TESTS.iter().chain(MORE_ON_REAL_PMEM);
    items.extend(all.map(|(name, limit)| Item::ndctl(name, Environment::RealPmem, *limit)));
    Ok(items)
}

/// Returns the tests on nfit_test.
pub fn on_the_mock() -> Result<Vec<Item>> {
    let all = nfit::NDCTL_TESTS.iter().chain(MORE_ON_THE_MOCK);
    Ok(all
        .map(|(name, limit)| Item::ndctl(name, Environment::MockBus, *limit))
        .collect())
}
