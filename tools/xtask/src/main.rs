// SPDX-License-Identifier: GPL-2.0

//! The harness of rust-dax: from a checkout to a booted, tested kernel.
//!
//! Each verb is a function of a program, and this crate only names them:
//!
//! ```text
//! check     run, check, crash, tour, coverage, soak
//! bench     bench               abi       abi
//! configs   configs             conform   conform
//! mutants   mutants
//! ```
//!
//! The programs use `kbuild` (from a checkout to a kernel), `vm` (a guest) and `report` (results),
//! and those use `host` (files, commands, the cache). No arrow goes the other way. All output goes
//! to the cache folder (`host::paths`), with one writer at a time (`host::lock`).

mod cli;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use check::{coverage, crash, main_job, soak, tour};
use cli::{Cli, Verb};
use host::lock::cache_lock;
use host::paths::Paths;
use host::requirements::require_host;
use kbuild::build::build_to_boot;
use kbuild::{build, deb, doc, lint, program, source};
use report::page;
use vm::options::{self, GuestOptions};
use vm::{guest, shell};

fn main() -> ExitCode {
    // `make guest MEM=` passes an empty variable, which counts as not given.
    for name in cli::variables() {
        if std::env::var_os(&name).is_some_and(|v| v.is_empty()) {
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
        Verb::Run(args) => return Ok(exit_status(main_job::run(&paths, &args)?)),
        Verb::Check(args) => return Ok(exit_status(check::run(&paths, &args)?)),
        Verb::Coverage(args) => return Ok(exit_status(coverage::run(&paths, &args)?)),
        Verb::Crash(args) => return Ok(exit_status(crash::verb(&paths, &args)?)),
        Verb::Soak(args) => return Ok(exit_status(soak::run(&paths, &args)?)),
        Verb::Bench(args) => return Ok(exit_status(bench::run(&paths, &args)?)),
        Verb::Configs(args) => return Ok(exit_status(configs::run(&paths, &args)?)),
        Verb::Abi(args) => return Ok(exit_status(abi::run(&paths, &args)?)),
        Verb::Conform(args) => return Ok(exit_status(conform::run(&paths, &args)?)),
        Verb::Mutants(args) => return Ok(exit_status(mutants::run(&paths, &args)?)),
        Verb::Tour(args) => return Ok(exit_status(tour::run(&paths, &args)?)),
        Verb::Guest(args) => {
            let command = args.command()?;
            let mut options = GuestOptions::from_args(&args.guest, options::TIMEOUT)?;
            let (built, image) =
                guest::prepare(&paths, || build_to_boot(&paths, args.guest.variant))?;
            options.copy.push(program::build_daxstat(&paths)?);
            let outcome = guest::run_command(&paths, &built, &image, &options, command)?;
            eprint!("{}", outcome.explain());
            return Ok(exit_status(outcome.status()));
        }
        Verb::Shell(args) => {
            let mut options = GuestOptions::from_args(&args, options::TIMEOUT)?;
            let (built, image) = guest::prepare(&paths, || build_to_boot(&paths, args.variant))?;
            options.copy.push(program::build_daxstat(&paths)?);
            return Ok(exit_status(shell::run(&paths, &built, &image, &options)?));
        }
        Verb::Deb(args) => {
            for package in deb::run(&paths, &args)? {
                println!("{package}");
            }
        }
        Verb::Build { variant } => {
            let built = build::build(&paths, variant)?;
            println!("Linux {} ({variant})", built.release_string);
            println!("kernel   {}", built.bzimage.display());
            println!("modules  {}", built.modules.display());
        }
        Verb::Config { variant } => println!("{}", build::config(&paths, variant)?.display()),
        Verb::Source => {
            require_host()?;
            let _lock = cache_lock(&paths, "preparing the kernel's source")?;
            let source = source::prepare(&paths)?;
            println!("Linux {}: {}", source.release, source.dir.display());
        }
        Verb::Lint => {
            if lint::run(&paths)? > 0 {
                return Ok(1);
            }
        }
        Verb::Report { out } => {
            let out = out.unwrap_or_else(|| paths.cache.clone());
            println!("{}", page::write(&paths, &out)?.display());
        }
        Verb::Doc => {
            let made = doc::run(&paths)?;
            for page in [made.rustdoc, made.pages, made.manual] {
                println!("{}", page.display());
            }
        }
        Verb::Completions { shell } => io::stdout().write_all(&cli::completions(shell))?,
    }
    Ok(0)
}

/// Converts a status to a shell's range; one out of range is a plain failure.
fn exit_status(status: i32) -> u8 {
    u8::try_from(status).unwrap_or(1)
}
