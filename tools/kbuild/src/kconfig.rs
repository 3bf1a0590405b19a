// SPDX-License-Identifier: GPL-2.0

//! The kernel's configuration: `make tinyconfig` or Debian's own, the fragments of a
//! variant merged over it, `make olddefconfig`, and a check that every line of the
//! fragments survived.
//!
//! Kconfig silently drops a line whose dependencies do not hold; a kernel
//! without KASAN or DAX would still build and boot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{bail, Context, Result};
use fs_err as fs;

use crate::debian::{self, Flavour};
use crate::make::kernel_make;
use crate::source::Source;
use crate::toolchain::Toolchain;
use host::command::{output, run_logged};
use host::files::{self, Fingerprint, Stamp};
use host::paths::Paths;
use host::variant::{Base, Recipe};

/// Name of the file in the output directory that says how a configuration differs from the
/// one of Debian's that it is made of.
pub const DIFFERENCES: &str = "distro.differences";

/// Configures `build` by merging a recipe's fragments of `config/` in order. Writes
/// `.config` only when it changes, because a new time stamp makes make check
/// every file.
pub fn configure(
    paths: &Paths,
    source: &Source,
    recipe: &Recipe,
    build: &Path,
    tc: &Toolchain,
    log: &Path,
) -> Result<()> {
    let mut wanted = Wanted::new();
    let mut digest = Fingerprint::default();
    digest.add("source", source.kconfig_digest.as_bytes());
    digest.add("directory", source.dir.as_os_str().as_encoded_bytes());
    digest.add("toolchain", tc.id.as_bytes());
    let mut texts = Vec::new();
    let flavour = match recipe.base {
        Base::Tiny => None,
        Base::DebianCloud => Some(Flavour::Cloud),
        Base::DebianAmd64 => Some(Flavour::Amd64),
    };
    let debian_config = match flavour {
        None => None,
        Some(flavour) => Some(flavour.configuration()?.with_context(|| {
            format!(
                "the {} kernel needs {}; run make setup",
                recipe.name,
                debian::PACKAGE
            )
        })?),
    };
    if let Some(text) = &debian_config {
        digest.add("debian", text.as_bytes());
    }
    for name in recipe.fragments {
        let path = paths.checkout.join("config").join(name);
        let text = fs::read_to_string(&path)?;
        digest.add(name, text.as_bytes());
        collect(&mut wanted, name, &text)?;
        texts.push((format!(".config.part-{name}"), text));
    }
    let modules = match recipe.modules {
        None => None,
        Some(name) => {
            let text = fs::read_to_string(paths.checkout.join("config").join(name))?;
            digest.add(name, text.as_bytes());
            Some(text)
        }
    };
    let stamp = Stamp::new(build.join(".rust-dax-config"), digest);
    let config = build.join(".config");
    if config.is_file() && stamp.holds() {
        return Ok(());
    }
    files::make_dir(build)?;
    stamp.lift()?;

    let new = build.join(".config.rust-dax");
    files::remove_file(&new)?;
    let make = |target: &str| -> Result<()> {
        let mut cmd = kernel_make(paths, source, build, tc);
        cmd.arg(target).env("KCONFIG_CONFIG", &new);
        run_logged(&mut cmd, log, |_| ())
    };
    match &debian_config {
        None => make("tinyconfig").context("cannot configure the kernel")?,
        Some(text) => files::write_atomic(&new, text.as_bytes(), false)?,
    }
    let merge_and_complete = || -> Result<()> {
        merge(source, build, &new, &texts, log).context("cannot merge the fragments")?;
        make("olddefconfig").context("cannot configure the kernel")
    };
    merge_and_complete()?;
    if let Some(modules) = &modules {
        leave_out_modules(source, &new, modules).context("cannot leave out modules")?;
        // The fragments win.
        merge_and_complete()?;
    }

    let text = fs::read_to_string(&new)?;
    let lost = lost(&wanted, &text);
    if !lost.is_empty() {
        bail!(
            "the kernel's configuration dropped these lines of config/ (a dependency does not \
             hold, or the symbol does not exist):\n    {}\nthe result is {}",
            lost.join("\n    "),
            new.display()
        );
    }
    if let Some(debian_config) = &debian_config {
        let differences = differences(&wanted, debian_config, &text, recipe.modules);
        let path = build.join(DIFFERENCES);
        eprintln!(
            "{} options differ from Debian's {}: {}",
            differences.len(),
            debian::release(debian_config).unwrap_or("configuration"),
            path.display()
        );
        let text = differences.join("\n") + "\n";
        files::write_atomic(&path, text.as_bytes(), false)?;
    }
    if files::read_if_exists(&config)?.as_deref() == Some(text.as_bytes()) {
        files::remove_file(&new)?;
    } else {
        fs::rename(&new, &config)?;
    }
    files::remove_file(&files::with_suffix(&new, ".old"))?;
    stamp.set()
}

/// Merges fragments, each a name and a text, over `config`.
fn merge(
    source: &Source,
    build: &Path,
    config: &Path,
    fragments: &[(String, String)],
    log: &Path,
) -> Result<()> {
    // The script splits its arguments at spaces, so they are plain names in the
    // folder where it runs.
    for (name, text) in fragments {
        files::write_atomic(&build.join(name), text.as_bytes(), false)?;
    }
    let mut merge = host::command::clean("/bin/sh");
    merge
        .arg(source.dir.join("scripts/kconfig/merge_config.sh"))
        .args(["-m", "-Q"])
        .arg(config)
        .args(fragments.iter().map(|(name, _)| name))
        .current_dir(build)
        .env("KCONFIG_CONFIG", config);
    run_logged(&mut merge, log, |_| ())?;
    for (name, _) in fragments {
        files::remove_file(&build.join(name))?;
    }
    Ok(())
}

/// Changes `config` so that only the modules in the list are built, with what they depend on. The
/// kernel's script expects `.config` in its working directory, and the output of lsmod.
fn leave_out_modules(source: &Source, config: &Path, list: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    fs::copy(config, dir.path().join(".config"))?;
    let lsmod = dir.path().join("lsmod");
    fs::write(&lsmod, loaded(list))?;
    let script = source.dir.join("scripts/kconfig/streamline_config.pl");
    let mut perl = host::command::clean("perl");
    perl.arg(script)
        .arg("--localmodconfig")
        .arg(&source.dir)
        .arg("Kconfig")
        .current_dir(dir.path())
        .env("LSMOD", &lsmod)
        .env("SRCARCH", "x86")
        .env("ARCH", "x86");
    let text = output(&mut perl)?;
    files::write_atomic(config, text.as_bytes(), false)
}

/// Formats a list of modules as lsmod prints it.
fn loaded(list: &str) -> String {
    let names = list
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace);
    let rows = names.map(|name| format!("{name} 16384 0\n"));
    String::from("Module Size Used by\n") + &rows.collect::<String>()
}

/// Symbol to (value, fragment); no value means "is not set".
type Wanted = BTreeMap<String, (Option<String>, String)>;

/// Adds a fragment's lines; a later fragment wins, as in the merge.
fn collect(wanted: &mut Wanted, name: &str, text: &str) -> Result<()> {
    for (i, line) in text.lines().enumerate() {
        if let Some((symbol, value)) = parse(line) {
            wanted.insert(
                symbol.to_owned(),
                (value.map(str::to_owned), name.to_owned()),
            );
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            bail!("config/{name}:{}: not a configuration line: {line}", i + 1);
        }
    }
    Ok(())
}

/// Parses `CONFIG_X=y` or `# CONFIG_X is not set`.
pub fn parse(line: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        return Some((rest.strip_suffix(" is not set")?, None));
    }
    let (symbol, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
    Some((symbol, (value != "n").then_some(value)))
}

/// Returns the symbols of a configuration that are set, with their values.
fn set(config: &str) -> BTreeMap<&str, &str> {
    config
        .lines()
        .filter_map(|l| {
            let (symbol, value) = parse(l)?;
            Some((symbol, value?))
        })
        .collect()
}

/// Returns a line for each symbol that differs from Debian's configuration: those of the
/// fragments first, then those that Kconfig changed because of them or of the compiler. Modules that
/// are not in the list, if there is one, are left out on purpose and have no line.
fn differences(
    wanted: &Wanted,
    debian_config: &str,
    config: &str,
    modules: Option<&str>,
) -> Vec<String> {
    let (theirs, ours) = (set(debian_config), set(config));
    let symbols: BTreeSet<&str> = theirs.keys().chain(ours.keys()).copied().collect();
    let mut lines: Vec<(bool, String)> = symbols
        .into_iter()
        .filter_map(|symbol| {
            let (old, new) = (theirs.get(symbol), ours.get(symbol));
            let left_out = modules.is_some() && old == Some(&"m") && new.is_none();
            if old == new || left_out {
                return None;
            }
            let fragment = wanted.get(symbol).map(|(_, fragment)| fragment.as_str());
            let show = |value: Option<&&str>| value.map_or("not set", |value| *value).to_owned();
            let line = format!(
                "{symbol}: {} (Debian: {}), by {}",
                show(new),
                show(old),
                fragment.unwrap_or("Kconfig")
            );
            Some((fragment.is_none(), line))
        })
        .collect();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Returns the wanted lines that the configuration lacks.
fn lost(wanted: &Wanted, config: &str) -> Vec<String> {
    let have = set(config);
    wanted
        .iter()
        .filter(|(symbol, (value, _))| have.get(symbol.as_str()).copied() != value.as_deref())
        .map(|(symbol, (value, fragment))| {
            let line = match value {
                Some(v) => format!("CONFIG_{symbol}={v}"),
                None => format!("# CONFIG_{symbol} is not set"),
            };
            let now = have.get(symbol.as_str()).unwrap_or(&"not set");
            format!("{line}  (from {fragment}; it is {now})")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(fragments: &[(&str, &str)]) -> Wanted {
        let mut wanted = Wanted::new();
        for (name, text) in fragments {
            collect(&mut wanted, name, text).unwrap();
        }
        wanted
    }

    #[test]
    fn modules_as_lsmod_prints_them() {
        let text = loaded("# a comment\nnd_pmem nd_btt\n\next2\n");
        let rows: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(rows, ["nd_pmem 16384 0", "nd_btt 16384 0", "ext2 16384 0"]);
    }

    #[test]
    fn surviving_lines() {
        let w = wanted(&[(
            "a",
            "# a comment\n\nCONFIG_A=y\nCONFIG_N=16\nCONFIG_S=\"x\"\n# CONFIG_B is not set\nCONFIG_C=n\n",
        )]);
        assert_eq!(w.len(), 5);
        let config = "CONFIG_A=y\nCONFIG_N=16\nCONFIG_S=\"x\"\n# CONFIG_B is not set\n";
        assert!(lost(&w, config).is_empty());
    }

    #[test]
    fn lost_lines_are_named() {
        let w = wanted(&[(
            "a.config",
            "CONFIG_A=y\nCONFIG_M=y\n# CONFIG_B is not set\n",
        )]);
        let lost = lost(&w, "CONFIG_M=m\nCONFIG_B=y\n");
        assert_eq!(
            lost,
            [
                "CONFIG_A=y  (from a.config; it is not set)",
                "# CONFIG_B is not set  (from a.config; it is y)",
                "CONFIG_M=y  (from a.config; it is m)",
            ]
        );
    }

    #[test]
    fn differences_from_debian() {
        let w = wanted(&[("d.config", "CONFIG_R=y\n# CONFIG_V is not set\n")]);
        let debian_config = "CONFIG_V=y\nCONFIG_A=m\nCONFIG_GCC=y\n# CONFIG_R is not set\n";
        let differences = differences(
            &w,
            debian_config,
            "CONFIG_R=y\nCONFIG_A=m\nCONFIG_CLANG=y\n",
            None,
        );
        assert_eq!(
            differences,
            [
                "R: y (Debian: not set), by d.config",
                "V: not set (Debian: y), by d.config",
                "CLANG: y (Debian: not set), by Kconfig",
                "GCC: not set (Debian: y), by Kconfig",
            ]
        );
    }

    #[test]
    fn the_later_fragment_wins() {
        let w = wanted(&[("a", "CONFIG_A=y\n"), ("b", "# CONFIG_A is not set\n")]);
        assert!(lost(&w, "").is_empty());
    }

    #[test]
    fn a_typing_error_is_named() {
        let err = collect(&mut Wanted::new(), "a.config", "CONFIG_A=y\nCONFG_B=y\n").unwrap_err();
        assert!(err.to_string().starts_with("config/a.config:2:"), "{err}");
    }
}
