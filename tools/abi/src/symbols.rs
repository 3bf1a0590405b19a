// SPDX-License-Identifier: GPL-2.0

//! Symbols: those that modules may use (`Module.symvers`, which modpost writes
//! for C and Rust alike), and those that any other object can link to.

use std::path::Path;

use anyhow::{bail, Context, Result};
use fs_err as fs;
use kbuild::objects::elf;
use object::{Object, ObjectSymbol, SymbolKind};

use super::facts::Facts;

/// Returns the exported symbols: licence class, namespace, module.
pub fn exported(build: &Path) -> Result<Facts> {
    let path = build.join("Module.symvers");
    let text = fs::read_to_string(&path)?;
    parse(&text).with_context(|| format!("{} is not as modpost writes it", path.display()))
}

/// Parses `0x0 <tab> name <tab> module <tab> class <tab> namespace`. The first
/// field is a checksum of the prototype with CONFIG_MODVERSIONS, otherwise 0.
fn parse(text: &str) -> Result<Facts> {
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let &[crc, name, module, class, namespace] = fields.as_slice() else {
                bail!("a line has {} fields: {line}", fields.len());
            };
            let mut text = format!("{class}, {module}");
            if !namespace.is_empty() {
                text.push_str(&format!(", namespace {namespace}"));
            }
            if crc.trim_start_matches("0x").contains(|c| c != '0') {
                text.push_str(&format!(", checksum {crc}"));
            }
            Ok((name.to_owned(), text))
        })
        .collect()
}

/// Returns the global symbols of vmlinux and of each module, except for those
/// that no source can name.
pub fn global(build: &Path, modules: &[(String, Vec<u8>)]) -> Result<Facts> {
    let path = build.join("vmlinux");
    let bytes = fs::read(&path)?;
    let mut facts = Facts::new();
    let symbols = defined(&bytes).with_context(|| format!("cannot read {}", path.display()))?;
    facts.extend(symbols.into_iter().filter(|(name, _)| names_code(name)));
    for (module, bytes) in modules {
        let symbols = defined(bytes).with_context(|| format!("cannot read {module}"))?;
        for (name, kind) in symbols {
            if names_code(&name) {
                facts.insert(format!("{module}: {name}"), kind);
            }
        }
    }
    Ok(facts)
}

/// Returns the global symbols that an object defines: name and kind.
pub fn defined(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let file = elf(bytes)?;
    Ok(file
        .symbols()
        .filter(|s| s.is_global() && s.is_definition())
        .filter_map(|s| {
            let kind = match s.kind() {
                SymbolKind::Text => "function",
                SymbolKind::Data => "object",
                _ => "label",
            };
            Some((s.name().ok()?.to_owned(), kind.to_owned()))
        })
        .collect())
}

/// Returns whether a source can name the symbol: neither the mangled symbols of
/// Rust, which only code compiled with them knows, nor the padding before a
/// function can be named.
pub fn names_code(name: &str) -> bool {
    !["_R", "_ZN", "__pfx_"].iter().any(|p| name.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_modpost() {
        let facts = parse(
            "0x00000000\tget_dev_pagemap\tvmlinux\tEXPORT_SYMBOL_GPL\t\n\
             0x1a2b0000\tnvdimm_x\tdrivers/nvdimm/libnvdimm\tEXPORT_SYMBOL\tNVDIMM\n",
        )
        .unwrap();
        assert_eq!(facts["get_dev_pagemap"], "EXPORT_SYMBOL_GPL, vmlinux");
        assert_eq!(
            facts["nvdimm_x"],
            "EXPORT_SYMBOL, drivers/nvdimm/libnvdimm, namespace NVDIMM, checksum 0x1a2b0000"
        );
        assert!(parse("0x0\tname\n").is_err());
    }

    #[test]
    fn names_of_rustc() {
        assert!(!names_code("_RNvMs0_NtC1a") && !names_code("__pfx_get_dev_pagemap"));
        assert!(names_code("get_dev_pagemap") && names_code("__put_page"));
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        assert!(defined(b"text").is_err());
    }
}
