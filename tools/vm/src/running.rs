// SPDX-License-Identifier: GPL-2.0

//! A QEMU process: its output, its console, and its end.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use fs_err as fs;
use serde_json::json;

use crate::console::Console;
use crate::options::GuestOptions;
use crate::outcome::End;
use crate::qemu::Machine;
use crate::qmp::Monitor;

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
    pub started: Instant,
    /// Time until the command started.
    pub booted: Option<Duration>,
    machine: Machine,
}

impl Running {
    /// Starts QEMU.
    pub fn start(machine: &Machine) -> Result<Running> {
        LazyLock::force(&STOP);
        let errors = machine.dir.join("qemu.err");
        let errors = fs::File::create(&errors)?;
        let mut child = machine
            .command()?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.into_file())
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
    pub fn watch(
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

impl Drop for Running {
    fn drop(&mut self) {
        self.stop(true);
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
