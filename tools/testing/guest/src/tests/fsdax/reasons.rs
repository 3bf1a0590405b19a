// SPDX-License-Identifier: GPL-2.0

//! The reasons why a fault was not of 2 MiB: each reason is provoked, and must
//! be counted and reported by the tracepoint, and no other.

use std::os::unix::fs::MetadataExt;

use super::sync::go_down;
use super::{
    daxstat, large, require_rust, signal_of, small, Config, Fixture, EXT2, EXT4, REFLINK, XFS,
};
use crate::inject::Failing;
use crate::memory::SystemThp;
use crate::tests::prelude::*;

const LEN: usize = 2 * HUGE;
const EVENT: &str = "dax_fault_fallback";

/// The counters of one filesystem, by the names in the first line.
struct Counters(Vec<(String, u64)>);

impl Counters {
    fn read(device: u64) -> Result<Self> {
        let text = system::read(system::debugfs()?.join("fs_dax/faults"))?;
        let name = format!("{}:{}", libc::major(device), libc::minor(device));
        // Before its first fault a filesystem has no line.
        Ok(Self::parse(&text, &name).unwrap_or(Self(Vec::new())))
    }

    fn parse(text: &str, device: &str) -> Option<Self> {
        let mut lines = text.lines();
        let names: Vec<&str> = lines
            .next()?
            .strip_prefix('#')?
            .split_whitespace()
            .collect();
        let row = lines
            .map(|l| l.split_whitespace().collect::<Vec<_>>())
            .find(|row| row.first() == Some(&device))?;
        let named = names.iter().zip(row).skip(2);
        named
            .map(|(name, count)| Some((name.to_string(), count.parse().ok()?)))
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Returns the counters that have changed since `before`.
    fn since(&self, before: &Self) -> Vec<(String, u64)> {
        let old = |name: &str| {
            before
                .0
                .iter()
                .find(|(n, _)| n == name)
                .map_or(0, |(_, c)| *c)
        };
        self.0
            .iter()
            .map(|(name, count)| (name.clone(), count.saturating_sub(old(name))))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// One filesystem, its counters and the trace.
struct Probe {
    device: u64,
    trace: FaultTrace,
}

impl Probe {
    /// Opens the counters. They may still be those of an earlier filesystem on
    /// the device, so one fault makes them this one's.
    fn open(fixture: &Fixture) -> Result<Self> {
        let first = fixture.written("first", &[0; PAGE])?;
        small(&first, PAGE)?.peek(0);
        let device = std::fs::metadata(fixture.mount.dir())
            .context("stat")?
            .dev();
        Ok(Self {
            device,
            trace: FaultTrace::of(&[EVENT])?,
        })
    }

    /// Requires that `touch` makes a fault that falls back for `reason`: once,
    /// or again when the kernel retries it.
    fn require(&self, reason: &str, file: &File, touch: impl FnOnce()) -> Result<()> {
        // `touch` may leave the file without attributes.
        let ino = format!("ino {:#x}", file.metadata().context("fstat")?.ino());
        let before = Counters::read(self.device)?;
        self.trace.take_text()?;
        touch();
        let counted = Counters::read(self.device)?.since(&before);
        let fallbacks: Vec<_> = counted
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "4K" | "2M"))
            .collect();
        let [(name, count)] = fallbacks[..] else {
            bail!("a fallback for {reason} was provoked, {counted:?} were counted");
        };
        ensure!(
            name == reason,
            "a fallback for {reason} was provoked, {counted:?} were counted"
        );
        let text = self.trace.take_text()?;
        let events: Vec<&str> = text.lines().filter(|l| l.contains(EVENT)).collect();
        let reason = format!("reason {reason}");
        let right = |line: &&str| line.trim_end().ends_with(&reason) && line.contains(&ino);
        ensure!(
            events.len() as u64 == *count && events.iter().all(right),
            "{count} times {EVENT} of {ino} for {reason:?} was expected, there were: {events:?}"
        );
        Ok(())
    }
}

declare! {
    /// a fault falls back to 4 KiB and no reason is counted or traced, or a wrong one, or for another
    /// file
    "fsdax::reasons" for [EXT4, REFLINK], 90 s, essential "ext4-dev-acpi" => reasons
}
fn reasons(config: &Config) -> Result<()> {
    require_rust("which reports no reasons")?;
    let fixture = Fixture::create(config)?;
    let probe = Probe::open(&fixture)?;
    by_mapping(&fixture, &probe)?;
    by_file(&fixture, &probe)?;
    drop(probe);
    fixture.finish()
}

/// Tests mappings that prevent huge faults of a suitable file.
fn by_mapping(fixture: &Fixture, probe: &Probe) -> Result<()> {
    let file = fixture.written("data", &data::bytes(1, LEN))?;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let map = Mapping::with(&file, 0, LEN, HUGE, prot, libc::MAP_PRIVATE)?;
    probe.require("cow", &file, || map.poke(0, 1))?;
    // An address that matches the offset, in a mapping that begins too late.
    let late = Mapping::reserve(LEN, HUGE)?;
    let at = 5 * PAGE;
    late.renew(&file, at, LEN - at).context("mmap")?;
    probe.require("vma-start", &file, || late.poke(at, 1))?;
    let early = large(&file, HUGE - PAGE)?;
    probe.require("vma-end", &file, || early.poke(0, 1))?;
    let across = Mapping::shared(&file, PAGE as u64, HUGE, HUGE)?;
    probe.require("offset", &file, || across.poke(0, 1))?;
    // Four stores have left entries of 4 KiB in the first 2 MiB.
    let map = large(&file, LEN)?;
    probe.require("conflict", &file, || {
        map.peek(9 * PAGE);
    })?;
    let before = Counters::read(probe.device)?;
    map.poke(HUGE, 1);
    small(&file, LEN)?.poke(HUGE, 2);
    let counted: Vec<_> = Counters::read(probe.device)?
        .since(&before)
        .into_iter()
        .filter(|(name, _)| name != "thp-off")
        .collect();
    ensure!(
        counted == [("4K".to_string(), 1), ("2M".to_string(), 1)],
        "a fault of each size was made, {counted:?} were counted"
    );
    without_thp(fixture, probe)
}

/// Tests huge pages that are off for a mapping, for the process, and for the
/// system, which does not mean DAX.
fn without_thp(fixture: &Fixture, probe: &Probe) -> Result<()> {
    let file = fixture.written("thp", &data::bytes(5, LEN))?;
    let map = small(&file, LEN)?;
    probe.require("thp-off", &file, || map.poke(5 * PAGE, 1))?;
    let before = Counters::read(probe.device)?;
    // Further faults of the 2 MiB are not counted again, and neither are those
    // of a mapping that could not have had one.
    map.poke(6 * PAGE, 1);
    let part = small(&file, HUGE - PAGE)?;
    part.poke(0, 1);
    let counted = Counters::read(probe.device)?.since(&before);
    ensure!(
        counted == [("4K".to_string(), 2)],
        "two faults of 4 KiB were made, {counted:?} were counted"
    );
    let map = large(&file, LEN)?;
    let disabled = ThpDisabled::for_process()?;
    probe.require("thp-off", &file, || {
        map.peek(HUGE);
    })?;
    drop(disabled);
    let file = fixture.written("never", &data::bytes(6, LEN))?;
    let map = large(&file, LEN)?;
    let never = SystemThp::set("never")?;
    let before = Counters::read(probe.device)?;
    map.poke(0, 1);
    let counted = Counters::read(probe.device)?.since(&before);
    drop(never);
    ensure!(
        counted == [("2M".to_string(), 1)],
        "transparent_hugepage/enabled is never, and {counted:?} were counted: DAX does not depend on it"
    );
    Ok(())
}

/// Huge pages are off for this process, until this is dropped.
struct ThpDisabled;

impl ThpDisabled {
    fn for_process() -> Result<Self> {
        Self::set(true)?;
        Ok(Self)
    }

    fn set(disabled: bool) -> Result<()> {
        nix::sys::prctl::set_thp_disable(disabled).context("PR_SET_THP_DISABLE")
    }
}

impl Drop for ThpDisabled {
    fn drop(&mut self) {
        clean_up(Self::set(false));
    }
}

declare! {
    /// pages of 4 KiB that are in use go or stay against what daxstat advises
    "fsdax::reasons::conflict" for [EXT4, XFS], 90 s => conflict
}
/// Tests what removes entries of 4 KiB: not the end of the mapping, nor drop_caches.
fn conflict(config: &Config) -> Result<()> {
    require_rust("which reports no reasons")?;
    let bytes = data::bytes(1, LEN);
    let stored = |at: usize| -> Vec<u8> { [&[7; 1], &bytes[at + 1..at + PAGE]].concat() };
    let fixture = Fixture::create(config)?;
    let probe = Probe::open(&fixture)?;
    let file = fixture.written("data", &bytes)?;
    small(&file, LEN)?.prefault_write(HUGE);
    file.sync_all().context("fsync")?;
    drop(file);
    fs::write("/proc/sys/vm/drop_caches", "3").context("drop_caches")?;
    let file = fixture.open("data")?;
    let map = large(&file, LEN)?;
    probe.require("conflict", &file, || map.poke(0, 7))?;
    let advice = daxstat::advice_on("conflict")?;
    ensure!(
        !advice.contains("drop")
            && ["truncated", "copy", "mount"]
                .iter()
                .all(|w| advice.contains(w)),
        "daxstat's advice on a conflict is: {advice}"
    );
    drop(map);
    let huge = |file: &File, what: &str| -> Result<()> {
        let before = Counters::read(probe.device)?;
        let map = large(file, LEN)?;
        map.poke(0, 7);
        let counted = Counters::read(probe.device)?.since(&before);
        ensure!(
            counted == [("2M".to_string(), 1)],
            "{what}, one fault of 2 MiB was expected, {counted:?} were counted"
        );
        map.require(0, &stored(0), what)
    };
    // Truncated and written again.
    file.set_len(0).context("ftruncate")?;
    drop(fixture.written("data", &bytes)?);
    huge(&file, "after truncation")?;
    // Mapped in 4 KiB again, and copied.
    file.set_len(0).context("ftruncate")?;
    drop(fixture.written("data", &bytes)?);
    small(&file, LEN)?.prefault_write(HUGE);
    let copy = fixture.written("copy", &bytes)?;
    huge(&copy, "in a copy")?;
    drop((file, copy));
    // The same file, in the next mount.
    let fixture = fixture.remount("dax")?;
    let file = fixture.open("data")?;
    huge(&file, "after umount and mount")?;
    drop((file, probe));
    fixture.finish()
}

/// Tests files that prevent huge faults of a suitable mapping.
fn by_file(fixture: &Fixture, probe: &Probe) -> Result<()> {
    let file = fixture.written("end", &data::bytes(2, HUGE + 3 * PAGE))?;
    let map = large(&file, LEN)?;
    probe.require("eof", &file, || map.poke(HUGE, 1))?;
    let file = fixture.sparse("short", LEN as u64)?;
    file.write_all_at(&[1; PAGE], 3 * PAGE as u64)
        .context("writing one page")?;
    file.sync_all().context("fsync")?;
    let map = large(&file, LEN)?;
    probe.require("short", &file, || {
        map.peek(3 * PAGE);
    })?;
    let file = misaligned(fixture, "device", LEN)?;
    let map = large(&file, LEN)?;
    probe.require("device", &file, || map.poke(0, 1))
}

/// Creates a file of one extent, which is long enough for huge pages but one
/// page off the alignment. It has not been written, because that might divide
/// it.
pub fn misaligned(fixture: &Fixture, name: &str, len: usize) -> Result<File> {
    let file = fixture.mount.file(name, (len + 2 * HUGE) as u64)?;
    let page = PAGE as u64;
    // The first 2 MiB are often an extent of their own.
    let most = HUGE as u64 + page;
    fallocate(&file, libc::FALLOC_FL_COLLAPSE_RANGE, 0, most).context("collapsing")?;
    file.set_len(len as u64).context("ftruncate")?;
    file.sync_all().context("fsync")?;
    Ok(file)
}

declare! {
    /// a fault that a filesystem refuses, because it is shut down, has another reason than "other",
    /// or none
    "fsdax::reasons::shutdown" for [REFLINK], 60 s => refused
}
/// Tests a filesystem that does not return the location of a file's blocks.
fn refused(config: &Config) -> Result<String> {
    require_rust("which reports no reasons")?;
    let fixture = Fixture::create(config)?;
    let probe = Probe::open(&fixture)?;
    let file = fixture.written("data", &data::bytes(3, LEN))?;
    let map = large(&file, LEN)?;
    map.peek(0);
    let mut got = Ok(None);
    probe.require("other", &file, || {
        got = go_down(&fixture).and_then(|()| {
            signal_of(|| {
                // Rust's own handler repeats the access.
                // SAFETY: The default action is no handler, so no code runs in
                // signal context.
                unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
                map.peek(HUGE);
            })
        });
    })?;
    ensure!(
        got? == Some(libc::SIGBUS),
        "a load from a filesystem that is shut down is not a SIGBUS"
    );
    drop((map, file, probe));
    fixture.remount("dax")?.finish()?;
    Ok(String::new())
}

declare! {
    /// a fault that finds no huge zero page or no memory for its entry has another reason, or none;
    /// or the access fails instead of being repeated
    "fsdax::reasons::memory" for [EXT4], 60 s, essential "ext4-dev-acpi" => without_memory
}
/// Tests failing allocations: that of the huge zero page, which is freed
/// before, and those of the mapping's array, which are tried twice.
fn without_memory(config: &Config) -> Result<()> {
    require_rust("which reports no reasons")?;
    drop(Failing::pages(9)?);
    let fixture = Fixture::create(config)?;
    let probe = Probe::open(&fixture)?;
    let hole = fixture.sparse("hole", LEN as u64)?;
    let map = large(&hole, LEN)?;
    // It has no users any more, so the shrinker frees it.
    std::fs::write("/proc/sys/vm/drop_caches", "2").context("drop_caches")?;
    let failing = Failing::pages(9)?;
    probe.require("no-zero-page", &hole, || {
        map.peek(0);
    })?;
    drop((failing, map));
    let file = fixture.written("data", &data::bytes(4, LEN))?;
    let map = large(&file, LEN)?;
    let mut failed = Ok(());
    probe.require("no-memory", &file, || {
        failed = Failing::objects("radix_tree_node", 2).map(|failing| {
            map.poke(0, 1);
            drop(failing);
        });
    })?;
    failed?;
    drop((map, hole, file, probe));
    fixture.finish()
}

declare! {
    /// the faults of a filesystem that has none of 2 MiB are not counted, or as if they had been
    /// tried
    "fsdax::reasons" for [EXT2], 60 s => only_counted
}
fn only_counted(config: &Config) -> Result<()> {
    require_rust("which reports no reasons")?;
    let fixture = Fixture::create(config)?;
    let probe = Probe::open(&fixture)?;
    let file = fixture.written("data", &data::bytes(1, HUGE))?;
    let map = large(&file, HUGE)?;
    map.poke(0, 1);
    let before = Counters::read(probe.device)?;
    map.poke(PAGE, 1);
    let counted = Counters::read(probe.device)?.since(&before);
    ensure!(
        counted == [("4K".to_string(), 1)],
        "one fault of 4 KiB was made, {counted:?} were counted"
    );
    drop((map, file, probe));
    fixture.finish()
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn counters_by_name() {
        let text = "# device fstype 4K 2M cow new\n259:0 ext4 5 2 0 1\n259:1 xfs 1 1 1 1\n";
        let parse = |text: &str| Counters::parse(text, "259:0");
        let (old, new) = (parse(text), parse(&text.replace("5 2 0 1", "5 3 0 4")));
        let since = old.zip(new).map(|(old, new)| new.since(&old));
        assert_eq!(since, Some(vec![("2M".into(), 1), ("new".into(), 3)]));
        assert!(Counters::parse(text, "259:2").is_none());
    }
}
