// SPDX-License-Identifier: GPL-2.0

//! What a caller can choose about a guest.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cli::GuestArgs;
use crate::job::Modules;

/// How long a command may take when nobody says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// When the guest's power fails: set by whoever reads what the guest says, in the
/// middle of it. What the guest's CPUs have stored by then is in the files of its
/// NVDIMMs, and nothing else of it is left.
#[derive(Clone, Debug, Default)]
pub struct PowerSwitch(Rc<Cell<Option<Instant>>>);

impl PowerSwitch {
    /// It fails so long from now.
    pub fn fail_in(&self, time: Duration) {
        self.0.set(Some(Instant::now() + time));
    }

    /// The time that is left, if it is to fail at all.
    pub fn left(&self) -> Option<Duration> {
        let at = self.0.get()?;
        Some(at.saturating_duration_since(Instant::now()))
    }
}

/// The guest and what surrounds its command.
#[derive(Clone, Debug)]
pub struct GuestOptions {
    pub mem_mib: u64,
    pub cpus: u32,
    /// Size of each of the two NVDIMMs.
    pub pmem_mib: u64,
    pub timeout: Duration,
    /// Stop the guest, as after `timeout`, when its command says nothing for
    /// so long; the time until its first word counts too.
    pub silence: Option<Duration>,
    /// Kills the guest when it is time.
    pub power: PowerSwitch,
    /// One CPU, one instruction a nanosecond.
    pub icount: bool,
    /// Reports of the kernel do not change the exit status.
    pub allow_splat: bool,
    pub extra_cmdline: Vec<String>,
    /// More words for QEMU's own command line; it runs in the guest's folder.
    pub extra_arguments: Vec<OsString>,
    /// Files and folders for the guest's /root.
    pub copy: Vec<PathBuf>,
    pub modules: Modules,
    /// Look for leaks after the command; debug kernels only.
    pub kmemleak: bool,
    /// One more disk, of which the guest changes a copy: what was built for
    /// `make conform`.
    pub suites: Option<PathBuf>,
    /// The folder of the NVDIMMs' files, when they are to outlive the guest.
    pub nvdimms: Option<PathBuf>,
    /// What the scratch disk starts with.
    pub scratch: Vec<u8>,
    /// More files for the job folder, by name.
    pub job_files: Vec<(String, Vec<u8>)>,
}

impl Default for GuestOptions {
    fn default() -> GuestOptions {
        GuestOptions {
            mem_mib: 4096,
            cpus: 2,
            pmem_mib: 5120,
            timeout: TIMEOUT,
            silence: None,
            power: PowerSwitch::default(),
            icount: false,
            allow_splat: false,
            extra_cmdline: Vec::new(),
            extra_arguments: Vec::new(),
            copy: Vec::new(),
            modules: Modules::Auto,
            kmemleak: false,
            suites: None,
            nvdimms: None,
            scratch: Vec::new(),
            job_files: Vec::new(),
        }
    }
}

impl GuestOptions {
    /// What the command line says; `timeout` is for when it says nothing.
    pub fn from_args(args: &GuestArgs, timeout: Duration) -> Result<GuestOptions> {
        Ok(GuestOptions {
            mem_mib: args.mem,
            cpus: args.cpus,
            pmem_mib: args.pmem,
            timeout: args.timeout.unwrap_or(timeout),
            icount: args.icount,
            allow_splat: args.allow_splat,
            nvdimms: match &args.nvdimms {
                Some(folder) => Some(std::path::absolute(folder).context("NVDIMMS")?),
                None => None,
            },
            copy: args.copies()?,
            ..GuestOptions::default()
        })
    }
}
