// SPDX-License-Identifier: GPL-2.0

//! `make configs`: do our files compile in configurations other than ours?
//!
//! Each row is one difference from the Rust kernel's configuration, Debian's own
//! configuration with all pieces, or another architecture with all pieces off. Only our files and the files that patches touch
//! are compiled, the crates to metadata: that finds what a configuration breaks, not
//! what a linker would say. Errors and warnings about these files are failures, and
//! so is a row whose difference Kconfig does not take.
//!
//! Rows with much in common share an output directory, so that a row compiles what
//! depends on its difference. A row that has passed is not compiled again until its
//! inputs change. Where `LIMIT` has no time for all rows, those that failed come first,
//! then those that passed longest ago, so that the next run compiles the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use fs_err as fs;
use regex::Regex;

use host::command::{clean, output, run_logged};
use host::files::{self, Fingerprint, Stamp};
use host::limit::{Limit, NO_TIME};
use host::lock::cache_lock;
use host::paths::Paths;
use host::progress::seconds;
use host::requirements::require_host;
use host::variant::Variant;
use kbuild::debian::{self, Flavour};
use kbuild::diagnostics::{ours, Collector};
use kbuild::kconfig;
use kbuild::make::kernel_make;
use kbuild::patches;
use kbuild::source::{self, Source};
use kbuild::toolchain::{Toolchain, LLVM};
use report::ktap::Verdict;
use report::summary::Summary;

mod rows;
use rows::{Arch, Base, Row, ROWS};

/// Incremented when the way in which a row is checked changes.
const REVISION: &str = "1";

/// Symbols that no row has: the documentation tests take long to generate, and are
/// compiled with the Rust kernel.
const NEVER: &[&str] = &["RUST_KERNEL_DOCTESTS"];

/// Symbols of another architecture's kernel that has Rust and little else.
const SMALL: &[&str] = &[
    "64BIT=y",
    "PRINTK=y",
    "BLOCK=y",
    "SAMPLES=y",
    "RUST=y",
    "SAMPLES_RUST=y",
];

/// What is compiled: a target of make, and the symbol without which the kernel does
/// not have it.
const OURS: &[(&str, Option<&str>)] = &[
    ("mm/memremap/", None),
    ("mm/devmap/", Some("RUST_FS_DAX")),
    ("fs/dax/", Some("RUST_FS_DAX")),
    ("arch/x86/mm/gup/", Some("RUST_X86_GUP")),
    ("drivers/nvdimm/nd_pmem.o", Some("BLK_DEV_PMEM")),
    ("drivers/dax/fsdev_dax.o", Some("RUST_DEV_DAX_FSDEV")),
    (
        "samples/rust/rust_dax_holder.o",
        Some("SAMPLE_RUST_DAX_HOLDER"),
    ),
    ("samples/rust/rust_nd_rom.o", Some("SAMPLE_RUST_ND_ROM")),
    ("samples/rust/rust_migrate.o", Some("SAMPLE_RUST_MIGRATE")),
    ("samples/rust/rust_pin_sum.o", Some("SAMPLE_RUST_PIN_SUM")),
    ("samples/rust/rust_dax_bench.o", Some("RUST_DAX_BENCH")),
];

/// For a folder of C files that patches touch, the symbol without which the kernel does
/// not have them.
const FOLDERS: &[(&str, &str)] = &[
    ("drivers/dax/", "DAX"),
    ("fs/ext4/", "EXT4_FS"),
    ("fs/xfs/", "XFS_FS"),
    ("kernel/futex/", "FUTEX"),
];

/// The same for single files.
const FILES: &[(&str, &str)] = &[
    ("drivers/cxl/core/region.c", "CXL_REGION"),
    ("fs/fuse/dax.c", "FUSE_DAX"),
    ("mm/gup.c", "MMU"),
    ("mm/huge_memory.c", "TRANSPARENT_HUGEPAGE"),
    ("mm/memory.c", "MMU"),
    ("mm/memory_hotplug.c", "MEMORY_HOTPLUG"),
    ("mm/page_table_check.c", "PAGE_TABLE_CHECK"),
];

/// C files that others include.
const INCLUDED: &[(&str, &str)] = &[("kernel/sched/wait_bit.c", "kernel/sched/build_utility.c")];

/// Options that select configurations.
#[derive(Args, Clone, Debug)]
pub struct ConfigsArgs {
    /// Only the rows whose names match this regular expression.
    #[arg(long, env = "ROWS", default_value = "")]
    pub rows: Regex,
    /// Seconds after which no row starts; what did not start is skipped.
    #[arg(long, env = "LIMIT")]
    pub limit: Option<u64>,
}

/// Runs the verb and returns the exit status.
pub fn run(paths: &Paths, args: &ConfigsArgs) -> Result<i32> {
    require_host()?;
    let _lock = cache_lock(paths, "compiling other configurations")?;
    let limit = Limit::starting_now(args.limit);
    let matrix = Matrix::new(paths)?;
    let mut rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| args.rows.is_match(row.name))
        .collect();
    rows.sort_by_key(|row| matrix.stamp(row).set_at());
    let mut summary = Summary::default();
    for row in rows {
        if matrix.stamp(row).holds() {
            summary.say("configs", row.name, Verdict::Pass, "unchanged");
            continue;
        }
        if limit.is_over() {
            summary.say("configs", row.name, Verdict::Skip, NO_TIME);
            continue;
        }
        if let Base::Debian(flavour) = row.base {
            if !flavour.path().is_file() {
                let why = format!("{} is not installed; run make setup", debian::PACKAGE);
                summary.say("configs", row.name, Verdict::Skip, &why);
                continue;
            }
        }
        let start = Instant::now();
        let log = paths.new_log(&format!("configs-{}", row.name))?;
        let problem = matrix
            .check(row, &log)
            .map_err(|err| format!("{err:#}; the whole log: {}", log.display()));
        summary.require("configs", row.name, problem.err());
        eprintln!("{}: {}", row.name, seconds(start.elapsed()));
    }
    ensure!(
        summary != Summary::default(),
        "no row matches {}",
        args.rows
    );
    println!("{}", summary.totals());
    Ok(i32::from(summary.failed > 0))
}

/// What all rows share.
struct Matrix<'a> {
    paths: &'a Paths,
    source: Source,
    tc: Toolchain,
    /// The Rust kernel's configuration.
    base: String,
    /// C files that patches touch.
    patched: BTreeSet<String>,
}

impl<'a> Matrix<'a> {
    fn new(paths: &'a Paths) -> Result<Self> {
        let tc = Toolchain::find(paths)?;
        let source = source::prepare(paths)?;
        let dir = paths.build_named("configs").join("base");
        let log = paths.new_log("configs")?;
        kconfig::configure(paths, &source, &Variant::Rust.recipe(), &dir, &tc, &log)?;
        let config = dir.join(".config");
        let base = fs::read_to_string(&config)?;
        let patched = patches::read(&paths.checkout.join("patches"))?
            .into_iter()
            .flat_map(|patch| patch.changes)
            .filter(|file| file.ends_with(".c") && !file.starts_with("rust/"))
            .collect();
        Ok(Self {
            paths,
            source,
            tc,
            base,
            patched,
        })
    }

    /// Returns the record of the inputs with which a row has passed.
    fn stamp(&self, row: &Row) -> Stamp {
        let mut digest = Fingerprint::default();
        digest.add("revision", REVISION.as_bytes());
        digest.add("source", self.source.digest.as_bytes());
        digest.add("toolchain", self.tc.id.as_bytes());
        let base = match row.base {
            Base::Rust | Base::Tiny => self.base.clone(),
            Base::Debian(flavour) => debian_config(flavour).unwrap_or_default(),
        };
        digest.add("base", base.as_bytes());
        digest.add("row", format!("{row:?}").as_bytes());
        let dir = self.paths.build_named("configs");
        Stamp::new(dir.join(format!("{}.passed", row.name)), digest)
    }

    /// Compiles a row.
    fn check(&self, row: &Row, log: &Path) -> Result<()> {
        let dir = self.paths.build_named("configs").join(row.directory());
        let stamp = self.stamp(row);
        stamp.lift()?;
        files::make_dir(&dir)?;
        let rustc = self.rustc(row.arch, &dir)?;
        let config = self.configure(row, &dir, log)?;
        self.compile(row, &dir, &rustc, &config, log)?;
        stamp.set()
    }

    fn make(&self, row: &Row, dir: &Path) -> Command {
        let mut cmd = kernel_make(self.paths, &self.source, dir, &self.tc);
        cmd.args(row.arch.arguments());
        cmd
    }

    /// Configures `dir`, and returns the configuration: symbol to value.
    fn configure(&self, row: &Row, dir: &Path, log: &Path) -> Result<BTreeMap<String, String>> {
        let path = dir.join(".config");
        let mut on: Vec<&str> = row.on.to_vec();
        let text = match row.base {
            Base::Rust => self.base.clone(),
            Base::Debian(flavour) => debian_config(flavour)?,
            Base::Tiny => {
                run_logged(self.make(row, dir).arg("tinyconfig"), log, |_| ())?;
                on.extend(SMALL);
                fs::read_to_string(&path)?
            }
        };
        let off = row.off.iter().chain(NEVER);
        let text = edited(&text, &on, off.copied());
        files::write_atomic(&path, text.as_bytes(), false)?;
        run_logged(self.make(row, dir).arg("olddefconfig"), log, |_| ())
            .context("cannot configure the kernel")?;
        let text = fs::read_to_string(&path)?;
        let config: BTreeMap<String, String> = text
            .lines()
            .filter_map(|line| {
                let (symbol, value) = kconfig::parse(line)?;
                Some((symbol.to_owned(), value?.to_owned()))
            })
            .collect();
        let lost: Vec<String> = on
            .iter()
            .filter(|line| {
                let (symbol, value) = line.split_once('=').unwrap_or((**line, "y"));
                config.get(symbol).map(String::as_str) != Some(value)
            })
            .map(|line| format!("{line} is not taken"))
            .chain(row.off.iter().filter_map(|symbol| {
                let value = config.get(*symbol)?;
                Some(format!("{symbol} is {value} all the same"))
            }))
            .collect();
        ensure!(lost.is_empty(), "{}", lost.join(", "));
        Ok(config)
    }

    /// Returns the targets that the kernel of this configuration has.
    fn targets(&self, config: &BTreeMap<String, String>) -> BTreeSet<String> {
        let has = |symbol: Option<&str>| symbol.is_none_or(|symbol| config.contains_key(symbol));
        let mut targets: BTreeSet<String> = OURS
            .iter()
            .filter(|(_, symbol)| has(*symbol))
            .map(|(target, _)| (*target).to_owned())
            .collect();
        for file in &self.patched {
            let (object, symbol) = object_of(file);
            if has(symbol) {
                targets.insert(object);
            }
        }
        targets
    }

    fn compile(
        &self,
        row: &Row,
        dir: &Path,
        rustc: &Path,
        config: &BTreeMap<String, String>,
        log: &Path,
    ) -> Result<()> {
        // A warning is only printed when the crate is compiled.
        for file in self.source.overlay_files(".rs") {
            files::remove_file(&dir.join(file).with_extension("o"))?;
        }
        files::remove_file(&dir.join("rust/kernel.o"))?;
        let mut argument = std::ffi::OsString::from("RUSTC=");
        argument.push(rustc);
        let mut cmd = self.make(row, dir);
        cmd.arg(argument).arg("-k").args(self.targets(config));
        let files: Vec<String> = self
            .source
            .overlay
            .iter()
            .chain(&self.patched)
            .cloned()
            .collect();
        let mut collector = Collector::default();
        let mut found = Vec::new();
        let mut errors = Vec::new();
        let result = run_logged(&mut cmd, log, |line| {
            collector.line(line);
            if is_about(line, &files) {
                found.push(line.to_owned());
            }
            let error = line.starts_with("error") || line.contains(": error:");
            if error || line.contains(" *** ") {
                errors.push(line.to_owned());
            }
        });
        let diagnostics = collector.finish();
        found.extend(ours(&diagnostics, &files).iter().map(|d| brief(&d.text)));
        if let Some(first) = found.first() {
            bail!("{first}{}", more(found.len() - 1));
        }
        if let (Err(_), Some(first)) = (&result, errors.first()) {
            bail!("{first}{}", more(errors.len() - 1));
        }
        result
    }

    /// Writes the compiler that make calls for the kernel's crates, and returns its path.
    fn rustc(&self, arch: Arch, dir: &Path) -> Result<PathBuf> {
        let stub = dir.join("stub.o");
        if !stub.is_file() {
            let mut cc = clean(format!("clang-{LLVM}"));
            cc.arg(format!("--target={}", arch.triple()))
                .args(["-c", "-x", "assembler", "-o"])
                .arg(&stub)
                .arg("/dev/null");
            output(&mut cc)?;
        }
        let path = dir.join("rustc");
        let text = format!(
            "#!/bin/sh\n\
             # Compiles a crate of the kernel to metadata; its object is empty.\n\
             rustc='{}'\n\
             object= metadata=\n\
             for arg; do\n\
             \tshift\n\
             \tcase $arg in\n\
             \t--emit=obj=*) object=${{arg#--emit=obj=}}; continue ;;\n\
             \t--emit=metadata=*) metadata=y ;;\n\
             \tesac\n\
             \tset -- \"$@\" \"$arg\"\n\
             done\n\
             [ -n \"$object\" ] || exec \"$rustc\" \"$@\"\n\
             [ -n \"$metadata\" ] || set -- \"$@\" \"--emit=metadata=${{object%.o}}.rmeta\"\n\
             \"$rustc\" \"$@\" && exec cp '{}' \"$object\"\n",
            self.tc.rustc.display(),
            stub.display()
        );
        if files::read_if_exists(&path)?.as_deref() != Some(text.as_bytes()) {
            files::write_atomic(&path, text.as_bytes(), true)?;
        }
        Ok(path)
    }
}

/// Reads the configuration of a kernel of Debian's.
fn debian_config(flavour: Flavour) -> Result<String> {
    flavour
        .configuration()?
        .with_context(|| format!("there is no {}", flavour.path().display()))
}

/// Returns the object of a C file that patches touch, and the symbol without which the
/// kernel does not have it.
fn object_of(file: &str) -> (String, Option<&'static str>) {
    let lookup = |table: &[(&str, &'static str)], matches: fn(&str, &str) -> bool| {
        let row = table.iter().find(|(key, _)| matches(file, key));
        row.map(|(_, value)| *value)
    };
    let symbol = lookup(FOLDERS, |file, folder| file.starts_with(folder))
        .or_else(|| lookup(FILES, |file, name| file == name));
    let source = lookup(INCLUDED, |file, name| file == name).unwrap_or(file);
    let stem = source.strip_suffix(".c").unwrap_or(source);
    (format!("{stem}.o"), symbol)
}

/// Returns whether a line is a diagnostic of the C compiler about one of the files.
fn is_about(line: &str, files: &[String]) -> bool {
    let Some((place, _)) = line
        .split_once(": warning: ")
        .or_else(|| line.split_once(": error: "))
        .or_else(|| line.split_once(": fatal error: "))
    else {
        return false;
    };
    let path = place.split(':').next().unwrap_or(place);
    files.iter().any(|file| {
        path.strip_suffix(file.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    })
}

/// Returns the title of a diagnostic of rustc, and its place.
fn brief(text: &str) -> String {
    let title = text.lines().next().unwrap_or_default();
    let place = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("--> "));
    format!("{title} at {}", place.unwrap_or("?"))
}

fn more(count: usize) -> String {
    match count {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    }
}

/// Returns a configuration with other values of some symbols.
fn edited<'a>(text: &str, on: &[&str], off: impl Iterator<Item = &'a str>) -> String {
    let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
    let off: BTreeSet<String> = off.map(str::to_owned).collect();
    let changed: BTreeSet<String> = on
        .iter()
        .map(|line| name(line))
        .chain(off.clone())
        .collect();
    let mut out: Vec<String> = text
        .lines()
        .filter(|line| kconfig::parse(line).is_none_or(|(symbol, _)| !changed.contains(symbol)))
        .map(str::to_owned)
        .collect();
    out.extend(on.iter().map(|line| format!("CONFIG_{line}")));
    let set: BTreeSet<String> = on.iter().map(|line| name(line)).collect();
    out.extend(
        off.difference(&set)
            .map(|symbol| format!("# CONFIG_{symbol} is not set")),
    );
    out.push(String::new());
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_configuration() {
        let text = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\n# a comment\n";
        let new = edited(text, &["B=y"], ["A", "D"].into_iter());
        assert_eq!(
            new,
            "CONFIG_C=m\n# a comment\nCONFIG_B=y\n# CONFIG_A is not set\n# CONFIG_D is not set\n"
        );
    }

    #[test]
    fn objects_of_patched_files() {
        let object = |file| object_of(file);
        assert_eq!(object("fs/inode.c"), ("fs/inode.o".into(), None));
        assert_eq!(object("mm/gup.c"), ("mm/gup.o".into(), Some("MMU")));
        let ext4 = ("fs/ext4/inode.o".into(), Some("EXT4_FS"));
        assert_eq!(object("fs/ext4/inode.c"), ext4);
        let waits = ("kernel/sched/build_utility.o".into(), None);
        assert_eq!(object("kernel/sched/wait_bit.c"), waits);
    }

    #[test]
    fn diagnostics_of_c() {
        let files = ["mm/gup.c".to_owned(), "rust/helpers/mm.c".to_owned()];
        let about = |line| is_about(line, &files);
        assert!(about(
            "/c/src/linux/mm/gup.c:12:3: warning: unused variable 'x'"
        ));
        assert!(about(
            "../rust/helpers/mm.c:1:10: fatal error: 'x.h' file not found"
        ));
        assert!(!about("/c/src/linux/mm/memory.c:12:3: warning: unused"));
        assert!(!about("/c/src/linux/mm/xgup.c:12:3: error: unused"));
        assert!(!about("  CC      mm/gup.o"));
    }

    #[test]
    fn a_diagnostic_of_rustc_in_one_line() {
        let text = "error[E0432]: unresolved import\n  --> rust/kernel/a.rs:1:2\n   |";
        assert_eq!(
            brief(text),
            "error[E0432]: unresolved import at rust/kernel/a.rs:1:2"
        );
    }

    #[test]
    fn names_of_rows_are_unique() {
        let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
        assert!(ROWS
            .iter()
            .all(|row| row.on.len() + row.off.len() > 0 || row.arch != Arch::X86));
    }
}
