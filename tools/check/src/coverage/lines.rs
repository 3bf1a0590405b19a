// SPDX-License-Identifier: GPL-2.0

//! The lines and functions of our files, and which of them ran: from the line tables of an object, as
//! `llvm-dwarfdump` prints them, its symbols, and the addresses of the instructions that ran.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{ensure, Context, Result};
use host::command::{clean, output};
use kbuild::overlay;
use kbuild::toolchain::LLVM;

/// Folders of tests and samples, whose lines are not counted.
const LEFT_OUT: &[&str] = &[
    "mm/memremap/tests",
    "samples/",
    "rust/macros/",
    "rust/kernel/kunit",
];

/// The lines of one file: for each that has code, whether it ran.
#[derive(Default)]
pub struct File {
    pub lines: BTreeMap<u32, bool>,
    /// The functions by name.
    pub functions: BTreeMap<String, bool>,
}

/// All of our files, by their paths in the kernel's tree.
pub struct Lines {
    pub files: BTreeMap<String, File>,
    /// Our files by their last name.
    names: HashMap<String, Vec<String>>,
    /// The lines of each that print a warning.
    warnings: HashMap<String, BTreeSet<u32>>,
}

/// A row of a line table.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Row {
    address: u64,
    /// File and line; `None` behind the end of a function and in other files.
    place: Option<(String, u32)>,
}

impl Lines {
    /// Finds the files of the checkout.
    pub fn new(checkout: &Path) -> Result<Self> {
        let mut this = Self {
            files: BTreeMap::new(),
            names: HashMap::new(),
            warnings: HashMap::new(),
        };
        for (file, content) in overlay::read(checkout)? {
            if !file.ends_with(".rs") || LEFT_OUT.iter().any(|l| file.starts_with(l)) {
                continue;
            }
            let text = String::from_utf8_lossy(&content.bytes);
            this.warnings.insert(file.clone(), warnings(&text));
            let name = file.rsplit('/').next().unwrap_or(&file).to_owned();
            this.names.entry(name).or_default().push(file);
        }
        Ok(this)
    }

    /// Returns our file with this path.
    fn ours(&self, path: &str) -> Option<&String> {
        let name = path.rsplit('/').next()?;
        let ends = |file: &&String| {
            path.strip_suffix(file.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        };
        self.names.get(name)?.iter().find(ends)
    }

    /// Adds an object, of which the instructions at these addresses ran.
    pub fn add(&mut self, object: &Path, ran: &BTreeSet<u64>) -> Result<()> {
        let mut dump = clean(format!("llvm-dwarfdump-{LLVM}"))
            .arg("--debug-line")
            .arg(object)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start llvm-dwarfdump")?;
        let text = BufReader::new(dump.stdout.take().context("no output")?);
        let rows = self.rows(text)?;
        ensure!(
            dump.wait()?.success(),
            "llvm-dwarfdump failed for {}",
            object.display()
        );
        ensure!(
            !rows.is_empty(),
            "{} has no lines of ours",
            object.display()
        );
        let mut starts = BTreeMap::new();
        for pair in rows.windows(2) {
            let Some((file, line)) = &pair[0].place else {
                continue;
            };
            let span = pair[0].address..pair[1].address;
            starts.entry(span.start).or_insert_with(|| file.clone());
            if span.is_empty() || self.warnings.get(file).is_some_and(|w| w.contains(line)) {
                continue;
            }
            let has_run = ran.range(span).next().is_some();
            let entry = self.files.entry(file.clone()).or_default();
            *entry.lines.entry(*line).or_default() |= has_run;
        }
        self.add_functions(object, ran, &starts)
    }

    /// Adds the functions that begin at one of these lines.
    fn add_functions(
        &mut self,
        object: &Path,
        ran: &BTreeSet<u64>,
        starts: &BTreeMap<u64, String>,
    ) -> Result<()> {
        let mut nm = clean(format!("llvm-nm-{LLVM}"));
        nm.args(["--print-size", "--demangle", "--defined-only"])
            .arg(object);
        for line in output(&mut nm)?.lines() {
            let mut words = line.splitn(4, ' ');
            let mut number = || u64::from_str_radix(words.next()?, 16).ok();
            let (Some(start), Some(size)) = (number(), number()) else {
                continue;
            };
            let (Some("t" | "T"), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            let Some(file) = starts.get(&start) else {
                continue;
            };
            let has_run = ran
                .range(start..start.saturating_add(size))
                .next()
                .is_some();
            let entry = self.files.entry(file.clone()).or_default();
            *entry.functions.entry(name.to_owned()).or_default() |= has_run;
        }
        Ok(())
    }

    /// Reads the rows of all line tables, in order.
    fn rows(&self, text: impl BufRead) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let (mut folders, mut files) = (HashMap::new(), HashMap::new());
        let (mut file, mut name) = (0_u32, String::new());
        for line in text.lines() {
            let line = line?;
            let line = line.trim();
            if line.starts_with("debug_line[") {
                folders.clear();
                files.clear();
            } else if let Some(rest) = line.strip_prefix("include_directories[") {
                if let Some((index, folder)) = rest.split_once("] = ") {
                    folders.insert(number(index), folder.trim_matches('"').to_owned());
                }
            } else if let Some(rest) = line.strip_prefix("file_names[") {
                file = number(rest.trim_end_matches("]:"));
            } else if let Some(rest) = line.strip_prefix("name: ") {
                name = rest.trim_matches('"').to_owned();
            } else if let Some(rest) = line.strip_prefix("dir_index: ") {
                let path = match folders.get(&number(rest)) {
                    Some(folder) => format!("{folder}/{name}"),
                    None => std::mem::take(&mut name),
                };
                if let Some(ours) = self.ours(&path) {
                    files.insert(file, ours.clone());
                }
            } else if let Some(row) = line.strip_prefix("0x") {
                rows.extend(self.row(row, &files));
            }
        }
        Ok(rows)
    }

    /// Reads a row: address, line, column, file, and flags.
    fn row(&self, text: &str, files: &HashMap<u32, String>) -> Option<Row> {
        let mut words = text.split_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let line = words.next()?.parse().ok()?;
        let file = words.nth(1)?.parse::<u32>().ok()?;
        let place = match text.ends_with("end_sequence") || line == 0 {
            true => None,
            false => files.get(&file).map(|file| (file.clone(), line)),
        };
        Some(Row { address, place })
    }
}

/// Parses an index that may have blanks before it.
fn number(text: &str) -> u32 {
    text.trim().parse().unwrap_or(u32::MAX)
}

/// Returns the lines of a file that print a warning: those of the calls of its macros.
fn warnings(text: &str) -> BTreeSet<u32> {
    const MACROS: [&str; 4] = ["warn!(", "warn_once!(", "expect_splat(", "debug_assert!("];
    let (mut lines, mut depth) = (BTreeSet::new(), 0_i32);
    for (number, line) in (1..).zip(text.lines()) {
        let begins = MACROS.iter().filter_map(|name| line.find(name)).min();
        if depth == 0 && begins.is_none() {
            continue;
        }
        lines.insert(number);
        let from = if depth == 0 { begins.unwrap_or(0) } else { 0 };
        for c in line[from..].chars() {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
        }
        depth = depth.max(0);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = r#"debug_line[0x00000000]
include_directories[  1] = "/src/rust/kernel"
include_directories[  2] = "/rustc/core/src"
file_names[  1]:
           name: "dax.rs"
      dir_index: 1
file_names[  2]:
           name: "option.rs"
      dir_index: 2

Address            Line   Column File   ISA Discriminator OpIndex Flags
------------------ ------ ------ ------ --- ------------- ------- -------------
0xffffffff81000000     10      0      1   0             0       0  is_stmt
0xffffffff81000004     77      0      2   0             0       0  is_stmt
0xffffffff81000008     12      5      1   0             0       0  is_stmt prologue_end
0xffffffff81000010     12      5      1   0             0       0  is_stmt end_sequence
"#;

    fn lines() -> Lines {
        let names = HashMap::from([("dax.rs".into(), vec!["rust/kernel/dax.rs".into()])]);
        Lines {
            files: BTreeMap::new(),
            names,
            warnings: HashMap::new(),
        }
    }

    #[test]
    fn rows_have_our_files_only() {
        let rows = lines().rows(DUMP.as_bytes()).unwrap();
        let places: Vec<_> = rows.iter().map(|r| r.place.as_ref().map(|p| p.1)).collect();
        assert_eq!(places, [Some(10), None, Some(12), None]);
        assert_eq!(rows[2].address, 0xffff_ffff_8100_0008);
    }

    #[test]
    fn paths_are_compared_by_components() {
        let lines = lines();
        assert!(lines.ours("rust/kernel/dax.rs").is_some());
        assert!(lines.ours("/src/linux/rust/kernel/dax.rs").is_some());
        assert!(lines.ours("/src/fs/dax/dax.rs").is_none());
        assert!(lines.ours("/src/trust/kernel/dax.rs").is_none());
    }

    #[test]
    fn warnings_end_with_their_call() {
        let text = "a\n    kernel::warn!(\n        \"x ({})\",\n        y()\n    );\nb\nwarn_once!(\"z\");\nc";
        assert_eq!(
            warnings(text).into_iter().collect::<Vec<_>>(),
            [2, 3, 4, 5, 7]
        );
    }
}
