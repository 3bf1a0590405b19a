// SPDX-License-Identifier: GPL-2.0

//! Checks that two kernels differ only in our pieces.
//!
//! A comparison of C and Rust is only meaningful if nothing else differs, so
//! the configurations of the kernels are compared line by line. Only symbols that
//! the checkout's `Kconfig` and its patches define may differ.

use std::collections::BTreeSet;

use anyhow::{bail, Result};
use fs_err as fs;

use host::files::Fingerprint;
use host::paths::Paths;
use host::variant::Variant;
use kbuild::patches;

/// Number of differing lines that an error names.
const SHOWN: usize = 10;

/// Compares the configurations of the two kernels; returns the digest of their
/// common part, which is everything except our bools.
pub fn common_digest(paths: &Paths) -> Result<String> {
    let mut kconfig = fs::read_to_string(paths.checkout.join("Kconfig"))?;
    for patch in patches::read(&paths.checkout.join("patches"))? {
        kconfig.push_str(&added(&fs::read_to_string(patch.path)?));
    }
    let ours = defined(&kconfig);
    let c = fs::read_to_string(paths.build(Variant::C).join(".config"))?;
    let rust = fs::read_to_string(paths.build(Variant::Rust).join(".config"))?;
    let (c, rust) = (others(&c, &ours), others(&rust, &ours));
    let differing: Vec<&str> = c.symmetric_difference(&rust).copied().collect();
    if !differing.is_empty() {
        bail!(
            "the kernels differ in more than our pieces, so they cannot be compared; make \
             config/c.config and config/rust.config differ in our symbols only. {} \
             lines differ:\n    {}",
            differing.len(),
            differing[..differing.len().min(SHOWN)].join("\n    ")
        );
    }
    let mut digest = Fingerprint::default();
    for line in &c {
        digest.add("", line.as_bytes());
    }
    Ok(digest.finish())
}

/// Returns the lines that a patch adds.
fn added(patch: &str) -> String {
    let lines = patch.lines().filter_map(|l| l.strip_prefix('+'));
    lines.flat_map(|l| [l, "\n"]).collect()
}

/// Returns the symbols that a Kconfig file defines.
fn defined(kconfig: &str) -> BTreeSet<&str> {
    kconfig
        .lines()
        .filter_map(|l| l.strip_prefix("config "))
        .map(str::trim)
        .collect()
}

/// Returns the lines of a configuration that set a symbol which is not one of
/// `ours`. "is not set" is equivalent to no line: a symbol whose dependencies do
/// not hold has none.
fn others<'a>(config: &'a str, ours: &BTreeSet<&str>) -> BTreeSet<&'a str> {
    config
        .lines()
        .filter(|l| {
            l.strip_prefix("CONFIG_")
                .and_then(|rest| rest.split_once('='))
                .is_some_and(|(symbol, _)| !ours.contains(symbol))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(c: &str, rust: &str) -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths {
            checkout: dir.path().join("checkout"),
            cache: dir.path().join("cache"),
        };
        fs::create_dir_all(&paths.checkout).unwrap();
        let kconfig = "menu \"x\"\nconfig RUST_A\n\tbool \"a\"\nconfig RUST_B\n\tbool\nendmenu\n";
        fs::write(paths.checkout.join("Kconfig"), kconfig).unwrap();
        for (variant, text) in [(Variant::C, c), (Variant::Rust, rust)] {
            fs::create_dir_all(paths.build(variant)).unwrap();
            fs::write(paths.build(variant).join(".config"), text).unwrap();
        }
        (dir, paths)
    }

    #[test]
    fn our_symbols_may_differ() {
        let (_dir, same) = paths(
            "# CONFIG_RUST_A is not set\nCONFIG_MMU=y\n# CONFIG_X is not set\n",
            "CONFIG_RUST_A=y\nCONFIG_RUST_B=m\nCONFIG_MMU=y\n",
        );
        let digest = common_digest(&same).unwrap();
        // Symbols that a patch defines may differ too.
        let (_dir, sample) = paths("CONFIG_MMU=y\n", "CONFIG_SAMPLE=m\nCONFIG_MMU=y\n");
        assert!(common_digest(&sample).is_err());
        let patches = sample.checkout.join("patches");
        fs::create_dir(&patches).unwrap();
        let patch = "--- a/Kconfig\n+++ b/Kconfig\n@@ -1,1 +1,2 @@\n+config SAMPLE\n x\n";
        fs::write(patches.join("0001-x.patch"), patch).unwrap();
        assert_eq!(common_digest(&sample).unwrap(), digest);
        let (_dir, other) = paths("CONFIG_MMU=m\n", "CONFIG_MMU=m\n");
        assert_ne!(common_digest(&other).unwrap(), digest);
    }

    #[test]
    fn others_may_not() {
        let (_dir, p) = paths(
            "CONFIG_HZ=100\nCONFIG_MMU=y\n",
            "CONFIG_HZ=250\nCONFIG_MMU=y\n",
        );
        let err = common_digest(&p).unwrap_err().to_string();
        assert!(err.contains("2 lines differ"), "{err}");
        assert!(err.contains("CONFIG_HZ=100\n    CONFIG_HZ=250"), "{err}");
    }
}
