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
use super::setup::{Node, Object};

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
        on: Object,
        flags: i32,
        operation: Operation,
    },
    Map {
        on: Object,
        flags: i32,
        shape: Shape,
        then: &'static [Then],
    },
    Mount {
        on: Object,
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
const MAPS: &[(Object, &str, Shape, &[Then])] = &[
    (Object::Devdax, "map", SHARED, &[Then::Load(0)]),
    (Object::Devdax, "map privately", PRIVATE, &[]),
    (Object::Devdax, "map synchronously", SYNC, &[Then::Store(0)]),
    (Object::Devdax, "map without access", Shape { prot: PROT_NONE, ..SHARED }, &[Then::Load(0)]),
    (Object::Devdax, "map for execution", Shape { prot: PROT_READ | PROT_EXEC, ..SHARED }, &[]),
    (Object::Devdax, "map 4 KiB", Shape { len: 4 * K, ..SHARED }, &[]),
    (Object::Devdax, "map nothing", Shape { len: 0, ..SHARED }, &[]),
    (Object::Devdax, "map at offset 4 KiB", Shape { offset: 4096, ..SHARED }, &[Then::Load(0)]),
    (Object::Devdax, "map at offset 1", Shape { offset: 1, ..SHARED }, &[]),
    (Object::Devdax, "map at a bad address", Shape { skew: 4 * K, ..SHARED }, &[]),
    (Object::Devdax, "map beyond the end", Shape { offset: 1 << 40, ..SHARED }, &[]),
    (Object::Devdax, "map and read beyond the end", Shape { offset: 1 << 40, ..SHARED }, &[Then::Load(0)]),
    (Object::Devdax, "map at a huge offset", Shape { offset: i64::MAX - 4095, ..SHARED }, &[]),
    (Object::Devdax, "unmap a part", SHARED, &[Then::Store(0), Then::Unmap(4 * K, 4 * K)]),
    (Object::Devdax, "protect a part", SHARED, &[Then::Protect(4 * K, 4 * K, PROT_READ)]),
    (Object::Devdax, "protect all, write", SHARED, &[Then::Protect(0, 2 * M, PROT_READ), Then::Store(0)]),
    (Object::Devdax, "grow", SHARED, &[Then::Remap(0, 2 * M, 4 * M)]),
    (Object::Devdax, "grow by 4 KiB", SHARED, &[Then::Remap(0, 2 * M, 2 * M + 4 * K)]),
    (Object::Devdax, "shrink by 4 KiB", SHARED, &[Then::Remap(0, 2 * M, 2 * M - 4 * K)]),
    (Object::Devdax, "lock", SHARED, &[Then::Lock(0, 2 * M)]),
    (Object::Devdax, "sync", SHARED, &[Then::Store(0), Then::Sync(0, 2 * M, libc::MS_SYNC)]),
    (Object::Devdax, "sync at a bad address", SHARED, &[Then::Sync(1, 4 * K, libc::MS_SYNC)]),
    (Object::Devdax, "mincore", SHARED, &[Then::Resident(0, 2 * M)]),
    (Object::Devdax, "userfaultfd", SHARED, &[Then::Userfault(0, 2 * M)]),
    (Object::FsdaxFile, "map", SHARED, &[Then::Store(0)]),
    (Object::FsdaxFile, "map synchronously", SYNC, &[Then::Store(0)]),
    (Object::FsdaxFile, "map synchronously and privately", Shape { flags: MAP_PRIVATE | MAP_SYNC, ..SHARED }, &[Then::Store(0)]),
    (Object::FsdaxFile, "map with an unknown flag", Shape { flags: MAP_SHARED_VALIDATE | (1 << 27), ..SHARED }, &[]),
    (Object::FsdaxFile, "map at offset 1", Shape { offset: 1, ..SHARED }, &[]),
    (Object::FsdaxFile, "map and read beyond the end", Shape { offset: 8 << 20, ..SHARED }, &[Then::Load(0)]),
    (Object::FsdaxFile, "map privately and read beyond the end", Shape { offset: 8 << 20, ..PRIVATE }, &[Then::Load(0)]),
    (Object::FsdaxFile, "map for reading and write", Shape { prot: PROT_READ, ..SHARED }, &[Then::Store(0)]),
    (Object::FsdaxFile, "unmap a part", SHARED, &[Then::Store(0), Then::Unmap(4 * K, 4 * K), Then::Load(8 * K)]),
    (Object::FsdaxFile, "protect a part", SHARED, &[Then::Store(0), Then::Protect(4 * K, 4 * K, PROT_READ), Then::Store(4 * K)]),
    (Object::FsdaxFile, "userfaultfd", SHARED, &[Then::Userfault(0, 2 * M)]),
    (Object::FsdaxFile, "lock", SHARED, &[Then::Lock(0, 2 * M)]),
    (Object::FsdaxDisk, "map", SHARED, &[Then::Load(0)]),
    (Object::FsdaxDisk, "map synchronously", SYNC, &[Then::Load(0)]),
    (Object::RawDisk, "map synchronously", SYNC, &[]),
    (Object::SectorDisk, "map synchronously", SYNC, &[]),
    (Object::PlainFile, "map synchronously", SYNC, &[]),
    (Object::Memory, "map synchronously", SYNC, &[]),
];

/// Pins of all kinds.
#[rustfmt::skip]
const PINS: &[(Object, &str, Shape, &[Then])] = &[
    (Object::Devdax, "pin long-term", SHARED, &[Then::Pin(0, 2 * M, true, true)]),
    (Object::Devdax, "pin long-term, slow path", SHARED, &[Then::Pin(0, 2 * M, true, false)]),
    (Object::Devdax, "pin for writing what is read-only", Shape { prot: PROT_READ, ..SHARED }, &[Then::Pin(0, 4 * K, true, true)]),
    (Object::Devdax, "pin without access", Shape { prot: PROT_NONE, ..SHARED }, &[Then::Pin(0, 4 * K, false, true)]),
    (Object::Devdax, "pin beyond the end", Shape { offset: 1 << 40, ..SHARED }, &[Then::Pin(0, 4 * K, false, true)]),
    (Object::Devdax, "pin across the end of the mapping", SHARED, &[Then::Unmap(2 * M, 2 * M), Then::Pin(M, 2 * M, true, true)]),
    (Object::Devdax, "register with io_uring", SHARED, &[Then::Register(0, 64 * K)]),
    (Object::Devdax, "read directly into it", SHARED, &[Then::DirectRead(0, 64 * K)]),
    (Object::Devdax, "read directly across the end", SHARED, &[Then::Unmap(2 * M, 2 * M), Then::DirectRead(2 * M - 4 * K, 8 * K)]),
    (Object::Devdax, "splice", SHARED, &[Then::Splice(0, 4 * K)]),
    (Object::FsdaxFile, "pin long-term", SHARED, &[Then::Store(0), Then::Pin(0, 4 * K, true, true)]),
    (Object::FsdaxFile, "pin long-term, slow path", SHARED, &[Then::Store(0), Then::Pin(0, 4 * K, true, false)]),
    (Object::FsdaxFile, "pin long-term, untouched", SHARED, &[Then::Pin(4 * M, 4 * K, true, true)]),
    (Object::FsdaxFile, "pin long-term, for reading", SHARED, &[Then::Load(0), Then::Pin(0, 2 * M, false, true)]),
    (Object::FsdaxFile, "pin long-term, private", PRIVATE, &[Then::Store(0), Then::Pin(0, 4 * K, true, true)]),
    (Object::FsdaxFile, "register with io_uring", SHARED, &[Then::Store(0), Then::Register(0, 64 * K)]),
    (Object::FsdaxFile, "read directly into it", SHARED, &[Then::DirectRead(0, 64 * K)]),
    (Object::FsdaxFile, "read directly beyond the end", Shape { offset: 8 << 20, ..SHARED }, &[Then::DirectRead(0, 4 * K)]),
    (Object::FsdaxFile, "read directly into what is read-only", Shape { prot: PROT_READ, ..SHARED }, &[Then::DirectRead(0, 4 * K)]),
    (Object::FsdaxFile, "read directly into it, not aligned", SHARED, &[Then::DirectRead(1, 4 * K)]),
    (Object::FsdaxFile, "splice", SHARED, &[Then::Store(0), Then::Splice(0, 4 * K)]),
    (Object::FsdaxDisk, "pin long-term", SHARED, &[Then::Pin(0, 4 * K, false, true)]),
    (Object::Memory, "pin what is not mapped", PRIVATE, &[Then::Unmap(0, 2 * M), Then::Pin(0, 4 * K, false, true)]),
    (Object::Memory, "pin nothing", PRIVATE, &[Then::Pin(0, 0, false, true)]),
    (Object::Memory, "pin across a hole", PRIVATE, &[Then::Unmap(M, 4 * K), Then::Pin(M - 4 * K, 12 * K, true, true)]),
    (Object::Memory, "read directly into a hole", PRIVATE, &[Then::Unmap(0, 2 * M), Then::DirectRead(0, 4 * K)]),
    (Object::Memory, "process_vm_readv of a hole", PRIVATE, &[Then::Unmap(M, 4 * K), Then::Peek(M, 4 * K)]),
    (Object::Memory, "splice a hole", PRIVATE, &[Then::Unmap(0, 2 * M), Then::Splice(0, 4 * K)]),
    (Object::Memory, "register a hole with io_uring", PRIVATE, &[Then::Unmap(0, 2 * M), Then::Register(0, 4 * K)]),
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
const FILES: &[(Object, &str, i32, Operation)] = &[
    (Object::Devdax, "read", O_RDWR, Operation::Read(4096, 0, 0)),
    (Object::Devdax, "write", O_RDWR, Operation::Write(4096, 0, 0)),
    (Object::Devdax, "open for direct I/O", O_RDWR | O_DIRECT, Operation::Open),
    (Object::Devdax, "fallocate", O_RDWR, Operation::Allocate(0, 0, 4096)),
    (Object::Devdax, "punch", O_RDWR, Operation::Allocate(3, 0, 2 << 20)),
    (Object::Devdax, "truncate", O_RDWR, Operation::Truncate(4096)),
    (Object::Devdax, "fsync", O_RDWR, Operation::Sync),
    (Object::Devdax, "seek", O_RDONLY, Operation::Seek(libc::SEEK_END, 0)),
    (Object::Devdax, "seek for data", O_RDONLY, Operation::Seek(libc::SEEK_DATA, 0)),
    (Object::Devdax, "fadvise", O_RDONLY, Operation::Advise(0, 4096, libc::POSIX_FADV_DONTNEED)),
    (Object::Devdax, "swapon", O_RDWR, Operation::Swap),
    (Object::FsdaxFile, "fallocate, unknown mode", O_RDWR, Operation::Allocate(0x100, 0, 4096)),
    (Object::FsdaxFile, "fallocate nothing", O_RDWR, Operation::Allocate(0, 0, 0)),
    (Object::FsdaxFile, "fallocate too far", O_RDWR, Operation::Allocate(0, i64::MAX - 8191, 4096)),
    (Object::FsdaxFile, "punch, size changing", O_RDWR, Operation::Allocate(2, 0, 4096)),
    (Object::FsdaxFile, "collapse 1 byte", O_RDWR, Operation::Allocate(8, 1, 1)),
    (Object::FsdaxFile, "insert 1 byte", O_RDWR, Operation::Allocate(0x20, 1, 1)),
    (Object::FsdaxFile, "truncate below 0", O_RDWR, Operation::Truncate(-1)),
    (Object::FsdaxFile, "write without permission", O_RDONLY, Operation::Write(4096, 0, 0)),
    (Object::FsdaxFile, "read directly, not aligned", O_RDWR | O_DIRECT, Operation::Read(100, 1, 3)),
    (Object::FsdaxFile, "write directly, not aligned", O_RDWR | O_DIRECT, Operation::Write(100, 1, 3)),
    (Object::FsdaxFile, "read beyond the end", O_RDWR, Operation::Read(4096, 9 << 20, 0)),
    (Object::FsdaxFile, "swapon", O_RDWR, Operation::Swap),
    (Object::FsdaxDisk, "open exclusively", O_RDWR | O_EXCL, Operation::Open),
    (Object::FsdaxDisk, "swapon", O_RDWR, Operation::Swap),
    (Object::RawDisk, "read directly, not aligned", O_RDWR | O_DIRECT, Operation::Read(100, 1, 3)),
    (Object::RawDisk, "read directly, half a sector", O_RDWR | O_DIRECT, Operation::Read(256, 0, 0)),
    (Object::RawDisk, "read beyond the end", O_RDWR | O_DIRECT, Operation::Read(4096, 1 << 40, 0)),
    (Object::RawDisk, "write beyond the end", O_RDWR | O_DIRECT, Operation::Write(4096, 1 << 40, 0)),
    (Object::RawDisk, "fallocate", O_RDWR, Operation::Allocate(0, 0, 4096)),
    (Object::RawDisk, "punch", O_RDWR, Operation::Allocate(3, 0, 4096)),
    (Object::RawDisk, "zero, not aligned", O_RDWR, Operation::Allocate(0x11, 1, 100)),
    (Object::RawDisk, "zero", O_RDWR, Operation::Allocate(0x11, 0, 4096)),
    (Object::SectorDisk, "read directly, not aligned", O_RDWR | O_DIRECT, Operation::Read(100, 1, 3)),
    (Object::SectorDisk, "punch", O_RDWR, Operation::Allocate(3, 0, 4096)),
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

const MOUNTS: &[(Object, &str, &str)] = &[
    (Object::SectorDisk, "ext4", ""),
    (Object::SectorDisk, "ext4", "dax"),
    (Object::SectorDisk, "ext4", "dax=always"),
    (Object::SectorDisk, "ext4", "dax=x"),
    (Object::SectorDisk, "xfs", "dax"),
    (Object::RawDisk, "ext4", "dax"),
    (Object::FsdaxDisk, "ext4", "dax=never"),
    (Object::Devdax, "ext4", "dax"),
    (Object::PlainFile, "ext4", "dax"),
];

fn object(on: Object) -> &'static str {
    match on {
        Object::FsdaxFile => "fsdax file",
        Object::FsdaxDisk => "fsdax disk",
        Object::Devdax => "devdax",
        Object::SectorDisk => "sector disk",
        Object::RawDisk => "raw disk",
        Object::PlainFile => "plain file",
        Object::Memory => "memory",
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
        add(format!("{}: {name}", object(on)), call);
    }
    for on in [Object::Devdax, Object::FsdaxFile] {
        for flags in [O_RDONLY, O_RDWR] {
            let call = Call::Map {
                on,
                flags,
                shape: SHARED,
                then: &[Then::Store(0)],
            };
            add(
                format!("{}: opened with {flags}, map and write", object(on)),
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
            add(format!("{}: advise {name}", object(on)), call);
        }
    }
    for &(on, name, flags, operation) in FILES {
        add(
            format!("{}: {name}", object(on)),
            Call::File {
                on,
                flags,
                operation,
            },
        );
    }
    for on in [
        Object::Devdax,
        Object::RawDisk,
        Object::SectorDisk,
        Object::FsdaxFile,
    ] {
        for &(name, request, words) in IOCTLS {
            let call = Call::File {
                on,
                flags: O_RDWR,
                operation: Operation::Ioctl(request, words),
            };
            add(format!("{}: {name}", object(on)), call);
        }
    }
    for &(on, kind, options) in MOUNTS {
        let name = format!("{}: mount as {kind}, options \"{options}\"", object(on));
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
