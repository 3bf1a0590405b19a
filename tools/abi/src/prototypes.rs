// SPDX-License-Identifier: GPL-2.0

//! Prototypes of functions that Rust defines and C calls.
//!
//! rustc does the comparison itself: `#[export]` (rust/macros/export.rs)
//! lets a function compile only if its type is the one that bindgen found in
//! the C header. This module checks that no code bypasses it:
//!
//! * a symbol of a Rust object that a C header declares is a function with
//!   `#[export]`, and its header is among the bindings;
//! * no Rust source declares a C function by hand (`extern "C" { … }`), because
//!   such a declaration would not be compared with anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use regex::Regex;
use syn::visit::Visit;
use walkdir::WalkDir;

use super::facts::{Area, Compared, Difference};
use super::symbols::{defined, names_code};
use kbuild::objects::{rust_objects, RustObject};

/// Folders of headers that another file may include.
const HEADERS: &[&str] = &[
    "include",
    "arch/x86/include",
    "mm",
    "fs",
    "drivers/dax",
    "drivers/nvdimm",
];

/// Checks the Rust objects of a build.
pub fn check(build: &Path, source: &Path) -> Result<Compared> {
    let mut defined_by = BTreeMap::new();
    let mut written = Written::default();
    let objects = rust_objects(build)?;
    for object in &objects {
        let path = build.join(&object.name);
        let bytes = fs::read(&path)?;
        let symbols = defined(&bytes).with_context(|| format!("cannot read {}", path.display()))?;
        for (name, _) in symbols.into_iter().filter(|(name, _)| names_code(name)) {
            defined_by.insert(name, object.name.clone());
        }
        written.read(object)?;
    }
    let names: Vec<&str> = defined_by.keys().map(String::as_str).collect();
    let headers = declaring_headers(source, &names)?;
    Ok(judge(&defined_by, &headers, &written))
}

fn judge(
    defined_by: &BTreeMap<String, String>,
    headers: &BTreeMap<String, String>,
    written: &Written,
) -> Compared {
    let mut compared = Compared::default();
    let (checked, others): (Vec<_>, Vec<_>) = headers
        .iter()
        .partition(|(name, _)| written.exports.contains(*name));
    compared.c = headers.len();
    compared.rust = checked.len();
    for (name, header) in others {
        let object = defined_by.get(name).map_or("?", String::as_str);
        compared.differences.push(Difference {
            area: Area::Prototype,
            name: name.clone(),
            c: Some(format!("declared in {header}")),
            rust: Some(format!("defined in {object} without #[export]")),
        });
    }
    for (name, file) in &written.by_hand {
        compared.differences.push(Difference {
            area: Area::Prototype,
            name: name.clone(),
            c: None,
            rust: Some(format!("declared by hand in {file}")),
        });
    }
    let names: Vec<&str> = checked.iter().map(|(name, _)| name.as_str()).collect();
    compared
        .notes
        .push(format!("compared by rustc: {}", names.join(", ")));
    let private: Vec<&str> = defined_by
        .keys()
        .filter(|name| !headers.contains_key(*name))
        .map(String::as_str)
        .collect();
    if !private.is_empty() {
        compared.notes.push(format!(
            "no C header declares {} more symbols of Rust objects, for example {}: they are called \
             by the Rust compiler, the initcall table and generated code",
            private.len(),
            private.iter().take(3).copied().collect::<Vec<_>>().join(", ")
        ));
    }
    compared
}

/// Declarations in the sources.
#[derive(Default)]
struct Written {
    /// Functions with `#[export]`.
    exports: BTreeSet<String>,
    /// C functions that are declared in Rust, with their file.
    by_hand: BTreeMap<String, String>,
}

impl Written {
    fn read(&mut self, object: &RustObject) -> Result<()> {
        for path in &object.sources {
            // core belongs to the compiler.
            if path.starts_with("/usr") {
                continue;
            }
            let text = fs::read_to_string(path)?;
            self.add(&text, path)
                .with_context(|| format!("cannot understand {}", path.display()))?;
        }
        Ok(())
    }

    fn add(&mut self, text: &str, path: &Path) -> Result<()> {
        // Most files have neither.
        if !text.contains("#[export") && !text.contains("extern \"C\" {") {
            return Ok(());
        }
        let file = syn::parse_file(text)?;
        let mut seen = Seen {
            written: self,
            path: path.to_owned(),
        };
        seen.visit_file(&file);
        Ok(())
    }
}

struct Seen<'a> {
    written: &'a mut Written,
    path: PathBuf,
}

impl<'ast> Visit<'ast> for Seen<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if item.attrs.iter().any(|a| a.path().is_ident("export")) {
            self.written.exports.insert(item.sig.ident.to_string());
        }
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
        for inner in &item.items {
            let name = match inner {
                syn::ForeignItem::Fn(f) => f.sig.ident.to_string(),
                syn::ForeignItem::Static(s) => s.ident.to_string(),
                _ => continue,
            };
            let file = self.path.display().to_string();
            self.written.by_hand.insert(name, file);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // Code that only `cargo test` compiles is not in the kernel.
        let testing = |a: &syn::Attribute| {
            a.path().is_ident("cfg")
                && matches!(&a.meta, syn::Meta::List(l) if l.tokens.to_string() == "test")
        };
        if !item.attrs.iter().any(testing) {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

/// Returns those of the names that a C header declares, with the header.
fn declaring_headers(source: &Path, names: &[&str]) -> Result<BTreeMap<String, String>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let words: Vec<String> = names.iter().map(|n| regex::escape(n)).collect();
    let mentioned = Regex::new(&format!(r"\b(?:{})\b", words.join("|")))
        .context("cannot search for so many symbols")?;
    let mut found = BTreeMap::new();
    for folder in HEADERS {
        for entry in WalkDir::new(source.join(folder)).sort_by_file_name() {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_none_or(|e| e != "h") || !entry.file_type().is_file() {
                continue;
            }
            let bytes = fs::read(path)?;
            let text = String::from_utf8_lossy(&bytes);
            for word in mentioned.find_iter(&text) {
                let name = word.as_str();
                if !found.contains_key(name) && declaration(name)?.is_match(&text) {
                    let header = path.strip_prefix(source).unwrap_or(path);
                    found.insert(name.to_owned(), header.display().to_string());
                }
            }
        }
    }
    Ok(found)
}

/// Returns a pattern for the declaration of a function, or of a variable with
/// extern before it. A call in an inline function looks the same; a function
/// that is called there is declared as well.
fn declaration(name: &str) -> Result<Regex> {
    let n = regex::escape(name);
    let pattern =
        format!(r"(?m)^[^#/*\n]*[\s*]{n}\s*\([^;{{]*[;{{]|(?m)^\s*extern\b[^;(]*\b{n}\b[^;(]*;");
    Regex::new(&pattern).with_context(|| format!("cannot search for {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUST: &str = r#"
        #[export(EXPORT_SYMBOL_GPL)]
        pub unsafe extern "C" fn checked(x: c_int) {}
        #[no_mangle]
        pub extern "C" fn unchecked() {}
        #[cfg(not(X))]
        mod inner {
            extern "C" { fn by_hand(); }
        }
        #[cfg(test)]
        mod tests { extern "C" { fn only_in_tests(); } }
    "#;

    #[test]
    fn what_goes_around_the_check() {
        let mut written = Written::default();
        written.add(RUST, Path::new("mm/x.rs")).unwrap();
        let defined_by: BTreeMap<_, _> = ["checked", "unchecked", "private"]
            .map(|n| (n.to_owned(), "mm/x.o".to_owned()))
            .into();
        let headers: BTreeMap<_, _> = ["checked", "unchecked"]
            .map(|n| (n.to_owned(), "include/x.h".to_owned()))
            .into();
        let compared = judge(&defined_by, &headers, &written);
        let names: Vec<_> = compared
            .differences
            .iter()
            .map(|d| d.name.as_str())
            .collect();
        assert_eq!(names, ["unchecked", "by_hand"]);
        assert_eq!((compared.c, compared.rust), (2, 1));
        assert_eq!(compared.notes[0], "compared by rustc: checked");
        assert!(compared.notes[1].contains("private"));
    }

    #[test]
    fn declarations_in_headers() {
        let dir = tempfile::tempdir().unwrap();
        let include = dir.path().join("include/linux");
        fs::create_dir_all(&include).unwrap();
        for folder in HEADERS {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(
            include.join("a.h"),
            "/* of_a_comment() */\n#define macro(x) x\nvoid *plain(struct s *s,\n\t\tint n);\n\
             static inline bool inlined(void)\n{ caller(1); }\nextern int variable;\nvoid plain2(void);\n",
        )
        .unwrap();
        let names = [
            "plain",
            "inlined",
            "variable",
            "of_a_comment",
            "macro",
            "absent",
        ];
        let found = declaring_headers(dir.path(), &names).unwrap();
        let found: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(found, ["inlined", "plain", "variable"]);
    }
}
