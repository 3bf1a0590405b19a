// SPDX-License-Identifier: GPL-2.0

//! The counters as a table: a filesystem a line, then the reasons that were
//! counted, each with its advice.
//!
//! `comfy-table` would replace one function of 20 lines by 12, and bring a library for terminals.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use crate::advice;
use crate::counters::{Column, Counters, Filesystem, Kind};

/// Formats the table. With an older reading, each number is followed by its
/// growth per second.
pub fn text(
    now: &Counters,
    since: Option<(&Counters, Duration)>,
    names: &HashMap<String, String>,
) -> String {
    if now.filesystems.is_empty() {
        return "No DAX filesystem is mounted, or none has seen a fault.\n".into();
    }
    // Sizes are always shown, reasons when they occur.
    let columns: Vec<&Column> = now
        .columns
        .iter()
        .filter(|c| c.kind == Kind::Faults || total(now, c) > 0)
        .collect();
    let mut rows = vec![head(&columns)];
    for filesystem in &now.filesystems {
        let old = since.map(|(old, time)| (old.find(&filesystem.device), time));
        rows.push(row(filesystem, &columns, old, names));
    }
    let mut text = align(&rows);
    let reasons: Vec<&&Column> = columns
        .iter()
        .filter(|c| c.kind == Kind::Fallbacks)
        .collect();
    if !reasons.is_empty() {
        text += "\nWhy not 2 MiB:\n";
    }
    for column in reasons {
        let advice = advice::of(&column.name);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<12} {advice}", column.name);
    }
    text
}

fn total(counters: &Counters, column: &Column) -> u64 {
    counters.filesystems.iter().map(|f| f.count(column)).sum()
}

fn head(columns: &[&Column]) -> Vec<String> {
    let mut head = vec!["DEVICE".to_string(), "TYPE".to_string()];
    head.extend(columns.iter().map(|c| c.name.clone()));
    head
}

fn row(
    filesystem: &Filesystem,
    columns: &[&Column],
    old: Option<(Option<&Filesystem>, Duration)>,
    names: &HashMap<String, String>,
) -> Vec<String> {
    let name = names.get(&filesystem.device).unwrap_or(&filesystem.device);
    let mut row = vec![name.clone(), filesystem.fstype.clone()];
    for column in columns {
        let count = filesystem.count(column);
        let rate = old.and_then(|(old, time)| {
            let before = old.map_or(0, |f| f.count(column));
            // A new filesystem on the same device counts from zero.
            let growth = count.checked_sub(before).filter(|n| *n > 0)?;
            Some(format!(" +{:.0}/s", growth as f64 / time.as_secs_f64()))
        });
        row.push(format!("{count}{}", rate.unwrap_or_default()));
    }
    row
}

/// Aligns the first two columns to the left, the numbers to the right.
fn align(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|r| r[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(n, (cell, width))| match n {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Result;

    const OLD: &str = "# device fstype 4K 2M cow short\n259:0 ext4 100 3 0 0\n";
    const NEW: &str = "# device fstype 4K 2M cow short\n259:0 ext4 120 3 0 7\n259:1 xfs 1 2 0 0\n";

    #[test]
    fn reasons_that_occur() -> Result<()> {
        let names = HashMap::from([("259:0".to_string(), "pmem0".to_string())]);
        let text = text(&Counters::parse(NEW)?, None, &names);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "DEVICE  TYPE   4K  2M  short");
        assert_eq!(lines[1], "pmem0   ext4  120   3      7");
        assert_eq!(lines[2], "259:1   xfs     1   2      0");
        assert!(lines[5].trim_start().starts_with("short "), "{text}");
        assert!(!text.contains("cow"));
        Ok(())
    }

    #[test]
    fn rates() -> Result<()> {
        let (old, new) = (Counters::parse(OLD)?, Counters::parse(NEW)?);
        let since = Some((&old, Duration::from_secs(2)));
        let text = text(&new, since, &HashMap::new());
        assert!(text.contains("120 +10/s"), "{text}");
        assert!(
            text.contains(" 3 "),
            "what did not change has no rate: {text}"
        );
        // A filesystem that was mounted again has counted less than before.
        let since = Some((&new, Duration::from_secs(1)));
        assert!(!super::text(&old, since, &HashMap::new()).contains('+'));
        Ok(())
    }

    #[test]
    fn nothing_is_said() -> Result<()> {
        let none = Counters::parse("# device fstype 4K\n")?;
        assert!(text(&none, None, &HashMap::new()).starts_with("No DAX"));
        Ok(())
    }
}
