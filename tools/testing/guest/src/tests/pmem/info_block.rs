// SPDX-License-Identifier: GPL-2.0

//! The info block of a namespace with pages, as bytes of the medium.

use crate::ndctl::namespace;
use crate::tests::prelude::*;

/// The offset of the block from the start of the namespace, in bytes.
pub const AT: u64 = 4096;
/// Its length, in bytes.
pub const LEN: usize = 4096;

/// A field: offset from the start of the block, and length, in bytes.
pub type Field = (usize, usize);
/// The UUID of the namespace; the first half of it.
pub const PARENT: Field = (32, 8);
pub const FLAGS: Field = (48, 4);
pub const VERSION_MAJOR: Field = (52, 2);
pub const VERSION_MINOR: Field = (54, 2);
/// The offset of the data.
pub const DATA_OFFSET: Field = (56, 8);
/// The number of pages.
pub const PAGES: Field = (64, 8);
/// Where the pages' structures are: 1 for memory, 2 for the namespace.
pub const MODE: Field = (72, 4);
/// The bytes that are left out at the start and at the end.
pub const START_PAD: Field = (76, 4);
pub const END_TRUNC: Field = (80, 4);
pub const ALIGN: Field = (84, 4);
/// The size of a page and of its structure.
pub const PAGE_SIZE: Field = (88, 4);
pub const PAGE_STRUCT_SIZE: Field = (92, 2);
const CHECKSUM: usize = 4088;

/// Returns the number in a field.
pub fn get(block: &[u8], (at, len): Field) -> u64 {
    let mut number = [0; 8];
    number[..len].copy_from_slice(&block[at..at + len]);
    u64::from_le_bytes(number)
}

/// Sets the number in a field.
pub fn set(block: &mut [u8], (at, len): Field, number: u64) {
    block[at..at + len].copy_from_slice(&number.to_le_bytes()[..len]);
}

/// Computes the checksum of libnvdimm's metadata: two running sums over 32-bit words.
fn fletcher64(block: &[u8]) -> u64 {
    let (mut low, mut high) = (0_u32, 0_u64);
    for word in block.chunks_exact(4) {
        let word = word.try_into().map_or(0, u32::from_le_bytes);
        low = low.wrapping_add(word);
        high = high.wrapping_add(low.into());
    }
    (high << 32) | u64::from(low)
}

/// Sets the checksum.
pub fn seal(block: &mut [u8]) {
    block[CHECKSUM..].fill(0);
    let sum = fletcher64(block);
    block[CHECKSUM..].copy_from_slice(&sum.to_le_bytes());
}

/// Runs `work` on the namespace without its claim, to access the block.
pub fn raw<T>(dev: &str, work: impl FnOnce(&fs::File) -> Result<T>) -> Result<T> {
    let force = Path::new("/sys/bus/nd/devices").join(dev).join("force_raw");
    fs::write(&force, "1").context("force_raw")?;
    Cmd::new("ndctl enable-namespace").arg(dev).ok()?;
    let node = namespace(dev)?.context("the namespace is gone")?.node()?;
    system::wait_for_node(&node)?;
    let disk = open_rw(&node, false)?;
    let result = work(&disk);
    disk.sync_all()?;
    drop(disk);
    Cmd::new("ndctl disable-namespace").arg(dev).ok()?;
    fs::write(&force, "0").context("force_raw")?;
    result
}
