// SPDX-License-Identifier: GPL-2.0

//! Boots a guest, runs one command in it and reports how the command ended.
//!
//! All files that a guest writes are in a temporary folder of its own, so several
//! guests can run at once. While a guest runs, the harness watches the command's
//! output, which is passed to the caller as it arrives, and the console, which
//! the scanner searches for kernel reports.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{bail, Context, Result};
use serde_json::json;
use tempfile::TempDir;

use crate::console::{self, Console};
use crate::files;
use crate::job::{self, Job};
use crate::kbuild::{self, Built};
use crate::kvm;
use crate::lock::{folder_lock, CacheLock};
use crate::options::GuestOptions;
use crate::outcome::{End, Outcome};
use crate::paths::Paths;
use crate::qemu::{Accel, Machine, Terminal, FOUR_LEVELS};
use crate::qmp::Monitor;
use crate::rootfs;
use crate::variant::Variant;

/// Polling interval of a running guest.
const TICK: Duration = Duration::from_millis(50);
/// Time that a guest may go on after an unannounced kernel report: long enough
/// for the command to end, too short to wait for a dead task.
const GRACE: Duration = Duration::from_secs(60);
/// Time limit for a hung guest to report what its tasks wait for, and the silence
/// after which the report counts as complete.
const LAST_WORDS: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(1);

/// Set by Ctrl-C and by SIGTERM, so that the guest and its files are removed.
static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        if let Err(e) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            eprintln!("cannot catch signal {signal}: {e}");
        }
    }
    stop
});

/// Returns whether the user has interrupted the harness.
pub fn is_interrupted() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Prepares the kernel and the image, which every boot needs.
pub fn prepare(paths: &Paths, variant: Variant) -> Result<(Built, PathBuf)> {
    rootfs::require_root(paths)?;
    let built = kbuild::build_to_boot(paths, variant)?;
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
    let accel = kvm::choose(paths, built, image, options.icount)?;
    let dir = run_dir(paths)?;
    let machine = machine(built, image, options, accel, dir.path());
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
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(("init".into(), text))
}

/// Describes the machine, for a command, a shell and the probe of KVM.
pub fn machine(
    built: &Built,
    image: &Path,
    options: &GuestOptions,
    accel: Accel,
    dir: &Path,
) -> Machine {
    let mut extra_cmdline = options.extra_cmdline.clone();
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
        mem_mib: options.mem_mib,
        cpus: options.cpus,
        pmem_mib: options.pmem_mib,
        terminal: Terminal::Port,
        suites: options.suites.clone(),
        nvdimms: options.nvdimms.clone().unwrap_or_else(|| dir.to_owned()),
        extra_cmdline,
        extra_arguments: options.extra_arguments.clone(),
    }
}

/// Creates a folder for one guest. Its name holds the owner's process id, so that
/// folders of killed harnesses can be recognised and removed.
pub fn run_dir(paths: &Paths) -> Result<TempDir> {
    let root = paths.run();
    files::make_dir(&root)?;
    for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|n| n.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    tempfile::Builder::new()
        .prefix(&format!("{}-", std::process::id()))
        .tempdir_in(&root)
        .with_context(|| format!("cannot make a folder in {}", root.display()))
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
    let path = machine.scratch();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|f| f.write_all_at(bytes, 0))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A QEMU process and the state of its guest.
pub struct Running {
    child: Child,
    /// Kept open because QEMU treats the end of its input as the end of the port.
    _input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    pub console: Console,
    /// All lines of the console.
    pub lines: Vec<String>,
    /// The final lines, from before a hung guest was asked for more.
    pub tail: Vec<String>,
    started: Instant,
    /// Time until the command started.
    pub booted: Option<Duration>,
    machine: Machine,
}

impl Running {
    /// Starts QEMU.
    pub fn start(machine: &Machine) -> Result<Running> {
        LazyLock::force(&STOP);
        let errors = machine.dir.join("qemu.err");
        let errors = fs::File::create(&errors)
            .with_context(|| format!("cannot write {}", errors.display()))?;
        let mut child = machine
            .command()?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context("cannot start QEMU; `make setup` installs it")?;
        let (sender, output) = channel();
        let mut stdout = child.stdout.take().context("QEMU has no standard output")?;
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Running {
            _input: child.stdin.take(),
            child,
            output,
            console: Console::follow(&machine.console()),
            lines: Vec::new(),
            tail: Vec::new(),
            started: Instant::now(),
            booted: None,
            machine: machine.clone(),
        })
    }

    /// Waits until the guest ends. `None` means that QEMU exited.
    fn watch(
        &mut self,
        options: &GuestOptions,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<End>> {
        let mut deadline = self.started + options.timeout;
        let mut alarmed = options.allow_splat;
        let mut heard = self.started;
        let end = loop {
            let wait = options.power.left().map_or(TICK, |left| left.min(TICK));
            let open = match self.output.recv_timeout(wait) {
                Ok(bytes) => {
                    heard = Instant::now();
                    sink(&bytes);
                    true
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            if options.power.left().is_some_and(|left| left.is_zero()) {
                break Some(End::PowerFailed);
            }
            self.poll()?;
            if !open {
                break None;
            }
            if is_interrupted() {
                break Some(End::Interrupted);
            }
            if !alarmed && self.console.scanner.unannounced().next().is_some() {
                alarmed = true;
                deadline = deadline.min(Instant::now() + GRACE);
            }
            let silent = options.silence.is_some_and(|s| heard.elapsed() >= s);
            if silent || Instant::now() >= deadline {
                self.remember_tail();
                self.last_words();
                break Some(End::TimedOut);
            }
        };
        self.stop(end.is_some());
        while let Ok(bytes) = self.output.try_recv() {
            sink(&bytes);
        }
        let lines = &mut self.lines;
        self.console.finish(|l| lines.push(l.to_owned()))?;
        if self.tail.is_empty() {
            self.remember_tail();
        }
        Ok(end)
    }

    /// Waits until the console shows `text`; returns false on timeout or if the
    /// guest has ended. Used by the probe of KVM.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<bool> {
        let deadline = self.started + timeout;
        loop {
            let gone = matches!(
                self.output.recv_timeout(TICK),
                Err(RecvTimeoutError::Disconnected)
            );
            self.poll()?;
            if self.lines.iter().any(|l| l.contains(text)) {
                return Ok(true);
            }
            if is_interrupted() {
                bail!("interrupted");
            }
            if gone || Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }

    /// Ends QEMU and waits for it.
    pub fn stop(&mut self, kill: bool) {
        if kill {
            // It may have ended in the meantime.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }

    fn poll(&mut self) -> Result<()> {
        let from = self.lines.len();
        let lines = &mut self.lines;
        self.console.poll(|l| lines.push(l.to_owned()))?;
        let began =
            |l: &String| l.ends_with("guest-init: command") || l.ends_with("guest-init: shell");
        if self.booted.is_none() && self.lines[from..].iter().any(began) {
            self.booted = Some(self.started.elapsed());
        }
        Ok(())
    }

    fn remember_tail(&mut self) {
        self.tail = self.console.tail().map(str::to_owned).collect();
    }

    /// Asks a hung guest for its blocked tasks and its CPUs' backtraces: SysRq w
    /// and l, which a serial console accepts after a break.
    fn last_words(&mut self) {
        let ask = || -> Result<()> {
            let mut monitor = Monitor::connect(&self.machine.monitor())?;
            let mut console = UnixStream::connect(self.machine.console_socket())?;
            for key in [b'w', b'l'] {
                monitor.execute("chardev-send-break", json!({ "id": "console" }))?;
                console.write_all(&[key])?;
                wait_for_silence(&self.machine.console());
            }
            Ok(())
        };
        if let Err(e) = ask() {
            eprintln!("cannot query what the guest waits for: {e:#}");
        }
    }
}

/// Waits until the file stops growing.
fn wait_for_silence(path: &Path) {
    let size = || fs::metadata(path).map_or(0, |m| m.len());
    let deadline = Instant::now() + LAST_WORDS;
    let (mut last, mut since) = (size(), Instant::now());
    while since.elapsed() < SILENCE && Instant::now() < deadline {
        std::thread::sleep(TICK);
        let now = size();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop(true);
    }
}
