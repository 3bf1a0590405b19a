// SPDX-License-Identifier: GPL-2.0

//! `daxstat holders`: each kind of holder must be found while it is there, by each name of what it
//! holds, and must be gone when it is.

use nix::mount::{mount, MsFlags};
use nix::sched::{unshare, CloneFlags};
use serde::Deserialize;

use super::daxstat::{daxstat, Partition};
use super::{large, require_rust, Config, Fixture, EXT4};
use crate::tests::prelude::*;
use crate::tests::teardown::pinned::Pinned;
use crate::tests::users::Ring;

#[derive(Debug, Deserialize)]
struct Report {
    memory: Vec<Memory>,
    holders: Vec<Holder>,
    unknown: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Memory {
    state: String,
    busy: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Holder {
    kind: String,
    certain: bool,
    pid: Option<i32>,
    device: Option<String>,
    file: Option<String>,
    address: Option<String>,
    huge: Option<u64>,
    small: Option<u64>,
}

impl Report {
    fn of(target: &str) -> Result<Self> {
        let out = daxstat("holders --json")?.arg(target).ok()?.stdout;
        serde_json::from_str(&out).with_context(|| format!("daxstat's JSON: {out}"))
    }

    /// Returns the holders of this kind of a process.
    fn of_process(&self, kind: &str, pid: i32) -> Vec<&Holder> {
        let all = self.holders.iter();
        all.filter(|h| h.kind == kind && h.pid == Some(pid))
            .collect()
    }

    fn require(&self, kind: &str, pid: i32) -> Result<&Holder> {
        let found = self.of_process(kind, pid);
        let first = found.first().copied();
        first.with_context(|| format!("no holder {kind} of process {pid}: {self:?}"))
    }

    /// Requires one of this kind that is no process, with this device or file.
    fn require_device(&self, kind: &str, name: &str) -> Result<()> {
        let is = |text: &Option<String>| text.as_deref() == Some(name);
        let mut all = self.holders.iter();
        ensure!(
            all.any(|h| h.kind == kind && h.certain && (is(&h.device) || is(&h.file))),
            "no holder {kind} {name}: {self:?}"
        );
        Ok(())
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Returns the last part of a path.
fn name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

declare! {
    /// daxstat holders misses a process that maps a file, has it open or has its folder there, by one of
    /// the names of its memory, counts its entries wrongly, or still shows it after its end
    "fsdax::holders::process", 90 s, essential => process
}
fn process() -> Result<()> {
    let fixture = Fixture::create(&EXT4)?;
    let large_file = fixture.written("large", &data::bytes(1, 2 * HUGE))?;
    let small_file = fixture.written("small", &data::bytes(2, 3 * PAGE))?;
    drop(fixture.written("other", &data::bytes(3, PAGE))?);
    let (ready, stop) = (Gate::new()?, Gate::new()?);
    let child = spawn(|| {
        let huge = large(&large_file, 2 * HUGE)?;
        huge.prefault_write(HUGE);
        let small = Mapping::shared(&small_file, 0, 3 * PAGE, PAGE)?;
        small.prefault_write(PAGE);
        std::env::set_current_dir(fixture.mount.dir()).context("chdir")?;
        ready.open()?;
        stop.pass()
    })?;
    drop((large_file, small_file));
    ready.pass()?;
    let pid = child.pid();
    let (start, size) = fixture.namespace.resource()?;
    let node = fixture.namespace.node()?;
    let names = [
        fixture.namespace.dev().to_owned(),
        text(&node),
        name(&node),
        text(fixture.mount.dir()),
        format!("{start:#x}-{:#x}", start + size - 1),
    ];
    let counts = |report: &Report, file: &str| -> Result<(u64, u64)> {
        let all = report.of_process("mapped", pid);
        let path = text(&fixture.path(file));
        let found = all
            .iter()
            .find(|h| h.file.as_deref() == Some(path.as_str()));
        let found = found.with_context(|| format!("{file} is not mapped: {report:?}"))?;
        ensure!(found.certain, "a mapping is not certain: {found:?}");
        Ok((found.huge.unwrap_or(9), found.small.unwrap_or(9)))
    };
    for target in &names {
        let report = Report::of(target)?;
        let got = (counts(&report, "large")?, counts(&report, "small")?);
        ensure!(
            got == ((2, 0), (0, 3)),
            "{target}: 2 huge entries and 3 small ones were expected, not {got:?}"
        );
        report.require("open", pid)?;
        let cwd = report.require("cwd", pid)?;
        ensure!(
            cwd.file == Some(text(fixture.mount.dir())),
            "{target}: {cwd:?}"
        );
        report.require_device("mount", &text(fixture.mount.dir()))?;
        ensure!(
            !report.unknown.is_empty(),
            "{target}: the report does not say what it cannot know"
        );
    }
    // One file, and memory that no mapping has.
    let report = Report::of(&text(&fixture.path("large")))?;
    counts(&report, "large")?;
    ensure!(
        report.of_process("mapped", pid).len() == 1,
        "the holders of one file have another one: {report:?}"
    );
    let report = Report::of(&text(&fixture.path("other")))?;
    ensure!(
        report.of_process("mapped", pid).is_empty() && report.of_process("open", pid).is_empty(),
        "a file that the process does not use is held: {report:?}"
    );
    let last = start + size - PAGE as u64;
    let report = Report::of(&format!("{last:#x}-{:#x}", start + size - 1))?;
    ensure!(
        report.of_process("mapped", pid).is_empty(),
        "the last page of the namespace is mapped: {report:?}"
    );
    let out = daxstat("holders")?.arg(&names[0]).ok()?.stdout;
    ensure!(
        out.contains("2 of 2 MiB, 0 of 4 KiB") && out.contains("Not known:"),
        "the text for people: {out}"
    );
    stop.open()?;
    child.join(20, "the process that maps files")?;
    let report = Report::of(&names[0])?;
    ensure!(
        !report.holders.iter().any(|h| h.pid == Some(pid)),
        "a process that has ended is still shown: {report:?}"
    );
    fixture.finish()
}

/// A device of device-mapper, which dmsetup makes; removed when dropped.
pub struct Dm(String);

impl Dm {
    /// Maps a device from its start.
    pub fn linear(name: &str, below: &Path, sectors: u64) -> Result<Self> {
        Cmd::new("modprobe dm-mod").ok()?;
        let table = format!("0 {sectors} linear {} 0", below.display());
        Self::call("create")
            .arg(name)
            .arg("--table")
            .arg(table)
            .ok()?;
        Ok(Self(name.to_owned()))
    }

    pub fn call(verb: &str) -> Cmd {
        Cmd::new(&format!("dmsetup {verb}")).env("DM_DISABLE_UDEV", "1")
    }

    pub fn node(&self) -> PathBuf {
        Path::new("/dev/mapper").join(&self.0)
    }
}

impl Drop for Dm {
    fn drop(&mut self) {
        clean_up(Self::call("resume").arg(&self.0).ok());
        clean_up(Self::call("remove").arg(&self.0).ok());
    }
}

/// Runs a command when dropped.
pub struct Undo(pub &'static str, pub PathBuf);

impl Drop for Undo {
    fn drop(&mut self) {
        clean_up(Cmd::new(self.0).arg(&self.1).ok());
    }
}

/// Makes a loop device of a file or a disk. Returns what takes it away, and its node.
pub fn attach_loop(below: &Path) -> Result<(Undo, PathBuf)> {
    let out = Cmd::new("losetup -f --show").arg(below).ok()?.stdout;
    let node = PathBuf::from(out.trim());
    Ok((Undo("losetup -d", node.clone()), node))
}

declare! {
    /// daxstat holders misses a partition, device-mapper, a mount, a loop device or swap in a chain of
    /// devices on one namespace, or shows one that is gone
    "fsdax::holders::devices", 120 s, essential => devices
}
fn devices() -> Result<()> {
    let namespace = Namespace::create(&EXT4.want)?;
    let node = namespace.node()?;
    let sectors = 200 << 11;
    let partition = Partition::add(&node, 4096, sectors)?;
    let part = PathBuf::from(format!("{}p1", node.display()));
    system::wait_for_node(&part)?;
    let dm = Dm::linear("held", &part, sectors)?;
    let dir = mount_point();
    fs::create_dir_all(&dir).context("cannot make the mount point")?;
    Cmd::new("mkfs.ext4 -q -F -b 4096").arg(dm.node()).ok()?;
    Cmd::new("mount -t ext4").arg(dm.node()).arg(&dir).ok()?;
    let mounted = Undo("umount", dir.clone());
    let image = dir.join("image");
    let file = File::create(&image).context("cannot create the image")?;
    fallocate(&file, 0, 0, 32 * MIB).context("fallocate")?;
    drop(file);
    let (looped, loop_node) = attach_loop(&image)?;
    Cmd::new("mkswap").arg(&loop_node).ok()?;
    Cmd::new("swapon").arg(&loop_node).ok()?;
    let swapping = Undo("swapoff", loop_node.clone());
    let real = fs::canonicalize(dm.node()).context("the node of dm")?;
    for target in [namespace.dev().to_owned(), text(&node)] {
        let report = Report::of(&target)?;
        report.require_device("partition", &name(&part))?;
        let by_dm = report.holders.iter().find(|h| h.kind == "dm");
        let by_dm = by_dm.with_context(|| format!("no dm ({}): {report:?}", real.display()))?;
        ensure!(
            by_dm
                .device
                .as_deref()
                .is_some_and(|d| d.starts_with("dm-")),
            "{by_dm:?}"
        );
        report.require_device("mount", &text(&dir))?;
        report.require_device("loop", &name(&loop_node))?;
        report.require_device("swap", &text(&loop_node))?;
    }
    // A file has the loop device, and what is on that.
    let report = Report::of(&text(&image))?;
    report.require_device("loop", &name(&loop_node))?;
    report.require_device("swap", &text(&loop_node))?;
    drop((swapping, looped, mounted, dm, partition));
    let report = Report::of(namespace.dev())?;
    ensure!(
        report.holders.iter().all(|h| h.pid.is_some()),
        "a device that is gone is still shown: {report:?}"
    );
    namespace.destroy()
}

declare! {
    /// daxstat holders misses a mount in another mount namespace, whose filesystem this one has
    /// unmounted
    "fsdax::holders::mount-namespace", 60 s => mount_namespace
}
fn mount_namespace() -> Result<()> {
    let Fixture {
        mount: mounted,
        namespace,
        kind: _,
    } = Fixture::create(&EXT4)?;
    let dir = mounted.dir().to_path_buf();
    let (ready, stop) = (Gate::new()?, Gate::new()?);
    let child = spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("private")?;
        ready.open()?;
        stop.pass()
    })?;
    ready.pass()?;
    mounted.unmount()?;
    let report = Report::of(namespace.dev())?;
    let found = report.require("mount", child.pid())?;
    ensure!(found.file == Some(text(&dir)), "{found:?}");
    stop.open()?;
    child.join(20, "the process with the mount")?;
    let report = Report::of(namespace.dev())?;
    ensure!(
        !report.holders.iter().any(|h| h.kind == "mount"),
        "a mount that is gone is still shown: {report:?}"
    );
    namespace.destroy()
}

declare! {
    /// daxstat holders misses a pipe with pages of a file, or calls it certain, which the kernel does not
    /// say
    "fsdax::holders::pipe" for [EXT4], 60 s => piped
}
fn piped(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let file = fixture.written("data", &data::bytes(1, PAGE))?;
    let (ready, stop) = (Gate::new()?, Gate::new()?);
    let child = spawn(|| {
        let map = large(&file, PAGE)?;
        let (_reader, writer) = pipe()?;
        vmsplice(&map, 0, PAGE, &writer)?;
        ready.open()?;
        stop.pass()
    })?;
    drop(file);
    ready.pass()?;
    let report = Report::of(fixture.namespace.dev())?;
    let found = report.require("pipe", child.pid())?;
    ensure!(!found.certain, "{found:?}");
    stop.open()?;
    child.join(20, "the process with the pipe")?;
    fixture.finish()
}

declare! {
    /// daxstat holders misses a fixed buffer of io_uring in a mapping of device-dax
    "fsdax::holders::io-uring", 60 s, essential => fixed_buffer
}
fn fixed_buffer() -> Result<()> {
    let target = Target::create(&want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi), 4 * MIB)?;
    let (ready, stop) = (Gate::new()?, Gate::new()?);
    let child = spawn(|| {
        let map = target.map(4 << 20)?;
        map.prefault_write(PAGE);
        let ring = Ring::new()?;
        ring.register(&map, HUGE).context("registering a buffer")?;
        ready.open()?;
        stop.pass()
    })?;
    ready.pass()?;
    let pid = child.pid();
    for name in [
        target.namespace.dev().to_owned(),
        text(&target.namespace.node()?),
    ] {
        let report = Report::of(&name)?;
        let mapped = report.require("mapped", pid)?;
        ensure!(
            (mapped.huge, mapped.small) == (Some(2), Some(0)),
            "{mapped:?}"
        );
        let buffer = report.require("io-uring", pid)?;
        ensure!(buffer.certain && buffer.address.is_some(), "{buffer:?}");
    }
    stop.open()?;
    child.join(20, "the process with the ring")?;
    require_unpinned("registered buffers")?;
    target.finish()
}

declare! {
    /// daxstat holders misses direct I/O whose buffer is in a mapping, and which waits for its disk
    "fsdax::holders::direct-io", 90 s => direct_io
}
/// The disk is one of device-mapper that is suspended, so a request to it waits.
fn direct_io() -> Result<()> {
    const DISK: u64 = 16 << 11;
    let fixture = Fixture::create(&EXT4)?;
    let file = fixture.written("data", &data::bytes(1, HUGE))?;
    let dm = Dm::linear("slow", scratch_node()?, DISK)?;
    let disk = open_rw(&dm.node(), true)?;
    let (ready, done) = (Gate::new()?, Gate::new()?);
    let child = spawn(|| {
        let map = large(&file, HUGE)?;
        map.prefault_write(HUGE);
        ready.pass()?;
        pread_all(&disk, &map, 0, PAGE, 0, PAGE).context("direct read")?;
        done.open()
    })?;
    drop(file);
    Dm::call("suspend --noflush --nolockfs").arg("slow").ok()?;
    ready.open()?;
    let end = Instant::now() + timeout(Duration::from_secs(10));
    let found = loop {
        let report = Report::of(fixture.namespace.dev())?;
        if let Some(found) = report.of_process("direct-io", child.pid()).first() {
            break Ok(found.certain);
        }
        if Instant::now() > end {
            break Err(anyhow!("no direct I/O is shown: {report:?}"));
        }
        thread::sleep(Duration::from_millis(100));
    };
    Dm::call("resume").arg("slow").ok()?;
    done.pass()?;
    child.join(20, "the process with direct I/O")?;
    ensure!(found?, "direct I/O into the mapping is not certain");
    drop((disk, dm));
    fixture.finish()
}

declare! {
    /// daxstat holders does not show the unbinding of a driver that waits for a pinned page, or the number
    /// of pages
    "fsdax::holders::teardown", 90 s, essential => teardown
}
fn teardown() -> Result<()> {
    require_rust("whose teardown does not wait")?;
    let mut pinned = Pinned::new(&EXT4.want)?;
    let name = pinned.namespace().dev().to_owned();
    let operation = pinned.bound.unbind();
    let waited = operation
        .must_wait("unbinding the driver")
        // Until the pages are counted.
        .and_then(|()| pinned.require_reported())
        .and_then(|()| {
            let report = Report::of(&name)?;
            let dying = report.memory.iter().find(|m| m.state == "dying");
            ensure!(
                dying.is_some_and(|m| m.busy.is_some_and(|pages| pages > 0)),
                "{name}: its teardown is not shown: {report:?}"
            );
            ensure!(
                report
                    .holders
                    .iter()
                    .any(|h| h.kind == "teardown" && h.certain),
                "{name}: the task that unbinds is not shown: {report:?}"
            );
            Ok(())
        });
    pinned.release(waited)?;
    operation.must_end("unbinding the driver")?;
    pinned.unmount()?;
    pinned.require_kept()
}

declare! {
    /// daxstat holders takes a name that is nothing, or does not say what it takes
    "fsdax::holders::names", 30 s => names
}
fn names() -> Result<()> {
    for (target, word) in [
        ("pmem999", "is no namespace"),
        ("/dev/null", "is no dax device"),
        ("/proc/self/maps", "without a block device"),
        ("0x2000-0x1000", "is no range"),
        ("/nonexistent", "cannot open"),
    ] {
        let out = daxstat("holders")?.arg(target).limit_secs(20).run()?;
        ensure!(
            out.code() == 2 && out.stderr.contains(word),
            "daxstat holders {target}: exit status {}, {word:?} was expected: {}",
            out.code(),
            out.all()
        );
    }
    Ok(())
}
