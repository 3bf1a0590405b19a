// SPDX-License-Identifier: GPL-2.0

//! Boots a guest, runs one command in it and reports how the command ended.
//!
//! All files that a guest writes are in a temporary folder of its own, so several
//! guests can run at once. While a guest runs, the harness watches the command's
//! output, which is passed to the caller as it arrives, and the console, which
//! the scanner searches for kernel reports.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use fs_err::{self as fs, OpenOptions};
use host::files;
use host::kernel::Built;
use host::lock::{folder_lock, CacheLock};
use host::paths::Paths;

use crate::console;
use crate::job::{self, Job};
use crate::kvm;
use crate::options::GuestOptions;
use crate::outcome::{End, Outcome};
use crate::qemu::Machine;
use crate::rootfs;
use crate::running::Running;

/// Prepares the kernel, which `build` makes, and the image: every boot needs both.
pub fn prepare(paths: &Paths, build: impl FnOnce() -> Result<Built>) -> Result<(Built, PathBuf)> {
    rootfs::require_root(paths)?;
    let built = build()?;
    let image = rootfs::guest_image(paths, &built)?;
    Ok((built, image))
}

/// Runs `command` as root under bash and streams its output to our standard
/// output.
pub fn run_command(
    paths: &Paths,
    built: &Built,
    image: &Path,
    options: &GuestOptions,
    command: &str,
) -> Result<Outcome> {
    run_with(paths, built, image, options, command, &mut |bytes| {
        let mut out = std::io::stdout().lock();
        // A closed standard output must not lose the exit status.
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    })
}

/// Runs `command` as [`run_command`] does, with the output going to `sink`.
pub fn run_with(
    paths: &Paths,
    built: &Built,
    image: &Path,
    options: &GuestOptions,
    command: &str,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<Outcome> {
    if options.cxl {
        kvm::require_cxl()?;
    }
    let accel = kvm::choose(paths, built, image, options.icount)?;
    let dir = paths.run_dir()?;
    let machine = options.machine(built, image, accel, dir.path());
    machine.check()?;
    let job = Job {
        command: command.to_owned(),
        modules: options.modules.clone(),
        kmemleak: options.kmemleak,
        copy: options.copy.clone(),
        extra: [vec![init(paths)?], options.job_files.clone()].concat(),
        shell: None,
    };
    job.write(&machine.job())?;
    let _nvdimms = hold_nvdimms(options)?;
    machine.make_disks()?;
    fill_scratch(&machine, &options.scratch)?;

    let mut running = Running::start(&machine)?;
    let end = running.watch(options, sink)?;
    let kept = keep_console(paths, built, &machine);
    let status = job::status(&machine.job());
    Ok(Outcome {
        end: match end {
            Some(end) => end,
            None => status.map_or(End::Died, End::Exited),
        },
        splats: running.console.scanner.unannounced().cloned().collect(),
        missing: running.console.scanner.missing().to_vec(),
        allow_splat: options.allow_splat,
        leaks: job::text(&machine.job(), "kmemleak"),
        note: job::text(&machine.job(), "note").or_else(|| job::text(dir.path(), "qemu.err")),
        tail: std::mem::take(&mut running.tail),
        lines: std::mem::take(&mut running.lines),
        console: kept,
        accel,
        boot: running.booted,
        total: running.started.elapsed(),
        timeout: options.timeout,
        dir,
    })
}

/// Locks the folder of NVDIMMs that outlive the guest, if there is one, for this
/// guest alone.
pub fn hold_nvdimms(options: &GuestOptions) -> Result<Option<CacheLock>> {
    let Some(folder) = &options.nvdimms else {
        return Ok(None);
    };
    files::make_dir(folder)?;
    folder_lock(folder, "a guest with these NVDIMMs").map(Some)
}

/// Returns the script that runs as the guest's PID 1, as a file of the job
/// folder.
pub fn init(paths: &Paths) -> Result<(String, Vec<u8>)> {
    let path = paths.checkout.join("tools/testing/guest-image/guest-job");
    let text = fs::read(&path)?;
    Ok(("init".into(), text))
}

/// Copies the console to the cache's logs; the copy is empty if the guest never
/// wrote one.
pub fn keep_console(paths: &Paths, built: &Built, machine: &Machine) -> PathBuf {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let random = machine
        .dir
        .extension()
        .or(machine.dir.file_name())
        .unwrap_or_default();
    let name = format!(
        "{}-{}-{}",
        now.as_secs(),
        built.variant,
        random.to_string_lossy()
    );
    let dir = paths.cache.join("log/console");
    console::keep(&machine.console(), &dir, &name).unwrap_or_else(|e| {
        eprintln!("{e:#}");
        machine.console()
    })
}

fn fill_scratch(machine: &Machine, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).open(machine.scratch())?;
    Ok(file.file().write_all_at(bytes, 0)?)
}
