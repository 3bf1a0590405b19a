// SPDX-License-Identifier: GPL-2.0

//! The kernel's log messages during a test, passed on as they arrive.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

const DEVICE: &str = "/dev/kmsg";
/// Prefix of a mark in the kernel log, by which the host finds a test's part of
/// the console.
const MARK: &str = "rust-dax-conform: ";

/// Writes a mark. Without it only the console's part of the test is not found.
pub fn mark(text: &str) {
    // Each write() is a message of its own.
    let message = format!("<6>{MARK}{text}");
    if let Ok(mut file) = OpenOptions::new().write(true).open(DEVICE) {
        let _ = file.write_all(message.as_bytes());
    }
}

/// A thread that follows the log until it is finished.
pub struct KernelLog {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl KernelLog {
    /// Prints each message from now on, prefixed with `prefix`.
    pub fn follow(prefix: &'static str) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(DEVICE)
            .with_context(|| format!("cannot open {DEVICE}"))?;
        file.seek(SeekFrom::End(0))
            .with_context(|| format!("cannot seek in {DEVICE}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || loop {
            // Read before the log is: messages up to then are in it.
            let last = stopped.load(Ordering::Acquire);
            drain(&mut file, prefix);
            if last {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        });
        Ok(Self { stop, thread })
    }

    /// Prints the remaining messages.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.thread.join();
    }
}

/// Prints the records; each read() returns one.
fn drain(file: &mut File, prefix: &str) {
    let mut record = [0; 8192];
    loop {
        match file.read(&mut record) {
            Ok(n) if n > 0 => {
                let text = String::from_utf8_lossy(&record[..n]);
                if let Some(message) = message(&text) {
                    println!("{prefix}{message}");
                }
            }
            // Older records were dropped before they were read.
            Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {
                println!("{prefix}(some messages were lost)");
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

/// Extracts the text: "6,339,5140900,-;text\n KEY=value" -> "text"; our own
/// marks are left out.
fn message(record: &str) -> Option<&str> {
    let text = record.split_once(';')?.1.lines().next()?;
    (!text.starts_with(MARK)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let record = "4,812,1930,-;WARNING: CPU: 0 PID: 1 at mm/gup.c:1 f+0x1\n SUBSYSTEM=x\n";
        assert_eq!(
            message(record),
            Some("WARNING: CPU: 0 PID: 1 at mm/gup.c:1 f+0x1")
        );
        assert_eq!(message("6,1,2,-;rust-dax-conform: begin x"), None);
        assert_eq!(message("garbage"), None);
    }
}
