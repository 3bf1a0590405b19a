// SPDX-License-Identifier: GPL-2.0

//! `make soak`: random users and removals of memory in two regions at once, for as long as one likes,
//! judged as the matrix of removals is (`tools/testing/guest/src/tests/teardown/soak.rs`). What happens
//! follows from a seed, except for how the two regions interleave.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::Args;

use crate::boot::Check;
use host::paths::Paths;
use kbuild::build::build_to_boot;
use report::summary::Summary;
use vm::guest;
use vm::options::GuestArgs;

/// Time for the boot, for the last round, and for the search for leaks.
const AROUND: Duration = Duration::from_secs(300);

#[derive(Args, Clone, Debug)]
pub struct SoakArgs {
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Minutes until the last round begins.
    #[arg(long, env = "MINUTES", default_value = "30", value_parser = clap::value_parser!(u64).range(1..))]
    pub minutes: u64,
    /// Seed of the rounds; by default the time.
    #[arg(long, env = "SEED")]
    pub seed: Option<u64>,
}

/// Runs `make soak` and returns the exit status.
pub fn run(paths: &Paths, args: &SoakArgs) -> Result<i32> {
    let variant = args.guest.variant;
    let (built, image) = guest::prepare(paths, || build_to_boot(paths, variant))?;
    let check = Check::new(paths, &args.guest, &built, &image)?;
    let time = Duration::from_secs(60 * args.minutes);
    let seed = args.seed.unwrap_or_else(of_the_time);
    println!(
        "soak of {} minutes; to repeat it: make soak VARIANT={variant} MINUTES={0} SEED={seed}",
        args.minutes
    );
    let mut summary = Summary::default();
    let mut options = check.options(AROUND)?;
    options.timeout += time;
    let verb = format!("soak --seed {seed} --seconds {}", time.as_secs());
    check.guest_test("soak", options, &verb, &mut summary)?;
    println!("{}; SEED={seed}", summary.totals());
    Ok(i32::from(summary.failed > 0))
}

fn of_the_time() -> u64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    time.map_or(1, |time| time.as_secs())
}
