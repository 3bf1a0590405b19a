// SPDX-License-Identifier: GPL-2.0

//! How a guest ended, as an exit status and as text for a person.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::qemu::Accel;
use crate::splat::Splat;
use host::progress::seconds;

/// Status of a guest that stopped without reporting how its command ended.
pub const DIED: i32 = 98;
/// Status after an unannounced kernel report.
pub const SPLAT: i32 = 99;
/// Status after a timeout.
pub const TIMED_OUT: i32 = 124;
/// Status after Ctrl-C.
const INTERRUPTED: i32 = 130;

/// The reason for the guest's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The command ended with this status.
    Exited(i32),
    TimedOut,
    Died,
    Interrupted,
    /// The harness killed it on request.
    PowerFailed,
}

/// The outcome of a command in a guest.
#[derive(Debug)]
pub struct Outcome {
    pub end: End,
    /// Kernel reports that were not announced.
    pub splats: Vec<Splat>,
    /// Announced reports that did not occur.
    pub missing: Vec<String>,
    pub allow_splat: bool,
    /// Output of kmemleak, if it was requested.
    pub leaks: Option<String>,
    /// Complaint of QEMU or of the guest's init.
    pub note: Option<String>,
    /// The last lines of the console.
    pub tail: Vec<String>,
    /// All lines of the console.
    pub lines: Vec<String>,
    /// Path of the kept console.
    pub console: PathBuf,
    pub accel: Accel,
    /// Time from the start of QEMU to the start of the command.
    pub boot: Option<Duration>,
    pub total: Duration,
    pub timeout: Duration,
    /// Holds the job folder, with the files that the command left in it.
    pub dir: TempDir,
}

impl Outcome {
    /// Returns the exit status for the caller.
    pub fn status(&self) -> i32 {
        if !self.allow_splat && (!self.splats.is_empty() || !self.missing.is_empty()) {
            return SPLAT;
        }
        match self.end {
            End::Exited(status) => status,
            End::PowerFailed => 0,
            End::TimedOut => TIMED_OUT,
            End::Died => DIED,
            End::Interrupted => INTERRUPTED,
        }
    }

    /// Returns a file that the command left in /host/job.
    pub fn job_file(&self, name: &str) -> Option<String> {
        crate::job::text(&self.dir.path().join("job"), name)
    }

    /// Returns what a person must know beside the command's own output; empty
    /// if the guest worked as it should.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        for splat in &self.splats {
            text.push_str(&format!("the kernel reported: {}\n", splat.title));
            splat
                .lines
                .iter()
                .for_each(|l| text.push_str(&format!("  | {l}\n")));
        }
        for missing in &self.missing {
            text.push_str(&format!("announced but did not happen: {missing}\n"));
        }
        match self.end {
            End::TimedOut => text.push_str(&format!(
                "the guest was stopped after {} (TIMEOUT is {}); what its tasks waited for is \
                 at the end of the console\n",
                seconds(self.total),
                seconds(self.timeout)
            )),
            End::Died => text.push_str("the guest stopped without ending its command\n"),
            End::Exited(_) | End::Interrupted | End::PowerFailed => (),
        }
        if let (End::Died, Some(note)) = (self.end, &self.note) {
            text.push_str(&format!("{note}\n"));
        }
        if text.is_empty() {
            return text;
        }
        text.push_str("the last lines of the console:\n");
        self.tail
            .iter()
            .for_each(|l| text.push_str(&format!("  | {l}\n")));
        text.push_str(&format!("the whole console: {}\n", self.console.display()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(end: End) -> Outcome {
        Outcome {
            end,
            splats: Vec::new(),
            missing: Vec::new(),
            allow_splat: false,
            leaks: None,
            note: None,
            tail: vec!["last line".into()],
            lines: Vec::new(),
            console: "/c.log".into(),
            accel: Accel::Tcg,
            boot: None,
            total: Duration::from_secs(9),
            timeout: Duration::from_secs(300),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn splat() -> Splat {
        Splat {
            title: "BUG: x".into(),
            lines: vec!["BUG: x".into()],
            announced: false,
        }
    }

    #[test]
    fn the_commands_own_status_passes_through() {
        let o = outcome(End::Exited(7));
        assert_eq!((o.status(), o.explain().as_str()), (7, ""));
    }

    #[test]
    fn a_splat_wins_over_success_and_time() {
        for end in [End::Exited(0), End::TimedOut, End::Died] {
            let mut o = outcome(end);
            o.splats.push(splat());
            assert_eq!(o.status(), SPLAT);
            assert!(o.explain().contains("BUG: x") && o.explain().contains("/c.log"));
            o.allow_splat = true;
            assert_ne!(o.status(), SPLAT);
        }
        let mut o = outcome(End::Exited(0));
        o.missing.push("y".into());
        assert_eq!(o.status(), SPLAT);
    }

    #[test]
    fn a_guest_that_ends_badly_shows_its_last_lines() {
        let o = outcome(End::TimedOut);
        assert_eq!(o.status(), TIMED_OUT);
        assert!(o.explain().contains("  | last line\n"));
        let mut o = outcome(End::Died);
        o.note = Some("qemu: no such file".into());
        assert_eq!(o.status(), DIED);
        assert!(o.explain().contains("qemu: no such file"));
    }
}
