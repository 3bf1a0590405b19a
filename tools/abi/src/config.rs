// SPDX-License-Identifier: GPL-2.0

//! Configuration: the two `.config` files, and whether the Rust option of a
//! piece has the same dependencies as the C option that it belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use fs_err as fs;
use walkdir::WalkDir;

use super::facts::{Area, Compared, Difference, Facts};
use kbuild::kconfig;

/// The options of the pieces: the Rust one, and the C option that decides
/// whether the piece exists at all. A piece whose bool is not in the tree's
/// Kconfig yet is left out.
const PIECES: &[(&str, &str)] = &[
    ("RUST_DEV_PAGEMAP", "ZONE_DEVICE"),
    ("RUST_BLK_DEV_PMEM", "BLK_DEV_PMEM"),
    ("RUST_FS_DAX", "FS_DAX"),
    ("RUST_X86_GUP", "HAVE_GUP_FAST"),
];

/// Returns the symbols of a build's `.config` that have a value. One that "is
/// not set" is equivalent to one that does not exist.
pub fn symbols(build: &Path) -> Result<Facts> {
    let path = build.join(".config");
    let text = fs::read_to_string(&path)?;
    Ok(values(&text))
}

fn values(text: &str) -> Facts {
    text.lines()
        .filter_map(kconfig::parse)
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect()
}

/// The dependencies and selects of one symbol, including `if` blocks and menus
/// around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Requirements {
    depends: BTreeSet<String>,
    selects: BTreeSet<String>,
}

/// Compares what the options of each piece depend on and select.
pub fn pieces(source: &Path) -> Result<Compared> {
    let mut all = BTreeMap::new();
    let skipped = ["Documentation", "tools"];
    let walk = WalkDir::new(source)
        .into_iter()
        .filter_entry(|e| e.depth() != 1 || !skipped.iter().any(|s| e.file_name() == *s));
    for entry in walk {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if entry.file_type().is_file() && name.starts_with("Kconfig") {
            let bytes = fs::read(entry.path())?;
            read(&String::from_utf8_lossy(&bytes), &mut all);
        }
    }
    Ok(judge(&all))
}

fn judge(all: &BTreeMap<String, Requirements>) -> Compared {
    let mut compared = Compared::default();
    for (option, c) in PIECES {
        let (Some(mine), Some(theirs)) = (all.get(*option), all.get(*c)) else {
            continue;
        };
        compared.c += theirs.depends.len() + theirs.selects.len();
        compared.rust += mine.depends.len() + mine.selects.len();
        // A symbol that depends on the C option inherits that option's
        // dependencies and selects.
        let inherits = mine.depends.contains(*c);
        let mut differ = |what: &str, list: &BTreeSet<String>, other: &BTreeSet<String>, in_c| {
            for term in list.difference(other).filter(|term| term != c) {
                let text = Some(format!("{what} {term}"));
                compared.differences.push(Difference {
                    area: Area::Kconfig,
                    name: format!("{option}: {what} {term}"),
                    c: text.clone().filter(|_| in_c),
                    rust: text.filter(|_| !in_c),
                });
            }
        };
        if !inherits {
            differ("depends on", &theirs.depends, &mine.depends, true);
            differ("selects", &theirs.selects, &mine.selects, true);
        }
        differ("depends on", &mine.depends, &theirs.depends, false);
        differ("selects", &mine.selects, &theirs.selects, false);
    }
    compared
}

/// Adds the symbols of one Kconfig file. An `if` and a `menu` apply to their
/// contents, as if each symbol had the dependency itself.
fn read(text: &str, all: &mut BTreeMap<String, Requirements>) {
    // The dependencies of each open block. A menu lists them in lines of its
    // own.
    let mut blocks: Vec<BTreeSet<String>> = Vec::new();
    let mut inside = Inside::Nothing;
    for line in text.replace("\\\n", " ").lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let (word, rest) = (words.next(), words.collect::<Vec<_>>().join(" "));
        let indented = line.starts_with(char::is_whitespace);
        match word {
            Some("config" | "menuconfig") if !indented => {
                let around = blocks.iter().flatten().cloned();
                all.entry(rest.clone()).or_default().depends.extend(around);
                inside = Inside::Symbol(rest);
            }
            Some("menu" | "choice") => {
                blocks.push(BTreeSet::new());
                inside = Inside::Block;
            }
            Some("if") if !indented => {
                blocks.push(terms(&rest));
                inside = Inside::Nothing;
            }
            Some("endmenu" | "endif" | "endchoice") => {
                blocks.pop();
                inside = Inside::Nothing;
            }
            Some("source" | "comment" | "mainmenu") if !indented => inside = Inside::Nothing,
            // The help text continues until a line is not indented.
            Some("help" | "---help---") => inside = Inside::Nothing,
            Some("depends") => {
                let required = terms(rest.trim_start_matches("on "));
                match &inside {
                    Inside::Symbol(name) => {
                        all.entry(name.clone())
                            .or_default()
                            .depends
                            .extend(required);
                    }
                    Inside::Block => blocks
                        .last_mut()
                        .into_iter()
                        .for_each(|b| b.extend(required.clone())),
                    Inside::Nothing => (),
                }
            }
            Some("select") => {
                if let Inside::Symbol(name) = &inside {
                    all.entry(name.clone()).or_default().selects.insert(rest);
                }
            }
            _ => (),
        }
    }
}

/// The part of a Kconfig file in which a line is.
enum Inside {
    Nothing,
    Block,
    Symbol(String),
}

/// Splits a conjunction into its terms.
fn terms(expression: &str) -> BTreeSet<String> {
    let mut depth = 0_i32;
    let mut parts = vec![String::new()];
    let mut chars = expression.chars().peekable();
    while let Some(c) = chars.next() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if c == '&' && depth == 0 {
            chars.next_if_eq(&'&');
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    // An alternative at the top level is one term.
    if expression.contains("||") && parts.iter().any(|p| !p.contains('(') && p.contains("||")) {
        parts = vec![expression.to_owned()];
    }
    parts
        .iter()
        .map(|p| p.trim().to_owned())
        .filter(|p| !p.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KCONFIG: &str = "\
menu \"DAX in Rust\"
\tdepends on RUST && X86_64

config RUST_DEV_PAGEMAP
\tbool \"x\"
\tdepends on ZONE_DEVICE
\thelp
\t  It depends on nothing
\t  select this
endmenu

config ZONE_DEVICE
\tbool \"y\"
\tdepends on MEMORY_HOTPLUG
\tselect XARRAY_MULTI

if BLOCK
config BLK_DEV_PMEM
\ttristate \"z\"
\tdepends on LIBNVDIMM
\tselect ND_PFN if NVDIMM_PFN
endif
config RUST_BLK_DEV_PMEM
\tbool
\tdepends on RUST && BLOCK
";

    #[test]
    fn what_is_not_set_is_not_there() {
        let facts = values("# comment\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\n");
        let list: Vec<_> = facts.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(list, ["A=y", "C=\"x=y\""]);
    }

    #[test]
    fn blocks_hold_for_what_is_inside() {
        let mut all = BTreeMap::new();
        read(KCONFIG, &mut all);
        let depends = |name: &str| {
            all[name]
                .depends
                .iter()
                .cloned()
                .collect::<Vec<_>>()
                .join(",")
        };
        assert_eq!(depends("RUST_DEV_PAGEMAP"), "RUST,X86_64,ZONE_DEVICE");
        assert_eq!(depends("ZONE_DEVICE"), "MEMORY_HOTPLUG");
        assert_eq!(depends("BLK_DEV_PMEM"), "BLOCK,LIBNVDIMM");
        assert!(all["RUST_DEV_PAGEMAP"].selects.is_empty());
        assert!(all["BLK_DEV_PMEM"].selects.contains("ND_PFN if NVDIMM_PFN"));
    }

    #[test]
    fn depending_on_the_c_option_is_enough() {
        let mut all = BTreeMap::new();
        read(KCONFIG, &mut all);
        let list: Vec<_> = judge(&all)
            .differences
            .into_iter()
            .map(|d| (d.name, d.c.is_some()))
            .collect();
        let expected = [
            ("RUST_DEV_PAGEMAP: depends on RUST", false),
            ("RUST_DEV_PAGEMAP: depends on X86_64", false),
            ("RUST_BLK_DEV_PMEM: depends on LIBNVDIMM", true),
            ("RUST_BLK_DEV_PMEM: selects ND_PFN if NVDIMM_PFN", true),
            ("RUST_BLK_DEV_PMEM: depends on RUST", false),
        ];
        assert_eq!(list, expected.map(|(name, c)| (name.to_owned(), c)));
    }

    #[test]
    fn conjunctions() {
        let list = |t| terms(t).into_iter().collect::<Vec<_>>();
        assert_eq!(list("A && (B || C) && !D"), ["!D", "(B || C)", "A"]);
        assert_eq!(list("A || B && C"), ["A || B && C"]);
    }
}
