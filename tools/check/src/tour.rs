// SPDX-License-Identifier: GPL-2.0

//! `make tour`: five minutes in the guest that show what the stack does, with the commands that an
//! operator would type. What the guest prints is shown as it comes, and recorded as an SVG that
//! browsers play (`recording`). A step that does not show what it says fails the tour, and `make
//! check`, which takes it as well.

mod recording;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use fs_err as fs;

use crate::boot::Check;
use host::paths::Paths;
use kbuild::build::build_to_boot;
use kbuild::program;
use recording::Recording;
use report::summary::Summary;
use vm::guest;
use vm::options::{GuestArgs, GuestOptions};

/// The guest's side.
const SCRIPT: &str = include_str!("tour/guest.sh");
const TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Args, Clone, Debug)]
pub struct TourArgs {
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Folder for tour.svg; by default the cache.
    #[arg(long, env = "OUT")]
    out: Option<PathBuf>,
}

/// Runs the tour and writes its recording. Returns the exit status.
pub fn run(paths: &Paths, args: &TourArgs) -> Result<i32> {
    let variant = args.guest.variant;
    let (built, image) = guest::prepare(paths, || build_to_boot(paths, variant))?;
    let mut options = GuestOptions::from_args(&args.guest, variant.limit(TIMEOUT))?;
    options.copy.push(program::build_daxstat(paths)?);

    let (start, mut recording) = (Instant::now(), Recording::default());
    let outcome = guest::run_with(paths, &built, &image, &options, SCRIPT, &mut |bytes| {
        recording.add(start.elapsed(), bytes);
        let mut out = std::io::stdout().lock();
        // A closed standard output must not lose the exit status.
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    })?;
    eprint!("{}", outcome.explain());
    if outcome.status() == 0 {
        let out = args.out.clone().unwrap_or_else(|| paths.cache.clone());
        fs::create_dir_all(&out)?;
        let path = out.join("tour.svg");
        fs::write(
            &path,
            recording.svg(&format!("rust-dax, Linux {}", built.release_string)),
        )?;
        eprintln!("recorded in {}", path.display());
    }
    Ok(outcome.status())
}

/// Takes the tour as one boot of `make check`.
pub fn boot(check: &Check<'_>, summary: &mut Summary) -> Result<()> {
    let mut options = check.options(TIMEOUT)?;
    options.copy.extend_from_slice(&check.programs);
    let mut output = Vec::new();
    let outcome = guest::run_with(
        check.paths,
        check.built,
        check.image,
        &options,
        SCRIPT,
        &mut |bytes| output.extend_from_slice(bytes),
    )?;
    let output = String::from_utf8_lossy(&output);
    let problem = (outcome.status() != 0).then(|| {
        let last = output.lines().rev().take(12).collect::<Vec<_>>();
        last.into_iter().rev().collect::<Vec<_>>().join(" | ")
    });
    summary.require("tour", "each step shows what it says", problem);
    check.close("tour", &outcome, summary);
    Ok(())
}
