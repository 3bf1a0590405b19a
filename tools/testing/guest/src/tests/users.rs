// SPDX-License-Identifier: GPL-2.0

//! Real users of the pages of DAX mappings: asynchronous direct I/O to two kinds of
//! disks, buffers registered with io_uring and with an RDMA device, pipes, debuggers,
//! core dumps and futexes. And users of a PCI device's memory.

mod disk;
mod p2p;
mod process;
mod rdma;

pub use disk::Ring;
pub use rdma::{Link, Rdma};

use crate::tests::prelude::*;
use crate::vmstat::Counters;

/// Evaluates a request for a long-term pin of DAX pages, with `what` as its name:
/// fsdax has to refuse it, and device-dax must hold pages afterwards.
fn long_term<T>(
    what: &str,
    target: &Target,
    before: &Counters,
    got: io::Result<T>,
) -> Result<Option<T>> {
    match (got, target.is_fsdax()) {
        (Err(e), true) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        (Err(e), _) => bail!("{what} returns {e}"),
        (Ok(_), true) => bail!("{what} was not refused on fsdax"),
        (Ok(given), false) => {
            // A large folio has one pin for all of its pages.
            let held = settled()?.pinned() - before.pinned();
            ensure!(held > 0, "{what} has no page pinned");
            Ok(Some(given))
        }
    }
}
