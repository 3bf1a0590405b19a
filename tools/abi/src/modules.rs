// SPDX-License-Identifier: GPL-2.0

//! Modules: the output of modinfo(8). A module carries it in the section
//! `.modinfo`, as `key=value` texts, each terminated by a zero byte; built-in
//! code is listed in the file `modules.builtin.modinfo`, as `name.key=value`.

use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use fs_err as fs;
use object::{Object, ObjectSection};
use walkdir::WalkDir;

use super::facts::Facts;
use kbuild::objects::elf;

/// Key of a digest of the sources, which is no part of the interface.
const IGNORED: &str = "srcversion";

/// Returns the modules of one installed tree: path in it and bytes.
pub fn installed(tree: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut list = Vec::new();
    for entry in WalkDir::new(tree).sort_by_file_name() {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "ko") {
            continue;
        }
        let bytes = fs::read(path)?;
        list.push((name_in_tree(path.strip_prefix(tree).unwrap_or(path)), bytes));
    }
    if list.is_empty() {
        bail!("there are no modules in {}", tree.display());
    }
    Ok(list)
}

/// Returns `6.12.1/kernel/drivers/dax/dax_pmem.ko` as `drivers/dax/dax_pmem`.
/// The release is compared as `vermagic`.
fn name_in_tree(path: &Path) -> String {
    let rest: PathBuf = path.components().skip(1).collect();
    let rest = rest.strip_prefix("kernel").unwrap_or(&rest);
    rest.with_extension("").to_string_lossy().into_owned()
}

/// Returns the facts of these modules and of built-in code.
pub fn facts(build: &Path, modules: &[(String, Vec<u8>)]) -> Result<Facts> {
    let mut facts = Facts::new();
    for (name, bytes) in modules {
        let info = modinfo(bytes).with_context(|| format!("cannot read the module {name}"))?;
        facts.insert(name.clone(), "module".into());
        for (key, value) in info {
            add(&mut facts, format!("{name}.{key}"), value);
        }
    }
    let path = build.join("modules.builtin.modinfo");
    let bytes = fs::read(&path)?;
    for (key, value) in pairs(&bytes) {
        if !key.ends_with(&format!(".{IGNORED}")) {
            add(&mut facts, format!("built-in {key}"), value);
        }
    }
    Ok(facts)
}

/// Adds a fact. Several values of a key become separate facts if the value
/// begins with a name (`parm`, `parmtype`), otherwise one list in the order of
/// the file.
fn add(facts: &mut Facts, key: String, value: String) {
    let (key, value) = match value.split_once(':') {
        Some((name, rest)) if key.ends_with(".parm") || key.ends_with(".parmtype") => {
            (format!("{key}.{name}"), rest.to_owned())
        }
        _ => (key, value),
    };
    facts
        .entry(key)
        .and_modify(|v| {
            v.push('\n');
            v.push_str(&value);
        })
        .or_insert(value);
}

/// Parses a module's `.modinfo`.
fn modinfo(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let section = elf(bytes)?
        .section_by_name(".modinfo")
        .context("it has no section .modinfo")?
        .data()
        .context("its section .modinfo cannot be read")?;
    Ok(pairs(section).filter(|(key, _)| key != IGNORED).collect())
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = (String, String)> + '_ {
    bytes.split(|b| *b == 0).filter_map(|text| {
        let text = String::from_utf8_lossy(text);
        let (key, value) = text.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_between_zeros() {
        let mut facts = Facts::new();
        let text = b"license=GPL v2\0\0\0alias=nd:t4*\0alias=nd:t5*\0\
                     parm=deep:how deep: very\0parm=wide:how wide\0parmtype=deep:int\0name=nd_pmem";
        for (key, value) in pairs(text) {
            add(&mut facts, format!("nd_pmem.{key}"), value);
        }
        assert_eq!(facts["nd_pmem.alias"], "nd:t4*\nnd:t5*");
        assert_eq!(facts["nd_pmem.parm.deep"], "how deep: very");
        assert_eq!(facts["nd_pmem.parm.wide"], "how wide");
        assert_eq!(facts["nd_pmem.parmtype.deep"], "int");
        assert_eq!(facts["nd_pmem.license"], "GPL v2");
    }

    #[test]
    fn names_have_no_release() {
        let name = |p: &str| name_in_tree(Path::new(p));
        assert_eq!(name("6.12/kernel/drivers/dax/kmem.ko"), "drivers/dax/kmem");
        assert_eq!(name("6.12/updates/libnvdimm.ko"), "updates/libnvdimm");
    }
}
