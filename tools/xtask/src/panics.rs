// SPDX-License-Identifier: GPL-2.0

//! Can our kernel code panic? The objects say.
//!
//! rustc turns an index, an addition or a shift that it cannot prove right into
//! a call of a function of `core` that never returns: in a kernel, the end of
//! the machine. What it could prove leaves no call. So an object that refers to
//! none of these functions cannot panic, whatever comes from media, page tables
//! or user space; and one that does names the place to be mended.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind};

use crate::abi::objects::rust_objects;
use crate::abi::symbols::elf;
use crate::overlay;
use crate::paths::Paths;

/// What never returns, by the beginning or the end of its name.
const PANICS: &[&str] = &[
    "core::panicking::",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
    "core::result::unwrap_failed",
    "core::cell::panic_",
    "core::slice::index::slice_",
    "core::slice::copy_from_slice_impl::len_mismatch_fail",
    "core::str::slice_error_fail",
];

/// Objects that only tests load.
const TESTS: &[&str] = &[
    "mm/dax_bench.o",
    "mm/pagemap_kunit.o",
    "rust/doctests_kernel_generated.o",
];

/// The object in which the kernel's own abstractions are beside ours.
const KERNEL_CRATE: &str = "rust/kernel.o";

/// Places of our code that can panic: object, function, what it would call.
pub fn find(paths: &Paths, build: &Path) -> Result<Vec<String>> {
    let overlay = overlay::read(&paths.checkout)?;
    let ours: Vec<String> = overlay.keys().filter_map(|file| module_of(file)).collect();
    let mut list = Vec::new();
    for object in rust_objects(build)? {
        let first = object.sources.first();
        let is_ours = first.is_some_and(|s| overlay.keys().any(|f| s.ends_with(f)));
        let shared = object.name == KERNEL_CRATE;
        if TESTS.contains(&object.name.as_str()) || !(is_ours || shared) {
            continue;
        }
        let path = build.join(&object.name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let calls = calls(&bytes).with_context(|| format!("cannot read {}", path.display()))?;
        list.extend(
            calls
                .into_iter()
                .filter(|(function, _)| !shared || ours.iter().any(|m| is_in(function, m)))
                .map(|(function, panic)| format!("{}: {function} may call {panic}", object.name)),
        );
    }
    list.sort();
    list.dedup();
    Ok(list)
}

/// Functions of an object and what of [`PANICS`] they refer to, without mangling.
fn calls(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let file = elf(bytes)?;
    let mut list = Vec::new();
    for section in file.sections() {
        let mut functions: Vec<(u64, &str)> = file
            .symbols()
            .filter(|s| s.section_index() == Some(section.index()) && s.kind() == SymbolKind::Text)
            .filter_map(|s| Some((s.address(), s.name().ok()?)))
            .collect();
        functions.sort_unstable();
        for (at, relocation) in section.relocations() {
            let RelocationTarget::Symbol(index) = relocation.target() else {
                continue;
            };
            let target = demangled(file.symbol_by_index(index)?.name()?);
            if !PANICS.iter().any(|p| target.starts_with(p)) {
                continue;
            }
            let before = functions.partition_point(|&(start, _)| start <= at);
            let function = before.checked_sub(1).and_then(|n| functions.get(n));
            let function = function.map_or("?", |&(_, name)| name);
            list.push((demangled(function), target));
        }
    }
    Ok(list)
}

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// `rust/kernel/mm/pfn.rs` is `kernel::mm::pfn`.
fn module_of(file: &str) -> Option<String> {
    let inside = file.strip_prefix("rust/")?.strip_suffix(".rs")?;
    inside
        .starts_with("kernel/")
        .then(|| inside.replace('/', "::"))
}

/// Whether a function belongs to a module: it is in it, or is a method of one of
/// its types, or is made for one.
fn is_in(function: &str, module: &str) -> bool {
    function.match_indices(module).any(|(at, _)| {
        let rest = &function[at + module.len()..];
        rest.starts_with("::")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_files() {
        let module = module_of("rust/kernel/mm/pfn.rs");
        assert_eq!(module.as_deref(), Some("kernel::mm::pfn"));
        assert_eq!(module_of("rust/helpers/page_table.c"), None);
        assert_eq!(module_of("mm/pagemap.rs"), None);
    }

    #[test]
    fn functions_of_modules() {
        let is = |f| is_in(f, "kernel::mm::pfn");
        assert!(is("kernel::mm::pfn::largest"));
        assert!(is("<kernel::mm::pfn::Pfn as core::fmt::Debug>::fmt"));
        assert!(!is("<kernel::mm::pfn_t::PfnT>::new"));
    }

    #[test]
    fn names_without_mangling() {
        let name = "_RNvNtNtCs1_4core9panicking11panic_const24panic_const_shl_overflow";
        assert!(PANICS.iter().any(|p| demangled(name).starts_with(p)));
    }
}
