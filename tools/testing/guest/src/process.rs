// SPDX-License-Identifier: GPL-2.0

//! Child processes that run a closure, and the gates by which they and their
//! parent wait for each other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use crate::command::{timeout, whereabouts};
use crate::mapping::Mapping;

/// A forked child; dropping it kills and reaps it.
pub struct Child {
    pid: i32,
    reaped: bool,
    /// How long to sleep between two looks at it.
    pause: Duration,
}

/// Runs `work` in a child. Its error is printed there and becomes exit status
/// 1 here.
pub fn spawn(work: impl FnOnce() -> Result<()>) -> Result<Child> {
    // SAFETY: the caller's process has one thread when tests fork (those of
    // finished commands have ended), so the child may allocate and lock.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).context("fork failed"),
        0 => {
            let status = match work() {
                Ok(()) => 0,
                Err(e) => {
                    eprintln!("child: {e:#}");
                    1
                }
            };
            // SAFETY: ends the child without running the parent's clean-up,
            // which would destroy the parent's namespaces.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(Child {
            pid,
            reaped: false,
            pause: Duration::from_millis(10),
        }),
    }
}

impl Child {
    /// Looks after it so seldom that it does not notice: what it times, it
    /// times without us.
    pub fn undisturbed(mut self) -> Self {
        self.pause = Duration::from_secs(1);
        self
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The wait status, or None while it runs.
    fn poll(&mut self) -> Result<Option<i32>> {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        match unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } {
            0 => Ok(None),
            -1 => Err(io::Error::last_os_error()).context("waitpid failed"),
            _ => {
                self.reaped = true;
                Ok(Some(status))
            }
        }
    }

    /// Waits for the end: Ok(None) after a normal exit, the signal otherwise.
    pub fn wait_signal(&mut self, secs: u64, what: &str) -> Result<Option<i32>> {
        let limit = timeout(Duration::from_secs(secs));
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.poll()? {
                if libc::WIFSIGNALED(status) {
                    return Ok(Some(libc::WTERMSIG(status)));
                }
                match libc::WEXITSTATUS(status) {
                    0 => return Ok(None),
                    n => bail!("{what}: the child failed with exit status {n}"),
                }
            }
            if Instant::now() > end {
                bail!(
                    "{what}: the child did not end within {} s ({})",
                    limit.as_secs(),
                    whereabouts(self.pid as u32)
                );
            }
            thread::sleep(self.pause);
        }
    }

    /// Whether it runs; an error if it has ended badly.
    pub fn is_running(&mut self, what: &str) -> Result<bool> {
        match self.poll()? {
            None => Ok(true),
            Some(0) => Ok(false),
            Some(status) => bail!("{what}: the child ended with status {status:#x}"),
        }
    }

    /// Waits for a normal end.
    pub fn join(mut self, secs: u64, what: &str) -> Result<()> {
        match self.wait_signal(secs, what)? {
            None => Ok(()),
            Some(signal) => bail!("{what}: the child died of signal {signal}"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            // SAFETY: the pid is an unreaped child of this process.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// Forks a child that ends at once. Unlike [`spawn`] it may be called while other threads run.
pub fn fork_once() -> Result<()> {
    // SAFETY: the child does nothing but end, without any clean-up.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()).context("fork failed"),
        0 => unsafe { libc::_exit(0) },
        pid => pid,
    };
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    if unsafe { libc::waitpid(pid, &mut status, 0) } != pid {
        return Err(io::Error::last_os_error()).context("waitpid failed");
    }
    match status {
        0 => Ok(()),
        _ => bail!("a child that does nothing ended with status {status:#x}"),
    }
}

/// Opened once by one side, waited for by the other.
pub struct Gate {
    reader: File,
    writer: File,
}

impl Gate {
    pub fn new() -> Result<Self> {
        let (reader, writer) = pipe()?;
        Ok(Self { reader, writer })
    }

    pub fn open(&self) -> Result<()> {
        (&self.writer).write_all(b"x").context("cannot open a gate")
    }

    /// Waits. Both sides hold both ends, so a dead partner does not end the
    /// wait; the limit of the test does.
    pub fn pass(&self) -> Result<()> {
        let mut byte = [0];
        (&self.reader)
            .read_exact(&mut byte)
            .context("cannot wait at a gate")
    }
}

/// A pipe: reader and writer.
pub fn pipe() -> Result<(File, File)> {
    let mut fds = [0; 2];
    // SAFETY: the array has room for two descriptors.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error()).context("pipe failed");
    }
    // SAFETY: both are fresh and owned here.
    Ok(unsafe { (File::from_raw_fd(fds[0]), File::from_raw_fd(fds[1])) })
}

/// Puts `len` bytes of a mapping from `at` on into a pipe, by reference.
pub fn vmsplice(map: &Mapping, at: usize, len: usize, pipe: &File) -> Result<()> {
    map.check(at, len);
    let vector = libc::iovec {
        iov_base: (map.addr() + at) as *mut libc::c_void,
        iov_len: len,
    };
    // SAFETY: the vector describes a part of `map`, and the pages behind it
    // are referenced by the kernel itself.
    let n = unsafe { libc::vmsplice(pipe.as_raw_fd(), &vector, 1, 0) };
    if n < 0 {
        return Err(io::Error::last_os_error()).context("vmsplice");
    }
    ensure!(n == len as isize, "vmsplice of {len} bytes gave {n}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_open() -> Result<()> {
        let gate = Gate::new()?;
        gate.open()?;
        gate.pass()
    }
}
