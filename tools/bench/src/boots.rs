// SPDX-License-Identifier: GPL-2.0

//! The boots, in three passes.
//!
//! A boot measures all rows of one shape of machine. The kernels take turns, so
//! that changes on the host during the run affect both. Every line that a guest
//! prints for the harness goes to the journal at once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, Context, Result};
use fs_err::{self as fs, OpenOptions};

use super::counts;
use super::protocol::{Listed, Measured, Shape};
use super::recording::{Boot, Head, Pass, Recording, Side};
use super::steady;
use host::kernel::Built;
use host::lines::Lines;
use host::paths::Paths;
use host::progress::Step;
use kbuild::program;
use vm::guest;
use vm::options::GuestOptions;
use vm::outcome::{End, Outcome};
use vm::qemu::Accel;

/// Number of times that rows which are not steady are measured, including the
/// first.
const ROUNDS: u32 = 3;
/// Time limit of a boot.
const QUICK_LIMIT: Duration = Duration::from_secs(10 * 60);
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// File that the plugin writes, in the guest's folder.
const WINDOWS: &str = "windows.jsonl";

/// The inputs of every boot, and the results.
pub struct Boots<'a> {
    pub paths: &'a Paths,
    /// In the order of `Side::BOTH`.
    pub kernels: [&'a Built; 2],
    pub image: &'a Path,
    pub program: &'a Path,
    pub quick: bool,
    pub timeout: Option<Duration>,
    /// File for every line of the guests.
    pub journal: PathBuf,
    pub recording: Recording,
    /// Problems that make the run fail.
    pub problems: Vec<String>,
    /// Parts that were left out.
    pub remarks: Vec<String>,
    /// The user pressed Ctrl-C: no further boot is started.
    pub interrupted: bool,
    /// The accelerator of the last pass.
    pub wall_on: Option<String>,
}

impl Boots<'_> {
    /// Starts a new journal.
    pub fn begin(&self) -> Result<()> {
        Ok(fs::write(&self.journal, "")?)
    }

    /// Counts instructions. Rows that do not repeat are measured again.
    pub fn icount(&mut self, rows: &[Listed], boots: usize) -> Result<()> {
        let mut pending: Vec<&Listed> = rows.iter().filter(|r| !r.wall).collect();
        for round in 1..=ROUNDS {
            if round > 1 {
                say_again(&pending);
            }
            self.boot_in_turn(Pass::Icount, round, &pending, boots)?;
            pending.retain(|row| {
                let figure = steady::figure(&self.recording, &row.row, boots);
                steady::again(&figure, &self.recording, &row.row)
            });
            if pending.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Counts locked instructions and memory references, if this QEMU can load
    /// the plugin.
    pub fn plugin(&mut self, rows: &[Listed]) {
        let measured = |row: &&Listed| {
            let mut boots = self.recording.of(Pass::Icount);
            boots.any(|b| b.rows.contains_key(&row.row))
        };
        let rows: Vec<&Listed> = rows.iter().filter(measured).collect();
        for (machine, rows) in by_machine(&rows) {
            for side in Side::BOTH {
                let head = Head {
                    pass: Pass::Plugin,
                    side,
                    machine,
                    round: 1,
                };
                if let Err(e) = self.boot(head, &rows, "locked, loads, stores") {
                    self.remarks.push(format!(
                        "Locked instructions, loads and stores are left out: {e:#}"
                    ));
                    return;
                }
            }
        }
        let pass: Vec<&Boot> = self.recording.of(Pass::Plugin).collect();
        let (mut rows, mut counted) = (0, 0);
        for boot in &pass {
            let meant = boot.rows.values().filter(|r| !r.windows.is_empty());
            rows += meant.clone().count();
            let has = |r: &&Measured| counts::per_op(boot, &r.row).is_some();
            counted += meant.filter(has).count();
        }
        if counted < rows {
            self.remarks.push(format!(
                "The plugin's counts are left out for {} of {rows} measurements: the plugin counted more \
                 than the guest's windows, because other tasks ran meanwhile.",
                rows - counted
            ));
        }
    }

    /// Measures throughput. A failure here does not end the run.
    pub fn wall(&mut self, rows: &[Listed], boots: usize) {
        let rows: Vec<&Listed> = rows.iter().filter(|r| r.wall).collect();
        if let Err(e) = self.boot_in_turn(Pass::Wall, 1, &rows, boots) {
            self.problems.push(format!("{e:#}"));
        }
    }

    /// Boots both kernels in turn, `boots` times each, on each machine that the
    /// rows need.
    fn boot_in_turn(
        &mut self,
        pass: Pass,
        round: u32,
        rows: &[&Listed],
        boots: usize,
    ) -> Result<()> {
        for (machine, rows) in by_machine(rows) {
            for n in 1..=boots {
                for side in Side::BOTH {
                    let head = Head {
                        pass,
                        side,
                        machine,
                        round,
                    };
                    self.boot(head, &rows, &format!("boot {n} of {boots}"))?;
                }
            }
        }
        Ok(())
    }

    /// Boots once and records what the guest measures. An error means that it
    /// measured nothing, or on a wrong kernel.
    fn boot(&mut self, head: Head, rows: &[&Listed], which: &str) -> Result<()> {
        let built = self.kernels[usize::from(head.side == Side::Rust)];
        let what = match head.pass {
            Pass::Icount => "instructions",
            Pass::Plugin => "plugin",
            Pass::Wall => "throughput",
        };
        let label = format!("Measuring the {} kernel ({what}, {which})", built.variant);
        eprintln!(
            "Booting the {} kernel: {what}, {which}, {} rows, {} machine",
            built.variant,
            rows.len(),
            head.machine.name()
        );
        let options = self.options(&head)?;
        let mut journal = OpenOptions::new().append(true).open(&self.journal)?;
        let mut note = |line: &str| {
            // The recording in memory is what counts.
            let _ = writeln!(journal, "{line}");
        };
        note(&serde_json::to_string(&head).context("cannot encode as JSON")?);

        let mut boot = Boot::new(head);
        let mut lines = Lines::default();
        let mut step: Option<Step> = None;
        let outcome = guest::run_with(
            self.paths,
            built,
            self.image,
            &options,
            &command(&boot.head, rows, self.quick),
            &mut |bytes| {
                lines.take(bytes, |line| {
                    if !boot.guest_line(line) {
                        return;
                    }
                    note(line);
                    let done = boot.rows.len() + boot.missing.len();
                    let total = rows.len() as u64;
                    let step =
                        step.get_or_insert_with(|| Step::start(&label, Some(total), &self.journal));
                    step.set(done as u64, boot.last().unwrap_or_default());
                });
            },
        )?;
        if let Some(step) = step.filter(|_| boot.ended) {
            step.done();
        }
        if outcome.end == End::Interrupted {
            self.interrupted = true;
            bail!("interrupted");
        }
        let done = self.examine(&boot, built, &outcome, &label);
        if boot.head.pass == Pass::Plugin {
            for line in windows(&outcome)?.lines() {
                note(line);
                boot.plugin_line(line)?;
            }
        }
        if boot.head.pass == Pass::Wall {
            let on = match outcome.accel {
                Accel::Kvm => "KVM",
                Accel::Tcg | Accel::TcgInTurn | Accel::Icount => "TCG, which emulates the CPU",
            };
            self.wall_on = Some(on.into());
        }
        done?;
        self.recording.0.push(boot);
        Ok(())
    }

    fn options(&self, head: &Head) -> Result<GuestOptions> {
        let (mem_mib, pmem_mib) = head.machine.sizes();
        let limit = if self.quick { QUICK_LIMIT } else { LIMIT };
        let mut options = GuestOptions {
            mem_mib,
            pmem_mib,
            icount: head.pass != Pass::Wall,
            timeout: self.timeout.unwrap_or(limit),
            // [`examine`] evaluates them.
            allow_splat: true,
            copy: vec![self.program.to_owned()],
            ..GuestOptions::default()
        };
        if head.pass == Pass::Plugin {
            options.extra_arguments =
                program::plugin_arguments(self.paths, &format!("out={WINDOWS}"))?.into();
        }
        Ok(options)
    }

    /// Checks whether the measurements of a boot may be used.
    fn examine(
        &mut self,
        boot: &Boot,
        built: &Built,
        outcome: &Outcome,
        label: &str,
    ) -> Result<()> {
        let Some((kernel, live)) = &boot.began else {
            let note = outcome.note.as_deref().unwrap_or_default();
            eprint!("{}", outcome.explain());
            bail!(
                "{label}: the guest did not begin to measure; {note} console: {}",
                outcome.console.display()
            );
        };
        if *kernel != built.release_string || !boot.head.side.is(live) {
            bail!(
                "{label}: the wrong kernel runs: {kernel}, \
                 registry {}, pmem driver {}, fs/dax {}, GUP {}",
                live.registry.implementation,
                live.pmem_driver.implementation,
                live.fs_dax.implementation,
                live.gup.implementation
            );
        }
        if boot.head.pass != Pass::Wall && !boot.exact {
            bail!("{label}: the guest's clock does not count instructions, as -icount should do");
        }
        for line in &boot.garbled {
            self.problems.push(format!("{label}: {line}"));
        }
        for splat in &outcome.splats {
            // While a guest waits for the host's disk its clock runs ahead.
            let hung = splat.title.starts_with("INFO: task ");
            if !hung || boot.head.pass == Pass::Wall {
                self.problems.push(format!(
                    "{label}: the kernel reported: {}; console: {}",
                    splat.title,
                    outcome.console.display()
                ));
            }
        }
        if !boot.ended || outcome.status() != 0 {
            eprint!("{}", outcome.explain());
            self.problems.push(format!(
                "{label}: ended with status {} {} its last row; console: {}",
                outcome.status(),
                if boot.ended { "after" } else { "before" },
                outcome.console.display()
            ));
        }
        Ok(())
    }
}

/// Returns the output of the plugin.
fn windows(outcome: &Outcome) -> Result<String> {
    let path = outcome.dir.path().join(WINDOWS);
    fs::read_to_string(&path).with_context(|| {
        let note = outcome.note.as_deref().unwrap_or("QEMU printed nothing");
        format!("the plugin wrote no counts ({note})")
    })
}

fn say_again(rows: &[&Listed]) {
    let names: Vec<&str> = rows.iter().take(5).map(|r| r.row.as_str()).collect();
    eprintln!(
        "{} rows did not repeat within 1 %; measuring them again: {}{}",
        rows.len(),
        names.join(", "),
        if rows.len() > names.len() {
            ", ..."
        } else {
            ""
        }
    );
}

/// Returns the rows for each machine that any row needs.
fn by_machine<'a>(rows: &[&'a Listed]) -> Vec<(Shape, Vec<&'a Listed>)> {
    Shape::ALL
        .into_iter()
        .map(|shape| {
            let of = rows.iter().filter(|r| r.machine == shape);
            (shape, of.copied().collect::<Vec<_>>())
        })
        .filter(|(_, rows)| !rows.is_empty())
        .collect()
}

/// Returns the guest's command.
fn command(head: &Head, rows: &[&Listed], quick: bool) -> String {
    let verb = match head.pass {
        Pass::Icount | Pass::Plugin => "run",
        Pass::Wall => "wall",
    };
    let names: Vec<String> = rows.iter().map(|r| regex::escape(&r.row)).collect();
    let filter = format!("^(?:{})$", names.join("|")).replace('\'', r"'\''");
    let quick = if quick { " --quick" } else { "" };
    // A minimum that did not repeat gets more attempts.
    let timeout_factor = match head.round {
        1 => String::new(),
        round => format!(" --timeout-factor {}", 3 * (round - 1)),
    };
    format!(
        "./{} bench {verb} --filter '{filter}'{quick}{timeout_factor}",
        program::NAME
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(row: &str, machine: Shape) -> Listed {
        Listed {
            row: row.into(),
            group: "g".into(),
            unit: "u".into(),
            note: String::new(),
            machine,
            quick: true,
            wall: false,
        }
    }

    #[test]
    fn a_command_names_its_rows() {
        let (a, b) = (
            listed("gup/n=1", Shape::Standard),
            listed("x/2.5", Shape::Standard),
        );
        let head = |pass, round| Head {
            pass,
            side: Side::C,
            machine: Shape::Standard,
            round,
        };
        let text = command(&head(Pass::Icount, 1), &[&a, &b], true);
        assert_eq!(
            text,
            r"./guest-test bench run --filter '^(?:gup/n=1|x/2\.5)$' --quick"
        );
        assert!(command(&head(Pass::Wall, 1), &[&a], false).starts_with("./guest-test bench wall "));
        assert!(command(&head(Pass::Icount, 3), &[&a], false).ends_with(" --timeout-factor 6"));
    }

    #[test]
    fn machines_that_nobody_needs_are_not_booted() {
        let (a, b) = (listed("a", Shape::Standard), listed("b", Shape::Large));
        let shapes = |rows: &[&Listed]| -> Vec<(Shape, usize)> {
            let list = by_machine(rows);
            list.into_iter().map(|(s, r)| (s, r.len())).collect()
        };
        assert_eq!(shapes(&[&b]), [(Shape::Large, 1)]);
        assert_eq!(
            shapes(&[&b, &a, &b]),
            [(Shape::Standard, 1), (Shape::Large, 2)]
        );
        assert!(shapes(&[]).is_empty());
    }
}
