// SPDX-License-Identifier: GPL-2.0

//! What is mounted: /proc/self/mountinfo.
//!
//! The kernel writes blanks and other characters that would divide a line as `\040`; in the options
//! of a filesystem it may write a comma so too. A path can have bytes that are not UTF-8; they are
//! replaced, and do not make the others unreadable.

use std::fs;

use anyhow::{Context, Result};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Number of the filesystem's device, `259:0`.
    pub number: String,
    pub dir: String,
    pub fstype: String,
    /// What is mounted: a device's node, or a name.
    pub source: String,
    /// The filesystem's options.
    pub options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let mut right = right.split(' ');
        Some(Self {
            number: left.next()?.to_string(),
            dir: unescape(left.nth(1)?),
            fstype: unescape(right.next()?),
            source: unescape(right.next()?),
            options: right.next()?.split(',').map(unescape).collect(),
        })
    }

    /// Returns the value of an option that has one.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options
            .iter()
            .find_map(|o| o.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Returns all mounts of this process's namespace.
pub fn all() -> Result<Vec<Mount>> {
    let text = fs::read("/proc/self/mountinfo").context("cannot read mountinfo")?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

pub fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(Mount::parse).collect()
}

/// Replaces `\` and three octal digits by the byte that they stand for.
pub fn unescape(text: &str) -> String {
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_options() {
        let text = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                    40 22 259:0 / /mnt/a rw,noatime shared:1 - xfs /dev/pmem0 rw,dax=always,rtdev=/dev/pmem1\n";
        let mounts = parse(text);
        assert_eq!(mounts[0].fstype, "ext4");
        assert_eq!(mounts[1].source, "/dev/pmem0");
        assert_eq!(mounts[0].option("rtdev"), None);
        assert_eq!(
            (mounts[1].number.as_str(), mounts[1].dir.as_str()),
            ("259:0", "/mnt/a")
        );
        assert_eq!(mounts[1].option("rtdev"), Some("/dev/pmem1"));
        assert_eq!(mounts[1].option("dax"), Some("always"));
        assert!(mounts[1].options.iter().any(|o| o == "rw"));
    }

    #[test]
    fn blanks_and_commas_in_paths() {
        let text =
            "40 22 259:0 / /mnt/a\\040b rw - xfs /dev/x rw,rtdev=/dev/my\\040rt\\054a,noquota\n";
        let mounts = parse(text);
        assert_eq!(mounts[0].dir, "/mnt/a b");
        assert_eq!(mounts[0].option("rtdev"), Some("/dev/my rt,a"));
    }

    #[test]
    fn backslashes_that_are_no_escapes() {
        assert_eq!(unescape("a\\134b"), "a\\b");
        assert_eq!(unescape("a\\9"), "a\\9");
        assert_eq!(unescape("a\\"), "a\\");
        assert_eq!(unescape("\\777"), "\\777");
        assert_eq!(unescape("\u{e9}\\040"), "\u{e9} ");
    }
}
