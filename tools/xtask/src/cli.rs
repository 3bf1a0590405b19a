// SPDX-License-Identifier: GPL-2.0

//! The command line. Each option can also come from the environment, under the name that `make`
//! uses: `make guest VARIANT=c` is `VARIANT=c cargo xtask guest`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use abi::AbiArgs;
use anyhow::{bail, Result};
use bench::BenchArgs;
use check::coverage::CoverageArgs;
use check::crash::CrashArgs;
use check::soak::SoakArgs;
use check::tour::TourArgs;
use check::CheckArgs;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use configs::ConfigsArgs;
use conform::ConformArgs;
use kbuild::deb::DebArgs;
use mutants::MutantsArgs;
use vm::options::GuestArgs;

use host::variant::Variant;

/// Returns the names of the variables that `make` passes: those of the options, and of settings that
/// are no options.
pub fn variables() -> BTreeSet<OsString> {
    let settings = ["KERNEL_SOURCE", "YES"].map(OsString::from);
    let command = Cli::command();
    let options = command
        .get_subcommands()
        .flat_map(|verb| verb.get_arguments());
    let names = options.filter_map(|option| option.get_env().map(OsString::from));
    names.chain(settings).collect()
}

/// Returns the script that completes `tools/harness` in a shell. Shells look for the last part of a
/// command's path.
pub fn completions(shell: Shell) -> Vec<u8> {
    const NAME: &str = "harness";
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command().name(NAME), NAME, &mut script);
    script
}

#[derive(Parser, Debug)]
#[command(name = "xtask", about = "The harness of rust-dax", version)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Build the kernel, boot it, and do direct I/O into a 2 MiB DAX mapping.
    Run(GuestArgs),
    /// Run formatting, lints, documentation, host tests, and all tests in the guest.
    Check(CheckArgs),
    /// Report which lines of the kernel's Rust the tests run.
    Coverage(CoverageArgs),
    /// Kill the guest while it writes to DAX files, and check what is left.
    Crash(CrashArgs),
    /// Remove memory under random users, by default on the debug kernel.
    #[command(mut_arg("variant", |arg| arg.default_value("debug")))]
    Soak(SoakArgs),
    /// Measure the C and the Rust kernel side by side.
    Bench(BenchArgs),
    /// Compile our files in other configurations and for other architectures.
    Configs(ConfigsArgs),
    /// Compare the interfaces of the C and the Rust kernel.
    Abi(AbiArgs),
    /// Run the public suites on the C and the Rust kernel and compare them by name.
    Conform(ConformArgs),
    /// Break the kernel's Rust on purpose, and see whether the tests notice.
    Mutants(MutantsArgs),
    /// Boot a guest and run a command in it.
    Guest(CommandArgs),
    /// Boot a guest with a shell on this terminal.
    Shell(GuestArgs),
    /// Show in a guest what the stack does, and record it.
    Tour(TourArgs),
    /// Make Debian packages of a kernel with the Rust pieces.
    Deb(DebArgs),
    /// Build a kernel; make checks every file.
    Build {
        #[arg(long, env = "VARIANT", value_enum, default_value = "rust")]
        variant: Variant,
    },
    /// Configure a kernel without building it, and print the path of its .config.
    Config {
        #[arg(long, env = "VARIANT", value_enum, default_value = "rust")]
        variant: Variant,
    },
    /// Unpack the kernel's source and bring overlay and patches up to date.
    Source,
    /// Run formatting and lints, of the harness and of the kernel's Rust.
    Lint,
    /// Write a page of what the programs have found.
    Report {
        /// Folder for report.html; by default the cache.
        #[arg(long, env = "OUT")]
        out: Option<PathBuf>,
    },
    /// Build the documentation: of the kernel crate, of the overlay, of daxstat; print the paths.
    Doc,
    /// Print the completion of tools/harness for a shell.
    Completions { shell: Shell },
}

#[derive(Args, Clone, Debug)]
pub struct CommandArgs {
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Command, for bash.
    #[arg(long, env = "CMD", default_value = "")]
    pub cmd: String,
}

impl CommandArgs {
    /// Returns the command. It is an error if there is none.
    pub fn command(&self) -> Result<&str> {
        match self.cmd.trim() {
            "" => bail!("which command? Say for example: make guest CMD='uname -a'"),
            _ => Ok(&self.cmd),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
        let variables = variables();
        for name in [
            "VARIANT",
            "COPY",
            "NVDIMMS",
            "SEED",
            "MINUTES",
            "KERNEL_SOURCE",
        ] {
            assert!(variables.contains(&OsString::from(name)), "{name}");
        }
    }

    #[test]
    fn a_soak_is_on_the_debug_kernel_unless_it_is_told_otherwise() {
        let variant = |words: &[&str]| match Cli::parse_from(words).verb {
            Verb::Soak(args) => args.guest.variant,
            verb => panic!("{verb:?}"),
        };
        assert_eq!(variant(&["xtask", "soak"]), Variant::Debug);
        let told = ["xtask", "soak", "--variant", "rust"];
        assert_eq!(variant(&told), Variant::Rust);
    }

    #[test]
    fn completions_have_verbs_and_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completions(shell)).unwrap();
            for word in ["harness", "conform", "completions", "variant", "cdebug"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
            assert!(!script.contains("xtask"), "{shell}");
        }
    }
}
