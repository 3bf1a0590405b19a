// SPDX-License-Identifier: GPL-2.0

//! The display of a step that takes a while.
//!
//! On a terminal it is a bar with the current activity and the path of the
//! log; otherwise a line at the start, one every half minute, and one at the
//! end.

use std::io::{stderr, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Interval of the lines of a step that is not on a terminal.
const QUIET: Duration = Duration::from_secs(30);

/// A long step with a label.
pub struct Step {
    label: String,
    total: Option<u64>,
    started: Instant,
    finished: bool,
    out: Out,
}

enum Out {
    Bar(ProgressBar),
    Lines { next: Instant },
}

impl Step {
    /// Starts a step. `total` is the number of units that `set` counts to, if
    /// known; an estimate suffices.
    pub fn start(label: &str, total: Option<u64>, log: &Path) -> Step {
        let out = if stderr().is_terminal() {
            Out::Bar(new_bar(label, total, log))
        } else {
            eprintln!("{label} (log: {})", log.display());
            Out::Lines {
                next: Instant::now() + QUIET,
            }
        };
        Step {
            label: label.to_owned(),
            total,
            started: Instant::now(),
            finished: false,
            out,
        }
    }

    /// Shows that `n` units are done and that `msg` is in progress.
    pub fn set(&mut self, n: u64, msg: &str) {
        match &mut self.out {
            Out::Bar(bar) => {
                // An estimate that was too low must not look finished.
                if self.total.is_some_and(|t| n >= t) {
                    bar.set_length(n + n / 20 + 1);
                }
                bar.set_position(n);
                bar.set_message(msg.to_owned());
            }
            Out::Lines { next } => {
                let now = Instant::now();
                if now >= *next {
                    *next = now + QUIET;
                    let share = match self.total {
                        Some(t) if t > 0 => format!("{}%", (n * 100 / t).min(99)),
                        _ => n.to_string(),
                    };
                    eprintln!("{}: {share} {msg}", self.label);
                }
            }
        }
    }

    /// Ends the step successfully and prints its duration.
    pub fn done(mut self) {
        self.finished = true;
        if let Out::Bar(bar) = &self.out {
            bar.finish_and_clear();
        }
        eprintln!("{}: {}", self.label, seconds(self.started.elapsed()));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        // A step that is not done has failed; the error message follows.
        if !self.finished {
            if let Out::Bar(bar) = &self.out {
                bar.finish_and_clear();
            }
        }
    }
}

fn new_bar(label: &str, total: Option<u64>, log: &Path) -> ProgressBar {
    let log = short(log);
    let template = match total {
        Some(_) => "{prefix} [{bar:25}] {percent:>3}% {elapsed} {wide_msg}",
        None => "{prefix} {spinner} {elapsed} {wide_msg}",
    };
    let template = format!("{template}\n  log: {}", log.display());
    let style = ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    let bar = match total {
        Some(t) => ProgressBar::new(t),
        None => ProgressBar::new_spinner(),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
    bar.set_style(style);
    bar.set_prefix(label.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Writes `~` for the home folder; a brace would end the template.
fn short(log: &Path) -> PathBuf {
    let text = log.display().to_string().replace(['{', '}'], "?");
    match std::env::var("HOME") {
        Ok(home) if !home.is_empty() && text.starts_with(&format!("{home}/")) => {
            PathBuf::from(format!("~{}", &text[home.len()..]))
        }
        _ => PathBuf::from(text),
    }
}

/// Formats a duration for a person.
pub fn seconds(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..=9 => format!("{:.1} s", d.as_secs_f64()),
        10..=119 => format!("{s} s"),
        _ => format!("{} min {:02} s", s / 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(seconds(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(119)), "119 s");
        assert_eq!(seconds(Duration::from_secs(605)), "10 min 05 s");
    }
}
