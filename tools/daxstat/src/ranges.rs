// SPDX-License-Identifier: GPL-2.0

//! The 2 MiB ranges of a file that can be one page.
//!
//! A fault maps 2 MiB if one extent covers the whole range and the range is at a
//! multiple of 2 MiB in memory. Two extents do not suffice even if they are
//! adjacent on the device, because fs/dax asks the filesystem for one piece.

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
    /// Whether it has no blocks of its own, or none yet.
    pub unplaced: bool,
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
    /// Its bytes are stored elsewhere, or not yet anywhere.
    Unplaced,
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
}

impl Range {
    pub fn count(&self) -> u64 {
        self.length / HUGE
    }

    /// Returns whether `next` can be reported together with this one.
    fn continues_in(&self, next: &Range) -> bool {
        self.verdict == next.verdict && self.beside == next.beside && self.end == next.end
    }
}

/// Returns every 2 MiB of the file, with neighbours of one kind merged.
pub fn analyse(layout: &Layout) -> Vec<Range> {
    let mut all: Vec<Range> = Vec::new();
    let mut first = 0;
    for offset in (0..layout.size).step_by(HUGE as usize) {
        // Extents that end before are no longer relevant.
        while layout.extents.get(first).is_some_and(|e| e.end() <= offset) {
            first += 1;
        }
        let next = judge(layout, offset, &layout.extents[first..]);
        match all.last_mut() {
            Some(last) if last.continues_in(&next) => last.length += HUGE,
            _ => all.push(next),
        }
    }
    all
}

/// Judges one range; `extents` are those that end after its start.
fn judge(layout: &Layout, offset: u64, extents: &[Extent]) -> Range {
    let range = |verdict| Range {
        offset,
        length: HUGE,
        verdict,
        beside: 0,
        end: 0,
    };
    let end = offset + HUGE;
    if !layout.huge_faults {
        return range(Verdict::Filesystem);
    }
    // The last page of the file counts as a whole one.
    if layout.size.next_multiple_of(PAGE) < end {
        return range(Verdict::Eof);
    }
    let short = |at: u64| Range {
        end: at,
        ..range(Verdict::Short)
    };
    let Some(extent) = extents.first().filter(|e| e.logical < end) else {
        return range(Verdict::Hole);
    };
    if extent.logical > offset {
        return short(extent.logical);
    }
    if extent.unplaced {
        return range(Verdict::Unplaced);
    }
    if extent.end() < end {
        return short(extent.end());
    }
    let place = layout
        .base
        .wrapping_add(extent.physical)
        .wrapping_add(offset - extent.logical);
    match (place % HUGE, extent.shared) {
        (0, false) => range(Verdict::Huge),
        (0, true) => range(Verdict::Shared),
        (beside, _) => Range {
            beside,
            ..range(Verdict::Misaligned)
        },
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
            unplaced: false,
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
        let unplaced = Extent {
            unplaced: true,
            ..extent(HUGE, 0, HUGE)
        };
        let all = verdicts(2 * HUGE, 0, &[shared, unplaced]);
        assert_eq!(all, [(1, Verdict::Shared), (1, Verdict::Unplaced)]);
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
