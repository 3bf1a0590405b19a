// SPDX-License-Identifier: GPL-2.0

//! The intended differences: `tools/abi/intended.toml` gives each a reason and
//! the section of the documentation that explains it.

use std::path::Path;

use anyhow::{bail, Context, Result};
use fs_err as fs;
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::facts::{Area, Difference, Side};

/// Path of the file in the checkout.
pub const FILE: &str = "tools/abi/intended.toml";

/// One entry of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub area: Area,
    /// A regular expression for the whole name.
    pub name: String,
    pub side: Side,
    /// Regular expressions for the texts of both sides, if they matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rust: Option<String>,
    pub reason: String,
    /// A file of the checkout that explains it, and the heading there.
    pub doc: String,
    pub section: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    intended: Vec<Entry>,
}

/// All entries, with compiled patterns.
pub struct Intended {
    entries: Vec<(Entry, Patterns)>,
}

struct Patterns {
    name: Regex,
    c: Option<Regex>,
    rust: Option<Regex>,
}

impl Intended {
    /// Reads the file; an entry without its documentation is an error.
    pub fn read(checkout: &Path) -> Result<Intended> {
        let path = checkout.join(FILE);
        let text = fs::read_to_string(&path)?;
        let intended = Intended::parse(&text)?;
        for (entry, _) in &intended.entries {
            let path = checkout.join(&entry.doc);
            let doc = fs::read_to_string(&path).with_context(|| {
                format!(
                    "{FILE}: the entry `{}` of the area {} names {}, which cannot be read",
                    entry.name,
                    entry.area.name(),
                    entry.doc
                )
            })?;
            if !has_heading(&doc, &entry.section) {
                bail!(
                    "{FILE}: the entry `{}` of the area {} names the section \"{}\", which {} \
                     does not have",
                    entry.name,
                    entry.area.name(),
                    entry.section,
                    entry.doc
                );
            }
        }
        Ok(intended)
    }

    pub fn parse(text: &str) -> Result<Intended> {
        let file: File = toml::from_str(text).with_context(|| format!("cannot read {FILE}"))?;
        let entries = file
            .intended
            .into_iter()
            .map(|entry| {
                let patterns = Patterns {
                    name: whole(&entry.name)?,
                    c: entry.c.as_deref().map(whole).transpose()?,
                    rust: entry.rust.as_deref().map(whole).transpose()?,
                };
                Ok((entry, patterns))
            })
            .collect::<Result<_>>()?;
        Ok(Intended { entries })
    }

    /// Returns the index of the first entry that covers a difference.
    pub fn covering(&self, difference: &Difference) -> Option<usize> {
        let matches = |pattern: &Option<Regex>, text: &Option<String>| {
            pattern
                .as_ref()
                .is_none_or(|p| text.as_ref().is_some_and(|t| p.is_match(t)))
        };
        self.entries.iter().position(|(entry, patterns)| {
            entry.area == difference.area
                && entry.side == difference.side()
                && patterns.name.is_match(&difference.name)
                && matches(&patterns.c, &difference.c)
                && matches(&patterns.rust, &difference.rust)
        })
    }

    /// Returns the entries in the file's order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|(entry, _)| entry)
    }
}

/// Compiles a pattern that has to match an entire text.
fn whole(pattern: &str) -> Result<Regex> {
    Regex::new(&format!("^(?s:{pattern})$"))
        .with_context(|| format!("{FILE}: not a regular expression: {pattern}"))
}

/// Returns whether a document has a heading, in reStructuredText (a line over a
/// line of punctuation) or in Markdown.
fn has_heading(doc: &str, title: &str) -> bool {
    let mut lines = doc.lines().peekable();
    while let Some(line) = lines.next() {
        let underlined = lines.peek().is_some_and(|next| {
            next.len() >= 3
                && ["=", "-", "~"]
                    .iter()
                    .any(|c| next.trim_end_matches(c).is_empty())
        });
        let marked = line.trim_start_matches('#');
        if (underlined && line.trim() == title)
            || (marked.len() < line.len() && marked.trim() == title)
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[[intended]]
area = "symbol"
name = "_R.*"
side = "rust"
reason = "mangled"
doc = "README.md"
section = "Limits"

[[intended]]
area = "errno"
name = "overlap"
side = "both"
rust = "ENOMEM"
reason = "r"
doc = "README.md"
section = "Limits"
"#;

    fn difference(area: Area, name: &str, c: Option<&str>, rust: Option<&str>) -> Difference {
        Difference {
            area,
            name: name.into(),
            c: c.map(Into::into),
            rust: rust.map(Into::into),
        }
    }

    #[test]
    fn an_entry_covers_its_own_side_and_text_only() {
        let list = Intended::parse(TEXT).unwrap();
        let covering = |area, name, c, rust| list.covering(&difference(area, name, c, rust));
        assert_eq!(covering(Area::Symbol, "_RNv", None, Some("x")), Some(0));
        assert_eq!(covering(Area::Symbol, "_RNv", Some("x"), None), None);
        assert_eq!(covering(Area::Symbol, "a_RNv", None, Some("x")), None);
        assert_eq!(covering(Area::Global, "_RNv", None, Some("x")), None);
        let errno = |rust| covering(Area::Errno, "overlap", Some("0"), Some(rust));
        assert_eq!((errno("ENOMEM"), errno("EINVAL")), (Some(1), None));
    }

    #[test]
    fn an_unknown_word_is_named() {
        let err = Intended::parse("[[intended]]\narea = \"sybol\"\n")
            .err()
            .map(|e| format!("{e:#}"))
            .unwrap();
        assert!(err.contains(FILE) && err.contains("sybol"), "{err}");
    }

    #[test]
    fn headings() {
        let doc = "Top\n===\n\nWhat differs\n------------\ntext\n## Limits, told\n";
        assert!(has_heading(doc, "What differs") && has_heading(doc, "Limits, told"));
        assert!(!has_heading(doc, "text"));
    }

    #[test]
    fn the_file_of_the_checkout_is_sound() {
        // Not `env!`: the crate may have been compiled in another checkout.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
        let checkout = Path::new(&manifest).join("../..");
        assert!(Intended::read(&checkout).unwrap().entries().count() > 0);
    }
}
