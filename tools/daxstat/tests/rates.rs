// SPDX-License-Identifier: GPL-2.0

//! The rates that `daxstat` shows are by the clock: a reading that comes late, because the machine
//! is busy or the program was stopped, must not make them larger.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// A running daxstat and its file of counters, both removed when dropped.
struct Watch {
    child: Child,
    counters: PathBuf,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.counters);
    }
}

impl Watch {
    fn signal(&self, signal: i32) {
        // SAFETY: The process is a child that has not ended; kill() takes no pointers.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Stops the program, and waits until it has stopped.
    fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let mut status = 0;
        let pid = self.child.id() as i32;
        // SAFETY: The process is a child; `status` is valid for writes and outlives the call.
        assert_eq!(
            unsafe { libc::waitpid(pid, &mut status, libc::WUNTRACED) },
            pid
        );
        assert!(libc::WIFSTOPPED(status));
    }
}

fn counters(faults: u64) -> String {
    format!("# device fstype 4K 2M\n0:1 ext4 {faults} 0\n")
}

#[test]
fn a_late_reading_has_no_larger_rates() {
    const INTERVAL: f64 = 0.2;
    const STOPPED: Duration = Duration::from_secs(2);
    const FAULTS: u64 = 1_000_000;
    let path = std::env::temp_dir().join(format!("daxstat-rates-{}", std::process::id()));
    fs::write(&path, counters(1)).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_daxstat"))
        .args(["--interval", &INTERVAL.to_string(), "--counters"])
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut watch = Watch {
        child,
        counters: path,
    };
    let mut lines = BufReader::new(watch.child.stdout.take().unwrap()).lines();
    let mut row = || lines.find_map(|l| Some(l.unwrap()).filter(|l| l.contains("ext4")));
    assert!(!row().unwrap().contains('+'));
    watch.stop();
    // Replaced in one step, so that no reading sees a part.
    let new = watch.counters.with_extension("new");
    fs::write(&new, counters(1 + FAULTS)).unwrap();
    fs::rename(&new, &watch.counters).unwrap();
    thread::sleep(STOPPED);
    watch.signal(libc::SIGCONT);
    let row = std::iter::from_fn(row)
        .find(|row| row.contains('+'))
        .unwrap();
    let rate = row.split('+').nth(1).unwrap().split('/').next().unwrap();
    let most = FAULTS as f64 / STOPPED.as_secs_f64();
    let rate: f64 = rate.parse().unwrap();
    assert!(
        rate <= most,
        "{rate} faults per second, at most {most} were made: {row}"
    );
}
