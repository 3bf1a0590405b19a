// SPDX-License-Identifier: GPL-2.0

//! Files that are open only briefly, while their inodes are evicted: by reclaim, with their
//! filesystem, or because they are removed.
//!
//! Reclaim evicts no inode that has entries of fs/dax, whatever their number, and nothing but a
//! truncation or the end of the inode removes entries. So the files that are to be reclaimed lose
//! their entries first, by a truncation, and get their bytes back by write(), which makes none. That
//! inodes were reclaimed is counted, by the tracepoint of ext4's eviction. Inodes are evicted with
//! their entries when the file is removed, and with the filesystem.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use nix::mount::{umount2, MntFlags};

use super::super::{large, Config, Fixture, EXT4_E820, XFS};
use super::Race;
use crate::tests::prelude::*;

/// Adds races on files that are opened and closed, each with bytes that depend on its name, except
/// for the first ones, one per writer.
fn passing_files(race: &mut Race, fixture: &Fixture) -> Result<()> {
    const FILES: usize = 24;
    const SIZE: usize = 5 * PAGE;
    const WRITERS: usize = 2;
    let name = |n: usize| format!("file-{n}");
    for n in 0..FILES {
        let mut bytes = data::bytes(n as u64, SIZE);
        bytes[..WRITERS].fill(0);
        drop(fixture.written(&name(n), &bytes)?);
    }
    let paths: Arc<Vec<PathBuf>> = Arc::new((0..FILES).map(|n| fixture.path(&name(n))).collect());
    for writer in 0..WRITERS {
        let paths = paths.clone();
        let mut last = [0u8; FILES];
        race.add("opens", move |random| {
            let n = random.below(FILES);
            let file = match File::options().read(true).write(true).open(&paths[n]) {
                // Not mounted at the moment.
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                file => file.with_context(|| paths[n].display().to_string())?,
            };
            let map = large(&file, SIZE)?;
            drop(file);
            map.require(WRITERS, &data::bytes(n as u64, SIZE)[WRITERS..], "a file")?;
            ensure!(
                map.peek(writer) == last[n],
                "a file has {} where {} was stored",
                map.peek(writer),
                last[n]
            );
            last[n] = random.below(256) as u8;
            map.poke(writer, last[n]);
            Ok(())
        });
    }
    Ok(())
}

/// Adds a race on files of its own, which have no entries while they are closed, so that they can be
/// reclaimed: each is mapped, compared, stored to, and then written again.
///
/// Returns the files with the seeds of their bytes.
fn emptied_files(race: &mut Race, fixture: &Fixture) -> Result<Arc<Mutex<Vec<Emptied>>>> {
    const FILES: usize = 8;
    let mut files = Vec::new();
    for n in 0..FILES {
        let path = fixture.path(&format!("emptied-{n}"));
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        file.write_all_at(&data::bytes(0, Emptied::SIZE), 0)?;
        files.push(Emptied { path, seed: 0 });
    }
    let all = Arc::new(Mutex::new(files));
    let theirs = all.clone();
    race.add("emptied files", move |random| {
        let mut files = theirs.lock().unwrap_or_else(PoisonError::into_inner);
        files[random.below(FILES)].step(random)
    });
    Ok(all)
}

/// A file without entries, except while it is open.
struct Emptied {
    path: PathBuf,
    seed: u64,
}

impl Emptied {
    const SIZE: usize = 3 * PAGE;

    fn step(&mut self, random: &mut Random) -> Result<()> {
        let file = open_rw(&self.path, false)?;
        let map = large(&file, Self::SIZE)?;
        map.require(0, &data::bytes(self.seed, Self::SIZE), "a file")?;
        map.poke(random.below(Self::SIZE), 1);
        drop(map);
        self.seed = random.below(1 << 20) as u64;
        file.set_len(0).context("ftruncate")?;
        file.write_all_at(&data::bytes(self.seed, Self::SIZE), 0)
            .context("write")?;
        // An inode with I_DIRTY_PAGES is not reclaimed, and fsync() leaves it so.
        nix::unistd::syncfs(file).context("syncfs")
    }
}

/// Adds a race of files that are removed while they have entries.
fn removed_files(race: &mut Race, fixture: &Fixture) {
    const SIZE: usize = 3 * PAGE;
    let path = fixture.path("removed");
    race.add("removed files", move |random| {
        let bytes = data::bytes(random.below(1 << 20) as u64, SIZE);
        fs::write(&path, &bytes).context("write")?;
        let file = open_rw(&path, false)?;
        let map = large(&file, SIZE)?;
        map.require(0, &bytes, "a new file")?;
        map.poke(random.below(SIZE), 1);
        fs::remove_file(&path).context("unlink")
    });
}

/// The evictions of one ext4, from its tracepoint.
struct Evictions {
    trace: FaultTrace,
    device: String,
}

impl Evictions {
    fn of(fixture: &Fixture) -> Result<Self> {
        let device = fs::metadata(fixture.mount.dir()).context("stat")?.dev();
        Ok(Self {
            trace: FaultTrace::group("ext4/ext4_evict_inode")?,
            device: format!("dev {},{} ", libc::major(device), libc::minor(device)),
        })
    }

    /// Returns the number of inodes that were evicted since the last call and not removed.
    fn reclaimed(&self) -> Result<u64> {
        let text = self.trace.take_text()?;
        let lines = text.lines().filter(|l| l.contains(&self.device));
        Ok(lines.filter(|l| l.ends_with("nlink 1")).count() as u64)
    }
}

fn drop_inodes() -> Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "2").context("cannot drop caches")
}

declare! {
    /// files whose inodes are reclaimed, or removed with their entries, while others are mapped lose
    /// bytes; or the reclaim hangs, or reclaims nothing
    "fsdax::race::reclaim" for [EXT4_E820], 120 s, essential => reclaim
}
fn reclaim(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let mut race = Race::default();
    passing_files(&mut race, &fixture)?;
    let emptied = emptied_files(&mut race, &fixture)?;
    removed_files(&mut race, &fixture);
    let evictions = Arc::new(Evictions::of(&fixture)?);
    let reclaimed = Arc::new(AtomicU64::new(0));
    let (theirs, count) = (evictions.clone(), reclaimed.clone());
    race.add("reclaims", move |_| {
        drop_inodes()?;
        count.fetch_add(theirs.reclaimed()?, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(3));
        Ok(())
    });
    let report = race.run()?;
    let during = reclaimed.load(Ordering::Relaxed);
    // The files are idle now. A dentry or an inode that was used lately gets a second pass.
    fixture.sync()?;
    for _ in 0..3 {
        drop_inodes()?;
    }
    let after = evictions.reclaimed()?;
    let mut files = emptied.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(
        after + during > 0,
        "no inode was reclaimed, so nothing was tested: {report}"
    );
    let mut random = Random::new(1);
    for file in files.iter_mut() {
        file.step(&mut random).context("after the race")?;
    }
    drop((files, evictions));
    fixture.finish()?;
    Ok(format!("{report}, {during} inodes reclaimed, then {after}"))
}

declare! {
    /// an idle file of one page that was mapped keeps the shrinker from the inodes behind it
    "fsdax::race::differs_reclaim_passes_dax_files" for [EXT4_E820], 120 s => reclaim_passes
}
/// Puts one file with an entry before many without on the list of inodes to be reclaimed. The entry
/// at offset 0, if it is the only one, looks like a shadow of a page that was evicted, but cannot be
/// removed as one.
fn reclaim_passes(config: &Config) -> Result<String> {
    const FILES: u64 = 100;
    let fixture = Fixture::create(config)?;
    let file = fixture.written("mapped", &data::bytes(1, PAGE))?;
    large(&file, PAGE)?.poke(0, 1);
    file.sync_all().context("fsync")?;
    drop(file);
    // The list is in the order of the last use.
    drop_inodes()?;
    for n in 0..FILES {
        fs::write(fixture.path(&format!("plain-{n}")), b"x").context("write")?;
    }
    fixture.sync()?;
    let evictions = Evictions::of(&fixture)?;
    let mut reclaimed = 0;
    for _ in 0..5 {
        drop_inodes()?;
        reclaimed += evictions.reclaimed()?;
    }
    ensure!(
        reclaimed >= FILES,
        "{reclaimed} inodes were reclaimed, there are {FILES} without entries"
    );
    drop(evictions);
    let file = fixture.open("mapped")?;
    ensure!(
        large(&file, PAGE)?.peek(0) == 1,
        "the mapped file has lost its byte"
    );
    drop(file);
    fixture.finish()?;
    Ok(format!("{reclaimed} inodes reclaimed"))
}

declare! {
    /// faults on the last files of a filesystem that is unmounted and mounted again hang, or lose
    /// bytes
    "fsdax::race::unmount" for [EXT4_E820, XFS], 120 s, essential "xfs-mem-acpi" => unmount
}
/// Unmounts the filesystem while files of it are mapped, so that it ends with the last of them; and
/// mounts it again, whether its end is in progress or complete.
fn unmount(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let mut race = Race::default();
    passing_files(&mut race, &fixture)?;
    let (node, dir) = (fixture.namespace.node()?, fixture.mount.dir().to_owned());
    let kind = config.kind;
    race.add("unmounts", move |random| {
        detach(&dir)?;
        thread::sleep(Duration::from_millis(random.below(4) as u64));
        // It stays mounted: its creator unmounts it.
        std::mem::forget(DaxMount::mount(kind, &node, &dir)?);
        thread::sleep(Duration::from_millis(20));
        Ok(())
    });
    let report = race.run()?;
    fixture.finish()?;
    Ok(report)
}

fn detach(dir: &Path) -> Result<()> {
    umount2(dir, MntFlags::MNT_DETACH).context("umount -l")
}
