// SPDX-License-Identifier: GPL-2.0

//! Child processes that run a closure, and the gates by which children and parent wait for
//! each other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use nix::fcntl::OFlag;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::wait::{waitpid, WaitStatus};
use nix::unistd::{fork, pipe2, ForkResult};

use crate::command::{timeout, whereabouts};
use crate::mapping::Mapping;

/// A forked child, which is killed and reaped when dropped.
pub struct Child {
    pid: i32,
    reaped: bool,
    /// Polling interval.
    pause: Duration,
}

/// Runs `work` in a child. An error is printed there and becomes exit status 1.
pub fn spawn(work: impl FnOnce() -> Result<()>) -> Result<Child> {
    // SAFETY: The caller's process has one thread when tests fork (those of finished commands
    // have ended), so the child may allocate and lock.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            let status = match work() {
                Ok(()) => 0,
                Err(e) => {
                    eprintln!("child: {e:#}");
                    1
                }
            };
            // SAFETY: `_exit` ends the child without the parent's clean-up, which would
            // destroy the parent's namespaces.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => Ok(Child {
            pid: child.as_raw(),
            reaped: false,
            pause: Duration::from_millis(10),
        }),
    }
}

impl Child {
    /// Polls so rarely that the child's own timing is not disturbed.
    pub fn undisturbed(mut self) -> Self {
        self.pause = Duration::from_secs(1);
        self
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns the wait status, or `None` while it runs.
    fn poll(&mut self) -> Result<Option<i32>> {
        let mut status = 0;
        // SAFETY: `status` is valid for writes and outlives the call.
        match unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } {
            0 => Ok(None),
            -1 => Err(io::Error::last_os_error()).context("waitpid failed"),
            _ => {
                self.reaped = true;
                Ok(Some(status))
            }
        }
    }

    /// Waits until the child ends: `None` after a normal exit, otherwise the signal.
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

    /// Returns whether it runs; an error if it has failed.
    pub fn is_running(&mut self, what: &str) -> Result<bool> {
        match self.poll()? {
            None => Ok(true),
            Some(0) => Ok(false),
            Some(status) => bail!("{what}: the child ended with status {status:#x}"),
        }
    }

    /// Waits until the child exits normally.
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
            // SAFETY: The pid is an unreaped child of this process, so it cannot have been
            // reused.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// Forks a child that ends at once. Unlike [`spawn`] it may be called while other threads run.
pub fn fork_once() -> Result<()> {
    // SAFETY: The child only exits, without any clean-up, so it touches no state of other threads.
    let child = match unsafe { fork() }.context("fork")? {
        ForkResult::Child => unsafe { libc::_exit(0) },
        ForkResult::Parent { child } => child,
    };
    match waitpid(child, None).context("waitpid")? {
        WaitStatus::Exited(_, 0) => Ok(()),
        status => bail!("a child that does nothing ended: {status:?}"),
    }
}

/// A gate that one side opens once and the other waits for.
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

    /// Returns whether the gate is open and no task has passed it.
    pub fn is_open(&self) -> Result<bool> {
        let mut polled = [PollFd::new(self.reader.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut polled, PollTimeout::ZERO).context("cannot look at a gate")?;
        Ok(ready > 0)
    }

    /// Waits until the gate is open. Both sides hold both ends, so the death of a partner does
    /// not end the wait; the test's time limit does.
    pub fn pass(&self) -> Result<()> {
        let mut byte = [0];
        (&self.reader)
            .read_exact(&mut byte)
            .context("cannot wait at a gate")
    }
}

/// Creates a pipe: reader and writer.
pub fn pipe() -> Result<(File, File)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
    Ok((reader.into(), writer.into()))
}

/// Adds `len` bytes of a mapping from `at` to a pipe, by reference.
pub fn vmsplice(map: &Mapping, at: usize, len: usize, pipe: &File) -> Result<()> {
    map.check(at, len);
    let vector = libc::iovec {
        iov_base: (map.addr() + at) as *mut libc::c_void,
        iov_len: len,
    };
    // SAFETY: The vector describes a part of `map`, and the kernel holds references to the
    // pages behind it.
    let n = unsafe { libc::vmsplice(pipe.as_raw_fd(), &vector, 1, 0) };
    if n < 0 {
        return Err(io::Error::last_os_error()).context("vmsplice");
    }
    ensure!(n == len as isize, "vmsplice of {len} bytes returned {n}");
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
