// SPDX-License-Identifier: GPL-2.0

//! `daxstat`: its report on a file must match the faults on that file, its report on a disk must
//! match the result of `mount -o dax`, and a look must have no effect.

use std::os::unix::fs::MetadataExt;

use serde::Deserialize;

use super::reasons::misaligned;
use super::{large, require_rust, want, Config, Fixture, EXT4, EXT4_E820, XFS};
use crate::filesystem::Kind;
use crate::tests::prelude::*;

/// Returns the line of the table that gives advice on a reason.
pub fn advice_on(reason: &str) -> Result<String> {
    let out = daxstat("--once")?.ok()?.stdout;
    out.lines()
        .find(|line| line.trim_start().starts_with(&format!("{reason} ")))
        .map(str::to_string)
        .with_context(|| format!("daxstat has no advice on {reason}: {out}"))
}

/// Returns the path of the program, which is in the same folder as this one.
fn program() -> Result<PathBuf> {
    let me = std::env::current_exe().context("cannot find this program")?;
    let path = me.with_file_name("daxstat");
    if !path.exists() {
        skip!("the guest has no {}", path.display());
    }
    Ok(path)
}

pub fn daxstat(arguments: &str) -> Result<Cmd> {
    Ok(Cmd::new(&program()?.to_string_lossy()).arg_words(arguments))
}

#[derive(Deserialize)]
struct FileReport {
    device: String,
    ranges: Vec<Range>,
    advice: Vec<String>,
}

#[derive(Deserialize)]
struct Range {
    offset: usize,
    length: usize,
    huge: bool,
    verdict: String,
}

fn report(path: &Path) -> Result<FileReport> {
    let out = daxstat("--json --file")?.arg(path).ok()?;
    serde_json::from_str(&out.stdout).with_context(|| format!("daxstat's JSON: {}", out.stdout))
}

/// Returns its advice on a file.
pub fn advice(path: &Path) -> Result<String> {
    Ok(report(path)?.advice.join("; "))
}

/// Returns the device by which it judges a file.
pub fn device(path: &Path) -> Result<String> {
    Ok(report(path)?.device)
}

/// Returns its report on each 2 MiB: whether it can be huge, and the verdict.
fn verdicts_of(path: &Path) -> Result<Vec<(bool, String)>> {
    let mut all = Vec::new();
    for range in report(path)?.ranges {
        ensure!(
            range.offset == all.len() * HUGE,
            "a range begins at {:#x} instead of {:#x}",
            range.offset,
            all.len() * HUGE
        );
        let count = range.length.div_ceil(HUGE);
        all.extend((0..count).map(|_| (range.huge, range.verdict.clone())));
    }
    Ok(all)
}

/// Compares the report on a file with the effect of stores to it.
pub fn require(fixture: &Fixture, trace: &FaultTrace, name: &str, verdicts: &[&str]) -> Result<()> {
    let path = fixture.path(name);
    let reported = verdicts_of(&path)?;
    let words: Vec<&str> = reported.iter().map(|(_, word)| word.as_str()).collect();
    ensure!(
        words == verdicts,
        "{name}: daxstat reports {words:?}, {verdicts:?} was expected"
    );
    let file = fixture.open(name)?;
    let map = large(&file, reported.len() * HUGE)?;
    for (n, (huge, word)) in reported.iter().enumerate() {
        // Not a load: unwritten blocks read as zeros, which always fit.
        trace.take()?;
        map.poke(n * HUGE, 1);
        let got = trace.take()?;
        // A hole may or may not become huge when it is stored to.
        ensure!(
            (got.pmd > 0) == *huge || word == "hole",
            "{name}, 2 MiB number {n}: daxstat reports {word}, the faults were {got:?}"
        );
    }
    let text = daxstat("--file")?.arg(&path).ok()?.stdout;
    ensure!(
        verdicts.iter().all(|word| text.contains(word)),
        "{name}: the text for people lacks one of {verdicts:?}: {text}"
    );
    Ok(())
}

declare! {
    /// daxstat --file reports that a range of a file can be huge, and a fault there is of 4 KiB, or
    /// vice versa
    "fsdax::daxstat::file" for [XFS, EXT4_E820], 90 s => files
}
fn files(config: &Config) -> Result<()> {
    program()?;
    let fixture = Fixture::create(config)?;
    let trace = FaultTrace::start()?;
    drop(fixture.written("aligned", &data::bytes(1, 3 * HUGE))?);
    require(&fixture, &trace, "aligned", &["huge"; 3])?;
    drop(fixture.mount.file("new", 2 * HUGE as u64)?);
    require(&fixture, &trace, "new", &["huge"; 2])?;
    drop(misaligned(&fixture, "misaligned", 2 * HUGE)?);
    require(&fixture, &trace, "misaligned", &["misaligned"; 2])?;
    drop(fixture.written("end", &data::bytes(2, HUGE + 3 * PAGE))?);
    require(&fixture, &trace, "end", &["huge", "eof"])?;
    let file = fixture.sparse("holes", 3 * HUGE as u64)?;
    file.write_all_at(&data::bytes(3, PAGE), (HUGE + 9 * PAGE) as u64)?;
    file.sync_all().context("fsync")?;
    require(&fixture, &trace, "holes", &["hole", "short", "hole"])?;
    drop((file, trace));
    fixture.finish()
}

declare! {
    /// daxstat --file takes time in proportion to the size of a sparse file: 8 EiB never end
    "fsdax::daxstat::largest", 60 s => largest
}
/// Looks at a file of the size that the kernel allows, with 4 KiB at its end.
fn largest() -> Result<String> {
    program()?;
    let fixture = Fixture::create(&XFS)?;
    let most = i64::MAX as u64 / HUGE as u64 * HUGE as u64;
    let file = fixture.sparse("largest", most)?;
    file.write_all_at(&data::bytes(1, PAGE), most - PAGE as u64)
        .context("writing the last page")?;
    let out = daxstat("--json --file")?
        .arg(fixture.path("largest"))
        .limit_secs(10)
        .ok()?;
    let report: FileReport = serde_json::from_str(&out.stdout)
        .with_context(|| format!("daxstat's JSON: {}", out.stdout))?;
    let [hole, last] = &report.ranges[..] else {
        bail!("a hole and a last range were expected: {}", out.stdout);
    };
    ensure!(
        (hole.verdict.as_str(), last.verdict.as_str()) == ("hole", "short")
            && hole.length as u64 + HUGE as u64 == most,
        "a hole and a last range were expected: {}",
        out.stdout
    );
    drop(file);
    fixture.finish()?;
    Ok(format!("{most} bytes"))
}

declare! {
    /// daxstat --file opens a FIFO and waits for its writer, opens a device, or takes any character
    /// device for device-dax
    "fsdax::daxstat::types", 60 s => types
}
fn types() -> Result<()> {
    program()?;
    let refused = |path: &Path, word: &str| -> Result<String> {
        let out = daxstat("--file")?.arg(path).limit_secs(5).run()?;
        ensure!(
            !out.status.success() && out.stderr.contains(word),
            "daxstat --file {}: {word:?} was expected: {}",
            path.display(),
            out.all()
        );
        Ok(out.stderr)
    };
    let fifo = std::env::temp_dir().join(format!("daxstat-fifo-{}", std::process::id()));
    Cmd::new("mkfifo").arg(&fifo).ok()?;
    let result = refused(&fifo, "not a regular file");
    std::fs::remove_file(&fifo).context("cannot remove the FIFO")?;
    result?;
    let text = refused(Path::new("/dev/null"), "character device")?;
    ensure!(
        !text.contains("daxctl"),
        "/dev/null is taken for device-dax: {text}"
    );
    let namespace = Namespace::create(&want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi))?;
    refused(&namespace.node()?, "daxctl list")?;
    namespace.destroy()
}

declare! {
    /// daxstat --file writes the file back
    "fsdax::daxstat::looks" for [EXT4, XFS], 60 s => looks
}
/// Compares the events of writeback with the program's name.
fn looks(config: &Config) -> Result<()> {
    program()?;
    let fixture = Fixture::create(config)?;
    let file = fixture.written("data", &data::bytes(1, 2 * HUGE))?;
    let map = large(&file, 2 * HUGE)?;
    map.prefault_write(HUGE);
    let trace = FaultTrace::of(&["dax_writeback_range"])?;
    report(&fixture.path("data"))?;
    let text = trace.take_text()?;
    let events: Vec<&str> = text.lines().filter(|l| l.contains("daxstat-")).collect();
    ensure!(
        events.is_empty(),
        "daxstat --file wrote the file back: {}",
        events.join(" | ")
    );
    // The bytes are still to be written back: the trace would have shown it.
    file.sync_all().context("fsync")?;
    ensure!(
        trace.take_text()?.contains("dax_writeback_range: "),
        "fsync after stores has no event of writeback"
    );
    drop((trace, map, file));
    fixture.finish()
}

#[derive(Deserialize)]
struct DeviceReport {
    fit: bool,
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    check: String,
    state: String,
}

/// What becomes of `mount -o dax`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mounted {
    Dax,
    /// Mounted as if nothing had happened.
    WithoutDax,
    Refused,
}

/// Returns whether a file on a mounted filesystem is DAX.
fn has_dax(dir: &Path) -> Result<bool> {
    let path = dir.join("a-file");
    std::fs::write(&path, b"x").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(daxstat("--file")?.arg(&path).run()?.status.success())
}

fn try_mount(kind: Kind, node: &Path) -> Result<Mounted> {
    match DaxMount::mount(kind, node, &mount_point()) {
        Err(_) => Ok(Mounted::Refused),
        Ok(mount) => {
            let dax = has_dax(mount.dir())?;
            mount.unmount()?;
            Ok(match dax {
                true => Mounted::Dax,
                false => Mounted::WithoutDax,
            })
        }
    }
}

/// Requires a report with this check in this state, and the exit status that belongs to it.
fn require_device(node: &Path, fit: bool, check: &str, state: &str) -> Result<()> {
    let out = daxstat("--json --device")?.arg(node).run()?;
    let report: DeviceReport = serde_json::from_str(&out.stdout)
        .with_context(|| format!("daxstat's JSON: {}", out.all()))?;
    ensure!(
        report.fit == fit && out.code() == i32::from(!fit),
        "daxstat --device {}: fit is {}, exit status {}: {}",
        node.display(),
        report.fit,
        out.code(),
        out.all()
    );
    ensure!(
        report
            .checks
            .iter()
            .any(|c| c.check == check && c.state == state),
        "daxstat --device {}: {check} is not {state}: {}",
        node.display(),
        out.all()
    );
    let text = daxstat("--device")?.arg(node).run()?.stdout;
    ensure!(
        text.contains(if fit {
            ": fit for DAX"
        } else {
            "not fit for DAX"
        }) && text.contains(check),
        "daxstat --device {}: {text}",
        node.display()
    );
    Ok(())
}

/// A filesystem by the command that makes it; what becomes of it, and the check that says so.
type Made = (Kind, &'static str, Mounted, &'static str, &'static str);

declare! {
    /// daxstat --device calls a disk fit that mount -o dax refuses or mounts without DAX, or vice
    /// versa, or does not say what is missing
    "fsdax::daxstat::device", 180 s => device_report
}
fn device_report() -> Result<String> {
    // On a small disk mkfs.ext4 makes blocks of 1 KiB.
    const SMALL: u64 = 64 * MIB;
    const EXT: &[Made] = &[
        (
            Kind::Ext4,
            "mkfs.ext4 -q -F",
            Mounted::Refused,
            "block size",
            "missing",
        ),
        (
            Kind::Ext4,
            "mkfs.ext4 -q -F -b 4096",
            Mounted::Dax,
            "layout",
            "warning",
        ),
        (
            Kind::Ext4,
            "mkfs.ext4 -q -F -b 4096 -E stride=512,stripe_width=512",
            Mounted::Dax,
            "block size",
            "ok",
        ),
        (
            Kind::Ext4,
            "mkfs.ext4 -q -F -b 4096 -O inline_data",
            Mounted::Refused,
            "inline_data",
            "missing",
        ),
        (
            Kind::Ext2,
            "mkfs.ext2 -q -F -b 1024",
            Mounted::WithoutDax,
            "block size",
            "missing",
        ),
        (
            Kind::Ext2,
            "mkfs.ext2 -q -F -b 4096",
            Mounted::Dax,
            "filesystem",
            "warning",
        ),
    ];
    // mkfs.xfs refuses less than 300 MiB.
    const XFS_MADE: &[Made] = &[
        (
            Kind::Xfs,
            "mkfs.xfs -q -f -m reflink=0 -b size=1024 -d agcount=2",
            Mounted::WithoutDax,
            "block size",
            "missing",
        ),
        (
            Kind::XfsReflink,
            "mkfs.xfs -q -f -m reflink=1 -d su=2m,sw=1,agcount=2",
            Mounted::Dax,
            "block size",
            "ok",
        ),
    ];
    program()?;
    let try_all = |node: &Path, all: &[Made]| -> Result<()> {
        for (kind, mkfs, mounted, check, state) in all {
            Cmd::new(mkfs).arg(node).limit_secs(120).ok()?;
            require_device(node, *mounted == Mounted::Dax, check, state).context(*mkfs)?;
            let got = try_mount(*kind, node)?;
            ensure!(
                got == *mounted,
                "{mkfs}: {mounted:?} was expected, mount -o dax is {got:?}"
            );
        }
        Ok(())
    };
    let small = Namespace::create_sized(&EXT4.want, SMALL)?;
    let node = small.node()?;
    // Of an earlier filesystem.
    Cmd::new("wipefs -q -a").arg(&node).ok()?;
    require_device(&node, true, "filesystem", "warning").context("an empty disk")?;
    try_all(&node, EXT)?;
    // As mounted.
    let mount = DaxMount::mount_with(Kind::Ext2, &node, &mount_point(), "noatime")?;
    require_device(&node, true, "mount", "warning").context("mounted without dax")?;
    mount.unmount()?;
    small.destroy()?;

    let large = Namespace::create(&XFS.want)?;
    let node = large.node()?;
    try_all(&node, XFS_MADE)?;
    // A partition that begins at a page, but not at 2 MiB. With reflink XFS refuses it.
    let added = Partition::add(&node, 1 << 11, 400 << 11)?;
    let part = PathBuf::from(format!("{}p1", node.display()));
    system::wait_for_node(&part)?;
    require_device(&node, true, "partitions", "warning")?;
    try_all(
        &part,
        &[
            (
                Kind::XfsReflink,
                "mkfs.xfs -q -f -m reflink=1 -d agcount=2",
                Mounted::Refused,
                "reflink",
                "missing",
            ),
            (
                Kind::Xfs,
                "mkfs.xfs -q -f -m reflink=0 -d agcount=2",
                Mounted::Dax,
                "alignment",
                "warning",
            ),
        ],
    )?;
    drop(added);
    // And one that does not begin at a page.
    let added = Partition::add(&node, (1 << 11) + 3, 200 << 11)?;
    system::wait_for_node(&part)?;
    Cmd::new("mkfs.ext4 -q -F -b 4096").arg(&part).ok()?;
    require_device(&part, false, "partition", "missing")?;
    let got = try_mount(Kind::Ext4, &part)?;
    ensure!(got == Mounted::Refused, "mount -o dax is {got:?}");
    drop(added);
    large.destroy()?;
    modes()?;
    Ok(String::new())
}

/// A partition without a table; removed when dropped.
pub struct Partition {
    disk: File,
    number: i32,
}

impl Partition {
    /// Adds the first partition; start and length are in sectors.
    pub fn add(node: &Path, start: u64, sectors: u64) -> Result<Self> {
        Self::add_numbered(1, node, start, sectors)
    }

    fn add_numbered(number: i32, node: &Path, start: u64, sectors: u64) -> Result<Self> {
        const ADD: i32 = 1;
        let disk = File::open(node).with_context(|| node.display().to_string())?;
        let this = Self { disk, number };
        this.change(ADD, start * 512, sectors * 512)?;
        Ok(this)
    }

    /// Calls BLKPG of linux/blkpg.h.
    fn change(&self, operation: i32, start: u64, length: u64) -> Result<()> {
        const BLKPG: u64 = 0x1269;
        #[repr(C)]
        struct Change {
            start: i64,
            length: i64,
            number: i32,
            names: [[u8; 64]; 2],
        }
        #[repr(C)]
        struct Argument {
            operation: i32,
            flags: i32,
            size: i32,
            change: *mut Change,
        }
        let mut change = Change {
            start: start as i64,
            length: length as i64,
            number: self.number,
            names: [[0; 64]; 2],
        };
        let argument = Argument {
            operation,
            flags: 0,
            size: size_of::<Change>() as i32,
            change: &mut change,
        };
        // SAFETY: Both structures have the layout of the request and outlive the call.
        match unsafe { libc::ioctl(self.disk.as_raw_fd(), BLKPG, &argument) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()).context("BLKPG"),
        }
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        const DELETE: i32 = 2;
        clean_up(self.change(DELETE, 0, 0));
    }
}

declare! {
    /// daxstat --device does not say that XFS on another partition has the disk's DAX, without which a
    /// second XFS is mounted, or says so when it has not
    "fsdax::daxstat::one-holder", 120 s => one_holder
}
fn one_holder() -> Result<()> {
    const SECTORS: u64 = 320 << 11;
    program()?;
    let namespace = Namespace::create_sized(&XFS.want, 800 * MIB)?;
    let node = namespace.node()?;
    let partitions = [
        Partition::add(&node, 4096, SECTORS)?,
        Partition::add_numbered(2, &node, 4096 + SECTORS, SECTORS)?,
    ];
    let [first, second] = [1, 2].map(|n| PathBuf::from(format!("{}p{n}", node.display())));
    for part in [&first, &second] {
        system::wait_for_node(part)?;
        Cmd::new("mkfs.xfs -q -f -m reflink=0 -d agcount=2")
            .arg(part)
            .limit_secs(120)
            .ok()?;
    }
    let mount = DaxMount::mount(Kind::Xfs, &first, &mount_point())?;
    require_device(&second, false, "holders", "missing")?;
    // Over the other one.
    let mark = system::LogMark::new("a second holder")?;
    let got = try_mount(Kind::Xfs, &second)?;
    ensure!(
        got == Mounted::WithoutDax,
        "the second XFS: mount -o dax is {got:?}"
    );
    if live::ask()?.fs_dax.implementation == Language::Rust {
        let name = second.file_name().unwrap_or_default().to_string_lossy();
        let line = format!("{name}: error: its dax device has another holder");
        let log = mark.since()?;
        ensure!(log.contains(&line), "the log does not say {line:?}: {log}");
    }
    mount.unmount()?;
    require_device(&second, true, "filesystem", "ok")?;
    let got = try_mount(Kind::Xfs, &second)?;
    ensure!(got == Mounted::Dax, "the only XFS: mount -o dax is {got:?}");
    drop(partitions);
    namespace.destroy()
}

/// Tests disks that are not in mode fsdax, and one that is no persistent memory.
fn modes() -> Result<()> {
    let region = ndctl::region_with(Bus::Acpi, 64 * MIB)?;
    for mode in ["raw", "sector"] {
        let made = ndctl::create(&format!("-m {mode} -r {} -s {}", region.dev, 64 * MIB))?;
        let node = made.node()?;
        let result = system::wait_for_node(&node)
            .and_then(|()| require_device(&node, false, "mode", "missing"));
        Cmd::new("ndctl destroy-namespace -f").arg(&made.dev).ok()?;
        result.context(mode)?;
    }
    let devdax = Namespace::create(&want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi))?;
    require_device(&devdax.node()?, false, "mode", "missing").context("devdax")?;
    devdax.destroy()?;
    require_device(Path::new("/dev/vda"), false, "mode", "missing")?;
    let out = daxstat("--device /nonexistent")?.run()?;
    ensure!(
        out.code() == 2,
        "an error has the exit status {}: {}",
        out.code(),
        out.all()
    );
    Ok(())
}

#[derive(Deserialize)]
struct Delayed {
    fstype: String,
    inode: u64,
    pages: u64,
    first: String,
}

/// Waits until the list of removed inodes has one with this number and pages that were counted, or
/// has none.
fn wait_for_delayed(inode: u64, listed: bool) -> Result<()> {
    let end = Instant::now() + timeout(Duration::from_secs(10));
    loop {
        let out = daxstat("--delayed --json")?.ok()?.stdout;
        let all: Vec<Delayed> =
            serde_json::from_str(&out).with_context(|| format!("daxstat's JSON: {out}"))?;
        let found = all.iter().find(|i| i.inode == inode && i.fstype == "ext4");
        let done = match found {
            Some(inode) => listed && inode.pages == 1 && inode.first != "0x0",
            None => !listed,
        };
        if done {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "inode {inode} should {} in daxstat's list: {out}",
            if listed { "be" } else { "not be" }
        );
        thread::sleep(Duration::from_millis(50));
    }
}

declare! {
    /// a removed inode with a pinned page is missing in daxstat's list or in its summary, or stays
    /// there after the pin was dropped
    "fsdax::daxstat::delayed", 60 s => delayed
}
fn delayed() -> Result<()> {
    require_rust("which does not keep the blocks of a pinned page")?;
    program()?;
    let fixture = Fixture::create(&EXT4)?;
    let file = fixture.written("removed", &data::bytes(1, PAGE))?;
    let inode = file.metadata().context("fstat")?.ino();
    let (reader, writer) = pipe()?;
    let map = large(&file, PAGE)?;
    vmsplice(&map, 0, PAGE, &writer)?;
    drop((map, file));
    std::fs::remove_file(fixture.path("removed")).context("unlink")?;
    wait_for_delayed(inode, true)?;
    let text = daxstat("--once")?.ok()?.stdout;
    ensure!(
        text.contains("removed inode"),
        "daxstat --once does not mention the inode: {text}"
    );
    let text = daxstat("--delayed")?.ok()?.stdout;
    ensure!(
        text.contains(&inode.to_string()) && text.contains("vmsplice"),
        "daxstat --delayed: {text}"
    );
    drop((reader, writer));
    wait_for_delayed(inode, false)?;
    fixture.finish()
}

#[derive(Deserialize)]
struct Sample {
    filesystems: Vec<Filesystem>,
}

#[derive(Deserialize)]
struct Filesystem {
    device: String,
    fstype: String,
    faults: std::collections::BTreeMap<String, u64>,
}

declare! {
    /// daxstat has other counts than the kernel, or gives no advice where the kernel does not count
    "fsdax::daxstat::table", 60 s, essential => table
}
fn table() -> Result<()> {
    program()?;
    let fixture = Fixture::create(&EXT4)?;
    let file = fixture.written("data", &data::bytes(1, 2 * HUGE))?;
    let map = large(&file, 2 * HUGE)?;
    map.prefault_write(HUGE);
    // A file that is not DAX, and one that does not exist.
    for path in ["/etc/passwd", "/nonexistent"] {
        let out = daxstat("--file")?.arg(path).run()?;
        ensure!(
            !out.status.success() && out.stderr.contains(path),
            "daxstat --file {path}: {}",
            out.all()
        );
    }
    let once = daxstat("--once --json")?.run()?;
    if live::ask()?.fs_dax.implementation == Language::C {
        ensure!(
            !once.status.success() && once.stderr.contains("CONFIG_RUST_FS_DAX"),
            "daxstat on a kernel that does not count: {}",
            once.all()
        );
    } else {
        let sample: Sample = serde_json::from_str(&once.stdout)
            .with_context(|| format!("daxstat's JSON: {}", once.all()))?;
        let device = std::fs::metadata(fixture.mount.dir())?.dev();
        let name = format!("{}:{}", libc::major(device), libc::minor(device));
        let Some(row) = sample.filesystems.iter().find(|f| f.device == name) else {
            bail!("daxstat does not know {name}: {}", once.stdout);
        };
        ensure!(
            row.fstype == "ext4" && row.faults.get("2M").is_some_and(|n| *n >= 2),
            "daxstat reports on {name}: {}",
            once.stdout
        );
        let text = daxstat("--once")?.ok()?.stdout;
        ensure!(text.contains("ext4"), "daxstat --once: {text}");
    }
    drop((map, file));
    fixture.finish()
}
