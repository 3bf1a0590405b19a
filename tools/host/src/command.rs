// SPDX-License-Identifier: GPL-2.0

//! Running other programs, with their output in a log.
//!
//! A child stays in our process group, so Ctrl-C on the terminal reaches it
//! directly and it cleans up as usual.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{bail, Context, Result};
use fs_err::OpenOptions;

use crate::files;

/// Number of final lines that an error shows.
const TAIL: usize = 15;

/// Runs `cmd` without standard input, appends both its outputs to `log` and
/// hands every line to `on_line`. Fails when the program does, with the last
/// lines and the log's path.
pub fn run_logged(cmd: &mut Command, log: &Path, mut on_line: impl FnMut(&str)) -> Result<()> {
    let name = program_name(cmd);
    if let Some(dir) = log.parent() {
        files::make_dir(dir)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(log)?;
    writeln!(file, "$ {}", show(cmd))?;

    // One pipe for both outputs keeps their order.
    // Close-on-exec: a grandchild that outlives the child must not hold it.
    let (reader, writer) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("cannot make a pipe")?;
    cmd.stdin(Stdio::null())
        .stdout(writer.try_clone().context("cannot copy a pipe")?)
        .stderr(writer);
    let mut child = cmd
        .spawn()
        .with_context(|| format!("cannot start {name}; `make setup` installs what is needed"))?;
    // The command still holds the writing ends; without this the read below
    // would never end.
    cmd.stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());

    let mut tail: VecDeque<String> = VecDeque::with_capacity(TAIL);
    let mut reader = BufReader::new(File::from(reader));
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = reader
            .read_until(b'\n', &mut line)
            .context("cannot read from a pipe")?;
        if n == 0 {
            break;
        }
        file.write_all(&line)?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(text.to_owned());
        on_line(text);
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {name}"))?;
    if !status.success() {
        bail!(
            "{name} failed ({status}); its last lines:\n{}the whole log: {}",
            indent(&tail),
            log.display()
        );
    }
    Ok(())
}

/// Runs `cmd` and returns what it printed; fails when it does.
pub fn output(cmd: &mut Command) -> Result<String> {
    let name = program_name(cmd);
    let out = cmd
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {name}; `make setup` installs what is needed"))?;
    if !out.status.success() {
        bail!(
            "{name} failed ({}): {}",
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Creates a command whose environment holds nothing of the caller's except
/// what a program needs to find the network, the terminal and a place for
/// temporary files. No rustup toolchain, no MAKEFLAGS and no compiler flags
/// leak in.
pub fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    const KEEP: &str = "HOME USER LOGNAME TERM TMPDIR SSL_CERT_FILE SSL_CERT_DIR \
        http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY";
    let mut cmd = Command::new(program);
    cmd.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8");
    let kept = KEEP.split_whitespace();
    cmd.envs(kept.filter_map(|key| Some((key, std::env::var_os(key)?))));
    cmd
}

/// Search path for Debian's programs, including the administrator's.
pub const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// Joins lines, each indented by four spaces.
pub fn indent<'a>(lines: impl IntoIterator<Item = &'a String>) -> String {
    let parts = lines.into_iter().flat_map(|l| ["    ", l.as_str(), "\n"]);
    parts.collect()
}

fn program_name(cmd: &Command) -> String {
    Path::new(cmd.get_program())
        .file_name()
        .unwrap_or(cmd.get_program())
        .to_string_lossy()
        .into_owned()
}

/// Formats the command as a person could type it.
fn show(cmd: &Command) -> String {
    let words = std::iter::once(cmd.get_program()).chain(cmd.get_args());
    shell_words::join(words.map(|w| w.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;

    #[test]
    fn lines_of_both_outputs_reach_log_and_caller() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("sub/x.log");
        let mut seen = Vec::new();
        run_logged(
            Command::new("/bin/sh").args(["-c", "echo one; echo two >&2; printf three"]),
            &log,
            |l| seen.push(l.to_owned()),
        )
        .unwrap();
        assert_eq!(seen, ["one", "two", "three"]);
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.starts_with("$ /bin/sh -c '"), "{text}");
        assert!(text.ends_with("one\ntwo\nthree"), "{text}");
    }

    #[test]
    fn a_failure_shows_the_last_lines_and_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        let err = run_logged(
            Command::new("/bin/sh").args(["-c", "seq 1 20; exit 3"]),
            &log,
            |_| (),
        )
        .unwrap_err()
        .to_string();
        assert!(err.contains("exit status: 3"), "{err}");
        assert!(err.contains("    20\n") && err.contains("    6\n"), "{err}");
        assert!(!err.contains("    5\n"), "{err}");
        assert!(err.ends_with("x.log"), "{err}");
    }
}
