// SPDX-License-Identifier: GPL-2.0

//! Who takes the pages of DAX mappings in earnest: asynchronous direct I/O to
//! two kinds of disks, buffers registered with io_uring and with an RDMA device,
//! pipes, debuggers, core dumps and futexes. And who takes the memory of a PCI device.

mod disk;
mod p2p;
mod process;
mod rdma;

use super::Test;

pub fn tests() -> Vec<Test> {
    let mut tests = disk::tests();
    tests.extend(rdma::tests());
    tests.extend(p2p::tests());
    tests.extend(process::tests());
    tests
}
