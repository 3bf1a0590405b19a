// SPDX-License-Identifier: GPL-2.0

//! The recorder of pins: a pipe has pages of a process that has ended, and nothing but the recorder
//! knows which one that was.

use nix::sys::prctl;

use super::bound::Bound;
use crate::tests::fsdax::{daxstat, Held};
use crate::tests::prelude::*;

const NAME: &std::ffi::CStr = c"gone-pinner";
const PAGES: usize = 16;

declare! {
    /// neither the log, debugfs nor daxstat names the process whose pages a removal waits for, although the kernel
    /// was told to record it; pages are still said to be taken after they were released; or something is
    /// recorded when it should not be
    "teardown::takers" for ONE_OF_EACH, 90 s, essential "fsdax-2M-dev-acpi" "devdax-2M-dev-acpi" => takers
}
fn takers(want: &Want) -> Result<()> {
    let recorder = Recorder::find()?;
    let target = Target::create(want, HUGE as u64)?;
    let mark = system::LogMark::new(target.namespace.dev())?;

    // It is off after the boot, and then nothing is known of these pages.
    let (mut unknown, _) = pinned_by_child(&target, 1)?;
    ensure!(
        recorder.line()?.is_none(),
        "a call was recorded although the recorder is off: {:?}",
        recorder.line()?
    );
    unknown.release()?;

    recorder.turn("1")?;
    let (mut held, pid) = pinned_by_child(&target, 2)?;
    recorder.turn("0")?;
    let name = format!("{} ({pid})", NAME.to_string_lossy());
    let line = recorder.line()?.context("the call was not recorded")?;
    for part in [" live ", &format!(" pages={PAGES} "), &name, "vmsplice"] {
        ensure!(line.contains(part), "no {part:?} in the line {line:?}");
    }
    let report = daxstat("holders")?
        .arg(target.namespace.node()?)
        .ok()?
        .stdout;
    let taker = report.lines().find(|line| line.starts_with("taker "));
    let shown =
        taker.is_some_and(|line| line.contains(&pid.to_string()) && line.contains("gone-pinner"));
    ensure!(shown, "daxstat does not show the taker: {report}");

    let Target {
        file,
        namespace,
        mount,
        ..
    } = target;
    // An open device would keep its module; an open file keeps its inode, whose eviction would wait.
    let file = mount.is_some().then_some(file);
    let mut bound = Bound::of(&namespace)?;
    let removal = bound.unbind();
    let waited = removal
        .must_wait("unbinding the driver")
        .and_then(|()| require_named(&mark, &name))
        .and_then(|()| {
            let line = recorder
                .line()?
                .context("nothing is known while it is removed")?;
            ensure!(line.contains(" dying "), "not dying: {line:?}");
            Ok(())
        });
    held.release()?;
    waited?;
    removal.must_end("unbinding the driver")?;
    let line = recorder.line()?;
    ensure!(line.is_none(), "shown after the end: {line:?}");
    drop(file);
    mount.map_or(Ok(()), DaxMount::unmount)?;
    bound.bind()?;
    let line = recorder.line()?;
    ensure!(line.is_none(), "shown although nothing is taken: {line:?}");
    namespace.destroy()
}

/// Lets a process take pages of the target for a pipe, and end. Returns the pipe, and its ID.
fn pinned_by_child(target: &Target, seed: u64) -> Result<(Held, i32)> {
    let (held, writer) = Held::expect(seed)?;
    let child = spawn(|| {
        prctl::set_name(NAME).context("prctl")?;
        let map = target.map(HUGE)?;
        map.write(HUGE / 2, &data::bytes(seed, PAGES * PAGE));
        vmsplice(&map, HUGE / 2, PAGES * PAGE, &writer)
    })?;
    let pid = child.pid();
    child.join(20, "the process that takes pages")?;
    Ok((held, pid))
}

/// Waits until the log names this process.
fn require_named(mark: &system::LogMark, name: &str) -> Result<()> {
    let limit = Instant::now() + timeout(Duration::from_secs(10));
    loop {
        let log = mark.since()?;
        if log.contains(": waiting for ") && log.contains(&format!("last taken by {name}")) {
            return Ok(());
        }
        ensure!(
            Instant::now() < limit,
            "the log does not name {name}: {log}"
        );
        thread::sleep(Duration::from_millis(100));
    }
}

/// The recorder of the kernel. Off when dropped.
struct Recorder(PathBuf);

impl Recorder {
    fn find() -> Result<Self> {
        let dir = system::debugfs()?.join("dev_pagemap");
        if !dir.join("record").exists() {
            skip!("this kernel has no CONFIG_RUST_DEV_PAGEMAP_RECORDER");
        }
        Ok(Self(dir))
    }

    fn turn(&self, word: &str) -> Result<()> {
        fs::write(self.0.join("record"), word).context("dev_pagemap/record")
    }

    /// Returns the line on the process that takes pages.
    fn line(&self) -> Result<Option<String>> {
        let text = system::read(self.0.join("takers"))?;
        let name = NAME.to_string_lossy();
        Ok(text
            .lines()
            .find(|line| line.contains(&*name))
            .map(str::to_owned))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        clean_up(self.turn("0"));
    }
}
