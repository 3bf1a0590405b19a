// SPDX-License-Identifier: GPL-2.0

//! Sizes and offsets of the structs that C and Rust both use.
//!
//! The kernels have no debugging information, so the compilers compute the
//! layouts: two small files with one table each are generated, in C with
//! `sizeof` and `offsetof`, in Rust with `size_of` and `offset_of!`, and
//! compiled by Kbuild as parts of a module outside the tree, with all flags of
//! the kernel. The tables are read from the objects; nothing is linked or
//! loaded.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};
use fs_err as fs;
use object::{Object, ObjectSection, ObjectSymbol};
use regex::Regex;

use super::bindgen::{Bindings, Member, Size, Tag};
use super::facts::Facts;
use host::command::run_logged;
use host::files;
use kbuild::objects::elf;
use kbuild::objects::rust_objects;

/// Structs that are compared even if no Rust code names them.
pub const FILE: &str = "tools/abi/structs";

/// The symbol of both tables.
const TABLE: &str = "rust_dax_layout";

/// The layouts of one build, as computed by each language.
pub struct Layouts {
    pub c: Facts,
    pub rust: Facts,
    /// Names that the bindings contain.
    pub structs: BTreeSet<String>,
}

/// A struct with its members, in the order of the tables.
struct Row {
    name: String,
    tag: Tag,
    members: Vec<Member>,
}

impl Row {
    /// Returns the name in C.
    fn c(&self) -> String {
        match self.tag {
            Tag::Struct => format!("struct {}", self.name),
            Tag::Union => format!("union {}", self.name),
            Tag::Typedef => self.name.clone(),
        }
    }
}

/// Lets both compilers compute the layouts of the structs of these names.
/// `make` is the kernel's make for this build, without a target.
pub fn read(
    mut make: Command,
    build: &Path,
    names: &BTreeSet<String>,
    log: &Path,
) -> Result<Layouts> {
    let path = build.join("rust/bindings/bindings_generated.rs");
    let text = fs::read_to_string(&path)?;
    let bindings =
        Bindings::parse(&text).with_context(|| format!("cannot understand {}", path.display()))?;
    let rows: Vec<Row> = names
        .iter()
        .filter(|name| bindings.is_complete(name))
        .map(|name| Row {
            tag: bindings.tag(name),
            members: bindings.members(name),
            name: name.clone(),
        })
        .collect();

    let dir = build.join("abi");
    let sources = [
        ("Kbuild", kbuild_file()),
        ("layout_c.c", c_file(&rows)),
        ("layout_rust.rs", rust_file(&rows)),
    ];
    for (name, text) in sources {
        let path = dir.join(name);
        // The file's time determines whether make compiles it again.
        if files::read_if_exists(&path)?.as_deref() != Some(text.as_bytes()) {
            files::write_atomic(&path, text.as_bytes(), false)?;
        }
    }
    let mut m = OsString::from("M=");
    m.push(&dir);
    make.arg(m).args(["layout_c.o", "layout_rust.o"]);
    run_logged(&mut make, log, |_| ()).context("cannot compile the tables of struct layouts")?;
    Ok(Layouts {
        c: facts(&rows, &table(&dir.join("layout_c.o"))?)?,
        rust: facts(&rows, &table(&dir.join("layout_rust.o"))?)?,
        structs: rows.into_iter().map(|r| r.name).collect(),
    })
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
    let sources: BTreeSet<_> = rust_objects(build)?
        .into_iter()
        .flat_map(|o| o.sources)
        .collect();
    for path in sources {
        let text = fs::read_to_string(&path)?;
        names.extend(mention.captures_iter(&text).map(|c| named_in_c(&c[1])));
    }
    Ok(names)
}

/// Returns the name in C; a struct without one is compared as a part of the
/// struct around it.
fn named_in_c(name: &str) -> String {
    let (outer, _) = name.split_once("__bindgen_ty_").unwrap_or((name, ""));
    outer.to_owned()
}

fn kbuild_file() -> String {
    "# Made by xtask abi.\n\
     obj-m := layout.o\n\
     layout-y := layout_c.o layout_rust.o\n\
     # It would add a red zone after the table.\n\
     KASAN_SANITIZE := n\n\
     ccflags-y := -I$(srctree)/rust/bindings\n"
        .into()
}

/// Generates the C file, which includes the headers that bindgen reads, so the
/// declarations are the same.
fn c_file(rows: &[Row]) -> String {
    let mut t = format!(
        "// Made by xtask abi.\n#include \"bindings_helper.h\"\n\nconst unsigned long {TABLE}[] = {{\n"
    );
    for row in rows {
        let c = row.c();
        // Writing to a String cannot fail.
        let _ = writeln!(t, "\tsizeof({c}), _Alignof({c}),");
        for m in &row.members {
            let size = match m.has {
                Size::None => "0".into(),
                _ => format!("sizeof((({c} *)0)->{})", m.c),
            };
            let _ = writeln!(t, "\t__builtin_offsetof({c}, {}), {size},", m.c);
        }
    }
    t + "};\n"
}

fn rust_file(rows: &[Row]) -> String {
    let mut t = format!(
        "// Made by xtask abi.\n\
         #![allow(missing_docs, unused, clippy::all)]\n\
         use core::mem::{{align_of, offset_of, size_of, MaybeUninit}};\n\
         use kernel::bindings::{{self, *}};\n\n\
         const fn field<F>(_: *const F) -> usize {{ size_of::<F>() }}\n\
         const fn member<F>(_: *const bindings::__BindgenUnionField<F>) -> usize {{ size_of::<F>() }}\n\
         /// Nothing is read through it.\n\
         const fn place<T>(at: &MaybeUninit<T>) -> *const T {{ at.as_ptr() }}\n\n\
         #[no_mangle]\npub static {TABLE}: [usize; {}] = [\n",
        2 * facts_of(rows)
    );
    for row in rows {
        let name = format!("bindings::{}", row.name);
        // Writing to a String cannot fail.
        let _ = writeln!(t, "    size_of::<{name}>(), align_of::<{name}>(),");
        for m in &row.members {
            let offset: Vec<String> = m
                .steps
                .iter()
                .map(|(ty, path)| format!("offset_of!(bindings::{ty}, {path})"))
                .collect();
            let how = match m.has {
                Size::OfField => "field",
                Size::OfMember => "member",
                Size::None => "",
            };
            let size = match m.steps.last() {
                Some((ty, path)) if !how.is_empty() => format!(
                    "{{ let at = MaybeUninit::<bindings::{ty}>::uninit(); \
                     unsafe {{ {how}(&raw const (*place(&at)).{path}) }} }}"
                ),
                _ => "0".into(),
            };
            let _ = writeln!(t, "    {}, {size},", offset.join(" + "));
        }
    }
    t + "];\n"
}

fn facts_of(rows: &[Row]) -> usize {
    rows.iter().map(|r| 1 + r.members.len()).sum()
}

/// Reads the table of an object.
fn table(path: &Path) -> Result<Vec<u64>> {
    let bytes = fs::read(path)?;
    let read = || -> Result<Vec<u64>> {
        let file = elf(&bytes)?;
        let symbol = file
            .symbols()
            .find(|s| s.name() == Ok(TABLE))
            .with_context(|| format!("it has no {TABLE}"))?;
        let section = symbol.section_index().context("the table is undefined")?;
        let data = file
            .section_by_index(section)?
            .data_range(symbol.address(), symbol.size())?
            .context("the table is not in its section")?;
        Ok(data
            .chunks_exact(8)
            .map(|b| {
                b.iter()
                    .rev()
                    .fold(0, |n, byte| (n << 8) | u64::from(*byte))
            })
            .collect())
    };
    read().with_context(|| format!("cannot read the table of {}", path.display()))
}

/// Assigns the names of `rows` to the numbers of `table`.
fn facts(rows: &[Row], table: &[u64]) -> Result<Facts> {
    if table.len() != 2 * facts_of(rows) {
        bail!(
            "a table of struct layouts has {} numbers instead of {}",
            table.len(),
            2 * facts_of(rows)
        );
    }
    let mut pairs = table.chunks_exact(2);
    let mut next = || pairs.next().map_or((0, 0), |p| (p[0], p[1]));
    let mut facts = Facts::new();
    for row in rows {
        let c = row.c();
        let (size, align) = next();
        facts.insert(c.clone(), format!("size {size}, align {align}"));
        for m in &row.members {
            let (offset, size) = next();
            facts.insert(
                format!("{c}.{}", m.c),
                format!("offset {offset}, size {size}"),
            );
        }
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_without_a_name() {
        assert_eq!(
            named_in_c("pcpu_hot__bindgen_ty_1__bindgen_ty_1"),
            "pcpu_hot"
        );
        assert_eq!(named_in_c("xa_node"), "xa_node");
    }

    fn rows() -> Vec<Row> {
        let bindings = Bindings::parse(
            "pub struct a { pub x: u8, pub __bindgen_anon_1: a__bindgen_ty_1 }
             pub struct a__bindgen_ty_1 { pub y: __BindgenUnionField<u32>, pub bindgen_union_field: u32 }
             pub struct b_t { pub z: __IncompleteArrayField<u8> }",
        )
        .unwrap();
        ["a", "b_t"]
            .map(|name| Row {
                name: name.into(),
                tag: bindings.tag(name),
                members: bindings.members(name),
            })
            .into()
    }

    #[test]
    fn both_tables_have_the_same_rows() {
        let (c, rust) = (c_file(&rows()), rust_file(&rows()));
        assert!(
            c.contains("\tsizeof(struct a), _Alignof(struct a),\n"),
            "{c}"
        );
        assert!(c.contains("\t__builtin_offsetof(struct a, y), sizeof(((struct a *)0)->y),\n"));
        assert!(c.contains("\t__builtin_offsetof(b_t, z), 0,\n"));
        assert!(rust.contains("[usize; 10]"), "{rust}");
        assert!(rust.contains("    offset_of!(bindings::a, __bindgen_anon_1.y), {"));
        assert!(rust.contains("member(&raw const (*place(&at)).__bindgen_anon_1.y)"));
        assert!(rust.contains("    offset_of!(bindings::b_t, z), 0,\n"));
    }

    #[test]
    fn numbers_get_their_names() {
        let facts = facts(&rows(), &[8, 4, 0, 1, 4, 4, 0, 1, 0, 0]).unwrap();
        assert_eq!(facts["struct a"], "size 8, align 4");
        assert_eq!(facts["struct a.y"], "offset 4, size 4");
        assert_eq!(facts["b_t.z"], "offset 0, size 0");
        assert!(super::facts(&rows(), &[1]).is_err());
    }

    #[test]
    fn comments_in_the_list() {
        let names: Vec<_> = list("# all\npage # one\n\n bio\n").into_iter().collect();
        assert_eq!(names, ["bio", "page"]);
    }
}
