// SPDX-License-Identifier: GPL-2.0

//! Truncate and hole punch against references to DAX pages.
//!
//! A DAX filesystem may free a block only if no reference to its page is
//! left, so truncation waits until the page is idle, and the drop of the last
//! reference must wake it. Each test holds pages by another kind of user,
//! because each user drops them on another path.

use std::io::Read;
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::fcntl::{splice, SpliceFFlags};

use crate::filesystem::Kind;
use crate::tests::prelude::*;

mod futex;

const LEN: usize = 8 << 20;
const DISK_AT: u64 = 3 << 30;
/// Number of pages that a pipe of the default size holds.
const PIPE_PAGES: usize = 16;
/// Time for which a waiting truncation is watched, and time limit once it may
/// continue.
const WATCH: Duration = Duration::from_millis(800);
const WAKE: Duration = Duration::from_secs(20);

const KINDS: [Kind; 2] = [Kind::Ext4, Kind::Xfs];
const FSDAX: Want = want(Mode::Fsdax, 2 * MIB, Map::Dev, Bus::Acpi);

/// The way in which the pipe drops its pages.
#[derive(Clone, Copy)]
enum DropPages {
    Read,
    Close,
    Splice,
}

/// An operation that runs in a thread and reports when it ends.
pub struct Background {
    done: mpsc::Receiver<Result<()>>,
}

impl Background {
    pub fn start(work: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        let (tx, done) = mpsc::channel();
        // Not joined: if it hangs, the process ends nevertheless.
        thread::spawn(move || tx.send(work()));
        Self { done }
    }

    pub fn must_wait(&self, what: &str) -> Result<()> {
        match self.done.recv_timeout(WATCH) {
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(()),
            Ok(Ok(())) => bail!("{what} did not wait: the pages were still held"),
            Ok(Err(e)) => Err(e.context(format!("{what} failed instead of waiting"))),
            Err(e) => Err(anyhow!("{what}: {e}")),
        }
    }

    pub fn must_end(&self, what: &str) -> Result<Duration> {
        let start = Instant::now();
        match self.done.recv_timeout(timeout(WAKE)) {
            Ok(result) => result.map(|()| start.elapsed()),
            Err(_) => bail!(
                "{what} still waits {} s after the last reference was dropped: the wake-up was lost",
                timeout(WAKE).as_secs()
            ),
        }
    }
}

/// Frees the file's first 2 MiB by truncation or hole punch.
pub fn free_blocks(file: &File, punch: bool) -> Result<()> {
    if punch {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        fallocate(file, mode, 0, 2 * MIB).context("punching a hole")
    } else {
        file.set_len(0).context("ftruncate")
    }
}

declare! { pipe_tests }
fn pipe_tests() -> Vec<Test> {
    const DOC: &str =
        "blocks are freed while a pipe holds their pages (the operation does not wait), or the last put \
         loses the wake-up and the operation waits forever";
    let mut tests = Vec::new();
    for kind in KINDS {
        for (name, how) in [
            ("read", DropPages::Read),
            ("close", DropPages::Close),
            ("splice", DropPages::Splice),
        ] {
            for (what, punch) in [("truncate", false), ("punch", true)] {
                let name = format!("truncate::pipe-{name}-{what}::{}", kind.name());
                tests.push(Test::new(name, 90, DOC, move || piped(kind, how, punch)));
            }
        }
    }
    mark_essential(tests, &["read-truncate::ext4", "close-punch::xfs"])
}

fn piped(kind: Kind, how: DropPages, punch: bool) -> Result<String> {
    let target = Target::on(&FSDAX, kind, LEN as u64)?;
    // The mapping stays: 6.12 does not wait for a file without mappings.
    let map = target.map(LEN)?;
    let len = PIPE_PAGES * PAGE;
    let bytes = data::bytes(71, len);
    map.write(0, &bytes);
    let (mut reader, writer) = pipe()?;
    vmsplice(&map, 0, len, &writer)?;

    let what = if punch {
        "punching a hole"
    } else {
        "ftruncate"
    };
    let file = target.file.try_clone().context("dup")?;
    let operation = Background::start(move || free_blocks(&file, punch));
    let waited = operation.must_wait(what);
    // Whatever the result, the pages are dropped now: the file must not stay
    // busy.
    match how {
        DropPages::Read => {
            let mut got = vec![0; len];
            reader.read_exact(&mut got).context("draining the pipe")?;
            data::require_same(&bytes, &got, "the pipe does not hold what the mapping held")?;
        }
        DropPages::Close => {
            drop(reader);
            drop(writer);
        }
        DropPages::Splice => {
            let null = open_rw(Path::new("/dev/null"), false)?;
            let n =
                splice(&reader, None, &null, None, len, SpliceFFlags::empty()).context("splice")?;
            ensure!(n == len, "splice to /dev/null moved {n} of {len} bytes");
        }
    }
    waited?;
    let took = operation.must_end(what)?;
    let size = target.file.metadata().context("fstat")?.len();
    ensure!(
        size == if punch { LEN as u64 } else { 0 },
        "the file has {size} bytes after {what}"
    );
    drop(map);
    target.finish()?;
    Ok(format!("woken after {} ms", took.as_millis()))
}

declare! {
    /// ftruncate does not wait for a direct read that has the file's pages pinned, or is not woken when
    /// the read ends and unpins them
    "truncate::slow-disk" for KINDS, 90 s, essential "ext4" => |kind| slow_disk(*kind)
}
/// Tests null_blk, which completes each request after a configurable delay, for which the
/// pins of a direct read are held.
fn slow_disk(kind: Kind) -> Result<String> {
    const SECONDS: u64 = 5;
    let load = Cmd::new("modprobe null_blk irqmode=2 nr_devices=1 gb=1 bs=4096")
        .arg(format!("completion_nsec={}", SECONDS * 1_000_000_000))
        .run()?;
    if !load.status.success() {
        skip!("null_blk cannot be loaded: {}", load.stderr.trim());
    }
    let result = slow_read(kind);
    Cmd::new("modprobe -r null_blk").ok()?;
    result
}

fn slow_read(kind: Kind) -> Result<String> {
    let target = Target::on(&FSDAX, kind, LEN as u64)?;
    let map = std::sync::Arc::new(target.map(LEN)?);
    map.prefault_write(PAGE);
    let disk = open_rw(Path::new("/dev/nullb0"), true)?;
    let theirs = map.clone();
    let read = Background::start(move || {
        let n = pread_once(&disk, &theirs, 0, 16 * PAGE, 0).context("the slow direct read")?;
        ensure!(n == 16 * PAGE, "the slow direct read returned {n} bytes");
        Ok(())
    });
    thread::sleep(Duration::from_millis(500));
    let pinned = crate::vmstat::settled()?.pinned();
    ensure!(
        pinned == 16,
        "{pinned} pages are pinned during the read instead of 16"
    );
    let file = target.file.try_clone().context("dup")?;
    let operation = Background::start(move || free_blocks(&file, false));
    operation.must_wait("ftruncate during a direct read")?;
    read.must_end("the direct read")?;
    let took = operation.must_end("ftruncate")?;
    require_unpinned("the slow read")?;
    drop(map);
    target.finish()?;
    Ok(format!("woken {} ms after the read", took.as_millis()))
}

/// Reads into the mapping until stopped; an EFAULT is a page that the
/// truncation removed.
fn reader(
    map: Mapping,
    stop: std::sync::Arc<AtomicBool>,
) -> Result<JoinHandle<Result<(u64, u64)>>> {
    let disk = scratch()?;
    Ok(thread::spawn(move || {
        let (mut good, mut refused) = (0, 0);
        let mut chunk = PAGE;
        while !stop.load(Ordering::Relaxed) {
            chunk = if chunk >= LEN { PAGE } else { chunk * 4 };
            match pread_once(&disk, &map, 0, chunk.min(LEN), DISK_AT) {
                Ok(_) => good += 1,
                Err(e) if e.raw_os_error() == Some(libc::EFAULT) => refused += 1,
                Err(e) => return Err(e).context("direct read during truncation"),
            }
        }
        Ok((good, refused))
    }))
}

declare! {
    /// truncating, punching and extending a file while direct I/O pins its pages hangs, fails with
    /// anything but EFAULT, leaves pages pinned or damages the filesystem
    "truncate::race" for KINDS, 180 s, essential "ext4" => |kind| race(*kind)
}
fn race(kind: Kind) -> Result<String> {
    let target = Target::on(&FSDAX, kind, LEN as u64)?;
    let plain = Mapping::anonymous(LEN)?;
    let bytes = data::bytes(81, LEN);
    plain.write(0, &bytes);
    pwrite_all(&scratch()?, &plain, 0, LEN, DISK_AT, LEN).context("preparing the disk")?;
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let readers = [
        reader(target.map(LEN)?, stop.clone())?,
        reader(target.map(LEN)?, stop.clone())?,
    ];
    let end = Instant::now() + Duration::from_secs(10);
    let mut rounds = 0;
    let mut outcome = Ok(());
    while Instant::now() < end && outcome.is_ok() {
        rounds += 1;
        outcome = match rounds % 3 {
            0 => free_blocks(&target.file, true),
            1 => free_blocks(&target.file, false),
            _ => target
                .file
                .set_len(5 * PAGE as u64 + 17)
                .context("ftruncate"),
        }
        .and_then(|()| fallocate(&target.file, 0, 0, LEN as u64).context("fallocate"));
    }
    stop.store(true, Ordering::Relaxed);
    let (mut good, mut refused) = (0, 0);
    for reader in readers {
        let (g, r) = reader.join().map_err(|_| anyhow!("a reader panicked"))??;
        good += g;
        refused += r;
    }
    outcome?;
    ensure!(good > 0, "no direct read succeeded in {rounds} rounds");
    require_unpinned("the race")?;

    target.finish()?;
    Ok(format!("{rounds} rounds, {good} reads, {refused} EFAULT"))
}
