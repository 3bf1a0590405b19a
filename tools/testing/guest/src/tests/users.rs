// SPDX-License-Identifier: GPL-2.0

//! Who takes the pages of DAX mappings in earnest: asynchronous direct I/O to
//! two kinds of disks, buffers registered with io_uring and with an RDMA device,
//! pipes, debuggers, core dumps and futexes. And who takes the memory of a PCI device.

mod disk;
mod p2p;
mod process;
mod rdma;

use std::io;

use anyhow::{bail, ensure, Result};

use super::Test;
use crate::target::Target;
use crate::vmstat::{settled, Counters};

pub fn tests() -> Vec<Test> {
    let mut tests = disk::tests();
    tests.extend(rdma::tests());
    tests.extend(p2p::tests());
    tests.extend(process::tests());
    tests
}

/// What came of asking for a long-term pin of DAX pages, `what` by name: fsdax
/// has to refuse it, and device-dax to hold pages by now.
fn long_term<T>(
    what: &str,
    target: &Target,
    before: &Counters,
    got: io::Result<T>,
) -> Result<Option<T>> {
    match (got, target.is_fsdax()) {
        (Err(e), true) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        (Err(e), _) => bail!("{what} gives {e}"),
        (Ok(_), true) => bail!("{what} was not refused on fsdax"),
        (Ok(given), false) => {
            // Of a large folio there is one pin for all of its pages.
            let held = settled()?.pinned() - before.pinned();
            ensure!(held > 0, "{what} has no page pinned");
            Ok(Some(given))
        }
    }
}
