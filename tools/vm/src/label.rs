// SPDX-License-Identifier: GPL-2.0

//! The empty label storage area of a new NVDIMM.
//!
//! Without labels the kernel creates a single namespace on each region. With
//! labels, a region starts empty and can be divided, which the tests of ndctl
//! expect. The content is what `ndctl init-labels` writes: two index blocks,
//! each with a bitmap of free slots, and then the slots. See
//! `drivers/nvdimm/label.h`. ndctl itself writes only to a DIMM of the running
//! kernel while its regions are disabled: a guest would load, disable and load
//! the drivers again before each command, and tests that load them would not
//! be the first to do so.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;
use fs_err::OpenOptions;

/// Size of the label storage area in bytes.
pub const AREA: u64 = 2 << 20;
/// Size of one label in bytes, since version 1.2.
const LABEL: u64 = 256;
/// Alignment of an index block in bytes.
const ALIGN: u64 = 256;
/// Size of the index block's header in bytes.
const HEADER: u64 = 72;
/// Offset of the checksum in the header.
const CHECKSUM: usize = 64;
/// Bits of a long; the bitmap is an array of longs.
const LONG: u64 = 64;

/// Writes the label storage area to the end of a DIMM's backing file.
pub fn write_empty(path: &Path, size: u64) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    Ok(file.file().write_all_at(&indexes(), size - AREA)?)
}

/// Returns both index blocks.
fn indexes() -> Vec<u8> {
    let mut both = index(0, 3);
    both.extend(index(1, 2));
    both
}

/// Computes the number of slots and the size of an index block, as the kernel's
/// `nvdimm_num_label_slots()` and `sizeof_namespace_index()` do.
fn layout() -> (u64, u64) {
    let block = |slots: u64| (HEADER + slots.div_ceil(8)).next_multiple_of(ALIGN);
    let slots = (AREA - 2 * block(AREA / LABEL)) / LABEL;
    (slots, block(slots))
}

/// Returns an index block with all slots free. Of two valid blocks the kernel
/// uses the one with the later sequence number; the numbers go 1, 2, 3, 1 and
/// so on.
fn index(which: u64, seq: u32) -> Vec<u8> {
    let (slots, size) = layout();
    let mut b = Vec::with_capacity(size as usize);
    b.extend(b"NAMESPACE_INDEX\0");
    b.extend([0, 0, 0]); // flags
    b.push(LABEL.ilog2() as u8 - 7);
    b.extend(seq.to_le_bytes());
    for offset in [which * size, size, (1 - which) * size, 2 * size] {
        b.extend(offset.to_le_bytes());
    }
    b.extend((slots as u32).to_le_bytes());
    b.extend(1u16.to_le_bytes()); // major
    b.extend(2u16.to_le_bytes()); // minor
    b.extend(0u64.to_le_bytes()); // the checksum, for now
    for byte in 0..slots.next_multiple_of(LONG) / 8 {
        let free = (0..8).filter(|bit| byte * 8 + bit < slots);
        b.push(free.fold(0, |set, bit| set | (1 << bit)));
    }
    b.resize(size as usize, 0);
    let sum = fletcher64(&b);
    // Writing to a slice of a Vec cannot fail while there is room.
    let _ = (&mut b[CHECKSUM..]).write_all(&sum.to_le_bytes());
    b
}

fn fletcher64(bytes: &[u8]) -> u64 {
    let (mut low, mut high) = (0u32, 0u64);
    for word in bytes.chunks_exact(4) {
        low = low.wrapping_add(u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        high = high.wrapping_add(low.into());
    }
    (high << 32) | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(layout(), (8182, 1280));
        assert_eq!(indexes().len(), 2560);
    }

    #[test]
    fn an_index_block() {
        let b = index(1, 2);
        assert_eq!(&b[..16], b"NAMESPACE_INDEX\0");
        assert_eq!(b[19], 1);
        assert_eq!(b[20..24], 2u32.to_le_bytes());
        assert_eq!(b[24..32], 1280u64.to_le_bytes());
        assert_eq!(b[40..48], 0u64.to_le_bytes());
        assert_eq!(b[56..60], 8182u32.to_le_bytes());
        // 8182 = 1022 * 8 + 6
        assert_eq!(b[72..74], [0xff, 0xff]);
        assert_eq!(b[72 + 1021..72 + 1025], [0xff, 0x3f, 0, 0]);
        let mut zeroed = b.clone();
        zeroed[CHECKSUM..CHECKSUM + 8].fill(0);
        assert_eq!(b[CHECKSUM..CHECKSUM + 8], fletcher64(&zeroed).to_le_bytes());
    }

    #[test]
    fn the_checksum() {
        assert_eq!(fletcher64(&[1, 0, 0, 0, 2, 0, 0, 0]), ((1 + 3) << 32) | 3);
    }
}
