// SPDX-License-Identifier: GPL-2.0

//! Options of a guest.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cli::GuestArgs;
use crate::job::Modules;

/// Default time limit of a command.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// The switch of the guest's power. The reader of the guest's output sets it
/// while the guest runs. The files of the NVDIMMs then hold what the guest's CPUs
/// have stored by that time, and no other state of the guest is left.
#[derive(Clone, Debug, Default)]
pub struct PowerSwitch(Rc<Cell<Option<Instant>>>);

impl PowerSwitch {
    /// Schedules the power failure after this time.
    pub fn fail_in(&self, time: Duration) {
        self.0.set(Some(Instant::now() + time));
    }

    /// Returns the time that is left until the power failure, if one is
    /// scheduled.
    pub fn left(&self) -> Option<Duration> {
        let at = self.0.get()?;
        Some(at.saturating_duration_since(Instant::now()))
    }
}

/// The guest and the environment of its command.
#[derive(Clone, Debug)]
pub struct GuestOptions {
    pub mem_mib: u64,
    pub cpus: u32,
    /// Size of each of the two NVDIMMs.
    pub pmem_mib: u64,
    pub timeout: Duration,
    /// Stop the guest, as after `timeout`, when its command prints nothing for
    /// this long; the time until its first output counts too.
    pub silence: Option<Duration>,
    /// Kills the guest at the scheduled time.
    pub power: PowerSwitch,
    /// One CPU; each instruction takes one nanosecond.
    pub icount: bool,
    /// Whether kernel reports leave the exit status unchanged.
    pub allow_splat: bool,
    pub extra_cmdline: Vec<String>,
    /// Additional arguments for QEMU, which runs in the guest's folder.
    pub extra_arguments: Vec<OsString>,
    /// Files and folders for the guest's /root.
    pub copy: Vec<PathBuf>,
    pub modules: Modules,
    /// Whether to look for leaks after the command; debug kernels only.
    pub kmemleak: bool,
    /// An additional disk, of which the guest modifies a copy: what was built for
    /// `make conform`.
    pub suites: Option<PathBuf>,
    /// Folder of the NVDIMMs' files, if they outlive the guest.
    pub nvdimms: Option<PathBuf>,
    /// Initial content of the scratch disk.
    pub scratch: Vec<u8>,
    /// Additional files for the job folder, by name.
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
    /// Creates the options from the command line; `timeout` is the default.
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
