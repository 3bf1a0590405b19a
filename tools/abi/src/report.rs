// SPDX-License-Identifier: GPL-2.0

//! The report: a table of the areas, the intended differences, each with its
//! reason, and the others. As text and as `abi.json`.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::facts::{Area, Compared, Difference, Side};
use super::intended::{Entry, Intended};

/// Number of names of one entry that are printed. The file has all of them.
const SHOWN: usize = 6;
/// Number of characters of a text that are printed.
const WIDTH: usize = 100;

/// The whole comparison.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every difference is intended.
    pub ok: bool,
    kernels: Kernels,
    areas: Vec<Row>,
    intended: Vec<Covered>,
    unintended: Vec<Difference>,
    /// Entries of compared areas that no difference matched.
    unused: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Kernels {
    c: String,
    rust: String,
}

#[derive(Debug, Serialize)]
struct Row {
    area: Area,
    what: &'static str,
    c: usize,
    rust: usize,
    intended: usize,
    unintended: usize,
    notes: Vec<String>,
}

/// An entry with the differences that it covers.
#[derive(Debug, Serialize)]
struct Covered {
    #[serde(flatten)]
    entry: Entry,
    differences: Vec<Difference>,
}

impl Report {
    pub fn new(
        [c, rust]: [String; 2],
        areas: BTreeMap<Area, Compared>,
        intended: &Intended,
    ) -> Report {
        let mut covered: Vec<Covered> = intended
            .entries()
            .map(|entry| Covered {
                entry: entry.clone(),
                differences: Vec::new(),
            })
            .collect();
        let mut unintended = Vec::new();
        let mut rows = Vec::new();
        let compared: Vec<Area> = areas.keys().copied().collect();
        for (area, found) in areas {
            let mut row = Row {
                area,
                what: area.explain(),
                c: found.c,
                rust: found.rust,
                intended: 0,
                unintended: 0,
                notes: found.notes,
            };
            for difference in found.differences {
                match intended.covering(&difference) {
                    Some(entry) => {
                        row.intended += 1;
                        covered[entry].differences.push(difference);
                    }
                    None => {
                        row.unintended += 1;
                        unintended.push(difference);
                    }
                }
            }
            rows.push(row);
        }
        let (used, unused): (Vec<_>, Vec<_>) =
            covered.into_iter().partition(|m| !m.differences.is_empty());
        Report {
            ok: unintended.is_empty(),
            kernels: Kernels { c, rust },
            areas: rows,
            intended: used,
            unintended,
            unused: unused
                .into_iter()
                .map(|m| m.entry)
                .filter(|e| compared.contains(&e.area))
                .collect(),
        }
    }

    /// Formats the report for a person.
    pub fn text(&self) -> String {
        let mut t = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut t);
        t
    }

    fn write(&self, t: &mut String) -> std::fmt::Result {
        writeln!(
            t,
            "C    Linux {}\nRust Linux {}\n",
            self.kernels.c, self.kernels.rust
        )?;
        writeln!(
            t,
            "{:<11}{:>8}{:>8}{:>10}{:>12}",
            "area", "C", "Rust", "intended", "unintended"
        )?;
        for row in &self.areas {
            writeln!(
                t,
                "{:<11}{:>8}{:>8}{:>10}{:>12}  {}",
                row.area.name(),
                row.c,
                row.rust,
                row.intended,
                row.unintended,
                row.what
            )?;
        }
        for row in &self.areas {
            for note in &row.notes {
                writeln!(t, "Note on {}: {note}", row.area.name())?;
            }
        }
        writeln!(t, "\nIntended differences")?;
        if self.intended.is_empty() {
            writeln!(t, "  none")?;
        }
        for covered in &self.intended {
            write_covered(t, covered)?;
        }
        if !self.unused.is_empty() {
            writeln!(t, "\nIntended, but not found (is the entry out of date?)")?;
            for entry in &self.unused {
                writeln!(
                    t,
                    "  {} {} ({})",
                    entry.area.name(),
                    entry.name,
                    side(entry.side)
                )?;
            }
        }
        writeln!(t, "\nUnintended differences")?;
        if self.unintended.is_empty() {
            writeln!(t, "  none")?;
        }
        for difference in &self.unintended {
            write_difference(t, difference)?;
        }
        Ok(())
    }
}

fn write_covered(t: &mut String, covered: &Covered) -> std::fmt::Result {
    let entry = &covered.entry;
    writeln!(
        t,
        "  {}, {}: {}",
        entry.area.name(),
        side(entry.side),
        entry.reason
    )?;
    writeln!(t, "    see {}, \"{}\"", entry.doc, entry.section)?;
    for difference in covered.differences.iter().take(SHOWN) {
        match (&difference.c, &difference.rust) {
            (Some(c), Some(rust)) => {
                let (c, rust) = apart(c, rust);
                writeln!(t, "    {}: {c} -> {rust}", difference.name)?;
            }
            _ => writeln!(t, "    {}", difference.name)?,
        }
    }
    match covered.differences.len() {
        n if n > SHOWN => writeln!(t, "    and {} more", n - SHOWN),
        _ => Ok(()),
    }
}

fn write_difference(t: &mut String, d: &Difference) -> std::fmt::Result {
    writeln!(t, "  {} {} ({})", d.area.name(), d.name, side(d.side()))?;
    match (&d.c, &d.rust) {
        (Some(c), Some(rust)) => {
            let (c, rust) = apart(c, rust);
            writeln!(t, "    C    {c}\n    Rust {rust}")
        }
        (Some(c), None) => writeln!(t, "    C    {}", short(c)),
        (None, Some(rust)) => writeln!(t, "    Rust {}", short(rust)),
        (None, None) => Ok(()),
    }
}

fn side(side: Side) -> &'static str {
    match side {
        Side::C => "only in C",
        Side::Rust => "only in Rust",
        Side::Both => "not the same",
    }
}

/// Returns the first lines in which two texts differ.
fn apart(c: &str, rust: &str) -> (String, String) {
    let (mut left, mut right) = (c.lines(), rust.lines());
    loop {
        match (left.next(), right.next()) {
            (Some(a), Some(b)) if a == b => (),
            (a, b) => {
                let line = |l: Option<&str>| l.map_or("(no more lines)".into(), short);
                return (line(a), line(b));
            }
        }
    }
}

/// Returns the first line, shortened.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{compare, tests::facts};
    use super::*;

    fn report(rust: &[(&str, &str)]) -> Report {
        let intended = Intended::parse(
            "[[intended]]\narea = \"symbol\"\nname = \"_R.*\"\nside = \"rust\"\n\
             reason = \"mangled\"\ndoc = \"README.md\"\nsection = \"Limits\"\n\
             [[intended]]\narea = \"symbol\"\nname = \"never\"\nside = \"c\"\n\
             reason = \"old\"\ndoc = \"README.md\"\nsection = \"Limits\"\n\
             [[intended]]\narea = \"errno\"\nname = \"x\"\nside = \"c\"\n\
             reason = \"not asked\"\ndoc = \"README.md\"\nsection = \"Limits\"\n",
        )
        .unwrap();
        let c = facts(&[("a", "EXPORT_SYMBOL"), ("b", "one\ntwo\nthree")]);
        let compared = compare(Area::Symbol, &c, &facts(rust));
        let areas = BTreeMap::from([(Area::Symbol, compared)]);
        Report::new(["6.12".into(), "6.12".into()], areas, &intended)
    }

    #[test]
    fn what_is_meant_does_not_fail() {
        let r = report(&[
            ("a", "EXPORT_SYMBOL"),
            ("b", "one\ntwo\nthree"),
            ("_RNv", "x"),
        ]);
        assert!(r.ok);
        let text = r.text();
        assert!(text
            .contains("symbol, only in Rust: mangled\n    see README.md, \"Limits\"\n    _RNv\n"));
        assert!(text.contains("symbol never (only in C)"), "{text}");
        assert!(!text.contains("not asked"), "{text}");
    }

    #[test]
    fn what_is_not_meant_is_shown_where_it_differs() {
        let r = report(&[("b", "one\n2\nthree")]);
        assert!(!r.ok);
        let text = r.text();
        assert!(text.contains("symbol a (only in C)\n    C    EXPORT_SYMBOL\n"));
        assert!(
            text.contains("symbol b (not the same)\n    C    two\n    Rust 2\n"),
            "{text}"
        );
    }

    #[test]
    fn the_document_has_every_name() {
        let json = serde_json::to_value(report(&[("_RNv", "x")])).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["intended"][0]["differences"][0]["name"], "_RNv");
        assert_eq!(json["unintended"].as_array().unwrap().len(), 2);
        assert_eq!(json["unused"][0]["name"], "never");
        assert_eq!(json["areas"][0]["area"], "symbol");
    }
}
