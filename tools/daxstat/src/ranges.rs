// SPDX-License-Identifier: GPL-2.0

//! The 2 MiB ranges of a file that can be one page.
//!
//! A fault maps 2 MiB if one extent covers the whole range and the range is at a
//! multiple of 2 MiB in memory. Two extents do not suffice even if they are
//! adjacent on the device, because fs/dax asks the filesystem for one piece.
//!
//! A sparse file can be much larger than its extents, so the work is proportional to the number of
//! extents, not to the size.

use serde::Serialize;

pub const HUGE: u64 = 2 << 20;
const PAGE: u64 = 4096;

/// An extent of a file as FIEMAP reports it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub logical: u64,
    /// Offset on the filesystem's device.
    pub physical: u64,
    pub length: u64,
    /// Whether other files share the blocks.
    pub shared: bool,
    pub blocks: Blocks,
}

/// The state of an extent's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    Written,
    /// Allocated, and read as zeros until the first store.
    Unwritten,
    /// Not allocated before the file is written back.
    Delayed,
    /// The bytes are in the inode, compressed, or share a block with others.
    Elsewhere,
}

impl Extent {
    fn end(&self) -> u64 {
        self.logical.saturating_add(self.length)
    }
}

/// The properties of a file.
#[derive(Debug, Clone)]
pub struct Layout {
    pub size: u64,
    /// Physical address of the start of the filesystem's device.
    pub base: u64,
    /// In the file's order.
    pub extents: Vec<Extent>,
    /// Whether the filesystem can map 2 MiB at all.
    pub huge_faults: bool,
}

/// The possible mapping of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// One page.
    Huge,
    /// One page until a store; then the blocks are copied to others.
    Shared,
    /// The huge zero page; after a store, it depends on the allocated blocks.
    Hole,
    /// The file ends inside it.
    Eof,
    /// The first extent ends inside it.
    Short,
    /// The blocks are not aligned to 2 MiB.
    Misaligned,
    /// Its bytes have no blocks of their own.
    Unplaced,
    /// Its blocks are allocated when the file is written back.
    Delayed,
    /// The filesystem has faults of 4 KiB only.
    Filesystem,
}

impl Verdict {
    /// Returns the name in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Huge => "huge",
            Verdict::Shared => "shared",
            Verdict::Hole => "hole",
            Verdict::Eof => "eof",
            Verdict::Short => "short",
            Verdict::Misaligned => "misaligned",
            Verdict::Unplaced => "unplaced",
            Verdict::Delayed => "delayed",
            Verdict::Filesystem => "filesystem",
        }
    }

    pub fn is_huge(self) -> bool {
        matches!(self, Verdict::Huge)
    }
}

/// Consecutive ranges of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub offset: u64,
    pub length: u64,
    pub verdict: Verdict,
    /// For `Misaligned`: distance from the alignment, in bytes.
    pub beside: u64,
    /// For `Short`: offset of the first extent's end in the file.
    pub end: u64,
    /// Whether the blocks are allocated, and read as zeros until the first store.
    pub unwritten: bool,
}

impl Range {
    pub fn count(&self) -> u64 {
        self.length / HUGE
    }

    /// Returns whether `next` can be reported together with this one.
    fn continues_in(&self, next: &Range) -> bool {
        self.verdict == next.verdict
            && self.beside == next.beside
            && self.end == next.end
            && self.unwritten == next.unwritten
    }
}

/// Returns every 2 MiB of the file, with neighbours of one kind merged.
pub fn analyse(layout: &Layout) -> Vec<Range> {
    let mut all: Vec<Range> = Vec::new();
    let mut first = 0;
    let mut offset = 0;
    while offset < layout.size {
        // Extents that end before are no longer relevant.
        while layout.extents.get(first).is_some_and(|e| e.end() <= offset) {
            first += 1;
        }
        let next = judge(layout, offset, &layout.extents[first..]);
        offset = offset.saturating_add(next.length);
        match all.last_mut() {
            Some(last) if last.continues_in(&next) => last.length += next.length,
            _ => all.push(next),
        }
    }
    all
}

/// Judges the range at `offset` and as many behind it as have the same verdict for the same reason;
/// `extents` are those that end after `offset`.
fn judge(layout: &Layout, offset: u64, extents: &[Extent]) -> Range {
    let ranges = |verdict, count: u64| Range {
        offset,
        length: count.max(1) * HUGE,
        verdict,
        beside: 0,
        end: 0,
        unwritten: false,
    };
    // The last page of the file counts as a whole one.
    let size = layout.size.checked_next_multiple_of(PAGE);
    let bytes = size.unwrap_or(layout.size).saturating_sub(offset);
    if !layout.huge_faults {
        return ranges(Verdict::Filesystem, bytes.div_ceil(HUGE));
    }
    // The number of ranges that the file covers.
    let whole = bytes / HUGE;
    if whole == 0 {
        return ranges(Verdict::Eof, 1);
    }
    let short = |at: u64| Range {
        end: at,
        ..ranges(Verdict::Short, 1)
    };
    let Some(extent) = extents.first() else {
        return ranges(Verdict::Hole, whole);
    };
    if extent.logical > offset {
        return match (extent.logical - offset) / HUGE {
            0 => short(extent.logical),
            holes => ranges(Verdict::Hole, holes.min(whole)),
        };
    }
    let left = extent.end() - offset;
    let begun = left.div_ceil(HUGE).min(whole);
    match extent.blocks {
        Blocks::Elsewhere => return ranges(Verdict::Unplaced, begun),
        Blocks::Delayed => return ranges(Verdict::Delayed, begun),
        Blocks::Written | Blocks::Unwritten => {}
    }
    let covered = (left / HUGE).min(whole);
    if covered == 0 {
        return short(extent.end());
    }
    let place = layout
        .base
        .wrapping_add(extent.physical)
        .wrapping_add(offset - extent.logical);
    let (verdict, beside) = match (place % HUGE, extent.shared) {
        (0, false) => (Verdict::Huge, 0),
        (0, true) => (Verdict::Shared, 0),
        (beside, _) => (Verdict::Misaligned, beside),
    };
    Range {
        beside,
        unwritten: extent.blocks == Blocks::Unwritten,
        ..ranges(verdict, covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x1_4020_0000;

    fn extent(logical: u64, physical: u64, length: u64) -> Extent {
        Extent {
            logical,
            physical,
            length,
            shared: false,
            blocks: Blocks::Written,
        }
    }

    fn verdicts(size: u64, base: u64, extents: &[Extent]) -> Vec<(u64, Verdict)> {
        let layout = Layout {
            size,
            base,
            extents: extents.to_vec(),
            huge_faults: true,
        };
        let all = analyse(&layout);
        all.iter().map(|r| (r.count(), r.verdict)).collect()
    }

    #[test]
    fn one_aligned_extent() {
        let all = verdicts(3 * HUGE, BASE, &[extent(0, 5 * HUGE, 3 * HUGE)]);
        assert_eq!(all, [(3, Verdict::Huge)]);
    }

    #[test]
    fn an_extent_longer_than_the_file() {
        let all = verdicts(HUGE + PAGE, BASE, &[extent(0, HUGE, 9 * HUGE)]);
        assert_eq!(all, [(1, Verdict::Huge), (1, Verdict::Eof)]);
        // All except a part of the last page.
        let all = verdicts(2 * HUGE - 100, BASE, &[extent(0, HUGE, 2 * HUGE)]);
        assert_eq!(all, [(2, Verdict::Huge)]);
        let all = verdicts(2 * HUGE - PAGE, BASE, &[extent(0, HUGE, 2 * HUGE)]);
        assert_eq!(all, [(1, Verdict::Huge), (1, Verdict::Eof)]);
    }

    #[test]
    fn beside_a_multiple() {
        let layout = Layout {
            size: 2 * HUGE,
            base: BASE,
            extents: vec![extent(0, HUGE + PAGE, 2 * HUGE)],
            huge_faults: true,
        };
        let all = analyse(&layout);
        assert_eq!((all.len(), all[0].verdict), (1, Verdict::Misaligned));
        assert_eq!(all[0].beside, PAGE);
        // The start of the device matters too: it can compensate for the
        // misalignment.
        let all = verdicts(HUGE, BASE - PAGE, &[extent(0, HUGE + PAGE, HUGE)]);
        assert_eq!(all, [(1, Verdict::Huge)]);
        let all = verdicts(HUGE, BASE + 63 * 512, &[extent(0, HUGE, HUGE)]);
        assert_eq!(all, [(1, Verdict::Misaligned)]);
    }

    #[test]
    fn the_place_in_the_extent_counts() {
        // The extent begins before the range.
        let all = verdicts(
            2 * HUGE,
            0,
            &[
                extent(0, 3 * PAGE, PAGE),
                extent(PAGE, HUGE + PAGE, 2 * HUGE),
            ],
        );
        assert_eq!(all, [(1, Verdict::Short), (1, Verdict::Huge)]);
    }

    #[test]
    fn two_extents_that_follow_each_other() {
        let half = HUGE / 2;
        let layout = Layout {
            size: HUGE,
            base: 0,
            extents: vec![extent(0, HUGE, half), extent(half, HUGE + half, half)],
            huge_faults: true,
        };
        let all = analyse(&layout);
        assert_eq!((all[0].verdict, all[0].end), (Verdict::Short, half));
    }

    #[test]
    fn holes() {
        let all = verdicts(
            5 * HUGE,
            0,
            &[extent(HUGE, HUGE, HUGE), extent(2 * HUGE + PAGE, 0, PAGE)],
        );
        let want = [
            (1, Verdict::Hole),
            (1, Verdict::Huge),
            (1, Verdict::Short),
            (2, Verdict::Hole),
        ];
        assert_eq!(all, want);
        assert_eq!(verdicts(0, 0, &[]), []);
    }

    #[test]
    fn shared_and_unplaced() {
        let shared = Extent {
            shared: true,
            ..extent(0, HUGE, HUGE)
        };
        let with = |logical, blocks| Extent {
            blocks,
            ..extent(logical, HUGE, HUGE)
        };
        let all = verdicts(
            4 * HUGE,
            0,
            &[
                shared,
                with(HUGE, Blocks::Elsewhere),
                with(2 * HUGE, Blocks::Delayed),
                with(3 * HUGE, Blocks::Unwritten),
            ],
        );
        let want = [
            (1, Verdict::Shared),
            (1, Verdict::Unplaced),
            (1, Verdict::Delayed),
            (1, Verdict::Huge),
        ];
        assert_eq!(all, want);
    }

    /// The largest file that Linux has, in the time of its few extents.
    #[test]
    fn the_largest_file() {
        let size = i64::MAX as u64;
        let last = size / HUGE;
        let all = verdicts(size, 0, &[]);
        assert_eq!(all, [(last + 1, Verdict::Hole)]);
        let far = 1 << 62;
        let all = verdicts(
            size,
            0,
            &[extent(0, HUGE, PAGE), extent(far, HUGE, 3 * HUGE)],
        );
        let want = [
            (1, Verdict::Short),
            (far / HUGE - 1, Verdict::Hole),
            (3, Verdict::Huge),
            (last + 1 - far / HUGE - 3, Verdict::Hole),
        ];
        assert_eq!(all, want);
        let all = verdicts(size - PAGE, 0, &[]);
        assert_eq!(all, [(last, Verdict::Hole), (1, Verdict::Eof)]);
        assert_eq!(verdicts(u64::MAX, 0, &[]).len(), 2);
    }

    /// Each range has the verdict that it has alone.
    #[test]
    fn a_run_is_what_its_ranges_are() {
        let mut state = 1u64;
        let mut below = |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % n
        };
        for _ in 0..2000 {
            let mut extents = Vec::new();
            let mut at = 0;
            while below(6) > 0 {
                at += below(3) * (1 + below(3 * 512)) * PAGE;
                let length = (1 + below(4 * 512)) * PAGE;
                let mut new = extent(at, below(3) * 256 * PAGE + at, length);
                new.blocks = [
                    Blocks::Written,
                    Blocks::Unwritten,
                    Blocks::Delayed,
                    Blocks::Elsewhere,
                ][below(4) as usize];
                new.shared = below(4) == 0;
                extents.push(new);
                at += length;
            }
            let layout = Layout {
                size: below(9 * 512) * PAGE + below(3) * 100,
                base: below(2) * PAGE,
                extents,
                huge_faults: below(8) > 0,
            };
            let mut offset = 0;
            for range in analyse(&layout) {
                assert_eq!(range.offset, offset);
                for at in (offset..offset + range.length).step_by(HUGE as usize) {
                    let left = layout.extents.iter().filter(|e| e.end() > at);
                    let alone = judge(&layout, at, &left.copied().collect::<Vec<_>>());
                    assert!(range.continues_in(&alone), "{layout:?} {range:?} {alone:?}");
                }
                offset += range.length;
            }
            assert_eq!(offset, layout.size.next_multiple_of(HUGE));
        }
    }

    #[test]
    fn a_filesystem_of_small_faults() {
        let layout = Layout {
            size: 2 * HUGE,
            base: 0,
            extents: vec![extent(0, 0, 2 * HUGE)],
            huge_faults: false,
        };
        assert_eq!(analyse(&layout)[0].verdict, Verdict::Filesystem);
    }

    #[test]
    fn different_places_are_told_apart() {
        let all = verdicts(
            2 * HUGE,
            0,
            &[extent(0, PAGE, HUGE), extent(HUGE, HUGE + 2 * PAGE, HUGE)],
        );
        assert_eq!(all, [(1, Verdict::Misaligned), (1, Verdict::Misaligned)]);
    }

    #[test]
    fn names_are_those_of_the_json() {
        for verdict in [Verdict::Huge, Verdict::Misaligned, Verdict::Filesystem] {
            let json = serde_json::to_string(&verdict).unwrap();
            assert_eq!(json, format!("\"{}\"", verdict.name()));
        }
    }
}
