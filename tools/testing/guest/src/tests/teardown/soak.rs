// SPDX-License-Identifier: GPL-2.0

//! A soak: random users and removals in two regions at once, and a third process that looks at
//! everything meanwhile, until the time is over or something is wrong.
//!
//! Lanes and watcher are processes of their own, so that each may fork. The parent passes on what they
//! print, notices one that prints nothing any more, and ends the others when one has failed. A seed
//! repeats the rounds of each lane, but not how they interleave.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};

use clap::ValueEnum;

use super::matrix::{Lane, Round};
use crate::runner::{self, Status};
use crate::tests::fsdax::daxstat;
use crate::tests::prelude::*;

/// Longest time between two lines of a part. A round has up to four cells, each with limits of its own.
const SILENCE: Duration = Duration::from_secs(300);
/// Pause of the watcher.
const PAUSE: Duration = Duration::from_millis(200);

/// A process of a soak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    First,
    Second,
    Watcher,
}

impl Part {
    const ALL: [Self; 3] = [Self::First, Self::Second, Self::Watcher];

    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Watcher => "watcher",
        }
    }
}

declare! {
    /// memory that is removed in one region while another is used and removed as well is not given back,
    /// loses bytes, or hangs; or a reader of debugfs, of the pages' flags or of daxstat disturbs it
    "teardown::soak", 300 s => || {
        let time = Duration::from_secs(if runner::thorough() { 60 } else { 15 });
        let rounds = run(1, time, false)?;
        ensure!(rounds > 1, "only {rounds} rounds in {time:?}");
        Ok(format!("{rounds} rounds"))
    }
}

/// Runs the parts for some time; returns the number of rounds. With `results`, each round is a result
/// for the host.
pub fn run(seed: u64, time: Duration, results: bool) -> Result<u64> {
    if live::ask()?.registry.implementation == Language::C {
        skip!("the registry is in C, which frees pages that are pinned, so the rest would fail");
    }
    let before = ndctl::namespaces("")?;
    for disk in ["pmem", "dm-", "loop"] {
        system::allow_io_errors(disk)?;
    }
    let (tx, lines) = mpsc::channel();
    let start = |part| Running::start(part, seed, time, tx.clone());
    let mut parts = Part::ALL
        .map(start)
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let rounds = watch(&lines, &mut parts, results)?;
    require_unpinned("the soak")?;
    let left = ndctl::restore(&before)?;
    ensure!(left.is_empty(), "it left namespaces: {}", left.join(", "));
    Ok(rounds)
}

/// A line of a part, or the end of its output.
type Line = (Part, Option<String>);

/// A part that runs. Dropping it kills it.
struct Running {
    part: Part,
    child: Child,
    /// When it printed something; none if it has ended.
    heard: Option<Instant>,
}

impl Running {
    fn start(part: Part, seed: u64, time: Duration, lines: Sender<Line>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("this program")?);
        command.args(["soak-part", part.name()]);
        command.args(["--seed", &seed.to_string()]);
        command.args(["--seconds", &time.as_secs().to_string()]);
        let mut child = command.stdout(Stdio::piped()).spawn().context("a part")?;
        let output = child.stdout.take().context("no output")?;
        // Not joined: it ends with the output. Nothing receives if another part has failed.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = lines.send((part, Some(line)));
            }
            let _ = lines.send((part, None));
        });
        Ok(Self {
            part,
            child,
            heard: Some(Instant::now()),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.heard.is_some() {
            // It may have ended.
            clean_up(self.child.kill());
            clean_up(self.child.wait());
        }
    }
}

/// Passes on the lines of the parts until all have ended. Returns the number of rounds.
fn watch(lines: &Receiver<Line>, parts: &mut [Running], results: bool) -> Result<u64> {
    let mut rounds = 0;
    while parts.iter().any(|part| part.heard.is_some()) {
        for Running { part, child, heard } in parts.iter() {
            ensure!(
                heard.map_or(Duration::ZERO, |last| last.elapsed()) < timeout(SILENCE),
                "the part {} prints nothing any more ({})",
                part.name(),
                whereabouts(child.id())
            );
        }
        let (part, line) = match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(got) => got,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(e) => return Err(e).context("the output of the parts"),
        };
        let sender = parts.iter_mut().find(|running| running.part == part);
        let sender = sender.context("a line of no part")?;
        sender.heard = line.is_some().then(Instant::now);
        match line {
            None => {
                let status = sender.child.wait().context("wait")?;
                ensure!(status.success(), "the part {} ended: {status}", part.name());
            }
            Some(line) if line.starts_with(runner::RESULT) => {
                rounds += 1;
                println!("{}{line}", if results { "" } else { "  " });
            }
            Some(line) => println!("{line}"),
        }
    }
    Ok(rounds)
}

/// Runs one part, in this process; returns whether nothing was wrong.
pub fn part(part: Part, seed: u64, time: Duration) -> Result<bool> {
    match part {
        Part::First => lane(0, seed, time),
        Part::Second => lane(1, seed, time),
        Part::Watcher => look(time).map(|()| true),
    }
}

fn lane(number: usize, seed: u64, time: Duration) -> Result<bool> {
    let lane = Lane::beside_others(number)?;
    let start = Instant::now();
    for n in 0u64.. {
        if start.elapsed() >= time {
            break;
        }
        let round = Round::draw(&lane, seed, n);
        let name = format!("soak::{number}::{n}::{}", round.name());
        println!("{name} begins");
        let begun = Instant::now();
        let (status, why) = match round.run(&lane) {
            Ok(text) => (Status::Ok, text),
            Err(e) => (Status::Fail, format!("seed {seed}: {round:?}: {e:#}")),
        };
        runner::print_result(&name, status, &why, begun.elapsed())?;
        if status == Status::Fail {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Looks at everything that can be looked at, again and again.
fn look(time: Duration) -> Result<()> {
    let start = Instant::now();
    let debugfs = system::debugfs()?;
    for n in 0u64.. {
        if start.elapsed() >= time {
            break;
        }
        for dir in ["dev_pagemap", "fs_dax"] {
            // Files come and go with the modules.
            for entry in fs::read_dir(debugfs.join(dir))
                .into_iter()
                .flatten()
                .flatten()
            {
                drop(fs::read(entry.path()));
            }
        }
        // What they print is another test's matter; here they must end.
        match n % 4 {
            0 => drop(fs::write("/proc/sys/vm/drop_caches", "3")),
            1 => drop(fs::write("/proc/sys/vm/compact_memory", "1")),
            2 => page_files()?,
            _ => holders()?,
        }
        println!("watcher: {n}");
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Reads the flags and counts of pages of each region.
fn page_files() -> Result<()> {
    for region in ndctl::regions(Bus::Acpi.provider())? {
        let dir = Path::new("/sys/bus/nd/devices").join(&region.dev);
        // It may be disabled.
        let Ok(start) = system::read_u64(dir.join("resource")) else {
            continue;
        };
        for file in ["/proc/kpageflags", "/proc/kpagecount", "/proc/kpagecgroup"] {
            let Ok(file) = File::open(file) else { continue };
            let mut words = vec![0; 8 * 1024];
            for at in (0..512 * MIB).step_by(64 * MIB as usize) {
                drop(file.read_at(&mut words, (start + at) / PAGE as u64 * 8));
            }
        }
    }
    Ok(())
}

fn holders() -> Result<()> {
    for info in ndctl::namespaces("")?.iter().filter(|info| info.enabled()) {
        if let Ok(node) = info.node() {
            // An error is right: the device may be gone by now.
            daxstat("holders")?.arg(node).limit_secs(60).run()?;
        }
    }
    Ok(())
}
