// SPDX-License-Identifier: GPL-2.0

//! The report: a table by folder, and a page with the lines that did not run.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use fs_err as fs;
use maud::{html, Markup};

use super::lines::{File, Lines};

/// A number of things, and how many of them ran.
#[derive(Clone, Copy, Default)]
struct Count {
    ran: usize,
    all: usize,
}

impl Count {
    fn of<'a>(things: impl Iterator<Item = &'a bool>) -> Self {
        things.fold(Self::default(), |count, has_run| Self {
            ran: count.ran + usize::from(*has_run),
            all: count.all + 1,
        })
    }

    fn plus(self, other: Self) -> Self {
        Self {
            ran: self.ran + other.ran,
            all: self.all + other.all,
        }
    }

    fn percent(self) -> f64 {
        match self.all {
            0 => 100.0,
            all => self.ran as f64 / all as f64 * 100.0,
        }
    }
}

/// Returns the lines and functions of a file.
fn counts(file: &File) -> [Count; 2] {
    [
        Count::of(file.lines.values()),
        Count::of(file.functions.values()),
    ]
}

/// Returns the folder of a file in which the table has it: a piece, or a part of the abstractions.
fn folder(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    let depth = match path.starts_with("rust/kernel/") && parts.len() > 3 {
        true => 3,
        false => parts.len() - 1,
    };
    parts[..depth].join("/")
}

/// Returns the table by folder.
pub fn text(lines: &Lines) -> String {
    let mut folders: BTreeMap<String, [Count; 2]> = BTreeMap::new();
    for (path, file) in &lines.files {
        let sum = folders.entry(folder(path)).or_default();
        let more = counts(file);
        *sum = [sum[0].plus(more[0]), sum[1].plus(more[1])];
    }
    let total = folders.values().fold([Count::default(); 2], |sum, more| {
        [sum[0].plus(more[0]), sum[1].plus(more[1])]
    });
    let mut text = format!(
        "{:<28} {:>14} {:>7} {:>12} {:>7}\n",
        "", "lines", "", "functions", ""
    );
    let rows = folders.iter().map(|(name, counts)| (name.as_str(), counts));
    for (name, [lines, functions]) in rows.chain([("all", &total)]) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name:<28} {:>6} of {:>5} {:>5.1} % {:>5} of {:>4} {:>5.1} %",
            lines.ran,
            lines.all,
            lines.percent(),
            functions.ran,
            functions.all,
            functions.percent()
        );
    }
    text
}

const STYLE: &str = "
pre { background: #fff; border: 1px solid #e3e6eb; overflow-x: auto; font-size: 13px; padding: .4rem; }
summary { cursor: pointer; } .bad { background: #fde8e8; display: block; } .no { color: #8a93a5; }
";

/// Returns the page: the table, and each file with the lines that did not run.
pub fn html(lines: &Lines, source: &Path, boots: usize) -> Result<String> {
    let mut files: Vec<(&String, &File)> = lines.files.iter().collect();
    files.sort_by(|a, b| {
        let key = |file: &File| counts(file)[0].percent();
        key(a.1).total_cmp(&key(b.1))
    });
    let files = files
        .into_iter()
        .map(|(path, file)| details(path, file, source))
        .collect::<Result<Vec<_>>>()?;
    let body = html! {
        p {
            "Lines of which an instruction ran in one of " (boots) " boots, in QEMU. Lines that \
             print warnings are not counted. Files with the least come first."
        }
        pre { (text(lines)) }
        @for file in files { (file) }
    };
    Ok(::report::html::page(
        "Coverage of the kernel's Rust",
        STYLE,
        body,
    ))
}

/// Returns the part of a file: its lines that did not run, each with the two around it.
fn details(path: &str, file: &File, source: &Path) -> Result<Markup> {
    let text = fs::read_to_string(source.join(path))?;
    let [lines, functions] = counts(file);
    let missing = |number: u32| file.lines.get(&number) == Some(&false);
    let near = |number: u32| (number.saturating_sub(2)..=number + 2).any(missing);
    let shown: Vec<(u32, &str)> = (1..).zip(text.lines()).filter(|(n, _)| near(*n)).collect();
    let unused = file.functions.iter().filter(|(_, has_run)| !**has_run);
    Ok(html! {
        details {
            summary {
                (path) ": " (format!("{:.1} %", lines.percent())) " of " (lines.all) " lines, "
                (functions.ran) " of " (functions.all) " functions"
            }
            @for (name, _) in unused { div { "not called: " code { (name) } } }
            pre {
                @for (number, line) in shown {
                    @let class = if missing(number) { "bad" } else { "no" };
                    span class=(class) { (format!("{number:>5}  {line}\n")) }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_those_of_the_pieces() {
        assert_eq!(folder("mm/memremap/state.rs"), "mm/memremap");
        assert_eq!(folder("rust/kernel/mm/memremap/page.rs"), "rust/kernel/mm");
        assert_eq!(folder("rust/kernel/dax.rs"), "rust/kernel");
    }

    #[test]
    fn nothing_is_all_of_nothing() {
        assert!((Count::default().percent() - 100.0).abs() < 1e-9);
        let count = Count::of([true, false, true, true].iter());
        assert_eq!((count.ran, count.all), (3, 4));
        assert!((count.percent() - 75.0).abs() < 1e-9);
    }
}
