// SPDX-License-Identifier: GPL-2.0

//! EROFS, which is read-only: the image determines the location of its files,
//! so they can be placed with and without the alignment for huge pages.
//!
//! The image is created here, because `mkfs.erofs` does not align files to 2
//! MiB.

use super::{daxstat, signal_of, Config, EXT4, EXT4_E820};
use crate::page_words;
use crate::page_words::{owners, Owner};
use crate::tests::prelude::*;
use crate::tests::teardown::bound::Bound;

const LEN: usize = 2 * HUGE;
/// A file of an image, in the order of their names.
struct Inode {
    name: &'static str,
    /// The first block.
    block: usize,
    len: usize,
    seed: u64,
}

const fn file(name: &'static str, block: usize, len: usize, seed: u64) -> Inode {
    Inode {
        name,
        block,
        len,
        seed,
    }
}

/// One file is aligned, one is a block off.
const FILES: [Inode; 2] = [
    file("aligned", 512, LEN, 1),
    file("misaligned", 512 * 4 + 1, LEN, 2),
];
/// Files that share a block, as `mkfs.erofs` lets equal chunks be shared.
const SHARED: [Inode; 2] = [file("one", 512, PAGE, 1), file("two", 512, PAGE, 1)];

/// Little-endian numbers at offsets in a block.
struct Block(Vec<u8>);

impl Block {
    fn new() -> Self {
        Self(vec![0; PAGE])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}

/// Returns an inode's number, which is its position in the metadata in units of
/// 32 bytes. An extended one has 64.
fn nid(index: usize) -> usize {
    2 * (index + 1)
}

/// Writes a struct erofs_inode_extended, plain: all of its data in blocks from
/// `block`.
fn inode(to: &mut Block, index: usize, mode: u32, size: usize, block: usize) {
    const EXTENDED_PLAIN: u16 = 1;
    let at = nid(index) * 32;
    to.u16(at, EXTENDED_PLAIN);
    to.u16(at + 4, mode as u16);
    to.u64(at + 8, size as u64);
    to.u32(at + 16, block as u32);
    to.u32(at + 20, index as u32 + 1);
    to.u32(at + 44, 1);
}

/// Returns superblock, inodes and root directory, a block each; see
/// fs/erofs/erofs_fs.h.
fn metadata(files: &[Inode]) -> [Vec<u8>; 3] {
    const MAGIC: u32 = 0xe0f5_e1e2;
    let mut head = Block::new();
    head.u32(1024, MAGIC);
    // Blocks of 4 KiB.
    head.put(1024 + 12, &[12]);
    head.u16(1024 + 14, nid(0) as u16);
    head.u64(1024 + 16, 1 + files.len() as u64);
    let end = files.iter().map(|file| file.block + file.len / PAGE).max();
    head.u32(1024 + 36, end.unwrap_or_default() as u32);
    // The block of the inodes.
    head.u32(1024 + 40, 1);

    let mut inodes = Block::new();
    let mut dir = Block::new();
    // In the order of their names.
    let entries: Vec<(&str, usize, u8)> = [(".", 0, 2), ("..", 0, 2)]
        .into_iter()
        .chain(
            files
                .iter()
                .enumerate()
                .map(|(n, file)| (file.name, n + 1, 1)),
        )
        .collect();
    let mut name_at = entries.len() * 12;
    for (n, (name, index, kind)) in entries.iter().enumerate() {
        dir.u64(n * 12, nid(*index) as u64);
        dir.u16(n * 12 + 8, name_at as u16);
        dir.put(n * 12 + 10, &[*kind]);
        dir.put(name_at, name.as_bytes());
        name_at += name.len();
    }
    inode(&mut inodes, 0, libc::S_IFDIR | 0o755, name_at, 2);
    for (n, file) in files.iter().enumerate() {
        let mode = libc::S_IFREG | 0o644;
        inode(&mut inodes, n + 1, mode, file.len, file.block);
    }
    [head.0, inodes.0, dir.0]
}

/// A mount, which is unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(device: &Path) -> Result<Self> {
        Cmd::new("modprobe erofs").ok()?;
        let dir = mount_point();
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Cmd::new("mount -t erofs -o ro,dax")
            .arg(device)
            .arg(&dir)
            .ok()?;
        Ok(Self(dir))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        clean_up(Cmd::new("umount").arg(&self.0).ok());
    }
}

/// Creates a namespace with an image of these files.
fn image(config: &Config, files: &[Inode]) -> Result<Namespace> {
    let namespace = Namespace::create(&config.want)?;
    let disk = open_rw(&namespace.node()?, false)?;
    for (n, block) in metadata(files).iter().enumerate() {
        disk.write_all_at(block, (n * PAGE) as u64)?;
    }
    for file in files {
        let bytes = data::bytes(file.seed, file.len);
        disk.write_all_at(&bytes, (file.block * PAGE) as u64)?;
    }
    disk.sync_all().context("fsync of the image")?;
    Ok(namespace)
}

/// Only the namespaces of the configs matter.
const NAMESPACES: [(&str, Config); 2] = [("erofs-dev-acpi", EXT4), ("erofs-mem-e820", EXT4_E820)];

declare! {
    /// a file of an EROFS image has other bytes mapped than read, is not mapped in huge pages although
    /// it is aligned, or can be stored to; or daxstat's advice is for another filesystem
    "fsdax::erofs" for NAMESPACES, 60 s, essential "erofs-dev-acpi" => |(_, config)| erofs(config)
}
fn erofs(config: &Config) -> Result<()> {
    let namespace = image(config, &FILES)?;
    let mounted = Mounted::new(&namespace.node()?)?;
    let trace = FaultTrace::start()?;
    for Inode { name, seed, .. } in FILES {
        let path = mounted.0.join(name);
        let file = File::open(&path).with_context(|| format!("cannot open {name}"))?;
        check(&file, &data::bytes(seed, LEN), name == "aligned", &trace).context(name)?;
        let advice = daxstat::advice(&path)?;
        ensure!(
            !advice.contains("ext4") && advice.contains("mkfs.erofs") == (name == "misaligned"),
            "{name}: daxstat's advice is: {advice}"
        );
    }
    drop((trace, mounted));
    namespace.destroy()
}

declare! {
    /// two files of an EROFS image share a block, and the kernel warns of it, or counts another number
    /// of entries than two; then the memmap of a removed device is freed although a file has an entry
    /// for it
    "fsdax::erofs::differs_shared", 60 s => shared
}
fn shared() -> Result<()> {
    let namespace = image(&EXT4, &SHARED)?;
    let mounted = Mounted::new(&namespace.node()?)?;
    let bytes = data::bytes(1, PAGE);
    let mut maps = Vec::new();
    for Inode { name, .. } in SHARED {
        let path = mounted.0.join(name);
        let file = File::open(&path).with_context(|| format!("cannot open {name}"))?;
        let map = Mapping::with(&file, 0, PAGE, PAGE, libc::PROT_READ, libc::MAP_SHARED)?;
        map.require(0, &bytes, name)?;
        maps.push(map);
    }
    let want = Owner {
        mapping: page_words::SHARED,
        index: 2,
    };
    for map in &maps {
        let got = owners(map)?;
        ensure!(
            got == [want],
            "the page that two files share has {got:x?} instead of {want:x?}"
        );
    }
    // A child keeps one mapped when the device is removed.
    let (ready, gone) = (Gate::new()?, Gate::new()?);
    let mut child = spawn(|| {
        maps[1].require(0, &bytes, "the second file")?;
        ready.open()?;
        gone.pass()?;
        maps[1].peek(0);
        bail!("memory of a device that is gone can still be read")
    })?;
    ready.pass()?;
    drop(maps);
    let mut bound = Bound::of(&namespace)?;
    bound.unbind().must_end("unbinding the driver")?;
    gone.open()?;
    let signal = child.wait_signal(30, "the process that has the file mapped")?;
    ensure!(
        signal == Some(libc::SIGBUS),
        "the process that has the file mapped ended with {signal:?}, not SIGBUS"
    );
    drop(mounted);
    bound.bind()?;
    namespace.destroy()
}

fn check(file: &File, bytes: &[u8], huge: bool, trace: &FaultTrace) -> Result<()> {
    let mut got = vec![0; LEN];
    file.read_exact_at(&mut got, 0).context("read")?;
    ensure!(
        got == bytes,
        "read() returns other bytes than the image holds"
    );
    trace.take()?;
    let map = Mapping::with(file, 0, LEN, HUGE, libc::PROT_READ, libc::MAP_SHARED)?;
    map.require(0, bytes, "a read-only mapping")?;
    let faults = trace.take()?;
    let want = match huge {
        true => (LEN / HUGE, 0),
        false => (0, LEN / PAGE),
    };
    ensure!(
        (faults.pmd as usize, faults.pte as usize, faults.other) == (want.0, want.1, 0),
        "{want:?} faults of 2 MiB and of 4 KiB were expected, there were {faults:?}"
    );
    ensure!(
        map.protect(0, LEN, libc::PROT_READ | libc::PROT_WRITE)
            .is_err(),
        "a shared mapping of a read-only file became writable"
    );
    let killed = signal_of(|| map.poke(0, 1))?;
    ensure!(
        killed == Some(libc::SIGSEGV),
        "a store to it ends in {killed:?} instead of SIGSEGV"
    );
    // A private mapping can be stored to, and the file is not affected.
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let own = Mapping::with(file, 0, LEN, HUGE, both, libc::MAP_PRIVATE)?;
    own.require(0, bytes, "a private mapping")?;
    own.write(HUGE - 100, &[7; 200]);
    own.require(HUGE - 100, &[7; 200], "a private mapping, stored to")?;
    map.require(0, bytes, "the file after stores to a private mapping")
}
