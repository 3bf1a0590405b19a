// SPDX-License-Identifier: GPL-2.0

//! `make coverage`: which lines and functions of the kernel's Rust the guest tests and KUnit run.
//!
//! The kernel is that of `VARIANT=rust` with the lines of the source in its objects. Each boot of the
//! check has `tools/testing/tcg-plugin`, which writes the addresses of the instructions that ran; the
//! objects say of which lines these are (`lines`), and the report adds it up (`report`).
//!
//! A line counts as run if one of its instructions was. Code that is inlined counts for the lines where
//! it is written. What a warning or a failed assertion prints counts for nothing. The module `nd_pmem`
//! is looked for where it lies at the end of a boot: what it did at another address before is missing.

mod lines;
mod report;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use fs_err as fs;

use crate::boot::Check;
use crate::executed::{Collector, MODULE_AT};
use crate::CheckArgs;
use ::report::summary::Summary;
use host::command::{clean, output};
use host::limit::Limit;
use host::paths::Paths;
use host::variant::Variant;
use kbuild::build::build_to_boot;
use kbuild::toolchain::LLVM;
use lines::Lines;
use tempfile::NamedTempFile;
use vm::guest;

#[derive(Args, Clone, Debug)]
pub struct CoverageArgs {
    #[command(flatten)]
    check: CheckArgs,
    /// Folder for the report; by default coverage in the cache.
    #[arg(long, env = "OUT")]
    out: Option<PathBuf>,
}

/// Runs the boots of the check, and writes the report. Returns the exit status.
pub fn run(paths: &Paths, args: &CoverageArgs) -> Result<i32> {
    let limit = Limit::starting_now(args.check.limit);
    let variant = Variant::Coverage;
    let (built, image) = guest::prepare(paths, || build_to_boot(paths, variant))?;
    let collector = Collector::new(paths)?;
    let mut check = Check::new(paths, &args.check.guest, &built, &image)?;
    check.coverage = Some(&collector);
    let mut summary = Summary::default();
    check.boots(&args.check, limit, Box::new(|_| Ok(())), &mut summary)?;
    println!("{}", summary.totals());

    let dir = paths.build(variant);
    let ran = collector.into_ran();
    let mut lines = Lines::new(&paths.checkout)?;
    lines.add(&dir.join("vmlinux"), &ran.kernel)?;
    let module = link(&dir.join("drivers/nvdimm/nd_pmem.ko"))?;
    lines.add(module.path(), &ran.module)?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| paths.cache.join("coverage"));
    fs::create_dir_all(&out)?;
    let text = report::text(&lines);
    print!("{text}");
    fs::write(out.join("coverage.txt"), &text)?;
    fs::write(
        out.join("coverage.html"),
        report::html(&lines, &built.source, ran.boots)?,
    )?;
    eprintln!("The lines are in {}", out.join("coverage.html").display());
    Ok(i32::from(summary.failed > 0))
}

/// Links a module, each of whose sections begins at 0, so that each line has an address of its own.
fn link(module: &Path) -> Result<NamedTempFile> {
    let linked = NamedTempFile::new()?;
    output(
        clean(format!("ld.lld-{LLVM}"))
            .args([
                "-static",
                "--unresolved-symbols=ignore-all",
                "--noinhibit-exec",
            ])
            .args(["-e", "0", "--image-base=0x800000"])
            .arg(format!("-Ttext={MODULE_AT:#x}"))
            .arg("-o")
            .arg(linked.path())
            .arg(module),
    )?;
    Ok(linked)
}
