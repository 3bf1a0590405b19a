// SPDX-License-Identifier: GPL-2.0

//! External commands, each with a time limit.
//!
//! A test that waits forever reports nothing, so a command that exceeds its
//! limit is killed with its whole process group. A command stuck inside the
//! kernel cannot be killed; then the error carries the state of the process and
//! its kernel stack, which is what a reader needs.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use nix::sys::prctl;
use nix::sys::signal::{killpg, Signal};
use nix::unistd::Pid;

/// Factor by which all time limits are extended. An emulated CPU shares the
/// host with other programs, and a debug kernel is many times slower.
static TIMEOUT_FACTOR: AtomicU32 = AtomicU32::new(3);
pub const DEBUG_KERNEL: u32 = 10;
/// Factor under icount, where time advances to the next timer whenever the CPU
/// waits for the host: on a busy host that amounts to hours. The host's own
/// limit applies there.
pub const INSTRUCTION_CLOCK: u32 = 100;

/// Sets the factor. Called once, before any wait.
pub fn set_timeout_factor(factor: u32) {
    TIMEOUT_FACTOR.store(factor, Ordering::Relaxed);
}

/// Returns a limit extended by the factor.
pub fn timeout(limit: Duration) -> Duration {
    limit * TIMEOUT_FACTOR.load(Ordering::Relaxed)
}

/// Time in which a killed process must end before it counts as stuck.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// A command to run, with its limit.
pub struct Cmd {
    inner: Command,
    text: String,
    limit: Duration,
    echo: Option<&'static str>,
}

/// The error of a command that exceeded its limit.
#[derive(Debug)]
pub struct TimedOut {
    text: String,
    /// Whether even SIGKILL did not end it.
    pub stuck: bool,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for TimedOut {}

/// The status and the output of a finished command.
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Returns the exit status as a number; for death by a signal 128 plus its
    /// number, as in a shell.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Returns both outputs, for messages.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Cmd {
    /// Creates a command. `line` is split at blanks, without quoting, so
    /// arguments that may contain blanks are passed to [`Cmd::arg`].
    pub fn new(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let mut inner = Command::new(words.next().unwrap_or("false"));
        inner.args(words);
        Self {
            inner,
            text: line.to_string(),
            limit: Duration::from_secs(60),
            echo: None,
        }
    }

    /// Prints every line as it arrives, prefixed with `prefix`.
    pub fn echo(mut self, prefix: &'static str) -> Self {
        self.echo = Some(prefix);
        self
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(self.text, " {}", arg.as_ref().to_string_lossy());
        self.inner.arg(arg);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    pub fn cwd(mut self, dir: &Path) -> Self {
        self.inner.current_dir(dir);
        self
    }

    pub fn limit_secs(mut self, secs: u64) -> Self {
        self.limit = Duration::from_secs(secs);
        self
    }

    /// Runs the command; a non-zero exit status is not an error here.
    pub fn run(mut self) -> Result<Output> {
        // SAFETY: prctl() is async-signal-safe between fork and exec.
        unsafe {
            // When a test is killed, its command dies too, although the command leads a process
            // group of its own.
            self.inner
                .pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?))
        };
        let mut child = self
            .inner
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.text))?;
        let stdout = drain(child.stdout.take(), self.echo);
        let stderr = drain(child.stderr.take(), self.echo);
        let status = wait(&mut child, timeout(self.limit), &self.text)?;
        // A grandchild may keep a pipe open after its parent has ended; the
        // output up to then suffices.
        let drain = Duration::from_secs(2);
        Ok(Output {
            status,
            stdout: stdout.recv_timeout(drain).unwrap_or_default(),
            stderr: stderr.recv_timeout(drain).unwrap_or_default(),
        })
    }

    /// Runs the command; any exit status but 0 is an error with the command,
    /// the status and its stderr.
    pub fn ok(self) -> Result<Output> {
        let text = self.text.clone();
        let out = self.run()?;
        if !out.status.success() {
            bail!(
                "`{text}` failed with exit status {}: {}",
                out.code(),
                gist(&out.stderr, &out.stdout)
            );
        }
        Ok(out)
    }
}

/// Returns stderr, or stdout if stderr is empty, on one line. A long text is
/// reduced to its beginning, where many programs report the error before their
/// usage, and its end.
fn gist(stderr: &str, stdout: &str) -> String {
    const ENDS: usize = 4;
    let text = if stderr.trim().is_empty() {
        stdout
    } else {
        stderr
    };
    let mut lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    if lines.is_empty() {
        return "(it printed nothing)".into();
    }
    if lines.len() > 2 * ENDS {
        lines.splice(ENDS..lines.len() - ENDS, ["…"]);
    }
    lines.join(" | ")
}

fn drain(pipe: Option<impl Read + Send + 'static>, echo: Option<&'static str>) -> Receiver<String> {
    let (tx, rx) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            let mut pipe = BufReader::new(pipe);
            let mut from = 0;
            // A read error ends the text early; the exit status still reports
            // the failure.
            while let Ok(1..) = pipe.read_until(b'\n', &mut bytes) {
                if let Some(prefix) = echo {
                    let line = String::from_utf8_lossy(&bytes[from..]);
                    println!("{prefix}{}", line.trim_end_matches('\n'));
                    from = bytes.len();
                }
            }
        }
        // After a timeout there is no receiver.
        let _ = tx.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    rx
}

fn wait(child: &mut Child, limit: Duration, text: &str) -> Result<ExitStatus> {
    if let Some(status) = poll(child, limit)? {
        return Ok(status);
    }
    let (report, stuck) = kill_group(child);
    Err(anyhow::Error::new(TimedOut {
        text: format!(
            "`{text}` did not finish within {} s and was killed{report}",
            limit.as_secs()
        ),
        stuck,
    }))
}

/// Waits up to `limit` until the child ends.
pub fn poll(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child
            .try_wait()
            .context("cannot wait for a child process")?
        {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Kills the child's process group. The returned text is the child's position
/// in the kernel; the bool is whether it survived the kill.
fn kill_group(child: &mut Child) -> (String, bool) {
    let pid = child.id();
    let was = whereabouts(pid);
    // The child leads its own group, so no other process is hit. It may have ended meanwhile.
    let _ = killpg(Pid::from_raw(pid as i32), Signal::SIGKILL);
    match poll(child, KILL_GRACE) {
        Ok(Some(_)) => (format!(" ({was})"), false),
        _ => {
            let now = whereabouts(pid);
            let report = format!("; it survives SIGKILL, so it is stuck in the kernel ({now})");
            (report, true)
        }
    }
}

/// Returns state, wait channel and kernel stack of a process, on one line.
pub fn whereabouts(pid: u32) -> String {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
    let state = read("status")
        .ok()
        .and_then(|s| {
            s.lines()
                .find_map(|l| l.strip_prefix("State:").map(|v| v.trim().to_string()))
        })
        .unwrap_or_else(|| "state unknown".into());
    let wchan = read("wchan").unwrap_or_default();
    let stack = read("stack").unwrap_or_default();
    let frames: Vec<&str> = stack
        .lines()
        .filter_map(|l| l.split_whitespace().nth(1))
        .take(8)
        .collect();
    format!(
        "state {state}, wchan {wchan}, stack {}",
        frames.join(" <- ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_outputs() -> Result<()> {
        let out = Cmd::new("sh -c")
            .arg("echo out; echo err >&2; exit 3")
            .run()?;
        assert_eq!(out.code(), 3);
        assert_eq!(out.all(), "out\nerr\n");
        Ok(())
    }

    #[test]
    fn failure_names_command_status_and_stderr() {
        let text = match Cmd::new("sh -c").arg("echo broken >&2; exit 7").ok() {
            Ok(_) => String::new(),
            Err(e) => e.to_string(),
        };
        assert!(text.contains("exit status 7: broken"), "{text}");
    }

    #[test]
    fn gist_keeps_both_ends() {
        let text: String = (0..20).fold(String::new(), |t, i| t + &format!("{i}\n"));
        assert_eq!(gist(&text, ""), "0 | 1 | 2 | 3 | … | 16 | 17 | 18 | 19");
        assert_eq!(gist(" \n", "a\nb"), "a | b");
    }

    #[test]
    fn limit_kills() {
        let start = Instant::now();
        assert!(Cmd::new("sleep 60").limit_secs(1).run().is_err());
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
