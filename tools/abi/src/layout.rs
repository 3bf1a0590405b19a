// SPDX-License-Identifier: GPL-2.0

//! Sizes and offsets of the structs that C and Rust both use.
//!
//! The kernels have no debugging information, without which pahole and abidiff know nothing.
//! bindgen knows the layouts as clang computes them: without `--no-layout-tests` it writes each as a
//! constant that does not compile if rustc lays the struct out in another way. So its output is
//! the facts of C, and rustc's errors about it are the differences between the languages. Both
//! programs run as Kbuild has recorded them, with all flags of the kernel. The names are
//! bindgen's: a struct without one is `page__bindgen_ty_1`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{bail, Context, Result};
use fs_err as fs;
use regex::{Captures, Regex};

use super::facts::Facts;
use host::command::{clean, run_logged};
use host::files;
use kbuild::objects::rust_objects;
use kbuild::toolchain::LLVM;

/// Structs that are compared even if no Rust code names them.
pub const FILE: &str = "tools/abi/structs";

const BINDINGS: &str = "rust/bindings/bindings_generated.rs";
const HELPERS: &str = "rust/bindings/bindings_helpers_generated.rs";

/// Matches a fact as bindgen writes it.
static FACT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#""(Size|Alignment|Offset) of (?:field: )?([\w:]+)",?\s*\]\s*\[[^;]*- (\d+)usize\s*\];"#,
    )
    .expect("a constant pattern is valid")
});

/// The layouts of one build, as computed for each language.
pub struct Layouts {
    pub c: Facts,
    pub rust: Facts,
    /// Names of structs that the bindings contain.
    pub structs: BTreeSet<String>,
}

/// Lets both compilers compute the layouts of the structs of these names.
pub fn read(build: &Path, names: &BTreeSet<String>, log: &Path) -> Result<Layouts> {
    let tree = build.join("abi");
    let bindings = tree.join(BINDINGS);
    files::make_dir(bindings.parent().unwrap_or(&tree))?;
    let mut words = recorded(build, "rust/bindings/.bindings_generated.rs.cmd")?;
    words.retain(|w| w != "--no-layout-tests" && !w.starts_with("-Wp,-MMD"));
    set(&mut words, "-o", bindings.display().to_string())?;
    // The first one with offset_of!().
    set(&mut words, "--rust-target", "1.77".into())?;
    run_logged(&mut command(build, &words), log, |_| ()).context("bindgen found no layouts")?;
    // Kbuild does the same behind the command.
    let text = fs::read_to_string(&bindings)?.replace("const RUST_CONST_HELPER_", "const ");
    fs::write(&bindings, &text)?;
    fs::copy(build.join(HELPERS), tree.join(HELPERS))?;
    let (c, structs) = facts(&text, names);
    if c.is_empty() {
        bail!("{} has no layouts", bindings.display());
    }

    let mut words = recorded(build, "rust/.bindings.o.cmd")?;
    words.retain(|w| !w.starts_with("--emit=") && !w.starts_with("OBJTREE="));
    let metadata = tree.join("bindings.rmeta");
    words.push(format!("--emit=metadata={}", metadata.display()));
    words.push("--error-format=short".into());
    let mut rustc = command(build, &words);
    rustc.env("OBJTREE", &tree).env("RUSTC_BOOTSTRAP", "1");
    let mut rust = c.clone();
    let mut found = false;
    let result = run_logged(&mut rustc, log, |line| {
        if let Some((name, error)) = difference(line, &text) {
            found = true;
            if let Some(fact) = rust.get_mut(&name) {
                *fact = error;
            }
        }
    });
    if !found {
        result.context("rustc does not compile the bindings")?;
    }
    Ok(Layouts { c, rust, structs })
}

/// Returns the words of a command that Kbuild has recorded.
fn recorded(build: &Path, file: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(build.join(file))?;
    let (_, command) = text
        .split_once(":= ")
        .with_context(|| format!("no command in {file}"))?;
    let command = command.split([';', '\n']).next().unwrap_or_default();
    shell_words::split(command).with_context(|| format!("cannot read the command in {file}"))
}

/// Replaces the word behind an option.
fn set(words: &mut [String], option: &str, value: String) -> Result<()> {
    let at = words.iter().position(|w| w == option);
    let word = at.and_then(|at| words.get_mut(at + 1));
    *word.with_context(|| format!("Kbuild's command has no {option}"))? = value;
    Ok(())
}

fn command(build: &Path, words: &[String]) -> Command {
    let mut cmd = clean(words.first().map_or("false", String::as_str));
    cmd.args(words.iter().skip(1))
        .current_dir(build)
        .env("LIBCLANG_PATH", format!("/usr/lib/llvm-{LLVM}/lib"));
    cmd
}

/// Parses the names of a list with comments, [`FILE`].
pub fn list(text: &str) -> BTreeSet<String> {
    text.lines()
        .map(|l| l.split('#').next().unwrap_or_default().trim())
        .filter(|l| !l.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns all names `bindings::…` in the Rust sources of a build. Most are
/// functions and constants.
pub fn named_in_sources(build: &Path) -> Result<BTreeSet<String>> {
    let mention = Regex::new(r"\bbindings::([A-Za-z_][A-Za-z0-9_]*)").context("not a pattern")?;
    let mut names = BTreeSet::new();
    let objects = rust_objects(build)?.into_iter();
    for path in objects.flat_map(|o| o.sources).collect::<BTreeSet<_>>() {
        let text = fs::read_to_string(path)?;
        let found = mention.captures_iter(&text);
        names.extend(found.map(|c| named_in_c(&c[1]).to_owned()));
    }
    Ok(names)
}

/// Returns the name in C; a struct without one is a part of the struct around it.
fn named_in_c(name: &str) -> &str {
    name.split_once("__bindgen_ty_")
        .map_or(name, |(outer, _)| outer)
}

/// Returns the facts about the structs of these names and about their parts, and the structs' names.
fn facts(text: &str, names: &BTreeSet<String>) -> (Facts, BTreeSet<String>) {
    let mut facts = Facts::new();
    let mut structs = BTreeSet::new();
    for fact in FACT.captures_iter(text) {
        let own = named_in_c(fact[2].split(':').next().unwrap_or_default());
        if names.contains(own) {
            structs.insert(own.to_owned());
            facts.insert(name_of(&fact), fact[3].to_owned());
        }
    }
    (facts, structs)
}

/// Returns the name of a fact: `page, size`, `page.flags, offset`.
fn name_of(fact: &Captures<'_>) -> String {
    let what = fact[1].to_ascii_lowercase();
    format!("{}, {what}", fact[2].replace("::", "."))
}

/// Returns the fact that rustc refuses, and its message, from a line
/// `…/bindings_generated.rs:LINE:COLUMN: error[E0080]: …`. Of the facts of a struct it names one.
fn difference(line: &str, text: &str) -> Option<(String, String)> {
    let (_, place) = line.split_once("bindings_generated.rs:")?;
    let (number, error) = place.split_once(':')?;
    let (_, error) = error.split_once(": error[E0080]: ")?;
    let before = number.parse::<usize>().ok()?.checked_sub(1)?;
    // The place may be the beginning of a fact of several lines, or the expression in it.
    let offset = |lines| text.split_inclusive('\n').take(lines).map(str::len).sum();
    let (line, near): (usize, usize) = (offset(before), offset(before.saturating_sub(2)));
    let fact = FACT
        .captures_iter(text.get(near..)?)
        .find(|fact| fact.get(0).is_some_and(|all| near + all.end() > line))?;
    Some((name_of(&fact), error.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As bindgen 0.71 writes it.
    const TEXT: &str = r#"
const _: () = {
    ["Size of page__bindgen_ty_1"][::core::mem::size_of::<page__bindgen_ty_1>() - 40usize];
    ["Alignment of page__bindgen_ty_1"][::core::mem::align_of::<page__bindgen_ty_1>() - 8usize];
    [
        "Offset of field: page::long_name",
    ][::core::mem::offset_of!(page, long_name) - 52usize];
    ["Size of other"][::core::mem::size_of::<other>() - 1usize];
};
"#;

    #[test]
    fn what_bindgen_knows() {
        let (facts, structs) = facts(TEXT, &["page".to_owned()].into());
        let list: Vec<_> = facts.iter().map(|(k, v)| format!("{k} {v}")).collect();
        assert_eq!(
            list,
            [
                "page.long_name, offset 52",
                "page__bindgen_ty_1, alignment 8",
                "page__bindgen_ty_1, size 40",
            ]
        );
        assert_eq!(structs, ["page".to_owned()].into());
    }

    #[test]
    fn what_rustc_refuses() {
        let names = ["page__bindgen_ty_1, alignment", "page.long_name, offset"];
        for (number, name) in [(4, names[0]), (5, names[1]), (7, names[1])] {
            let place = format!("/b/abi/rust/bindings/bindings_generated.rs:{number}:5");
            let line = format!("{place}: error[E0080]: evaluation of constant value failed");
            let (fact, error) = difference(&line, TEXT).unwrap();
            assert_eq!(fact, name);
            assert!(error.starts_with("evaluation of"), "{error}");
        }
        assert_eq!(difference("warning: x", TEXT), None);
    }

    #[test]
    fn recorded_commands() {
        let dir = tempfile::tempdir().unwrap();
        let text = "savedcmd_x := a --b '.*' -o x; sed y\n\nz\n";
        fs::write(dir.path().join("x.cmd"), text).unwrap();
        let mut words = recorded(dir.path(), "x.cmd").unwrap();
        set(&mut words, "-o", "new".into()).unwrap();
        assert_eq!(words, ["a", "--b", ".*", "-o", "new"]);
        assert!(set(&mut words, "new", String::new()).is_err());
    }

    #[test]
    fn comments_in_the_list() {
        let names: Vec<_> = list("# all\npage # one\n\n bio\n").into_iter().collect();
        assert_eq!(names, ["bio", "page"]);
    }
}
