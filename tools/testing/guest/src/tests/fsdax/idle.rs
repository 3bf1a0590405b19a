// SPDX-License-Identifier: GPL-2.0

//! Blocks are freed only when their pages are no longer referenced.
//!
//! In 6.12 the C fs/dax fails to ensure this in three cases, which mainline
//! fixed later: when the file is no longer mapped, when the entry is temporarily
//! locked (by a writeback), and when the file is removed, which `hang.rs` tests.
//! It also warns that it frees a page in use, so on C the tests
//! announce the warning, and must fail.

use std::io::Read;
use std::thread::JoinHandle;

use super::sync::sync_file_range;
use super::{large, require_rust, Config, Fixture, EXT4, XFS};
use crate::kprobe::Kprobe;
use crate::tests::prelude::*;
use crate::tests::truncate::free_blocks;

pub const LEN: usize = 2 * HUGE;
/// Number of pages that a pipe of the default size holds.
pub const PAGES: usize = 16;

/// The announcement to the harness of the warning in C; when dropped, the
/// warning should have occurred.
pub struct Announced(bool);

/// A part of the first line of the warning.
const WARNING: &str = "at fs/dax.c:";

impl Announced {
    pub fn new() -> Result<Self> {
        let c = live::ask()?.fs_dax.implementation == Language::C;
        if c {
            // Otherwise it warns only once per boot.
            let path = system::debugfs()?.join("clear_warn_once");
            fs::write(path, "1").context("clear_warn_once")?;
            system::log(&format!("rust-dax-expect: {WARNING}"))?;
        }
        Ok(Self(c))
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if self.0 {
            clean_up(system::log(&format!("rust-dax-expect-end: {WARNING}")));
        }
    }
}

/// Pages of a file in a pipe, and their bytes.
pub struct Held {
    pipe: Option<(File, File)>,
    bytes: Vec<u8>,
    /// Their offset in the file.
    at: usize,
}

impl Held {
    /// Takes pages from the middle of the file's first huge page.
    pub fn take(map: &Mapping, seed: u64) -> Result<Self> {
        Self::take_at(map, HUGE / 2, seed)
    }

    /// The same for pages at another place of the mapping.
    pub fn take_at(map: &Mapping, at: usize, seed: u64) -> Result<Self> {
        let bytes = data::bytes(seed, PAGES * PAGE);
        map.write(at, &bytes);
        let (reader, writer) = pipe()?;
        vmsplice(map, at, bytes.len(), &writer)?;
        Ok(Self {
            pipe: Some((reader, writer)),
            bytes,
            at,
        })
    }

    /// Returns a pipe to which a child will add pages with the bytes of this seed:
    /// its reader's side, and the end to write to.
    pub fn expect(seed: u64) -> Result<(Self, File)> {
        Self::expect_bytes(data::bytes(seed, PAGES * PAGE))
    }

    /// The same, with the bytes themselves.
    pub fn expect_bytes(bytes: Vec<u8>) -> Result<(Self, File)> {
        let (reader, writer) = pipe()?;
        let theirs = writer.try_clone().context("dup")?;
        let held = Self {
            pipe: Some((reader, writer)),
            bytes,
            at: HUGE / 2,
        };
        Ok((held, theirs))
    }

    /// Requires that the file, or the device, has these bytes at the same
    /// offsets.
    pub fn require(&self, file: &[u8]) -> Result<()> {
        let got = file
            .get(self.at..self.at + self.bytes.len())
            .context("it is too short")?;
        data::require_same(&self.bytes, got, "what was in the pages of the pipe")
    }

    /// Reads the pipe, which releases the pages. Their bytes must be unchanged.
    pub fn release(&mut self) -> Result<()> {
        let Some((mut reader, _writer)) = self.pipe.take() else {
            return Ok(());
        };
        let mut got = vec![0; self.bytes.len()];
        reader.read_exact(&mut got).context("reading the pipe")?;
        data::require_same(&self.bytes, &got, "the pages in the pipe")
    }
}

/// Requires that `work` does not end before the pages are released, and then
/// ends.
pub fn must_wait(
    held: &mut Held,
    what: &'static str,
    work: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<Duration> {
    let operation = Background::start(work);
    let waited = operation.must_wait(what);
    // Whatever the result, the pages are released now.
    let whole = held.release();
    waited?;
    whole?;
    let took = operation.must_end(what)?;
    require_unpinned(what)?;
    Ok(took)
}

// One operation for each: they are the same in fs/dax.
declare! {
    /// blocks of a file are freed while a pipe holds their pages, because the file is not mapped
    "fsdax::idle::differs_unmapped_truncate_{kind}" for [EXT4], 60 s, essential
        => |config| unmapped(config, false)
}
declare! {
    /// blocks of a file are freed while a pipe holds their pages, because the file is not mapped
    "fsdax::idle::differs_unmapped_punch_{kind}" for [XFS], 60 s => |config| unmapped(config, true)
}
fn unmapped(config: &Config, punch: bool) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let _warning = Announced::new()?;
    let file = fixture.written("data", &data::bytes(1, LEN))?;
    let map = large(&file, LEN)?;
    let mut held = Held::take(&map, 2)?;
    drop(map);
    let theirs = file.try_clone().context("dup")?;
    let took = must_wait(&mut held, "freeing the blocks of a file", move || {
        free_blocks(&theirs, punch)
    })?;
    drop(file);
    fixture.finish()?;
    Ok(format!("woken after {} ms", took.as_millis()))
}

declare! {
    /// ftruncate looks once more after a second and then frees the blocks of pages that a pipe still
    /// holds, or it ends by looking again, because the last put wakes no waiter
    "fsdax::idle::long" for [EXT4, XFS], 60 s => long
}
/// A waiter looks again after a second, so it would end without being woken.
fn long(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let file = fixture.written("data", &data::bytes(1, LEN))?;
    let map = large(&file, LEN)?;
    let mut held = Held::take(&map, 2)?;
    let theirs = file.try_clone().context("dup")?;
    let operation = Background::start(move || theirs.set_len(0).context("ftruncate"));
    let waited = (0..3).try_for_each(|_| operation.must_wait("ftruncate"));
    let woken = Kprobe::start("woken", &["wake_up_var".to_owned()])?;
    // Whatever the result, the pages are released now.
    let whole = held.release();
    waited?;
    whole?;
    let took = operation.must_end("ftruncate")?;
    let calls = woken.take_count()?;
    ensure!(calls > 0, "the last put called no wake_up_var()");
    require_unpinned("ftruncate")?;
    drop((woken, map, file));
    fixture.finish()?;
    Ok(format!("woken after {} ms", took.as_millis()))
}

declare! {
    /// ftruncate sleeps on after the last put of the page that it waits for: the put wakes no waiter,
    /// or another one
    "fsdax::idle::woken" for [EXT4, XFS], 60 s => woken
}
/// A waiter looks again after a second. The pages are released soon after it has begun to sleep, so
/// a waiter that is not woken sleeps for more than half a second. A busy host may delay one that is,
/// so the fastest of some rounds counts.
fn woken(config: &Config) -> Result<String> {
    const ROUNDS: u64 = 4;
    const ASLEEP: Duration = Duration::from_millis(400);
    const BOUND: Duration = Duration::from_millis(300);
    if system::is_slow()? {
        skip!(
            "on a debug kernel waking a task and freeing the blocks may take as long as the sleep"
        );
    }
    let fixture = Fixture::create(config)?;
    let mut fastest = Duration::MAX;
    for round in 0..ROUNDS {
        let file = fixture.written("data", &data::bytes(1, LEN))?;
        let map = large(&file, LEN)?;
        let mut held = Held::take(&map, round)?;
        let theirs = file.try_clone().context("dup")?;
        let cutting = Background::start(move || free_blocks(&theirs, false));
        thread::sleep(ASLEEP);
        let released = Instant::now();
        let whole = held.release();
        cutting.must_end("ftruncate")?;
        fastest = fastest.min(released.elapsed());
        whole?;
        drop((map, file));
    }
    ensure!(
        fastest < BOUND,
        "ftruncate ended {} ms after the last put at the earliest: it was not woken",
        fastest.as_millis()
    );
    require_unpinned("ftruncate")?;
    fixture.finish()?;
    Ok(format!("woken after {} ms", fastest.as_millis()))
}

declare! {
    /// unmounting waits for a page of a file that is not removed, or the page is lost or changed with
    /// the inode
    "fsdax::idle::unmounted_{kind}" for [EXT4, XFS], 60 s, essential "ext4" => unmounted
}
/// The inode is evicted, but its blocks are not freed: no reason to wait.
fn unmounted(config: &Config) -> Result<()> {
    require_rust("which warns that a page in use is freed")?;
    let fixture = Fixture::create(config)?;
    let file = fixture.written("data", &data::bytes(1, LEN))?;
    let map = large(&file, LEN)?;
    let mut held = Held::take(&map, 4)?;
    file.sync_all().context("fsync")?;
    drop((map, file));
    let Fixture {
        mount,
        namespace,
        kind,
    } = fixture;
    let unmounted = Background::start(move || mount.unmount()).must_end("umount");
    let checked = unmounted.and_then(|_| kind.check(&namespace.node()?));
    held.release()?;
    checked?;
    require_unpinned("unmounting")?;
    namespace.destroy()
}

declare! {
    /// blocks are freed while a pipe holds their pages, because a writeback has the entry locked when
    /// ftruncate looks
    "fsdax::idle::differs_written_back_{kind}" for [EXT4, XFS], 120 s, essential "ext4"
        => written_back
}
/// Tests a writeback that has the entry locked while it flushes 2 MiB, and a
/// concurrent ftruncate that looks for pages in use. Their order is random, so
/// this is repeated, with the entry nearly always under writeback.
fn written_back(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let warning = Announced::new()?;
    // On C it happens after some rounds, which ends the test.
    let long = Duration::from_secs(if warning.0 { 40 } else { 3 });
    let file = fixture.mount.file("data", HUGE as u64)?;
    let map = Arc::new(large(&file, HUGE)?);
    let mut random = Random::new(46);
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < long {
        rounds += 1;
        fallocate(&file, 0, 0, HUGE as u64).context("fallocate")?;
        let mut held = Held::take(&map, rounds)?;
        let writing = Writeback::start(&file, &map)?;
        thread::sleep(Duration::from_micros(random.below(3000) as u64));
        let theirs = file.try_clone().context("dup")?;
        let freed = Arc::new(AtomicBool::new(false));
        let done = freed.clone();
        let cutting = Background::start(move || {
            let cut = free_blocks(&theirs, false);
            done.store(true, Ordering::SeqCst);
            cut
        });
        thread::sleep(Duration::from_millis(20));
        let early = freed.load(Ordering::SeqCst);
        writing.stop()?;
        let whole = held.release();
        cutting.must_end("ftruncate during writeback")?;
        whole?;
        ensure!(
            !early,
            "round {rounds}: the blocks were freed while a pipe held their pages"
        );
    }
    drop((map, file));
    fixture.finish()?;
    Ok(format!("{rounds} rounds"))
}

/// Two threads: one dirties the first page, one has it written back.
struct Writeback {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Writeback {
    fn start(file: &File, map: &Arc<Mapping>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, file) = (stop.clone(), file.try_clone().context("dup")?);
        let syncing = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                sync_file_range(&file).context("sync_file_range")?;
            }
            Ok(())
        });
        let (stopped, map) = (stop.clone(), map.clone());
        let zeros = open_rw(Path::new("/dev/zero"), false)?;
        let storing = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A store by the kernel, because the page may be beyond the end
                // of the file by now.
                match pread_once(&zeros, &map, 0, 1, 0) {
                    Err(e) if e.raw_os_error() != Some(libc::EFAULT) => {
                        return Err(e).context("storing a byte");
                    }
                    _ => {}
                }
            }
            Ok(())
        });
        Ok(Self {
            stop,
            threads: vec![syncing, storing],
        })
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        Ok(())
    }
}
