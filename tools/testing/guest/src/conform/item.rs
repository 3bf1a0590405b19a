// SPDX-License-Identifier: GPL-2.0

//! An item of a suite: a program to run, its environment, its time limit, and
//! the meaning of its exit status and output.

use anyhow::{ensure, Result};
use serde::Serialize;

use crate::command::{Cmd, Output};
use crate::skip::Skip;
use crate::tests::external;

use super::OUTPUT;

/// Number of final lines that explain why a test failed.
const SHOWN: usize = 4;

/// The environment that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Only memory.
    Memory,
    /// This number of huge pages of the default size.
    HugePages(u64),
    /// The machine's persistent memory, which the test divides itself.
    RealPmem,
    /// The mock bus of nfit_test.
    MockBus,
    /// ext4, mounted with `-o dax` at `$DAX`, empty.
    DaxMount,
}

/// Whether the output holds results of its own, and in which format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Parse {
    /// Only the exit status.
    Status,
    /// TAP of kselftest.
    Tap,
    /// The lines of PMDK's RUNTESTS.
    Pmdk,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A line for bash.
    Shell(String),
    /// One of ndctl's tests, with the environment that meson gives it.
    Ndctl(&'static str),
}

/// One test, as the host sees it; its output may hold results of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub name: String,
    pub environment: Environment,
    pub program: Program,
    pub dir: &'static str,
    pub limit_secs: u64,
    /// Exit statuses that mean "skipped".
    pub skips: &'static [i32],
    pub parse: Parse,
}

impl Item {
    pub fn shell(
        name: impl Into<String>,
        environment: Environment,
        line: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            environment,
            program: Program::Shell(line.into()),
            dir: "/root",
            limit_secs: 60,
            skips: &[],
            parse: Parse::Status,
        }
    }

    pub fn ndctl(name: &'static str, environment: Environment, limit_secs: u64) -> Self {
        Self {
            program: Program::Ndctl(name),
            limit_secs,
            ..Self::shell(name, environment, "")
        }
    }

    /// Returns the command, whose output goes to the host as it arrives.
    pub fn command(&self) -> Result<Cmd> {
        let cmd = match &self.program {
            Program::Ndctl(name) => external::program(name)?,
            Program::Shell(line) => Cmd::new("bash -c").arg(line).cwd(self.dir.as_ref()),
        };
        Ok(cmd.limit_secs(self.limit_secs).echo(OUTPUT))
    }

    /// Returns the result; a [`Skip`] error if the test was skipped.
    pub fn judge(&self, out: &Output) -> Result<String> {
        if let Program::Ndctl(name) = self.program {
            return external::judge(name, out);
        }
        let text = out.all();
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(SHOWN)..].join(" | ");
        if self.skips.contains(&out.code()) {
            return Err(Skip(tail).into());
        }
        ensure!(out.status.success(), "exit status {}: {tail}", out.code());
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() -> Result<()> {
        let judge = |line: &str| {
            let item = Item {
                skips: &[4],
                dir: "/",
                ..Item::shell("x", Environment::Memory, line)
            };
            item.judge(&item.command()?.run()?)
        };
        assert!(judge("exit 0").is_ok());
        let skip = judge("echo no node; exit 4").unwrap_err();
        assert!(skip.is::<Skip>() && skip.to_string() == "no node");
        let fail = judge("echo a; echo b >&2; exit 1").unwrap_err();
        assert_eq!(fail.to_string(), "exit status 1: a | b");
        Ok(())
    }
}
