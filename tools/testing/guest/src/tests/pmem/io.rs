// SPDX-License-Identifier: GPL-2.0

//! I/O to the disks: odd sizes and offsets, buffered and direct, and its
//! representation in sysfs.

use std::io::{Read, Seek, SeekFrom, Write};

use nix::fcntl::{posix_fadvise, PosixFadviseAdvice};

use super::Made;
use crate::memory::{Kind, Memory};
use crate::tests::prelude::*;

/// Number of bytes of a disk that these tests use, and the first of them.
const LEN: usize = 4 << 20;
const AT: u64 = 16 << 20;

const DISKS: [(&str, &str); 3] = [
    ("raw", "-m raw"),
    ("fsdax", "-m fsdax -M dev"),
    ("sector", "-m sector"),
];

declare! {
    /// wrong bytes are read from the disk: a segment of a bio was treated as longer, shorter or at
    /// another place than it is, or the offset of the data is wrong
    "pmem::io" for DISKS, 180 s, essential "fsdax" => odd
}
fn odd((_, arguments): &(&str, &str)) -> Result<String> {
    let made = Made::new(arguments)?;
    let node = made.node()?;
    let sector = system::read_u64(made.disk()?.join("queue/logical_block_size"))? as usize;
    // Segments of sectors: a BTT refuses others.
    let step = sector.clamp(512, PAGE);
    let (buffered, direct) = (open_rw(&node, false)?, open_rw(&node, true)?);
    let mut model = data::bytes(1, LEN);
    buffered.write_all_at(&model, AT)?;
    buffered.sync_all()?;
    let memory = Mapping::anonymous(LEN + PAGE)?;
    let mut random = Random::new(0);
    let mut ops = 0;
    for round in 0..60 {
        // Any byte range, through the page cache.
        let (at, len) = piece(&mut random, 1, 200_000);
        let bytes = data::bytes(1000 + round, len);
        model[at..at + len].copy_from_slice(&bytes);
        buffered.write_all_at(&bytes, AT + at as u64)?;
        buffered.sync_all()?;
        // Whole sectors, from memory that begins in the middle of a page.
        let (at, len) = piece(&mut random, sector, 600_000);
        let from = step * random.below(PAGE / step);
        let bytes = data::bytes(2000 + round, len);
        model[at..at + len].copy_from_slice(&bytes);
        memory.write(from, &bytes);
        let chunk = sector * (1 + random.below(64));
        pwrite_all(&direct, &memory, from, len, AT + at as u64, chunk)?;
        // Read in the same way.
        let (at, len) = piece(&mut random, sector, 600_000);
        let to = step * random.below(PAGE / step);
        pread_all(&direct, &memory, to, len, AT + at as u64, LEN)?;
        memory.require(to, &model[at..at + len], "direct read of the disk")?;
        ops += 3;
    }
    check(&node_reader(&made)?, &model)?;
    let mut made = made;
    drop((buffered, direct));
    made.cycle()?;
    check(&node_reader(&made)?, &model)?;
    // The end of the disk: the last sector exists, and nothing beyond it.
    let mut disk = node_reader(&made)?;
    let size = disk.seek(SeekFrom::End(0))?;
    let mut last = vec![0; sector];
    disk.read_exact_at(&mut last, size - sector as u64)
        .context("the last sector")?;
    ensure!(
        disk.read_at(&mut last, size)? == 0,
        "there is data beyond the end of the disk"
    );
    Ok(format!("{ops} operations, sectors of {sector} bytes"))
}

/// Returns offset and length: multiples of `unit`.
fn piece(random: &mut Random, unit: usize, most: usize) -> (usize, usize) {
    let len = unit * (1 + random.below(most / unit));
    let at = unit * random.below((LEN - len) / unit + 1);
    (at, len)
}

fn node_reader(made: &Made) -> Result<File> {
    open_rw(&made.node()?, false)
}

/// Reads all of it again, through an open file that has nothing cached.
fn check(disk: &File, model: &[u8]) -> Result<()> {
    let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    posix_fadvise(disk, 0, 0, advice).context("posix_fadvise")?;
    let mut bytes = vec![0; model.len()];
    disk.read_exact_at(&mut bytes, AT)?;
    data::require_same(model, &bytes, "the disk")
}

/// Requires that written data survives disabling and enabling the namespace.
pub fn survives(made: &mut Made, seed: u64) -> Result<()> {
    let bytes = data::bytes(seed, LEN);
    let mut disk = node_reader(made)?;
    disk.seek(SeekFrom::Start(AT))?;
    disk.write_all(&bytes)?;
    disk.sync_all()?;
    drop(disk);
    made.cycle()?;
    let mut disk = node_reader(made)?;
    disk.seek(SeekFrom::Start(AT))?;
    let mut back = vec![0; LEN];
    disk.read_exact(&mut back)?;
    data::require_same(&bytes, &back, "after disable and enable")
}

declare! {
    /// dax/write_cache does not show or accept what it should, so a filesystem cannot learn that the
    /// CPU's caches are safe
    "pmem::write-cache", 90 s => write_cache
}
fn write_cache() -> Result<String> {
    for arguments in ["-m raw", "-m fsdax -M mem"] {
        let made = Made::new(arguments)?;
        let file = made.disk()?.join("dax/write_cache");
        let before = system::read_u64(&file)?;
        for (text, means) in [
            ("0", 0),
            ("1", 1),
            ("off\n", 0),
            ("Y", 1),
            ("n", 0),
            ("on", 1),
        ] {
            std::fs::write(&file, text).with_context(|| format!("writing {text:?}"))?;
            let now = system::read_u64(&file)?;
            ensure!(now == means, "{text:?} was written, {now} is read");
        }
        for rubbish in ["2", "perhaps", "x"] {
            let written = std::fs::write(&file, rubbish);
            require_errno(written, libc::EINVAL, format!("writing {rubbish:?}"))?;
            ensure!(system::read_u64(&file)? == 1, "{rubbish:?} has changed it");
        }
        std::fs::write(&file, before.to_string())?;
    }
    Ok("raw and fsdax".into())
}

/// Returns fields of /sys/block/pmem*/stat, by their numbers.
fn stat<const N: usize>(made: &Made, numbers: [usize; N]) -> Result<[u64; N]> {
    let text = system::read(made.disk()?.join("stat"))?;
    let fields: Vec<u64> = text
        .split_whitespace()
        .filter_map(|w| w.parse().ok())
        .collect();
    let mut values = [0; N];
    for (value, number) in values.iter_mut().zip(numbers) {
        *value = *fields.get(number).context("a short stat")?;
    }
    Ok(values)
}

declare! {
    /// I/O to the disk is not in /sys/block/pmem*/stat, or is although queue/iostats is off: iostat
    /// and cgroups see nothing or wrong numbers
    "pmem::accounting", 90 s => accounting
}
fn accounting() -> Result<String> {
    const IOS: u64 = 32;
    const CHUNK: usize = 8192;
    /// Read I/Os, read sectors, write I/Os, write sectors.
    const FIELDS: [usize; 4] = [0, 2, 4, 6];
    let made = Made::new("-m raw")?;
    let disk = open_rw(&made.node()?, true)?;
    let memory = Mapping::anonymous(IOS as usize * CHUNK)?;
    let iostats = made.disk()?.join("queue/iostats");
    for on in [1_u64, 0, 1] {
        std::fs::write(&iostats, on.to_string())?;
        let before = stat(&made, FIELDS)?;
        pwrite_all(&disk, &memory, 0, memory.len(), AT, CHUNK)?;
        pread_all(&disk, &memory, 0, memory.len(), AT, CHUNK)?;
        let after = stat(&made, FIELDS)?;
        let sectors = IOS * CHUNK as u64 / 512;
        let want = [IOS, sectors, IOS, sectors].map(|n| n * on);
        let got: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        ensure!(
            got == want,
            "iostats {on}: {got:?} are accounted for, not {want:?}"
        );
    }
    Ok(format!("{IOS} reads and writes"))
}

declare! {
    /// the time of I/O to the disk is not in /sys/block/pmem*/stat: iostat shows a disk that is idle
    "pmem::accounting-time", 90 s => accounting_time
}
/// Large requests, so that each takes longer than a tick of the clock by which their time is counted.
fn accounting_time() -> Result<String> {
    const LEN: usize = 16 << 20;
    const LONG: Duration = Duration::from_millis(500);
    /// Milliseconds of reads and of writes, and those in which there was a request.
    const FIELDS: [usize; 3] = [3, 7, 9];
    let made = Made::new("-m raw")?;
    // It is off for a disk that gets bios.
    fs::write(made.disk()?.join("queue/iostats"), "1").context("queue/iostats")?;
    let disk = open_rw(&made.node()?, true)?;
    let memory = Memory::create(Kind::Thp, LEN, 1)?;
    memory.touch()?;
    let mut shown = String::new();
    for (write, field) in [(true, 1), (false, 0)] {
        let before = stat(&made, FIELDS)?;
        let start = Instant::now();
        while start.elapsed() < LONG {
            let map = &memory.map;
            match write {
                true => pwrite_all(&disk, map, 0, LEN, AT, LEN)?,
                false => pread_all(&disk, map, 0, LEN, AT, LEN)?,
            }
        }
        let took = start.elapsed().as_millis();
        let after = stat(&made, FIELDS)?;
        for field in [field, 2] {
            let counted = after[field] - before[field];
            ensure!(
                u128::from(counted) * 4 >= took,
                "of {took} ms of requests (writes: {write}) {counted} ms are counted: \
                 {before:?}, {after:?}"
            );
        }
        shown += &format!("{} of {took} ms ", after[field] - before[field]);
    }
    Ok(shown)
}

declare! {
    /// a disk of device mapper above the disk has wrong bytes where a request was split
    "pmem::split", 90 s => split
}
/// Two parts of the disk, which meet in the middle of a page, in the other order. The buffer is one
/// segment, so the second half of a request that crosses the border begins inside it.
fn split() -> Result<String> {
    const FIRST: usize = 1003;
    const SECTORS: usize = 2048;
    let made = Made::new("-m raw")?;
    let node = made.node()?;
    let (from, to) = (AT / 512, AT / 512 + 65536);
    let mapped = Mapped::create(&format!(
        "0 {FIRST} linear {0} {to},{FIRST} {1} linear {0} {from}",
        node.display(),
        SECTORS - FIRST
    ))?;
    let memory = Memory::create(Kind::Thp, HUGE, 1)?;
    memory.touch()?;
    let (whole, below) = (open_rw(&mapped.node(), true)?, open_rw(&node, true)?);
    let mut model = data::bytes(1, SECTORS * 512);
    memory.map.write(0, &model);
    pwrite_all(&whole, &memory.map, 0, model.len(), 0, model.len())?;
    let mut random = Random::new(7);
    for round in 0..40 {
        // From some sectors before the border to some behind it.
        let first = FIRST - 1 - random.below(40);
        let len = (FIRST - first + 1 + random.below(40)) * 512;
        let at = 512 * random.below(64);
        let bytes = data::bytes(100 + round, len);
        memory.map.write(at, &bytes);
        pwrite_all(&whole, &memory.map, at, len, first as u64 * 512, len)?;
        model[first * 512..first * 512 + len].copy_from_slice(&bytes);
        memory.map.write(at, &vec![0; len]);
        pread_all(&whole, &memory.map, at, len, first as u64 * 512, len)?;
        memory
            .map
            .require(at, &bytes, "a request across the border")?;
    }
    let (one, two) = model.split_at(FIRST * 512);
    for (part, sector) in [(one, to), (two, from)] {
        let map = Mapping::anonymous(part.len())?;
        pread_all(&below, &map, 0, part.len(), sector * 512, part.len())?;
        map.require(0, part, "a part of the disk below")?;
    }
    drop((whole, below));
    drop(mapped);
    Ok(format!("{SECTORS} sectors"))
}

/// A disk of device mapper, which is removed when dropped.
struct Mapped(String);

impl Mapped {
    /// Creates it with this table, whose lines are separated by commas.
    fn create(table: &str) -> Result<Self> {
        Cmd::new("modprobe dm_mod").ok()?;
        let name = format!("guest-test-{}", std::process::id());
        Cmd::new("dmsetup create --concise")
            .arg(format!("{name},,,rw,{table}"))
            .env("DM_DISABLE_UDEV", "1")
            .ok()?;
        let mapped = Self(name);
        system::wait_for_node(&mapped.node())?;
        Ok(mapped)
    }

    fn node(&self) -> PathBuf {
        Path::new("/dev/mapper").join(&self.0)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let remove = Cmd::new("dmsetup remove").arg(&self.0);
        clean_up(remove.env("DM_DISABLE_UDEV", "1").ok());
    }
}

declare! {
    /// fsync(), O_DSYNC or a flush of the disk fails, or loses data
    "pmem::flush", 90 s => flush
}
fn flush() -> Result<String> {
    let mut made = Made::new("-m raw")?;
    let bytes = data::bytes(7, LEN);
    {
        use std::os::unix::fs::OpenOptionsExt;
        let disk = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DSYNC)
            .open(made.node()?)?;
        for (index, chunk) in bytes.chunks(300_001).enumerate() {
            disk.write_all_at(chunk, AT + index as u64 * 300_001)?;
            disk.sync_data().context("fdatasync")?;
        }
        disk.sync_all().context("fsync")?;
    }
    check(&node_reader(&made)?, &bytes)?;
    made.cycle()?;
    check(&node_reader(&made)?, &bytes)?;
    Ok(format!("{} synced writes", bytes.chunks(300_001).len()))
}

/// Calls preadv2(2) or pwritev2(2) with RWF_NOWAIT on all of `memory`.
pub fn without_wait(disk: &File, memory: &Mapping, at: u64, write: bool) -> io::Result<usize> {
    let part = libc::iovec {
        iov_base: memory.addr() as *mut libc::c_void,
        iov_len: memory.len(),
    };
    let call = if write { libc::pwritev2 } else { libc::preadv2 };
    // SAFETY: The single vector describes memory of our own, which outlives the
    // call.
    let n = unsafe {
        call(
            disk.as_raw_fd(),
            &part,
            1,
            at as libc::off_t,
            libc::RWF_NOWAIT,
        )
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

declare! {
    /// I/O that must not wait is refused, so that io_uring passes each request to a worker thread, or
    /// it moves wrong bytes
    "pmem::differs_nowait", 60 s => nowait
}
fn nowait() -> Result<String> {
    const CHUNK: usize = 64 << 10;
    for arguments in ["-m raw", "-m fsdax -M dev"] {
        let made = Made::new(arguments)?;
        let disk = open_rw(&made.node()?, true)?;
        let memory = Mapping::anonymous(CHUNK)?;
        let bytes = data::bytes(12, CHUNK);
        memory.write(0, &bytes);
        for write in [true, false] {
            let n = without_wait(&disk, &memory, AT, write)
                .with_context(|| format!("{arguments}, write {write}"))?;
            ensure!(n == CHUNK, "{arguments}, write {write}: {n} bytes");
            memory.require(0, &bytes, "bytes that were moved without waiting")?;
            memory.write(0, &vec![0; if write { CHUNK } else { 0 }]);
        }
    }
    Ok("raw and fsdax".into())
}

declare! {
    /// a region that is made read-only leaves its disk writable, or the disk does not become writable
    /// again
    "pmem::read-only", 90 s => read_only
}
fn read_only() -> Result<String> {
    let made = Made::new("-m fsdax -M mem")?;
    let region = region_of(&made)?;
    let ro = made.disk()?.join("ro");
    ensure!(system::read_u64(&ro)? == 0, "the disk is read-only already");
    std::fs::write(&region, "1")?;
    let made_ro = system::read_u64(&ro);
    let write = open_rw(&made.node()?, false).and_then(|disk| Ok(disk.write_all_at(&[0], AT)?));
    std::fs::write(&region, "0")?;
    ensure!(made_ro? == 1, "the region is read-only, the disk is not");
    ensure!(write.is_err(), "a read-only disk was written to");
    ensure!(system::read_u64(&ro)? == 0, "the disk stays read-only");
    open_rw(&made.node()?, false)?.write_all_at(&[0], AT)?;
    Ok(String::new())
}

declare! {
    /// a namespace whose region is read-only when the driver is bound to it gets a disk that can be
    /// written
    "pmem::read-only-at-attach", 90 s => read_only_at_attach
}
fn read_only_at_attach() -> Result<()> {
    for arguments in ["-m fsdax -M mem", "-m raw"] {
        let mut made = Made::new(arguments)?;
        let region = region_of(&made)?;
        Cmd::new("ndctl disable-namespace")
            .arg(&made.info.dev)
            .ok()?;
        fs::write(&region, "1")?;
        let enabled = Cmd::new("ndctl enable-namespace").arg(&made.info.dev).ok();
        let ro = enabled.and_then(|_| {
            made.info = ndctl::namespace(&made.info.dev)?.context("the namespace is gone")?;
            system::wait_for_node(&made.node()?)?;
            system::read_u64(made.disk()?.join("ro"))
        });
        fs::write(&region, "0")?;
        ensure!(
            ro? == 1,
            "{arguments}: the region was read-only, the disk is not"
        );
        let ro = system::read_u64(made.disk()?.join("ro"))?;
        ensure!(ro == 0, "{arguments}: the disk stays read-only");
        open_rw(&made.node()?, false)?.write_all_at(&[0], AT)?;
    }
    Ok(())
}

/// Returns the file of sysfs that makes the region of a disk read-only.
fn region_of(made: &Made) -> Result<PathBuf> {
    let disk = made.disk()?.canonicalize()?;
    let region = disk.ancestors().find(|p| p.join("read_only").exists());
    Ok(region
        .context("the disk has no region above it")?
        .join("read_only"))
}
