// SPDX-License-Identifier: GPL-2.0

//! Checks the objects of our kernel code for panics.
//!
//! rustc turns an index, an addition or a shift that it cannot prove correct
//! into a call of a function of `core` that never returns: in a kernel, the
//! machine stops. A proven operation leaves no call. So an object that refers
//! to none of these functions cannot panic, whatever media, page tables or user
//! space hold; and an object that does refers to the place to fix.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind};

use crate::objects::elf;
use crate::objects::rust_objects;
use crate::overlay;
use host::paths::Paths;

/// Paths in `core` of functions that never return.
const PANICS: &[&str] = &["core::panicking::", "core::cell::panic_"];

/// Suffixes of its other functions that never return:
/// `core::option::unwrap_failed`, `<[_]>::copy_from_slice::len_mismatch_fail`.
/// The last suffix is of functions that macros of `core` generate inside their
/// caller.
const FAILURES: &[&str] = &["_fail", "_failed", "::panic_cold_explicit"];

/// Objects that only tests load.
const TESTS: &[&str] = &[
    "samples/rust/rust_dax_bench.o",
    "mm/memremap/tests/memremap_kunit.o",
    "rust/doctests_kernel_generated.o",
];

/// The object that holds both the kernel's own abstractions and ours.
const KERNEL_CRATE: &str = "rust/kernel.o";

/// Returns the places of our code that can panic: object, function, and the
/// function that it would call.
pub fn find(paths: &Paths, build: &Path) -> Result<Vec<String>> {
    let overlay = overlay::read(&paths.checkout)?;
    let ours: Vec<String> = overlay.keys().filter_map(|file| path_of(file)).collect();
    let mut list = Vec::new();
    for object in rust_objects(build)? {
        let first = object.sources.first();
        let is_ours = first.is_some_and(|s| overlay.keys().any(|f| s.ends_with(f)));
        let shared = object.name == KERNEL_CRATE;
        if TESTS.contains(&object.name.as_str()) || !(is_ours || shared) {
            continue;
        }
        let path = build.join(&object.name);
        let bytes = fs::read(&path)?;
        let calls = calls(&bytes).with_context(|| format!("cannot read {}", path.display()))?;
        list.extend(
            calls
                .into_iter()
                .filter(|(function, _)| !shared || ours.iter().any(|path| function.contains(path)))
                .map(|(function, panic)| format!("{}: {function} may call {panic}", object.name)),
        );
    }
    list.sort();
    list.dedup();
    Ok(list)
}

/// Returns the functions of an object and the diverging functions that they
/// refer to, demangled.
fn calls(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let file = elf(bytes)?;
    let panics: HashMap<_, String> = file
        .symbols()
        .filter_map(|s| Some((s.index(), demangled(s.name().ok()?))))
        .filter(|(_, name)| never_returns(name))
        .collect();
    let mut list = Vec::new();
    for section in file.sections() {
        let found: Vec<(u64, &String)> = section
            .relocations()
            .filter_map(|(at, relocation)| match relocation.target() {
                RelocationTarget::Symbol(index) => Some((at, panics.get(&index)?)),
                _ => None,
            })
            .collect();
        for (at, panic) in found {
            let function = file
                .symbols()
                .filter(|s| s.section_index() == Some(section.index()))
                .filter(|s| s.kind() == SymbolKind::Text && s.address() <= at)
                .max_by_key(|s| s.address())
                .and_then(|s| s.name().ok());
            let function = demangled(function.unwrap_or("?"));
            // The callers of that one are found separately.
            if !never_returns(&function) {
                list.push((function, panic.clone()));
            }
        }
    }
    Ok(list)
}

fn never_returns(name: &str) -> bool {
    // Names of C have no path: `__stack_chk_fail`.
    let fails = || FAILURES.iter().any(|f| name.ends_with(f)) && name.contains("::");
    PANICS.iter().any(|p| name.starts_with(p)) || fails()
}

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// Returns what the names of functions of `rust/kernel/mm/pfn.rs` contain, for
/// its functions, methods of its types, and instances for them:
/// `kernel::mm::pfn::`.
fn path_of(file: &str) -> Option<String> {
    let inside = file.strip_prefix("rust/")?.strip_suffix(".rs")?;
    inside
        .starts_with("kernel/")
        .then(|| inside.replace('/', "::") + "::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_files() {
        let path = path_of("rust/kernel/mm/pfn.rs").unwrap();
        assert_eq!(path_of("rust/helpers/page_table.c"), None);
        assert_eq!(path_of("mm/memremap/memremap.rs"), None);
        assert!("kernel::mm::pfn::largest".contains(&path));
        assert!("<kernel::mm::pfn::Pfn as core::fmt::Debug>::fmt".contains(&path));
        assert!(!"<kernel::mm::pfn_t::PfnT>::new".contains(&path));
    }

    #[test]
    fn diverging_functions() {
        let name = "_RNvNtNtCs1_4core9panicking11panic_const24panic_const_shl_overflow";
        assert!(never_returns(&demangled(name)));
        assert!(never_returns("<[_]>::copy_from_slice::len_mismatch_fail"));
        assert!(never_returns(
            "core::slice::index::slice_end_index_len_fail"
        ));
        assert!(never_returns("core::result::unwrap_failed"));
        assert!(never_returns(
            "<kernel::xarray::XArray<_>>::new::{closure#0}::panic_cold_explicit"
        ));
        assert!(!never_returns("__stack_chk_fail"));
    }
}
