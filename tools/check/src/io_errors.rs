// SPDX-License-Identifier: GPL-2.0

//! Lines of a console about I/O that failed, or about a filesystem that is damaged. The kernel does
//! not take them for a fault of its own, but here a disk fails only if a test takes it away, and a
//! test that does so says it:
//!
//! ```text
//! rust-dax-test: NAME          a test begins, and what the last one has said is over
//! rust-dax-allow-io: DISK      lines that name this disk are expected
//! ```

use std::sync::LazyLock;

use host::lines::message;
use regex::Regex;

const TEST: &str = "rust-dax-test: ";
const ALLOW: &str = "rust-dax-allow-io: ";

static ERROR: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x)^(?:
          EXT[24]-fs\ error\ \S
        | EXT[24]-fs\ \(\S+\):\ (?:error|.*I/O\ error)
        | JBD2:\ (?:Error|Detected\ IO\ errors)
        | XFS\ \(\S+\):\ (?:.*[Cc]orrupt|.*I/O\ [Ee]rror|Internal\ error)
        | Buffer\ I/O\ error\ on\ dev
        | (?:blk_update_request:\ )?(?:I/O|critical\ \w+|\w+\ medium)\ error,\ dev\ \S
        )",
    )
    .expect("a constant pattern is valid")
});

/// A shutdown that a test has asked for, which XFS reports as an error of its log.
const REQUESTED: &str = "detected at xfs_fs_goingdown+";

/// Returns the lines of a console that no test has said to expect, each with the test that was
/// running.
pub fn unexpected<'a>(console: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut test = "";
    let mut disks: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for line in console {
        let text = message(line);
        if let Some(name) = text.strip_prefix(TEST) {
            test = name;
            disks.clear();
        } else if let Some(disk) = text.strip_prefix(ALLOW) {
            disks.push(disk);
        } else if ERROR.is_match(text)
            && !text.contains(REQUESTED)
            && !disks.iter().any(|disk| names(text, disk))
        {
            found.push(match test {
                "" => text.to_owned(),
                test => format!("{text} ({test})"),
            });
        }
    }
    found
}

/// Returns whether a text has the name of a disk as a whole word: `pmem1` is not in `pmem1.2`.
fn names(text: &str, disk: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '.';
    text.match_indices(disk).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + disk.len()..].starts_with(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 8] = [
        "EXT4-fs error (device pmem2): ext4_lookup:1785: inode #2: comm ls: iget: checksum invalid",
        "EXT4-fs (pmem2): I/O error while writing superblock",
        "EXT2-fs (pmem2): previous I/O error to superblock detected",
        "XFS (pmem2): Metadata corruption detected at xfs_agf_verify+0x1/0x2 [xfs], xfs_agf block 0x1",
        "XFS (pmem2): Metadata I/O Error (0x4) detected at xfs_dax_notify_failure+0x1/0x2 [xfs]",
        "XFS (pmem2): log I/O error -5",
        "Buffer I/O error on dev pmem2, logical block 0, lost sync page write",
        "I/O error, dev pmem2, sector 0 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
    ];

    #[test]
    fn lines_that_no_test_expects() {
        for line in LINES {
            let stamped = format!("[   12.345678] {line}");
            assert_eq!(unexpected([stamped.as_str()]), [line]);
            let console = ["[1.0] rust-dax-test: a::b", line];
            assert_eq!(unexpected(console), [format!("{line} (a::b)")]);
        }
    }

    #[test]
    fn lines_of_a_disk_that_a_test_takes_away() {
        for line in LINES {
            let allowed = ["rust-dax-test: a", "rust-dax-allow-io: pmem2", line];
            assert_eq!(unexpected(allowed), [""; 0], "{line}");
            let other = ["rust-dax-test: a", "rust-dax-allow-io: pmem", line];
            assert_eq!(unexpected(other).len(), 1, "{line}");
            let over = ["rust-dax-allow-io: pmem2", "rust-dax-test: b", line];
            assert_eq!(unexpected(over).len(), 1, "{line}");
        }
        assert!(!names("dev pmem2.1, x", "pmem2"));
    }

    #[test]
    fn other_lines() {
        for line in [
            "XFS (pmem1): Log I/O Error (0x2) detected at xfs_fs_goingdown+0x66/0xa0 [xfs]",
            "XFS (pmem1): User initiated shutdown received.",
            "EXT4-fs (pmem2): mounted filesystem 1-2 r/w with ordered data mode. Quota mode: none.",
            "EXT4-fs (pmem2): shut down requested (2)",
            "EXT4-fs (vda): re-mounted 1-2 r/w. Opts: errors=remount-ro",
            "the test says: Buffer I/O error on dev pmem2",
        ] {
            assert_eq!(unexpected([line]), [""; 0], "{line}");
        }
    }
}
