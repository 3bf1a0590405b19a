// SPDX-License-Identifier: GPL-2.0

//! An interactive shell in a guest, on the caller's terminal.
//!
//! QEMU itself puts the terminal into raw mode and passes every key on, so
//! Ctrl-C goes to the guest. The guest stops when the shell exits.

use std::io::{stdin, stdout, IsTerminal};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{bail, Context, Result};
use fs_err::File;

use crate::console::Console;
use crate::guest;
use crate::job::{self, Job};
use crate::kvm;
use crate::options::GuestOptions;
use crate::outcome::DIED;
use crate::qemu::Terminal;
use host::kernel::Built;
use host::paths::Paths;

/// Boots a guest with a shell and returns the shell's exit status.
pub fn run(paths: &Paths, built: &Built, image: &Path, options: &GuestOptions) -> Result<i32> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        bail!("make shell needs a terminal; make guest CMD='...' does without");
    }
    if options.cxl {
        kvm::require_cxl()?;
    }
    let accel = kvm::choose(paths, built, image, options.icount)?;
    let dir = paths.run_dir()?;
    let mut machine = options.machine(built, image, accel, dir.path());
    machine.terminal = Terminal::Console;
    machine.check()?;
    let job = Job {
        copy: options.copy.clone(),
        extra: vec![guest::init(paths)?],
        shell: Some(window()),
        ..Job::default()
    };
    job.write(&machine.job())?;
    let _nvdimms = guest::hold_nvdimms(options)?;
    machine.make_disks()?;

    let errors = dir.path().join("qemu.err");
    let saved = stty(&["-g"]);
    println!("booting; `exit` in the shell stops the guest");
    let mut child = machine
        .command()?
        .stderr(File::create(&errors)?.into_file())
        .spawn()
        .context("cannot start QEMU; `make setup` installs it")?;
    let result = child.wait().context("cannot wait for QEMU");
    // QEMU does this too, unless it was killed.
    if let Some(saved) = saved {
        let _ = stty(&[saved.trim()]);
    }
    result?;

    let kept = guest::keep_console(paths, built, &machine);
    let mut console = Console::follow(&machine.console());
    console.finish(|_| ())?;
    for splat in console.scanner.unannounced() {
        eprintln!("the kernel reported: {}", splat.title);
    }
    eprintln!("the guest's console: {}", kept.display());
    match job::status(&machine.job()) {
        Some(status) => Ok(status),
        None => {
            let why = job::text(dir.path(), "qemu.err").unwrap_or_default();
            eprintln!("the guest stopped without ending its shell\n{why}");
            Ok(DIED)
        }
    }
}

/// Returns the terminal's rows and columns.
fn window() -> (u16, u16) {
    let parse = |text: String| {
        let mut words = text.split_whitespace().map(|w| w.parse().ok());
        Some((words.next()??, words.next()??))
    };
    match stty(&["size"]).and_then(parse) {
        Some((rows, columns)) if rows > 0 && columns > 0 => (rows, columns),
        _ => (24, 80),
    }
}

/// Queries or sets the terminal on our standard input.
fn stty(args: &[&str]) -> Option<String> {
    let out = Command::new("/usr/bin/stty")
        .args(args)
        .stdin(Stdio::inherit())
        .output()
        .ok()?;
    out.status
        .success()
        .then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}
