// SPDX-License-Identifier: GPL-2.0

//! How often the kernel has made folios of 2 MiB of the pages of files, taken them apart, or could not,
//! read from `/sys/kernel/debug/fs_dax/folios`: a name and a number in each line.

use std::collections::BTreeMap;
use std::fs;

const FOLIOS: &str = "/sys/kernel/debug/fs_dax/folios";

/// The counts by their names. There are none if the kernel does not count.
pub type Folios = BTreeMap<String, u64>;

/// Returns the counts of this kernel.
pub fn read() -> Folios {
    parse(&fs::read_to_string(FOLIOS).unwrap_or_default())
}

fn parse(text: &str) -> Folios {
    text.lines()
        .filter_map(|line| {
            let (name, count) = line.split_once(' ')?;
            Some((name.to_owned(), count.trim().parse().ok()?))
        })
        .collect()
}

/// Returns a line that names the counts that are not 0; nothing if there are none.
pub fn summary(folios: &Folios) -> String {
    let counted: Vec<String> = folios
        .iter()
        .filter(|(_, count)| **count != 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    match counted.is_empty() {
        true => String::new(),
        false => format!("\nFolios of 2 MiB since boot: {}\n", counted.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_are_zero_are_left_out() {
        let folios = parse("merged 3\nsplit 1\nunmerged-owned 0\n");
        assert_eq!(folios.len(), 3);
        assert_eq!(
            summary(&folios),
            "\nFolios of 2 MiB since boot: merged 3, split 1\n"
        );
        assert_eq!(summary(&parse("")), "");
    }
}
