// SPDX-License-Identifier: GPL-2.0

//! The last reference to an inode is put while a page of it is pinned.
//!
//! The blocks may not be freed before the page is unpinned, but the task that
//! puts the reference may not wait for that either: it may hold the pin itself,
//! or locks that every other user of the filesystem needs. The pin is a page in
//! a pipe, for which read permission to the file suffices.
//!
//! In each test the operation ends at once, a second process uses the filesystem
//! meanwhile, the blocks are kept, and they are free soon after the pipe was
//! read. C does not wait, and frees the blocks at once; it also warns about it.

use std::sync::mpsc;

use nix::sys::signal::{kill, Signal};
use nix::sys::statvfs::statvfs;
use nix::unistd::{setgid, setuid, Gid, Pid, Uid};

use super::clone::clone;
use super::idle::{Announced, Held, LEN, PAGES};
use super::{large, require_rust, small, Config, Fixture, EXT4, REFLINK, XFS};
use crate::filesystem::Kind;
use crate::tests::prelude::*;
use crate::tests::teardown::Bound;

/// Time for operations that must not wait for a pin.
const SOON: Duration = Duration::from_secs(5);
/// Time until the blocks are free after the pages were unpinned.
const FREED: Duration = Duration::from_secs(10);
const NAME: &str = "data";

/// Runs an operation that must not wait for a pin.
fn soon(what: &str, work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let (tx, done) = mpsc::channel();
    // Not joined: if it hangs, the caller releases the pages and reports it.
    thread::spawn(move || tx.send(work()));
    match done.recv_timeout(timeout(SOON)) {
        Ok(result) => result.with_context(|| what.to_owned()),
        Err(_) => bail!("{what} hangs while a page of the file is pinned"),
    }
}

/// Requires that another process can use the filesystem.
pub fn others_go_on(dir: &Path) -> Result<()> {
    let run = |command: &str, path: &Path| -> Result<()> {
        Cmd::new(command)
            .arg(path)
            .limit_secs(SOON.as_secs())
            .ok()
            .with_context(|| format!("another process: {command}"))?;
        Ok(())
    };
    run("ls -l", dir)?;
    run("touch", &dir.join("touched"))?;
    run("rm", &dir.join("touched"))?;
    run("fsfreeze -f", dir)?;
    run("fsfreeze -u", dir)?;
    run("mount -o remount,rw", dir)?;
    Cmd::new("sync").limit_secs(SOON.as_secs()).ok()?;
    Ok(())
}

/// Returns the number of free bytes.
fn free_bytes(dir: &Path) -> Result<u64> {
    let stat = statvfs(dir).context("statvfs")?;
    Ok(stat.blocks_free() * stat.fragment_size())
}

/// The free space of a filesystem before the file was written.
struct Space {
    dir: PathBuf,
    free: u64,
}

impl Space {
    fn measure(fixture: &Fixture) -> Result<Self> {
        let dir = fixture.mount.dir().to_path_buf();
        fixture.sync()?;
        let free = free_bytes(&dir)?;
        Ok(Self { dir, free })
    }

    /// Returns whether the blocks of the file are free again; metadata may take
    /// a little.
    fn is_free(&self, dir: &Path) -> Result<bool> {
        Ok(free_bytes(dir)? + LEN as u64 / 2 >= self.free)
    }

    /// Requires that the blocks of the file are not free.
    fn require_kept(&self) -> Result<()> {
        // The journal is written by then, so they would be free.
        let end = Instant::now() + Duration::from_millis(300);
        while Instant::now() < end {
            ensure!(
                !self.is_free(&self.dir)?,
                "the blocks of the file are free while a pipe has pages of it"
            );
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits until the blocks of the file are free.
    fn wait_free(&self) -> Result<Duration> {
        let start = Instant::now();
        while !self.is_free(&self.dir)? {
            ensure!(
                start.elapsed() < timeout(FREED),
                "the blocks of the file are not freed after its pages were unpinned"
            );
            thread::sleep(Duration::from_millis(10));
        }
        Ok(start.elapsed())
    }
}

/// Returns the lines of the inodes that wait for their last put.
fn delayed() -> Result<Vec<String>> {
    match fs::read_to_string(system::debugfs()?.join("fs_dax/delayed_iputs")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        text => Ok(text?.lines().map(str::to_owned).collect()),
    }
}

/// Waits until the list of these inodes has as many lines.
pub fn wait_delayed(count: usize) -> Result<Vec<String>> {
    let start = Instant::now();
    loop {
        let lines = delayed()?;
        if lines.len() == count {
            return Ok(lines);
        }
        ensure!(
            start.elapsed() < timeout(FREED),
            "fs_dax/delayed_iputs has {} lines instead of {count}: {lines:?}",
            lines.len()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Requires that the one file is listed, with its pinned pages.
pub fn require_listed(kind: Kind) -> Result<()> {
    let name = match kind {
        Kind::Xfs | Kind::XfsReflink => "xfs",
        _ => kind.name(),
    };
    let start = Instant::now();
    loop {
        // The worker counts the pages a moment later.
        let lines = wait_delayed(1)?;
        let has = |word: &str| lines[0].split(' ').any(|w| w == word);
        if has(&format!("fstype={name}")) && has(&format!("pages={PAGES}")) {
            return Ok(());
        }
        ensure!(
            start.elapsed() < timeout(SOON),
            "fs_dax/delayed_iputs lacks the file or its pages: {lines:?}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a file and puts pages of it into a pipe. Returns the free space before, the file and the
/// pages.
fn set_up(fixture: &Fixture) -> Result<(Space, File, Held)> {
    let space = Space::measure(fixture)?;
    let file = fixture.written(NAME, &data::bytes(1, LEN))?;
    let held = Held::take(&large(&file, LEN)?, 2)?;
    Ok((space, file, held))
}

/// Calls `act`, which puts the last reference to the file; then requires what
/// the comment at the top says.
fn run(config: &Config, act: impl FnOnce(&Fixture, File) -> Result<()>) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let _warning = Announced::new()?;
    let (space, file, held) = set_up(&fixture)?;
    let went = act(&fixture, file);
    finish(fixture, &space, held, went)
}

/// Requires that others can use the filesystem and that the blocks are kept;
/// releases the pages, and requires that the blocks are freed.
fn finish(fixture: Fixture, space: &Space, mut held: Held, went: Result<()>) -> Result<String> {
    let went = went
        .and_then(|()| others_go_on(fixture.mount.dir()))
        .and_then(|()| space.require_kept())
        .and_then(|()| require_listed(fixture.kind));
    // Whatever the result, the pages are released now.
    let whole = held.release();
    went?;
    whole?;
    let took = space.wait_free()?;
    wait_delayed(0)?;
    require_unpinned("removing a file")?;
    fixture.finish()?;
    Ok(format!("freed after {} ms", took.as_millis()))
}

fn remove(fixture: &Fixture) -> Result<()> {
    let path = fixture.path(NAME);
    soon("removing the file", move || {
        fs::remove_file(path).context("unlink")
    })
}

declare! {
    /// close() of a removed file waits for a page in a pipe of the same task, for ever and
    /// unkillably, or the blocks of the page are freed
    "fsdax::hang::differs_self_{kind}" for [EXT4, XFS], 120 s, essential "xfs"
        => |config| run(config, own_pin)
}
fn own_pin(fixture: &Fixture, file: File) -> Result<()> {
    let path = fixture.path(NAME);
    soon("unlink() and close()", move || {
        fs::remove_file(path).context("unlink")?;
        drop(file);
        Ok(())
    })
}

declare! {
    /// the blocks of a removed file are freed while a pipe has pages of its second 2 MiB, because only
    /// the first is looked at
    "fsdax::hang::differs_second_{kind}" for [EXT4, XFS], 120 s => second
}
fn second(config: &Config) -> Result<String> {
    const AT: usize = HUGE + HUGE / 4;
    let fixture = Fixture::create(config)?;
    let _warning = Announced::new()?;
    let space = Space::measure(&fixture)?;
    let file = fixture.written(NAME, &data::bytes(1, LEN))?;
    let map = large(&file, LEN)?;
    map.prefault_write(HUGE);
    let held = Held::take_at(&map, AT, 2)?;
    drop(map);
    let went = own_pin(&fixture, file);
    finish(fixture, &space, held, went)
}

declare! {
    /// the worker of a filesystem whose removed files are done takes those of another filesystem with
    /// it: their blocks are freed while a pipe has their pages, or they are listed no more
    "fsdax::hang::differs_two_filesystems", 120 s => two_filesystems
}
/// The filesystem that comes last is the first in the list, and the first that is done.
fn two_filesystems() -> Result<String> {
    let fixture = Fixture::create(&EXT4)?;
    let beside = Fixture::create_at(&XFS, &mount_point().with_extension("beside"))?;
    let _warning = Announced::new()?;
    let (space, file, held) = set_up(&fixture)?;
    let went = own_pin(&fixture, file).and_then(|()| wait_delayed(1).map(drop));
    let done = went.and_then(|()| {
        let (space, file, mut held) = set_up(&beside)?;
        let went = own_pin(&beside, file).and_then(|()| wait_delayed(2).map(drop));
        let whole = held.release();
        went?;
        whole?;
        space.wait_free()?;
        // The worker takes its filesystem from the list after that.
        wait_delayed(1).map(drop)
    });
    let took = finish(fixture, &space, held, done)?;
    beside.finish()?;
    Ok(took)
}

declare! {
    /// rename() over a file with pages in a pipe hangs with the directory locked, so that ls and
    /// touch hang as well, or the blocks of the file are freed
    "fsdax::hang::differs_rename_{kind}" for [EXT4, XFS], 120 s => |config| run(config, rename_over)
}
fn rename_over(fixture: &Fixture, file: File) -> Result<()> {
    drop(file);
    let (from, to) = (fixture.path("new"), fixture.path(NAME));
    File::create(&from).context("creating a file")?;
    soon("rename() over the file", move || {
        fs::rename(from, to).context("rename")
    })
}

declare! {
    /// a task that exits waits for a page of its removed file in a pipe, or the blocks of the page
    /// are freed
    "fsdax::hang::differs_exit_{kind}" for [EXT4, XFS], 120 s => exit
}
/// At exit, files are closed in the order opposite to that of their descriptors:
/// the file first, then the pipe.
fn exit(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let _warning = Announced::new()?;
    let space = Space::measure(&fixture)?;
    drop(fixture.written(NAME, &data::bytes(1, LEN))?);
    let (mut held, writer) = Held::expect(2)?;
    let path = fixture.path(NAME);
    let mut child = spawn(|| {
        let file = open_rw(&path, false)?;
        let map = large(&file, LEN)?;
        map.write(HUGE / 2, &data::bytes(2, PAGES * PAGE));
        vmsplice(&map, HUGE / 2, PAGES * PAGE, &writer)?;
        drop(map);
        fs::remove_file(&path).context("unlink")?;
        // Closed by the exit.
        std::mem::forget(file);
        Ok(())
    })?;
    let went = child
        .wait_signal(SOON.as_secs(), "a task that exits")
        .map(drop);
    if went.is_err() {
        held.release()?;
    }
    finish(fixture, &space, held, went)
}

declare! {
    /// a user with read permission makes rm(1), fsfreeze and remounting hang for all others, or the
    /// blocks of the removed file are freed while that user has its pages
    "fsdax::hang::differs_other_user_{kind}" for [EXT4, XFS], 120 s => other_user
}
fn other_user(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let _warning = Announced::new()?;
    let space = Space::measure(&fixture)?;
    let bytes = data::bytes(2, LEN);
    drop(fixture.written(NAME, &bytes)?);
    let (held, writer) = Held::expect_bytes(bytes[..PAGES * PAGE].to_vec())?;
    let (path, ready) = (fixture.path(NAME), Gate::new()?);
    let child = spawn(|| {
        const NOBODY: u32 = 65534;
        setgid(Gid::from_raw(NOBODY)).context("setgid")?;
        setuid(Uid::from_raw(NOBODY)).context("setuid")?;
        let file = File::open(&path).context("open")?;
        let map = Mapping::with(&file, 0, LEN, HUGE, libc::PROT_READ, libc::MAP_SHARED)?;
        vmsplice(&map, 0, PAGES * PAGE, &writer)?;
        drop((map, file));
        ready.open()?;
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    })?;
    ready.pass()?;
    let went = remove(&fixture);
    let done = finish(fixture, &space, held, went);
    drop(child);
    done
}

declare! {
    /// umount, or everybody's sync(2) beside it, waits for a page of a removed file; or a second
    /// mount does not find the blocks of the file kept
    "fsdax::hang::differs_umount_{kind}" for [EXT4, XFS], 120 s, essential "ext4" => umount
}
/// Unmounts with a removed file whose pages are in a pipe, mounts again, and
/// unmounts once more.
fn umount(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let _warning = Announced::new()?;
    let (space, file, mut held) = set_up(&fixture)?;
    let went = own_pin(&fixture, file).and_then(|()| space.require_kept());
    if let Err(e) = went {
        held.release()?;
        return Err(e);
    }
    let Fixture {
        mount,
        namespace,
        kind,
    } = fixture;
    let node = namespace.node()?;
    let went = soon("umount", move || mount.unmount()).and_then(|()| {
        Cmd::new("sync").limit_secs(SOON.as_secs()).ok()?;
        require_listed(kind)?;
        let again = DaxMount::mount(kind, &node, &mount_point())?;
        // The superblock is the same: the blocks are kept, and the file is listed.
        space.require_kept()?;
        require_listed(kind)?;
        others_go_on(again.dir())?;
        again.unmount()?;
        require_listed(kind)
    });
    let whole = held.release();
    went?;
    whole?;
    wait_delayed(0)?;
    require_unpinned("unmounting")?;
    kind.check(&namespace.node()?)?;
    namespace.destroy()
}

declare! {
    /// the worker that has a removed file does not wait until the filesystem is thawed, or blocks the
    /// thaw
    "fsdax::hang::differs_frozen_{kind}" for [EXT4, XFS], 120 s => frozen
}
fn frozen(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let _warning = Announced::new()?;
    let (space, file, mut held) = set_up(&fixture)?;
    let went = own_pin(&fixture, file)
        .and_then(|()| space.require_kept())
        .and_then(|()| freeze(fixture.mount.dir(), true));
    let whole = held.release();
    went?;
    // Not by the free blocks, to which XFS adds its reserve when it is frozen.
    let kept = require_listed(fixture.kind).and_then(|()| {
        thread::sleep(Duration::from_millis(300));
        require_listed(fixture.kind)
    });
    freeze(fixture.mount.dir(), false)?;
    kept?;
    whole?;
    let took = space.wait_free()?;
    wait_delayed(0)?;
    fixture.finish()?;
    Ok(format!("freed {} ms after the thaw", took.as_millis()))
}

fn freeze(dir: &Path, frozen: bool) -> Result<()> {
    Cmd::new(if frozen { "fsfreeze -f" } else { "fsfreeze -u" })
        .arg(dir)
        .limit_secs(SOON.as_secs())
        .ok()?;
    Ok(())
}

/// Returns the number of kernel threads.
fn kernel_threads() -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        let comm = fs::read_to_string(entry?.path().join("comm")).unwrap_or_default();
        count += usize::from(comm.starts_with("kworker"));
    }
    Ok(count)
}

declare! {
    /// each of many removed files with pages in pipes occupies a kernel thread, or one is lost
    "fsdax::hang::differs_many_{kind}" for [EXT4, XFS], 120 s => many
}
fn many(config: &Config) -> Result<()> {
    const FILES: usize = 512;
    let fixture = Fixture::create(config)?;
    let _warning = Announced::new()?;
    let before = kernel_threads()?;
    let mut pipes = Vec::new();
    let mut paths = Vec::new();
    for n in 0..FILES {
        if n % PAGES == 0 {
            pipes.push(pipe()?);
        }
        let name = format!("file{n}");
        let file = fixture.mount.file(&name, PAGE as u64)?;
        let map = small(&file, PAGE)?;
        map.poke(0, 1);
        let (_, writer) = pipes.last().context("no pipe")?;
        vmsplice(&map, 0, PAGE, writer)?;
        paths.push(fixture.path(&name));
    }
    let went = soon("removing many files", move || {
        for path in paths {
            fs::remove_file(path).context("unlink")?;
        }
        Ok(())
    })
    .and_then(|()| wait_delayed(FILES).map(drop))
    .and_then(|()| others_go_on(fixture.mount.dir()))
    .and_then(|()| {
        let more = kernel_threads()?.saturating_sub(before);
        ensure!(more < FILES / 8, "there are {more} more kernel threads");
        Ok(())
    });
    drop(pipes);
    went?;
    wait_delayed(0)?;
    require_unpinned("removing many files")?;
    fixture.finish()
}

declare! {
    /// the blocks of a file that was removed while a page was pinned are lost in a crash, or the
    /// filesystem is damaged
    "fsdax::hang::differs_crash_{kind}" for [EXT4, XFS], 120 s => crash
}
/// Copies the device while the worker has the file. This is what a crash at this
/// moment would leave.
fn crash(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let _warning = Announced::new()?;
    let (space, file, held) = set_up(&fixture)?;
    let went = own_pin(&fixture, file)
        .and_then(|()| fixture.sync())
        .and_then(|()| space.require_kept())
        .and_then(|()| recover(config, &fixture, &space));
    finish(fixture, &space, held, went)
}

fn recover(config: &Config, fixture: &Fixture, space: &Space) -> Result<()> {
    let copy = Namespace::create(&config.want)?;
    let node = copy.node()?;
    Cmd::new("dd bs=4M iflag=direct oflag=direct status=none")
        .arg(format!("if={}", fixture.namespace.node()?.display()))
        .arg(format!("of={}", node.display()))
        .ok()
        .context("copying the device")?;
    let options = match config.kind {
        Kind::Xfs | Kind::XfsReflink => "dax,nouuid",
        _ => "dax",
    };
    let dir = PathBuf::from("/mnt/crashed");
    let mount = DaxMount::mount_with(config.kind, &node, &dir, options)?;
    let start = Instant::now();
    while !space.is_free(&dir)? {
        ensure!(
            start.elapsed() < timeout(FREED),
            "the blocks of the removed file are not free after a crash"
        );
        thread::sleep(Duration::from_millis(10));
    }
    ensure!(
        !mount.path(NAME).exists(),
        "the removed file exists after a crash"
    );
    mount.unmount()?;
    config.kind.check(&node)?;
    copy.destroy()
}

declare! {
    /// unbinding a device does not revoke the pages of a removed file, whose filesystem then stays
    /// for ever, or does not wait until the pages are unpinned
    "fsdax::hang::unbind_{kind}" for [EXT4, XFS], 120 s => unbind
}
fn unbind(config: &Config) -> Result<String> {
    require_rust("which frees the memmap of pages that are pinned")?;
    let fixture = Fixture::create(config)?;
    let (space, file, mut held) = set_up(&fixture)?;
    let went = own_pin(&fixture, file).and_then(|()| space.require_kept());
    let Fixture {
        mount, namespace, ..
    } = fixture;
    let went = went.and_then(|()| soon("umount", move || mount.unmount()));
    // Not by ndctl, which refuses a device that is in use.
    let mut bound = Bound::of(&namespace)?;
    let unbinding = bound.unbind();
    // The pages are taken away from the file, so the worker is done with it.
    let went = went
        .and_then(|()| wait_delayed(0).map(drop))
        .and_then(|()| unbinding.must_wait("unbinding"));
    let whole = held.release();
    went?;
    whole?;
    let took = unbinding.must_end("unbinding")?;
    require_unpinned("unbinding")?;
    bound.bind()?;
    namespace.destroy()?;
    Ok(format!("unbound after {} ms", took.as_millis()))
}

declare! {
    /// a task that is to share blocks of a file with pages in a pipe spins, and does not look at
    /// signals
    "fsdax::hang::differs_clone_killed", 60 s => || clone_killed(&REFLINK)
}
/// The file with the pinned page is the one that is locked second: that with the
/// higher inode number.
fn clone_killed(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let first = fixture.written("first", &data::bytes(1, LEN))?;
    let second = fixture.written("second", &data::bytes(2, LEN))?;
    use std::os::unix::fs::MetadataExt;
    ensure!(
        first.metadata()?.ino() < second.metadata()?.ino(),
        "the inode numbers do not ascend"
    );
    // C only waits while the file is mapped.
    let map = large(&second, LEN)?;
    let mut held = Held::take(&map, 3)?;
    let mut child = spawn(|| clone(&first, &second))?;
    let went = (|| -> Result<i32> {
        let stat = PathBuf::from(format!("/proc/{}/stat", child.pid()));
        let start = Instant::now();
        // It has run for a while, or sleeps in FICLONE.
        while start.elapsed() < Duration::from_millis(500) {
            ensure!(
                child.is_running("FICLONE")?,
                "FICLONE did not wait for a pinned page"
            );
            thread::sleep(Duration::from_millis(20));
        }
        let ticks = fs::read_to_string(&stat).context("stat of the child")?;
        kill(Pid::from_raw(child.pid()), Signal::SIGKILL).context("kill")?;
        let signal = child
            .wait_signal(SOON.as_secs(), "a killed FICLONE")
            .with_context(|| whereabouts(child.pid() as u32))?;
        ensure!(signal == Some(libc::SIGKILL), "it ended with {signal:?}");
        // Fields 14 and 15, after the name, which has no blank here.
        let used = ticks
            .split(' ')
            .skip(13)
            .take(2)
            .filter_map(|n| n.parse::<i32>().ok());
        Ok(used.sum())
    })();
    let whole = held.release();
    let ticks = went?;
    whole?;
    drop((map, child, first, second));
    fixture.finish()?;
    Ok(format!("{ticks} ticks of CPU time while it waited"))
}
