// SPDX-License-Identifier: GPL-2.0

//! The harness of rust-dax: from a checkout to a booted, tested kernel.
//!
//! The steps, and the modules that implement them:
//!
//! ```text
//! toolchain   the compilers, by path
//! source      Debian's tarball (tarball) + the overlay (overlay) + patches (patches)
//! kconfig     tinyconfig + fragments of a variant (variant)
//! kbuild      make, modules, and nfit_test's modules (nfit); a first build may
//!             start from a sibling's (seed)
//! lint, doc   rustfmt, clippy, rustdoc, Sphinx
//! configs     our files in other configurations
//! ```
//!
//! The other half is the guest's image, the guest itself and the tests; see `rootfs`,
//! `guest`, `check`, `crash`, `abi`, `bench` and `conform`. All output goes to the cache
//! folder (paths), with one writer at a time (lock).

mod abi;
mod bench;
mod check;
mod cli;
mod command;
mod configs;
mod conform;
mod console;
mod crash;
mod diagnostics;
mod doc;
mod files;
mod guest;
mod guest_protocol;
mod host;
mod job;
mod kbuild;
mod kconfig;
mod ktap;
mod kvm;
mod label;
mod leaks;
mod lint;
mod lock;
mod nfit;
mod options;
mod outcome;
mod overlay;
mod panics;
mod patches;
mod paths;
mod program;
mod progress;
mod qemu;
mod qmp;
mod rootfs;
mod run;
mod seed;
mod shell;
mod source;
mod splat;
mod suites;
mod summary;
mod tarball;
mod toolchain;
mod variant;
mod workers;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Verb, VARIABLES};
use options::GuestOptions;
use paths::Paths;

fn main() -> ExitCode {
    // `make guest MEM=` passes an empty variable, which counts as not given.
    for name in VARIABLES {
        if std::env::var_os(name).is_some_and(|v| v.is_empty()) {
            std::env::remove_var(name);
        }
    }
    let cli = Cli::parse();
    match dispatch(cli.verb) {
        Ok(status) => ExitCode::from(status),
        Err(err) => {
            eprintln!("Error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the verb and returns the exit status.
fn dispatch(verb: Verb) -> Result<u8> {
    let paths = Paths::find()?;
    match verb {
        Verb::Run(args) => return Ok(exit_status(run::run(&paths, &args)?)),
        Verb::Check(args) => return Ok(exit_status(check::run(&paths, &args)?)),
        Verb::Crash(args) => return Ok(exit_status(crash::verb(&paths, &args)?)),
        Verb::Bench(args) => return Ok(exit_status(bench::run(&paths, &args)?)),
        Verb::Configs(args) => return Ok(exit_status(configs::run(&paths, &args)?)),
        Verb::Abi(args) => return Ok(exit_status(abi::run(&paths, &args)?)),
        Verb::Conform(args) => return Ok(exit_status(conform::run(&paths, &args)?)),
        Verb::Guest(args) => {
            let command = args.command()?;
            let options = GuestOptions::from_args(&args.guest, options::TIMEOUT)?;
            let (built, image) = guest::prepare(&paths, args.guest.variant)?;
            let outcome = guest::run_command(&paths, &built, &image, &options, command)?;
            eprint!("{}", outcome.explain());
            return Ok(exit_status(outcome.status()));
        }
        Verb::Shell(args) => {
            let mut options = GuestOptions::from_args(&args, options::TIMEOUT)?;
            let (built, image) = guest::prepare(&paths, args.variant)?;
            // An interactive user is likely to need it.
            options.copy.push(program::build_daxstat(&paths)?);
            return Ok(exit_status(shell::run(&paths, &built, &image, &options)?));
        }
        Verb::Build { variant } => {
            let built = kbuild::build(&paths, variant)?;
            println!("Linux {} ({variant})", built.release_string);
            println!("kernel   {}", built.bzimage.display());
            println!("modules  {}", built.modules.display());
        }
        Verb::Config { variant } => println!("{}", kbuild::config(&paths, variant)?.display()),
        Verb::Source => {
            host::require_host()?;
            let _lock = lock::cache_lock(&paths, "preparing the kernel's source")?;
            let source = source::prepare(&paths)?;
            println!("Linux {}: {}", source.release, source.dir.display());
        }
        Verb::Lint => {
            if lint::run(&paths)? > 0 {
                return Ok(1);
            }
        }
        Verb::Doc => {
            let made = doc::run(&paths)?;
            println!("{}\n{}", made.rustdoc.display(), made.pages.display());
        }
    }
    Ok(0)
}

/// Converts a status to a shell's range; one out of range is a plain failure.
fn exit_status(status: i32) -> u8 {
    u8::try_from(status).unwrap_or(1)
}
