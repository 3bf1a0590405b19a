// SPDX-License-Identifier: GPL-2.0

//! Callers of GUP that want no references: mlock(), MADV_POPULATE_READ and
//! MADV_POPULATE_WRITE. Neighbouring ptes of a file are followed at once.

use super::{small, Config, Fixture, EXT4};
use crate::tests::prelude::*;

/// A probe at a function of the kernel, which counts its calls.
struct CallCount {
    tracefs: PathBuf,
}

impl CallCount {
    const EVENT: &str = "guest_test_calls";

    fn of(function: &str) -> Result<Self> {
        let this = Self {
            tracefs: system::tracefs()?,
        };
        this.write("kprobe_events", &format!("p:{} {function}", Self::EVENT))?;
        this.write(&format!("events/kprobes/{}/enable", Self::EVENT), "1")?;
        Ok(this)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.tracefs.join(file);
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut to| io::Write::write_all(&mut to, text.as_bytes()))
            .with_context(|| format!("cannot write {text:?} to {}", path.display()))
    }

    /// Returns the number of calls so far.
    fn get(&self) -> Result<u64> {
        let text = system::read(self.tracefs.join("kprobe_profile"))?;
        text.lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| words.first() == Some(&Self::EVENT))
            .and_then(|words| words.get(1)?.parse().ok())
            .with_context(|| format!("kprobe_profile does not have the probe: {text}"))
    }
}

impl Drop for CallCount {
    fn drop(&mut self) {
        for (file, text) in [
            (format!("events/kprobes/{}/enable", Self::EVENT), "0".into()),
            ("kprobe_events".to_string(), format!("-:{}", Self::EVENT)),
        ] {
            clean_up(self.write(&file, &text));
        }
    }
}

declare! {
    /// mlock() or MADV_POPULATE_* of a file that is mapped by 4 KiB pages follows each of them, or
    /// fails
    "fsdax::populate" for [EXT4], 60 s, essential "ext4-dev-acpi" => populate
}
fn populate(config: &Config) -> Result<()> {
    if live::ask()?.gup.implementation == Language::C {
        skip!("GUP is in C, which follows each pte");
    }
    let fixture = Fixture::create(config)?;
    let bytes = data::bytes(1, HUGE);
    let file = fixture.written("data", &bytes)?;
    let map = small(&file, HUGE)?;
    map.prefault_write(PAGE);
    let calls = CallCount::of("gup_follow_devmap_pte")?;
    for (advice, what) in [
        (Some(libc::MADV_POPULATE_READ), "MADV_POPULATE_READ"),
        (Some(libc::MADV_POPULATE_WRITE), "MADV_POPULATE_WRITE"),
        (None, "mlock"),
    ] {
        let before = calls.get()?;
        match advice {
            Some(advice) => map.advise(0, HUGE, advice),
            None => map.lock(0, HUGE),
        }
        .context(what)?;
        let made = calls.get()? - before;
        ensure!(
            (1..=4).contains(&made),
            "{what} of {} pages that are mapped side by side followed {made} runs of ptes (0: page by page)",
            HUGE / PAGE
        );
    }
    drop(calls);
    map.require(0, &bytes, "the populated file")?;
    drop((map, file));
    fixture.finish()
}
