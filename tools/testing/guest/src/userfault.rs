// SPDX-License-Identifier: GPL-2.0

//! Memory with a page that arrives late (userfaultfd): a task that touches it waits, in the kernel
//! as well, until the test provides the page.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use crate::command::timeout;
use crate::mapping::{Mapping, PAGE};

const UFFD_API: u64 = 0xaa;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_COPY: u64 = 0xc028_aa03;
const MODE_MISSING: u64 = 1;

/// Private memory whose last page is missing.
pub struct LateMemory {
    pub map: Mapping,
    faults: File,
}

impl LateMemory {
    /// Creates memory with these bytes, which fill its pages, and one more page.
    pub fn create(bytes: &[u8]) -> Result<Self> {
        ensure!(bytes.len() % PAGE == 0, "the bytes do not fill pages");
        let map = Mapping::anonymous(bytes.len() + PAGE)?;
        map.write(0, bytes);
        // SAFETY: The call takes no pointers, and the descriptor that it returns is new.
        let faults = unsafe {
            match libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) {
                -1 => return Err(io::Error::last_os_error()).context("userfaultfd"),
                fd => File::from_raw_fd(fd as i32),
            }
        };
        let this = Self { map, faults };
        this.ask(UFFDIO_API, &mut [UFFD_API, 0, 0])?;
        let last = (this.map.addr() + bytes.len()) as u64;
        this.ask(UFFDIO_REGISTER, &mut [last, PAGE as u64, MODE_MISSING, 0])?;
        Ok(this)
    }

    fn ask<const N: usize>(&self, request: u64, words: &mut [u64; N]) -> Result<()> {
        // SAFETY: The words are the structure of the request, and outlive the call.
        match unsafe { libc::ioctl(self.faults.as_raw_fd(), request, words.as_mut_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()).context("a request to userfaultfd"),
        }
    }

    /// Waits until a task waits for the missing page.
    pub fn wait(&self) -> Result<()> {
        let mut polled = [PollFd::new(self.faults.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(timeout(Duration::from_secs(20)))?;
        ensure!(
            poll(&mut polled, limit)? == 1,
            "no task touches the missing page"
        );
        // struct uffd_msg.
        let mut message = [0; 32];
        (&self.faults)
            .read_exact(&mut message)
            .context("reading a page fault")
    }

    /// Provides the missing page.
    pub fn provide(&self, bytes: &[u8; PAGE]) -> Result<()> {
        let from = Mapping::anonymous(PAGE)?;
        from.write(0, bytes);
        let last = (self.map.addr() + self.map.len() - PAGE) as u64;
        self.ask(
            UFFDIO_COPY,
            &mut [last, from.addr() as u64, PAGE as u64, 0, 0],
        )
    }
}
