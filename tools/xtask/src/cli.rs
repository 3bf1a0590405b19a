// SPDX-License-Identifier: GPL-2.0

//! The command line. Each option can also come from the environment, under the name that `make`
//! uses: `make guest VARIANT=c` is `VARIANT=c cargo xtask guest`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};
use regex::Regex;

use crate::variant::Variant;

/// Names of the variables that `make` passes. An empty one counts as not given.
pub const VARIABLES: &[&str] = &[
    "VARIANT",
    "CMD",
    "COPY",
    "MEM",
    "CPUS",
    "PMEM",
    "NVDIMMS",
    "TIMEOUT",
    "ALLOW_SPLAT",
    "ICOUNT",
    "ALL",
    "LIMIT",
    "JOBS",
    "ROWS",
    "QUICK",
    "GUP",
    "OUT",
    "KERNEL_SOURCE",
    "YES",
    "SUITES",
    "FRESH",
    "FAILURES",
    "SEED",
];

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
    /// Kill the guest while it writes to DAX files, and check what is left.
    Crash(CrashArgs),
    /// Measure the C and the Rust kernel side by side.
    Bench(BenchArgs),
    /// Compile our files in other configurations and for other architectures.
    Configs(ConfigsArgs),
    /// Compare the interfaces of the C and the Rust kernel.
    Abi(AbiArgs),
    /// Run the public suites on the C and the Rust kernel and compare them by name.
    Conform(ConformArgs),
    /// Boot a guest and run a command in it.
    Guest(CommandArgs),
    /// Boot a guest with a shell on this terminal.
    Shell(GuestArgs),
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
    /// Build the documentation of the kernel crate and print its path.
    Doc,
}

/// Options of the guest.
#[derive(Args, Clone, Debug)]
pub struct GuestArgs {
    /// Kernel variant.
    #[arg(long, env = "VARIANT", value_enum, default_value = "rust")]
    pub variant: Variant,
    /// Ordinary memory: 4G, 3072M.
    #[arg(long, env = "MEM", value_parser = mebibytes, default_value = "4G")]
    pub mem: u64,
    /// Virtual CPUs.
    #[arg(long, env = "CPUS", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub cpus: u32,
    /// Size of each of the two NVDIMMs.
    #[arg(long, env = "PMEM", value_parser = mebibytes, default_value = "5G")]
    pub pmem: u64,
    /// A folder in which the NVDIMMs' files stay for the next guest.
    #[arg(long, env = "NVDIMMS")]
    pub nvdimms: Option<PathBuf>,
    /// Seconds until the guest is stopped with status 124.
    #[arg(long, env = "TIMEOUT", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Do not turn a kernel report into status 99.
    #[arg(long, env = "ALLOW_SPLAT", value_parser = FalseyValueParser::new())]
    pub allow_splat: bool,
    /// One CPU; each instruction takes one guest nanosecond.
    #[arg(long, env = "ICOUNT", value_parser = FalseyValueParser::new())]
    pub icount: bool,
    /// Files for the guest's /root, as shell words.
    #[arg(long, env = "COPY", default_value = "")]
    pub copy: String,
}

impl GuestArgs {
    /// Returns the files to copy.
    pub fn copies(&self) -> Result<Vec<PathBuf>> {
        let words = words(&self.copy).context("cannot read COPY")?;
        let paths: Vec<_> = words.into_iter().map(PathBuf::from).collect();
        if let Some(path) = paths.iter().find(|p| !p.exists()) {
            bail!("COPY names {}, which does not exist", path.display());
        }
        Ok(paths)
    }
}

/// Options that select the tests.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub guest: GuestArgs,
    /// All tests in full, on a debug kernel too.
    #[arg(long, env = "ALL", value_parser = FalseyValueParser::new())]
    pub all: bool,
    /// Only KUnit and one test of each kind, and nothing on the host.
    #[arg(long, env = "QUICK", value_parser = FalseyValueParser::new())]
    pub quick: bool,
    /// Seconds after which no test starts; what did not start is skipped.
    #[arg(long, env = "LIMIT")]
    pub limit: Option<u64>,
    /// Number of guests at a time; by default as many as CPUs and memory allow.
    #[arg(long, env = "JOBS", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub jobs: Option<u32>,
}

/// Options of the power failure test.
#[derive(Args, Clone, Debug)]
pub struct CrashArgs {
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Number of power failures.
    #[arg(long, env = "FAILURES", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    pub failures: u32,
    /// Seed of the data and of the moments.
    #[arg(long, env = "SEED", default_value = "1")]
    pub seed: u64,
}

/// Options that select what is measured.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Only the rows whose names match this regular expression.
    #[arg(long, env = "ROWS", default_value = "")]
    pub rows: Regex,
    /// Only the GUP rows.
    #[arg(long, env = "GUP", value_parser = FalseyValueParser::new())]
    pub gup: bool,
    /// Fewer boots, and fewer and shorter repeats in them.
    #[arg(long, env = "QUICK", value_parser = FalseyValueParser::new())]
    pub quick: bool,
    /// Folder for the results; by default bench in the cache.
    #[arg(long, env = "OUT")]
    pub out: Option<PathBuf>,
    /// Seconds until a guest is stopped.
    #[arg(long, env = "TIMEOUT", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

/// Options that select configurations.
#[derive(Args, Clone, Debug)]
pub struct ConfigsArgs {
    /// Only the rows whose names match this regular expression.
    #[arg(long, env = "ROWS", default_value = "")]
    pub rows: Regex,
}

/// Options that select what is compared.
#[derive(Args, Clone, Debug)]
pub struct AbiArgs {
    /// Compare the builds only and boot nothing.
    #[arg(long, env = "QUICK", value_parser = FalseyValueParser::new())]
    pub quick: bool,
    /// Take both build directories as they are instead of building.
    #[arg(long)]
    pub as_built: bool,
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

#[derive(Args, Clone, Debug)]
pub struct ConformArgs {
    /// Suites to run; all of them if none is named.
    #[arg(long, env = "SUITES", default_value = "")]
    pub suites: String,
    /// Discard existing results.
    #[arg(long, env = "FRESH", value_parser = FalseyValueParser::new())]
    pub fresh: bool,
    /// Virtual CPUs.
    #[arg(long, env = "CPUS", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub cpus: u32,
}

/// Parses `4G`, `512M`, or a plain number of MiB.
fn mebibytes(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.trim().to_ascii_uppercase() {
        t if t.ends_with('G') => (t[..t.len() - 1].to_owned(), 1024),
        t if t.ends_with('M') => (t[..t.len() - 1].to_owned(), 1),
        t => (t, 1),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .filter(|n| (1..=1 << 20).contains(n))
        .ok_or_else(|| "give a size like 4G or 3072M".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim().trim_end_matches('s').parse::<u64>() {
        Ok(n) if n > 0 => Ok(Duration::from_secs(n)),
        _ => Err("give a number of seconds".to_owned()),
    }
}

/// Splits into words as a shell does, with quotes and backslashes.
fn words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(q) if q == c => break,
                        Some('\\') if c == '"' => word.extend(chars.next()),
                        Some(other) => word.push(other),
                        None => bail!("a quote is not closed in: {text}"),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_and_times() {
        assert_eq!(mebibytes("4G"), Ok(4096));
        assert_eq!(mebibytes("512m"), Ok(512));
        assert_eq!(mebibytes("100"), Ok(100));
        for bad in ["", "G", "0", "-1G", "4T", "99999999999999999999G"] {
            assert!(mebibytes(bad).is_err(), "{bad}");
        }
        assert_eq!(seconds("300"), Ok(Duration::from_secs(300)));
        assert!(seconds("0").is_err() && seconds("x").is_err());
    }

    #[test]
    fn words_of_a_shell() {
        let run = |t: &str| words(t).unwrap();
        assert_eq!(run("  a  b\tc\n"), ["a", "b", "c"]);
        assert_eq!(
            run("'a b' \"c \\\" d\" e\\ f ''"),
            ["a b", "c \" d", "e f", ""]
        );
        assert!(words("'a").is_err());
        assert!(run("").is_empty());
    }
}
