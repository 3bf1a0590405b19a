// SPDX-License-Identifier: GPL-2.0

//! The table of bad calls. Most are wrong in one way; a few are correct,
//! because they resemble a wrong one and must not start to fail.
//!
//! The table does not contain expected results: the two kernels produce the
//! results, and they must agree. A row is a line, however long.

use libc::{
    MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_SYNC, O_DIRECT, O_EXCL, O_RDONLY, O_RDWR,
    PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE,
};

use super::operation::{Operation, Then};
use super::setup::{Node, Thing};

/// A call with its name.
pub struct Case {
    pub name: String,
    pub call: Call,
}

/// A call.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    /// One write(2) to a file of sysfs.
    Store {
        node: Node,
        file: &'static str,
        text: &'static str,
    },
    File {
        on: Thing,
        flags: i32,
        operation: Operation,
    },
    Map {
        on: Thing,
        flags: i32,
        shape: Shape,
        then: &'static [Then],
    },
    Mount {
        on: Thing,
        kind: &'static str,
        options: &'static str,
    },
}

/// The arguments of an mmap(2).
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub offset: i64,
    pub len: usize,
    /// Distance from an address that is a multiple of 2 MiB.
    pub skew: usize,
    pub prot: i32,
    pub flags: i32,
}

const K: usize = 1 << 10;
const M: usize = 1 << 20;
const RW: i32 = PROT_READ | PROT_WRITE;
const SHARED: Shape = Shape {
    offset: 0,
    len: 2 * M,
    skew: 0,
    prot: RW,
    flags: MAP_SHARED,
};
const PRIVATE: Shape = Shape {
    flags: MAP_PRIVATE,
    ..SHARED
};
const SYNC: Shape = Shape {
    flags: MAP_SHARED_VALIDATE | MAP_SYNC,
    ..SHARED
};

/// Texts that no attribute accepts.
const NO_NUMBER: &[&str] = &["x", "-1", "0", "1"];

/// Files of sysfs, and the texts written to them.
#[rustfmt::skip]
const STORES: &[(Node, &str, &[&str])] = &[
    // Alignments: none, no power of two, too small, too large.
    (Node::Seed("pfn_seed"), "align", &["0", "3145728", "12288", "512", "1099511627776", "x", "-1"]),
    (Node::Seed("dax_seed"), "align", &["0", "3145728", "12288", "512", "1099511627776", "x", "-1"]),
    (Node::Seed("pfn_seed"), "mode", &["x", "PMEM", "\n"]),
    (Node::Seed("pfn_seed"), "uuid", &["x", "00000000-0000-0000-0000"]),
    (Node::Seed("pfn_seed"), "namespace", &["namespace9.9", "x"]),
    (Node::Seed("dax_seed"), "namespace", &["namespace9.9", "x"]),
    (Node::Seed("dax_seed"), "uuid", &["x"]),
    (Node::Seed("btt_seed"), "sector_size", &["0", "513", "1048576", "x"]),
    (Node::Seed("btt_seed"), "uuid", &["x"]),
    (Node::Seed("btt_seed"), "namespace", &["namespace9.9", "x"]),
    (Node::Seed("namespace_seed"), "size", &["1", "4096", "x", "-1", "1152921504606846976"]),
    (Node::Seed("namespace_seed"), "uuid", &["x"]),
    // An active namespace, and one that is not active.
    (Node::RawNamespace, "size", &["268435456", "0", "x"]),
    (Node::RawNamespace, "uuid", &["x", "6f1c5d5c-7b1b-4e0f-9c55-0d7c5a3c8a01"]),
    (Node::RawNamespace, "alt_name", &["other"]),
    (Node::RawNamespace, "sector_size", &["513", "x"]),
    (Node::RawNamespace, "force_raw", &["x"]),
    (Node::RawNamespace, "holder_class", &["x", "btt"]),
    (Node::IdleNamespace, "size", &["134221824", "134217729", "1152921504606846976", "x", "-1"]),
    (Node::IdleNamespace, "uuid", &["x"]),
    (Node::IdleNamespace, "holder_class", &["x"]),
    (Node::IdleNamespace, "sector_size", &["513", "x"]),
    (Node::FsdaxNamespace, "size", &["268435456", "0"]),
    (Node::FsdaxNamespace, "holder_class", &["btt"]),
    (Node::DevdaxNamespace, "size", &["268435456", "0"]),
    // The devices on them.
    (Node::Pfn, "align", &["4096", "x"]),
    (Node::Pfn, "mode", &["none", "x"]),
    (Node::Pfn, "uuid", &["x"]),
    (Node::Pfn, "namespace", &["\n", "namespace9.9"]),
    (Node::Dax, "size", &["1", "4096", "x", "0"]),
    (Node::Dax, "align", &["4096", "3", "x"]),
    (Node::Dax, "mapping", &["0-1", "x", "\n"]),
    (Node::Dax, "target_node", &["0"]),
    (Node::Dax, "memmap_on_memory", &["x"]),
    (Node::Dax, "dax_region/create", &["2", "x"]),
    (Node::Dax, "dax_region/delete", &["dax9.9", "x"]),
    (Node::Disk, "queue/write_cache", &["x"]),
    (Node::Disk, "dax/write_cache", &["x"]),
    (Node::Disk, "ro", &["1"]),
    (Node::Disk, "badblocks", &["x", "-1 8"]),
    // Regions and the bus.
    (Node::Region, "read_only", &["x"]),
    (Node::Region, "deep_flush", &["x", "0"]),
    (Node::Region, "size", NO_NUMBER),
    (Node::Region, "namespace_seed", &["x"]),
    (Node::At("/sys/bus/nd/devices/ndbus0"), "firmware_activate", &["x"]),
    (Node::At("/sys/bus/nd/devices/nmem0"), "security", &["x", "update", "erase 0"]),
    // Drivers.
    (Node::At("/sys/bus/nd/drivers/nd_pmem"), "bind", &["x", "region0"]),
    (Node::At("/sys/bus/nd/drivers/nd_pmem"), "unbind", &["x", "namespace9.9"]),
    (Node::At("/sys/bus/nd/drivers/nd_btt"), "bind", &["x"]),
    (Node::At("/sys/bus/dax/drivers/device_dax"), "bind", &["x", "dax9.9"]),
    (Node::At("/sys/bus/dax/drivers/device_dax"), "unbind", &["x", "dax9.9"]),
    (Node::At("/sys/bus/dax/drivers/device_dax"), "new_id", &["x", "dax9.9"]),
    (Node::At("/sys/bus/dax/drivers/device_dax"), "remove_id", &["x", "dax9.9"]),
];

/// Mappings: target, name, shape, and the operations on it.
#[rustfmt::skip]
const MAPS: &[(Thing, &str, Shape, &[Then])] = &[
    (Thing::Devdax, "map", SHARED, &[Then::Load(0)]),
    (Thing::Devdax, "map privately", PRIVATE, &[]),
    (Thing::Devdax, "map synchronously", SYNC, &[Then::Store(0)]),
    (Thing::Devdax, "map without access", Shape { prot: PROT_NONE, ..SHARED }, &[Then::Load(0)]),
    (Thing::Devdax, "map for execution", Shape { prot: PROT_READ | PROT_EXEC, ..SHARED }, &[]),
    (Thing::Devdax, "map 4 KiB", Shape { len: 4 * K, ..SHARED }, &[]),
    (Thing::Devdax, "map nothing", Shape { len: 0, ..SHARED }, &[]),
    (Thing::Devdax, "map at offset 4 KiB", Shape { offset: 4096, ..SHARED }, &[Then::Load(0)]),
    (Thing::Devdax, "map at offset 1", Shape { offset: 1, ..SHARED }, &[]),
    (Thing::Devdax, "map at a bad address", Shape { skew: 4 * K, ..SHARED }, &[]),
    (Thing::Devdax, "map beyond the end", Shape { offset: 1 << 40, ..SHARED }, &[]),
    (Thing::Devdax, "map and read beyond the end", Shape { offset: 1 << 40, ..SHARED }, &[Then::Load(0)]),
    (Thing::Devdax, "map at a huge offset", Shape { offset: i64::MAX - 4095, ..SHARED }, &[]),
    (Thing::Devdax, "unmap a part", SHARED, &[Then::Store(0), Then::Unmap(4 * K, 4 * K)]),
    (Thing::Devdax, "protect a part", SHARED, &[Then::Protect(4 * K, 4 * K, PROT_READ)]),
    (Thing::Devdax, "protect all, write", SHARED, &[Then::Protect(0, 2 * M, PROT_READ), Then::Store(0)]),
    (Thing::Devdax, "grow", SHARED, &[Then::Remap(0, 2 * M, 4 * M)]),
    (Thing::Devdax, "grow by 4 KiB", SHARED, &[Then::Remap(0, 2 * M, 2 * M + 4 * K)]),
    (Thing::Devdax, "shrink by 4 KiB", SHARED, &[Then::Remap(0, 2 * M, 2 * M - 4 * K)]),
    (Thing::Devdax, "lock", SHARED, &[Then::Lock(0, 2 * M)]),
    (Thing::Devdax, "sync", SHARED, &[Then::Store(0), Then::Sync(0, 2 * M, libc::MS_SYNC)]),
    (Thing::Devdax, "sync at a bad address", SHARED, &[Then::Sync(1, 4 * K, libc::MS_SYNC)]),
    (Thing::Devdax, "mincore", SHARED, &[Then::Resident(0, 2 * M)]),
    (Thing::Devdax, "userfaultfd", SHARED, &[Then::Userfault(0, 2 * M)]),
    (Thing::FsdaxFile, "map", SHARED, &[Then::Store(0)]),
    (Thing::FsdaxFile, "map synchronously", SYNC, &[Then::Store(0)]),
    (Thing::FsdaxFile, "map synchronously and privately", Shape { flags: MAP_PRIVATE | MAP_SYNC, ..SHARED }, &[Then::Store(0)]),
    (Thing::FsdaxFile, "map with an unknown flag", Shape { flags: MAP_SHARED_VALIDATE | (1 << 27), ..SHARED }, &[]),
    (Thing::FsdaxFile, "map at offset 1", Shape { offset: 1, ..SHARED }, &[]),
    (Thing::FsdaxFile, "map and read beyond the end", Shape { offset: 8 << 20, ..SHARED }, &[Then::Load(0)]),
    (Thing::FsdaxFile, "map privately and read beyond the end", Shape { offset: 8 << 20, ..PRIVATE }, &[Then::Load(0)]),
    (Thing::FsdaxFile, "map for reading and write", Shape { prot: PROT_READ, ..SHARED }, &[Then::Store(0)]),
    (Thing::FsdaxFile, "unmap a part", SHARED, &[Then::Store(0), Then::Unmap(4 * K, 4 * K), Then::Load(8 * K)]),
    (Thing::FsdaxFile, "protect a part", SHARED, &[Then::Store(0), Then::Protect(4 * K, 4 * K, PROT_READ), Then::Store(4 * K)]),
    (Thing::FsdaxFile, "userfaultfd", SHARED, &[Then::Userfault(0, 2 * M)]),
    (Thing::FsdaxFile, "lock", SHARED, &[Then::Lock(0, 2 * M)]),
    (Thing::FsdaxDisk, "map", SHARED, &[Then::Load(0)]),
    (Thing::FsdaxDisk, "map synchronously", SYNC, &[Then::Load(0)]),
    (Thing::RawDisk, "map synchronously", SYNC, &[]),
    (Thing::SectorDisk, "map synchronously", SYNC, &[]),
    (Thing::PlainFile, "map synchronously", SYNC, &[]),
    (Thing::Memory, "map synchronously", SYNC, &[]),
];

/// Pins of all kinds.
#[rustfmt::skip]
const PINS: &[(Thing, &str, Shape, &[Then])] = &[
    (Thing::Devdax, "pin long-term", SHARED, &[Then::Pin(0, 2 * M, true, true)]),
    (Thing::Devdax, "pin long-term, slow path", SHARED, &[Then::Pin(0, 2 * M, true, false)]),
    (Thing::Devdax, "pin for writing what is read-only", Shape { prot: PROT_READ, ..SHARED }, &[Then::Pin(0, 4 * K, true, true)]),
    (Thing::Devdax, "pin without access", Shape { prot: PROT_NONE, ..SHARED }, &[Then::Pin(0, 4 * K, false, true)]),
    (Thing::Devdax, "pin beyond the end", Shape { offset: 1 << 40, ..SHARED }, &[Then::Pin(0, 4 * K, false, true)]),
    (Thing::Devdax, "pin across the end of the mapping", SHARED, &[Then::Unmap(2 * M, 2 * M), Then::Pin(M, 2 * M, true, true)]),
    (Thing::Devdax, "register with io_uring", SHARED, &[Then::Register(0, 64 * K)]),
    (Thing::Devdax, "read directly into it", SHARED, &[Then::DirectRead(0, 64 * K)]),
    (Thing::Devdax, "read directly across the end", SHARED, &[Then::Unmap(2 * M, 2 * M), Then::DirectRead(2 * M - 4 * K, 8 * K)]),
    (Thing::Devdax, "splice", SHARED, &[Then::Splice(0, 4 * K)]),
    (Thing::FsdaxFile, "pin long-term", SHARED, &[Then::Store(0), Then::Pin(0, 4 * K, true, true)]),
    (Thing::FsdaxFile, "pin long-term, slow path", SHARED, &[Then::Store(0), Then::Pin(0, 4 * K, true, false)]),
    (Thing::FsdaxFile, "pin long-term, untouched", SHARED, &[Then::Pin(4 * M, 4 * K, true, true)]),
    (Thing::FsdaxFile, "pin long-term, for reading", SHARED, &[Then::Load(0), Then::Pin(0, 2 * M, false, true)]),
    (Thing::FsdaxFile, "pin long-term, private", PRIVATE, &[Then::Store(0), Then::Pin(0, 4 * K, true, true)]),
    (Thing::FsdaxFile, "register with io_uring", SHARED, &[Then::Store(0), Then::Register(0, 64 * K)]),
    (Thing::FsdaxFile, "read directly into it", SHARED, &[Then::DirectRead(0, 64 * K)]),
    (Thing::FsdaxFile, "read directly beyond the end", Shape { offset: 8 << 20, ..SHARED }, &[Then::DirectRead(0, 4 * K)]),
    (Thing::FsdaxFile, "read directly into what is read-only", Shape { prot: PROT_READ, ..SHARED }, &[Then::DirectRead(0, 4 * K)]),
    (Thing::FsdaxFile, "read directly into it, not aligned", SHARED, &[Then::DirectRead(1, 4 * K)]),
    (Thing::FsdaxFile, "splice", SHARED, &[Then::Store(0), Then::Splice(0, 4 * K)]),
    (Thing::FsdaxDisk, "pin long-term", SHARED, &[Then::Pin(0, 4 * K, false, true)]),
    (Thing::Memory, "pin what is not mapped", PRIVATE, &[Then::Unmap(0, 2 * M), Then::Pin(0, 4 * K, false, true)]),
    (Thing::Memory, "pin nothing", PRIVATE, &[Then::Pin(0, 0, false, true)]),
    (Thing::Memory, "pin across a hole", PRIVATE, &[Then::Unmap(M, 4 * K), Then::Pin(M - 4 * K, 12 * K, true, true)]),
    (Thing::Memory, "read directly into a hole", PRIVATE, &[Then::Unmap(0, 2 * M), Then::DirectRead(0, 4 * K)]),
    (Thing::Memory, "process_vm_readv of a hole", PRIVATE, &[Then::Unmap(M, 4 * K), Then::Peek(M, 4 * K)]),
    (Thing::Memory, "splice a hole", PRIVATE, &[Then::Unmap(0, 2 * M), Then::Splice(0, 4 * K)]),
    (Thing::Memory, "register a hole with io_uring", PRIVATE, &[Then::Unmap(0, 2 * M), Then::Register(0, 4 * K)]),
];

/// Advice for madvise(2).
const ADVICE: &[(&str, i32)] = &[
    ("normal", libc::MADV_NORMAL),
    ("don't need", libc::MADV_DONTNEED),
    ("remove", libc::MADV_REMOVE),
    ("free", libc::MADV_FREE),
    ("cold", libc::MADV_COLD),
    ("page out", libc::MADV_PAGEOUT),
    ("populate for reading", libc::MADV_POPULATE_READ),
    ("populate for writing", libc::MADV_POPULATE_WRITE),
    ("huge pages", libc::MADV_HUGEPAGE),
    ("collapse", 25),
    ("mergeable", libc::MADV_MERGEABLE),
    ("not for forks", libc::MADV_DONTFORK),
    ("wipe on fork", libc::MADV_WIPEONFORK),
    ("an unknown one", 99),
];

#[rustfmt::skip]
const FILES: &[(Thing, &str, i32, Operation)] = &[
    (Thing::Devdax, "read", O_RDWR, Operation::Read(4096, 0, 0)),
    (Thing::Devdax, "write", O_RDWR, Operation::Write(4096, 0, 0)),
    (Thing::Devdax, "open for direct I/O", O_RDWR | O_DIRECT, Operation::Open),
    (Thing::Devdax, "fallocate", O_RDWR, Operation::Allocate(0, 0, 4096)),
    (Thing::Devdax, "punch", O_RDWR, Operation::Allocate(3, 0, 2 << 20)),
    (Thing::Devdax, "truncate", O_RDWR, Operation::Truncate(4096)),
    (Thing::Devdax, "fsync", O_RDWR, Operation::Sync),
    (Thing::Devdax, "seek", O_RDONLY, Operation::Seek(libc::SEEK_END, 0)),
    (Thing::Devdax, "seek for data", O_RDONLY, Operation::Seek(libc::SEEK_DATA, 0)),
    (Thing::Devdax, "fadvise", O_RDONLY, Operation::Advise(0, 4096, libc::POSIX_FADV_DONTNEED)),
    (Thing::Devdax, "swapon", O_RDWR, Operation::Swap),
    (Thing::FsdaxFile, "fallocate, unknown mode", O_RDWR, Operation::Allocate(0x100, 0, 4096)),
    (Thing::FsdaxFile, "fallocate nothing", O_RDWR, Operation::Allocate(0, 0, 0)),
    (Thing::FsdaxFile, "fallocate too far", O_RDWR, Operation::Allocate(0, i64::MAX - 8191, 4096)),
    (Thing::FsdaxFile, "punch, size changing", O_RDWR, Operation::Allocate(2, 0, 4096)),
    (Thing::FsdaxFile, "collapse 1 byte", O_RDWR, Operation::Allocate(8, 1, 1)),
    (Thing::FsdaxFile, "insert 1 byte", O_RDWR, Operation::Allocate(0x20, 1, 1)),
    (Thing::FsdaxFile, "truncate below 0", O_RDWR, Operation::Truncate(-1)),
    (Thing::FsdaxFile, "write without permission", O_RDONLY, Operation::Write(4096, 0, 0)),
    (Thing::FsdaxFile, "read directly, not aligned", O_RDWR | O_DIRECT, Operation::Read(100, 1, 3)),
    (Thing::FsdaxFile, "write directly, not aligned", O_RDWR | O_DIRECT, Operation::Write(100, 1, 3)),
    (Thing::FsdaxFile, "read beyond the end", O_RDWR, Operation::Read(4096, 9 << 20, 0)),
    (Thing::FsdaxFile, "swapon", O_RDWR, Operation::Swap),
    (Thing::FsdaxDisk, "open exclusively", O_RDWR | O_EXCL, Operation::Open),
    (Thing::FsdaxDisk, "swapon", O_RDWR, Operation::Swap),
    (Thing::RawDisk, "read directly, not aligned", O_RDWR | O_DIRECT, Operation::Read(100, 1, 3)),
    (Thing::RawDisk, "read directly, half a sector", O_RDWR | O_DIRECT, Operation::Read(256, 0, 0)),
    (Thing::RawDisk, "read beyond the end", O_RDWR | O_DIRECT, Operation::Read(4096, 1 << 40, 0)),
    (Thing::RawDisk, "write beyond the end", O_RDWR | O_DIRECT, Operation::Write(4096, 1 << 40, 0)),
    (Thing::RawDisk, "fallocate", O_RDWR, Operation::Allocate(0, 0, 4096)),
    (Thing::RawDisk, "punch", O_RDWR, Operation::Allocate(3, 0, 4096)),
    (Thing::RawDisk, "zero, not aligned", O_RDWR, Operation::Allocate(0x11, 1, 100)),
    (Thing::RawDisk, "zero", O_RDWR, Operation::Allocate(0x11, 0, 4096)),
    (Thing::SectorDisk, "read directly, not aligned", O_RDWR | O_DIRECT, Operation::Read(100, 1, 3)),
    (Thing::SectorDisk, "punch", O_RDWR, Operation::Allocate(3, 0, 4096)),
];

/// Requests, with their arguments.
const IOCTLS: &[(&str, u64, [u64; 3])] = &[
    ("BLKDISCARD", 0x1277, [0, 4096, 0]),
    ("BLKDISCARD, not aligned", 0x1277, [1, 100, 0]),
    ("BLKSECDISCARD", 0x127d, [0, 4096, 0]),
    ("BLKZEROOUT, not aligned", 0x127f, [1, 100, 0]),
    ("BLKZEROOUT beyond the end", 0x127f, [1 << 40, 4096, 0]),
    ("BLKBSZSET of 3", 0x4008_1271, [3, 0, 0]),
    ("BLKALIGNOFF", 0x127a, [0; 3]),
    ("BLKSSZGET", 0x1268, [0; 3]),
    ("BLKGETSIZE64", 0x8008_1272, [0; 3]),
    ("HDIO_GETGEO", 0x301, [0; 3]),
    ("CDROMEJECT", 0x5309, [0; 3]),
    ("FIGETBSZ", 2, [0; 3]),
    ("FS_IOC_GETFLAGS", 0x8008_6601, [0; 3]),
    ("an unknown request", 0xdead, [0; 3]),
];

const MOUNTS: &[(Thing, &str, &str)] = &[
    (Thing::SectorDisk, "ext4", ""),
    (Thing::SectorDisk, "ext4", "dax"),
    (Thing::SectorDisk, "ext4", "dax=always"),
    (Thing::SectorDisk, "ext4", "dax=x"),
    (Thing::SectorDisk, "xfs", "dax"),
    (Thing::RawDisk, "ext4", "dax"),
    (Thing::FsdaxDisk, "ext4", "dax=never"),
    (Thing::Devdax, "ext4", "dax"),
    (Thing::PlainFile, "ext4", "dax"),
];

fn thing(on: Thing) -> &'static str {
    match on {
        Thing::FsdaxFile => "fsdax file",
        Thing::FsdaxDisk => "fsdax disk",
        Thing::Devdax => "devdax",
        Thing::SectorDisk => "sector disk",
        Thing::RawDisk => "raw disk",
        Thing::PlainFile => "plain file",
        Thing::Memory => "memory",
    }
}

fn node(node: Node) -> String {
    match node {
        Node::Seed(kind) => kind.to_owned(),
        Node::At(path) => path.to_owned(),
        other => format!("{other:?}"),
    }
}

/// Returns the whole table. Bindings and mounts do not change, except by a call
/// that should have been refused; so the stores come last.
pub fn all() -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |name: String, call| all.push(Case { name, call });
    for &(on, name, shape, then) in MAPS.iter().chain(PINS) {
        let call = Call::Map {
            on,
            flags: O_RDWR,
            shape,
            then,
        };
        add(format!("{}: {name}", thing(on)), call);
    }
    for on in [Thing::Devdax, Thing::FsdaxFile] {
        for flags in [O_RDONLY, O_RDWR] {
            let call = Call::Map {
                on,
                flags,
                shape: SHARED,
                then: &[Then::Store(0)],
            };
            add(
                format!("{}: opened with {flags}, map and write", thing(on)),
                call,
            );
        }
        for (index, &(name, _)) in ADVICE.iter().enumerate() {
            let call = Call::Map {
                on,
                flags: O_RDWR,
                shape: SHARED,
                then: &ADVISED[index],
            };
            add(format!("{}: advise {name}", thing(on)), call);
        }
    }
    for &(on, name, flags, operation) in FILES {
        add(
            format!("{}: {name}", thing(on)),
            Call::File {
                on,
                flags,
                operation,
            },
        );
    }
    for on in [
        Thing::Devdax,
        Thing::RawDisk,
        Thing::SectorDisk,
        Thing::FsdaxFile,
    ] {
        for &(name, request, words) in IOCTLS {
            let call = Call::File {
                on,
                flags: O_RDWR,
                operation: Operation::Ioctl(request, words),
            };
            add(format!("{}: {name}", thing(on)), call);
        }
    }
    for &(on, kind, options) in MOUNTS {
        let name = format!("{}: mount as {kind}, options \"{options}\"", thing(on));
        add(name, Call::Mount { on, kind, options });
    }
    for &(at, file, texts) in STORES {
        for &text in texts {
            let call = Call::Store {
                node: at,
                file,
                text,
            };
            add(format!("{}/{file}: store {text:?}", node(at)), call);
        }
    }
    all
}

/// One operation per advice, so that a case can refer to it.
static ADVISED: [[Then; 1]; ADVICE.len()] = {
    let mut steps = [[Then::Load(0)]; ADVICE.len()];
    let mut i = 0;
    while i < steps.len() {
        steps[i] = [Then::Advise(0, 2 * M, ADVICE[i].1)];
        i += 1;
    }
    steps
};
