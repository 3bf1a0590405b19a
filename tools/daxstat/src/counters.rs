// SPDX-License-Identifier: GPL-2.0

//! The kernel's counters, read from `/sys/kernel/debug/fs_dax/faults`:
//!
//! ```text
//! # device fstype 4K 2M cow vma-start
//! 259:0 ext4 120 3 0 7
//! ```
//!
//! Columns are identified by the names in the first line, so a kernel may have
//! others: a name that is a size counts faults, any other one fallbacks for that
//! reason. One of the reasons is called `device`, like the column that
//! identifies the device: the first of two equal names is the identifying one.

use anyhow::{bail, Context, Result};
use serde::{Serialize, Serializer};

const DEVICE: &str = "device";
const FSTYPE: &str = "fstype";

/// All counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// The counting columns, in the kernel's order.
    #[serde(skip)]
    pub columns: Vec<Column>,
    pub filesystems: Vec<Filesystem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Faults that mapped a page of this size.
    Faults,
    /// Faults that could not map a larger page for this reason.
    Fallbacks,
}

/// The counters of one filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// `major:minor`.
    pub device: String,
    pub fstype: String,
    pub faults: Named,
    pub fallbacks: Named,
}

/// Counts by the names of their columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named(pub Vec<(String, u64)>);

impl Named {
    pub fn get(&self, name: &str) -> u64 {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map_or(0, |(_, count)| *count)
    }
}

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, count)| (name, count)))
    }
}

impl Filesystem {
    pub fn count(&self, column: &Column) -> u64 {
        match column.kind {
            Kind::Faults => self.faults.get(&column.name),
            Kind::Fallbacks => self.fallbacks.get(&column.name),
        }
    }
}

/// Returns whether a name is a size: `4K`, `2M`, `1G`.
fn is_size(name: &str) -> bool {
    let digits = name.trim_end_matches(['K', 'M', 'G']);
    digits.len() + 1 == name.len() && digits.parse::<u32>().is_ok()
}

impl Counters {
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().filter(|l| !l.trim().is_empty());
        let header = lines.next().context("the file of the counters is empty")?;
        let names: Vec<&str> = header
            .strip_prefix('#')
            .with_context(|| format!("the counters begin with {header:?} instead of names"))?
            .split_whitespace()
            .collect();
        let identity = Identity::find(&names).with_context(|| {
            format!("the counters have no device and fstype columns: {header:?}")
        })?;
        let columns = names
            .iter()
            .enumerate()
            .filter(|(at, _)| identity.counts(*at))
            .map(|(_, name)| Column {
                name: name.to_string(),
                kind: match is_size(name) {
                    true => Kind::Faults,
                    false => Kind::Fallbacks,
                },
            })
            .collect();
        let filesystems = lines
            .map(|line| {
                identity
                    .row(&names, line)
                    .with_context(|| format!("in the line {line:?}"))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            columns,
            filesystems,
        })
    }

    /// Returns the same filesystem in this reading.
    pub fn find(&self, device: &str) -> Option<&Filesystem> {
        self.filesystems.iter().find(|f| f.device == device)
    }
}

/// The columns that identify a filesystem.
struct Identity {
    device: usize,
    fstype: usize,
}

impl Identity {
    fn find(names: &[&str]) -> Option<Self> {
        let first = |name: &str| names.iter().position(|n| *n == name);
        Some(Self {
            device: first(DEVICE)?,
            fstype: first(FSTYPE)?,
        })
    }

    /// Returns whether the column at this index is a count.
    fn counts(&self, at: usize) -> bool {
        at != self.device && at != self.fstype
    }

    fn row(&self, names: &[&str], line: &str) -> Result<Filesystem> {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.len() != names.len() {
            bail!("{} columns were expected, not {}", names.len(), words.len());
        }
        let mut filesystem = Filesystem {
            device: words[self.device].to_string(),
            fstype: words[self.fstype].to_string(),
            faults: Named::default(),
            fallbacks: Named::default(),
        };
        for (at, (name, word)) in names.iter().zip(words).enumerate() {
            if !self.counts(at) {
                continue;
            }
            let count: u64 = word
                .parse()
                .with_context(|| format!("{word:?} is no count of {name}"))?;
            let list = match is_size(name) {
                true => &mut filesystem.faults,
                false => &mut filesystem.fallbacks,
            };
            list.0.push((name.to_string(), count));
        }
        Ok(filesystem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All columns, as the kernel has them.
    const KERNEL: &str = "# device fstype 4K 2M cow vma-start vma-end offset eof short device \
         no-memmap conflict no-zero-page no-memory other\n259:0 ext4 120 3 0 1 2 3 4 5 6 7 8 9 10 11\n";
    const TEXT: &str =
        "# device fstype 4K 2M cow vma-start\n259:0 ext4 120 3 0 7\n259:1 xfs 1 2 3 4\n";

    #[test]
    fn columns_by_name() -> Result<()> {
        let counters = Counters::parse(TEXT)?;
        let ext4 = counters.find("259:0").context("no ext4")?;
        assert_eq!(ext4.fstype, "ext4");
        assert_eq!(ext4.faults.0, [("4K".into(), 120), ("2M".into(), 3)]);
        assert_eq!(
            ext4.fallbacks.0,
            [("cow".into(), 0), ("vma-start".into(), 7)]
        );
        assert!(counters.find("259:9").is_none());
        Ok(())
    }

    #[test]
    fn the_device_and_the_reason_of_that_name() -> Result<()> {
        let counters = Counters::parse(KERNEL)?;
        let ext4 = counters.find("259:0").context("no ext4")?;
        assert_eq!(ext4.fallbacks.get("device"), 6);
        assert_eq!(ext4.fallbacks.get("other"), 11);
        assert_eq!(counters.columns.len(), 14);
        Ok(())
    }

    #[test]
    fn other_orders_and_new_reasons() -> Result<()> {
        let counters = Counters::parse("# fstype 1G gone device\nxfs 5 6 8:1\n")?;
        let xfs = &counters.filesystems[0];
        assert_eq!((xfs.device.as_str(), xfs.faults.get("1G")), ("8:1", 5));
        assert_eq!(xfs.fallbacks.get("gone"), 6);
        assert_eq!(xfs.fallbacks.get("cow"), 0);
        let kinds: Vec<_> = counters.columns.iter().map(|c| c.kind).collect();
        assert_eq!(kinds, [Kind::Faults, Kind::Fallbacks]);
        Ok(())
    }

    #[test]
    fn nothing_mounted() -> Result<()> {
        let counters = Counters::parse("# device fstype 4K\n")?;
        assert!(counters.filesystems.is_empty());
        Ok(())
    }

    #[test]
    fn json_keeps_the_order() -> Result<()> {
        let json = serde_json::to_string(&Counters::parse(TEXT)?)?;
        assert!(
            json.starts_with(
                r#"{"filesystems":[{"device":"259:0","fstype":"ext4","faults":{"4K":120,"2M":3},"fallbacks":{"cow":0,"vma-start":7}}"#
            ),
            "{json}"
        );
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_told() {
        let wrong = |text: &str| match Counters::parse(text) {
            Ok(_) => String::new(),
            Err(e) => format!("{e:#}"),
        };
        assert!(wrong("").contains("empty"));
        assert!(wrong("device fstype\n").contains("instead of names"));
        assert!(wrong("# fstype 4K\n").contains("no device and fstype"));
        assert!(wrong("# device fstype 4K\n8:1 xfs\n").contains("3 columns were expected, not 2"));
        assert!(wrong("# device fstype 4K\n8:1 xfs many\n").contains("no count of 4K"));
    }

    #[test]
    fn sizes() {
        assert!(is_size("4K") && is_size("2M") && is_size("512G"));
        assert!(!is_size("cow") && !is_size("K") && !is_size("4") && !is_size("4KK"));
    }
}
