// SPDX-License-Identifier: GPL-2.0

//! Removed inodes whose blocks are kept because their pages are still pinned:
//! `/sys/kernel/debug/fs_dax/delayed_iputs`, with a line for each:
//!
//! ```text
//! device=259:1 fstype=ext4 inode=12 pages=16 first=0x140000000 seconds=3
//! ```
//!
//! Words are identified by the name before `=`, so a kernel may have others. A kernel without the
//! file has no such inodes to show.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};
use serde::{Serialize, Serializer};

const FILE: &str = "/sys/kernel/debug/fs_dax/delayed_iputs";

/// What can be done; the kernel does not know the holder of a pin.
const ADVICE: &str = "\
The blocks are freed when the pins are dropped. A pin is held by
* a pipe that vmsplice() filled: read it or close it; `ls -l /proc/*/fd | grep pipe:`
* a socket with data of MSG_ZEROCOPY that is not sent yet: Send-Q of `ss -ap`
* direct I/O or a driver's transfer that has not ended: /proc/PID/stack of tasks in state D
A killed process drops its pins; an unbound namespace takes the pages away from the inode.
";

/// One removed inode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inode {
    pub device: String,
    pub fstype: String,
    pub inode: u64,
    /// As last counted; 0 before the first count.
    pub pages: u64,
    /// Physical address of the first pinned page.
    #[serde(serialize_with = "hex")]
    pub first: u64,
    pub seconds: u64,
}

fn hex<S: Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{address:#x}"))
}

impl Inode {
    fn parse(line: &str) -> Result<Self> {
        let word = |name: &str| {
            line.split_whitespace()
                .find_map(|w| w.strip_prefix(name)?.strip_prefix('='))
                .with_context(|| format!("no {name}= in {line:?}"))
        };
        let number = |name: &str| {
            let text = word(name)?;
            match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => text.parse(),
            }
            .with_context(|| format!("{name}={text} is no number"))
        };
        Ok(Self {
            device: word("device")?.to_string(),
            fstype: word("fstype")?.to_string(),
            inode: number("inode")?,
            pages: number("pages")?,
            first: number("first")?,
            seconds: number("seconds")?,
        })
    }
}

/// Returns the removed inodes; none if the kernel has no such file.
pub fn read() -> Result<Vec<Inode>> {
    match fs::read_to_string(FILE) {
        Ok(text) => parse(&text).with_context(|| FILE.to_string()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("cannot read {FILE}")),
    }
}

fn parse(text: &str) -> Result<Vec<Inode>> {
    let lines = text.lines().filter(|l| !l.trim().is_empty());
    lines
        .filter(|l| !l.starts_with('#'))
        .map(Inode::parse)
        .collect()
}

/// Formats the line for the table of the counters; empty without such inodes.
pub fn summary(inodes: &[Inode]) -> String {
    match inodes {
        [] => String::new(),
        [_] => "\n1 removed inode has pinned pages: see daxstat --delayed\n".into(),
        all => format!(
            "\n{} removed inodes have pinned pages: see daxstat --delayed\n",
            all.len()
        ),
    }
}

/// Formats the list.
pub fn text(inodes: &[Inode], names: &HashMap<String, String>) -> String {
    if inodes.is_empty() {
        return "No removed inode has pinned pages.\n".into();
    }
    let mut text = format!(
        "{:<10} {:<6} {:>12} {:>8} {:>14} {:>8}\n",
        "DEVICE", "TYPE", "INODE", "PAGES", "FIRST", "SECONDS"
    );
    for i in inodes {
        let name = names.get(&i.device).unwrap_or(&i.device);
        let first = format!("{:#x}", i.first);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name:<10} {:<6} {:>12} {:>8} {first:>14} {:>8}",
            i.fstype, i.inode, i.pages, i.seconds
        );
    }
    text + "\n" + ADVICE
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "device=259:1 fstype=ext4 inode=12 pages=16 first=0x140000000 seconds=3 new=x\n";

    #[test]
    fn lines() -> Result<()> {
        let all = parse(LINE)?;
        assert_eq!((all[0].inode, all[0].first), (12, 0x1_4000_0000));
        let names = HashMap::from([("259:1".to_string(), "pmem1".to_string())]);
        let text = text(&all, &names);
        assert!(text.contains("pmem1      ext4             12       16    0x140000000        3\n"));
        assert!(text.contains("vmsplice"), "{text}");
        assert!(summary(&all).contains("1 removed inode has"));
        assert!(summary(&parse(&LINE.repeat(2))?).contains("2 removed inodes have"));
        let json = serde_json::to_string(&all)?;
        assert!(
            json.contains(r#""pages":16,"first":"0x140000000","seconds":3"#),
            "{json}"
        );
        Ok(())
    }

    #[test]
    fn none() -> Result<()> {
        assert!(parse("")?.is_empty() && summary(&[]).is_empty());
        assert!(super::text(&[], &HashMap::new()).starts_with("No removed"));
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_told() {
        let wrong = |line: &str| parse(line).map_or_else(|e| format!("{e:#}"), |_| String::new());
        assert!(wrong("device=1:2\n").contains("no fstype="));
        assert!(wrong(&LINE.replace("=16", "=many")).contains("pages=many is no number"));
    }
}
