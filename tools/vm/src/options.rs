// SPDX-License-Identifier: GPL-2.0

//! Options of a guest, from the command line and beyond. Each option of the command line can also
//! come from the environment, under the name that `make` uses: `make guest VARIANT=c` is
//! `VARIANT=c cargo xtask guest`.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use clap::builder::FalseyValueParser;
use clap::Args;
use host::kernel::Built;
use host::variant::Variant;

use crate::job::Modules;
use crate::qemu::{Accel, Machine, Terminal, FOUR_LEVELS};

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
    /// Whether the machine has CXL memory devices.
    pub cxl: bool,
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
            cxl: false,
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
            cxl: args.cxl,
            copy: args.copies()?,
            extra_cmdline: args.append.split_whitespace().map(str::to_owned).collect(),
            ..GuestOptions::default()
        })
    }

    /// Describes the machine, for a command, a shell and the probe of KVM.
    pub fn machine(&self, built: &Built, image: &Path, accel: Accel, dir: &Path) -> Machine {
        let mut extra_cmdline = self.extra_cmdline.clone();
        if built.variant.is_debug() {
            // identify_cpu() temporarily clears the feature bit of five-level page
            // tables while interrupts are enabled: KASAN then computes a wrong shadow
            // address and occasionally reports a wild access at boot.
            extra_cmdline.push(FOUR_LEVELS.into());
        }
        Machine {
            kernel: built.bzimage.clone(),
            image: image.to_owned(),
            modules: built.modules.clone(),
            nfit_modules: built.nfit_modules.clone(),
            dir: dir.to_owned(),
            accel,
            mem_mib: self.mem_mib,
            cpus: self.cpus,
            pmem_mib: self.pmem_mib,
            terminal: Terminal::Port,
            suites: self.suites.clone(),
            nvdimms: self.nvdimms.clone().unwrap_or_else(|| dir.to_owned()),
            cxl: self.cxl,
            extra_cmdline,
            extra_arguments: self.extra_arguments.clone(),
        }
    }
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
    /// Two CXL memory devices, one persistent and one volatile. Needs QEMU 8.1.
    #[arg(long, env = "CXL", value_parser = FalseyValueParser::new())]
    pub cxl: bool,
    /// Seconds until the guest is stopped with status 124.
    #[arg(long, env = "TIMEOUT", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Do not turn a kernel report into status 99.
    #[arg(long, env = "ALLOW_SPLAT", value_parser = FalseyValueParser::new())]
    pub allow_splat: bool,
    /// One CPU; each instruction takes one guest nanosecond.
    #[arg(long, env = "ICOUNT", value_parser = FalseyValueParser::new())]
    pub icount: bool,
    /// Words for the kernel's command line, such as preempt=full.
    #[arg(long, env = "APPEND", default_value = "")]
    pub append: String,
    /// Files for the guest's /root, as shell words.
    #[arg(long, env = "COPY", default_value = "")]
    pub copy: String,
}

impl GuestArgs {
    /// Returns the files to copy.
    pub fn copies(&self) -> Result<Vec<PathBuf>> {
        let words = shell_words::split(&self.copy).context("cannot read COPY")?;
        let paths: Vec<_> = words.into_iter().map(PathBuf::from).collect();
        if let Some(path) = paths.iter().find(|p| !p.exists()) {
            bail!("COPY names {}, which does not exist", path.display());
        }
        Ok(paths)
    }
}

/// Parses `4G`, `512M`, or a plain number of MiB; for the crate bytesize, `4G` is a decimal size.
fn mebibytes(text: &str) -> Result<u64, String> {
    let text = text.trim().to_ascii_uppercase();
    let (digits, factor) = match text.strip_suffix('G') {
        Some(digits) => (digits, 1024),
        None => (text.strip_suffix('M').unwrap_or(&text), 1),
    };
    let size = digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor));
    size.filter(|n| (1..=1 << 20).contains(n))
        .ok_or_else(|| "give a size like 4G or 3072M".to_owned())
}

/// Parses a positive number of seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim().trim_end_matches('s').parse::<u64>() {
        Ok(n) if n > 0 => Ok(Duration::from_secs(n)),
        _ => Err("give a number of seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
