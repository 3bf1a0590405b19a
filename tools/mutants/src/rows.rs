// SPDX-License-Identifier: GPL-2.0

//! The faults: `tools/testing/mutants/*.toml`.

use std::fs;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use host::files::Fingerprint;
use host::variant::Variant;
use regex::Regex;
use serde::Deserialize;
use walkdir::WalkDir;

/// Folder of the files in the checkout.
pub const FOLDER: &str = "tools/testing/mutants";

/// A fault, and what notices it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub name: String,
    /// A file of the checkout.
    pub file: String,
    /// The text that is replaced; the file has it once.
    pub from: String,
    pub to: String,
    /// What a user would see.
    pub user: String,
    /// The kernel that is built.
    #[serde(default = "rust")]
    pub variant: Variant,
    /// The guest tests that must notice, as a regular expression.
    #[serde(default)]
    pub tests: Option<String>,
    /// Whether the tests run in full, as with `make check ALL=1`.
    #[serde(default)]
    pub all: bool,
    /// The KUnit suites that must notice, as `kunit.filter_glob` takes them.
    #[serde(default)]
    pub kunit: Option<String>,
    /// The crate of the host's tests that must notice.
    #[serde(default)]
    pub host: Option<String>,
    /// The reason, if no test can notice.
    #[serde(default)]
    pub survives: Option<String>,
}

fn rust() -> Variant {
    Variant::Rust
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mutant: Vec<Row>,
}

/// Where a fault is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher<'a> {
    /// Tests of a guest.
    Guest(&'a str),
    /// KUnit suites in a guest.
    Kunit(&'a str),
    /// Tests of a crate on the host.
    Host(&'a str),
}

impl Row {
    /// Returns what must notice the fault.
    pub fn watcher(&self) -> Result<Watcher<'_>> {
        Ok(match (&self.tests, &self.kunit, &self.host) {
            (Some(tests), None, None) => Watcher::Guest(tests),
            (None, Some(kunit), None) => Watcher::Kunit(kunit),
            (None, None, Some(host)) => Watcher::Host(host),
            _ => bail!("{}: give one of tests, kunit and host", self.name),
        })
    }

    /// Returns the text of the file with the fault.
    pub fn apply(&self, checkout: &Path) -> Result<String> {
        let path = checkout.join(&self.file);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{}: cannot read {}", self.name, path.display()))?;
        let count = text.matches(&self.from).count();
        ensure!(
            count == 1,
            "{}: {} has the text to replace {count} times, not once; bring `from` up to date",
            self.name,
            self.file
        );
        Ok(text.replacen(&self.from, &self.to, 1))
    }

    /// Returns the digest of the row.
    pub fn add_to(&self, digest: &mut Fingerprint) {
        digest.add("row", format!("{self:?}").as_bytes());
    }
}

/// Reads all faults and checks that each can be applied.
pub fn read(checkout: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for entry in WalkDir::new(checkout.join(FOLDER)).sort_by_file_name() {
        let path = entry?.into_path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: File =
            toml::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))?;
        rows.extend(file.mutant);
    }
    for row in &rows {
        row.apply(checkout)?;
        if let Watcher::Guest(tests) = row.watcher()? {
            Regex::new(tests).with_context(|| format!("{}: tests", row.name))?;
        }
        let same = rows.iter().filter(|r| r.name == row.name).count();
        ensure!(same == 1, "two mutants have the name {}", row.name);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "[[mutant]]\nname = 'a'\nfile = 'x.rs'\nfrom = 'one'\nto = 'two'\n\
                       user = 'u'\n";

    fn row(more: &str) -> Row {
        let file: File = toml::from_str(&format!("{ROW}{more}")).unwrap();
        file.mutant.into_iter().next().unwrap()
    }

    #[test]
    fn a_mutant_has_one_watcher() {
        assert_eq!(row("tests = '^x'").watcher().unwrap(), Watcher::Guest("^x"));
        assert_eq!(row("host = 'x'").watcher().unwrap(), Watcher::Host("x"));
        assert!(row("").watcher().is_err());
        assert!(row("host = 'x'\nkunit = 'y'").watcher().is_err());
    }

    #[test]
    fn the_text_to_replace_is_there_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.rs");
        fs::write(&file, "zero one three").unwrap();
        assert_eq!(row("").apply(dir.path()).unwrap(), "zero two three");
        for text in ["zero", "one one"] {
            fs::write(&file, text).unwrap();
            assert!(row("").apply(dir.path()).is_err());
        }
    }

    /// The mutants of this checkout can be applied.
    #[test]
    fn the_list_is_up_to_date() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        read(&checkout).unwrap();
    }
}
