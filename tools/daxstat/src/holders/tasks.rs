// SPDX-License-Identifier: GPL-2.0

//! Processes that hold a target: /proc/PID, read by hand.
//!
//! The crate `procfs` is not used: it collects whole files such as maps in memory, refuses one for a
//! line that it does not know, and has neither the text of fdinfo nor stacks.
//!
//! A read of /proc can wait: for the mmap lock of a process that is stuck, for an exec that does not
//! end. So a thread does it, and another one continues with the next process if it takes too long.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::devices::Above;
use super::pins::Pgmap;
use super::target::{self, Target};
use super::{entries, number, pagemap, read, Holder, Kind, Span};

/// The time that the look at one process may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The number of holders of one process that are listed; further ones are counted.
const MOST: usize = 256;
/// Devices whose drivers pin memory of processes for long.
const PINNING: [&str; 6] = [
    "/dev/infiniband/uverbs",
    "/dev/vfio/",
    "/dev/iommu",
    "/dev/dri/render",
    "/dev/kfd",
    "/dev/nvidia",
];

/// The attributes of an inode, without a request to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Number of the filesystem's device.
    pub device: String,
    /// Number of the device that the inode is; `0:0` if it is none.
    pub rdev: String,
    pub ino: u64,
    mode: u32,
}

impl Status {
    /// Looks at a path; symbolic links are followed.
    pub fn of(path: &Path) -> Option<Self> {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        let mut about = MaybeUninit::<libc::statx>::zeroed();
        // SAFETY: `path` is a C string and `about` is valid for writes; both outlive the call.
        let rc = unsafe {
            libc::statx(
                libc::AT_FDCWD,
                path.as_ptr(),
                libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT,
                libc::STATX_BASIC_STATS,
                about.as_mut_ptr(),
            )
        };
        if rc != 0 {
            return None;
        }
        // SAFETY: All zero bytes are a valid value of the structure, and statx succeeded.
        let about = unsafe { about.assume_init() };
        Some(Self {
            device: format!("{}:{}", about.stx_dev_major, about.stx_dev_minor),
            rdev: format!("{}:{}", about.stx_rdev_major, about.stx_rdev_minor),
            ino: about.stx_ino,
            mode: about.stx_mode.into(),
        })
    }

    fn is(&self, kind: u32) -> bool {
        self.mode & libc::S_IFMT == kind
    }

    pub fn is_file(&self) -> bool {
        self.is(libc::S_IFREG)
    }
}

/// What is looked for.
#[derive(Debug)]
pub struct Wanted {
    filesystems: BTreeSet<String>,
    blocks: BTreeSet<String>,
    /// Numbers of dax devices.
    chars: BTreeSet<String>,
    /// The device nodes: filesystem and inode, and whether their entries can be counted.
    nodes: BTreeMap<(String, u64), bool>,
    file: Option<(String, u64)>,
    /// Physical memory to which mappings are narrowed; empty if all of the device is meant.
    ranges: Vec<Span>,
    /// Whether the driver refuses no long-term pins.
    long_term: bool,
    /// Whether memory of the target is being torn down.
    dying: bool,
}

impl Wanted {
    pub fn new(target: &Target, above: &Above, pgmaps: &[Pgmap]) -> Self {
        const GIB: u64 = 1 << 30;
        let large = |name: &str| target.dax.iter().any(|d| d.name == name && d.align >= GIB);
        let node = |name: &String| {
            let status = Status::of(&Path::new("/dev").join(name))?;
            Some(((status.device, status.ino), !large(name)))
        };
        Self {
            filesystems: above.filesystems.clone(),
            blocks: above.blocks.clone(),
            chars: target.dax.iter().filter_map(|d| d.number.clone()).collect(),
            nodes: above.names.iter().filter_map(node).collect(),
            file: target.file.clone(),
            ranges: match target.kind {
                target::Kind::Range => target.ranges.clone(),
                _ => Vec::new(),
            },
            long_term: !target.dax.is_empty(),
            dying: pgmaps.iter().any(Pgmap::is_dying),
        }
    }

    /// Returns whether an inode of a filesystem is in the target.
    fn has(&self, device: &str, ino: u64) -> bool {
        self.filesystems.contains(device)
            || self
                .file
                .as_ref()
                .is_some_and(|(d, i)| d == device && *i == ino)
    }

    fn has_status(&self, status: &Status) -> bool {
        (status.is(libc::S_IFBLK) && self.blocks.contains(&status.rdev))
            || (status.is(libc::S_IFCHR) && self.chars.contains(&status.rdev))
            || self.has(&status.device, status.ino)
    }
}

/// What was seen of one process.
#[derive(Debug, Default)]
struct Process {
    holders: Vec<Holder>,
    /// Holders beyond [`MOST`].
    more: usize,
    /// Whether permission was missing.
    is_hidden: bool,
    /// What its mappings could not be counted for.
    uncounted: Option<String>,
}

impl Process {
    fn add(&mut self, holder: Holder) {
        match self.holders.len() < MOST {
            true => self.holders.push(holder),
            false => self.more += 1,
        }
    }

    fn note(&mut self, error: &io::Error) {
        self.is_hidden |= error.kind() == io::ErrorKind::PermissionDenied;
    }
}

/// A thread that looks at processes.
struct Worker {
    ask: Sender<u32>,
    answers: Receiver<Process>,
}

impl Worker {
    fn start(proc: &Path, wanted: &Arc<Wanted>) -> Self {
        let (ask, asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let (proc, wanted) = (proc.to_path_buf(), Arc::clone(wanted));
        thread::spawn(move || {
            for pid in asked {
                if answer.send(look(&proc, pid, &wanted)).is_err() {
                    return;
                }
            }
        });
        Self { ask, answers }
    }

    fn look(&self, pid: u32) -> Option<Process> {
        self.ask.send(pid).ok()?;
        self.answers.recv_timeout(LIMIT).ok()
    }
}

/// Returns the holders among all processes but this one.
pub fn all(proc: &Path, wanted: Wanted, unknown: &mut Vec<String>) -> Vec<Holder> {
    let wanted = Arc::new(wanted);
    let mut worker = Worker::start(proc, &wanted);
    let (mut holders, mut hidden, mut uncounted) = (Vec::new(), 0u32, BTreeSet::new());
    let pids = entries(proc)
        .into_iter()
        .filter_map(|n| n.parse::<u32>().ok());
    for pid in pids.filter(|pid| *pid != std::process::id()) {
        let Some(process) = worker.look(pid) else {
            let command = read(proc.join(pid.to_string()).join("comm")).unwrap_or_default();
            unknown.push(format!(
                "process {pid} ({command}): it did not answer within {} s; its locks are held",
                LIMIT.as_secs()
            ));
            worker = Worker::start(proc, &wanted);
            continue;
        };
        if process.more > 0 {
            unknown.push(format!(
                "process {pid}: {} more holders are left out",
                process.more
            ));
        }
        hidden += u32::from(process.is_hidden);
        uncounted.extend(process.uncounted);
        // A bound for what is collected; the report has fewer.
        if holders.len() < 4 * super::MOST {
            holders.extend(process.holders);
        }
    }
    if hidden > 0 {
        unknown.push(format!(
            "processes of other users ({hidden}): only root may look at them"
        ));
    }
    unknown.extend(uncounted);
    holders
}

/// Looks at one process.
fn look(proc: &Path, pid: u32, wanted: &Wanted) -> Process {
    let dir = proc.join(pid.to_string());
    let mut process = Process::default();
    let spans = mappings(&dir, wanted, &mut process).unwrap_or_else(|e| {
        process.note(&e);
        Vec::new()
    });
    for (kind, name) in [(Kind::Cwd, "cwd"), (Kind::Root, "root")] {
        let link = dir.join(name);
        if Status::of(&link).is_some_and(|s| wanted.has_status(&s)) {
            let file = fs::read_link(&link).unwrap_or_default();
            process.add(Holder {
                file: Some(file.display().to_string()),
                ..Holder::new(kind, "")
            });
        }
    }
    if let Err(e) = descriptors(&dir, pid, wanted, &spans, &mut process) {
        process.note(&e);
    }
    let uses = process.holders.iter().any(|h| h.certain);
    threads(&dir, wanted, &spans, uses, &mut process);
    if !process.holders.is_empty() {
        let command = read(dir.join("comm")).unwrap_or_default();
        for holder in &mut process.holders {
            holder.pid = Some(holder.pid.unwrap_or(pid));
            holder.command = Some(command.clone());
        }
    }
    process
}

/// A line of /proc/PID/maps.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    span: Span,
    device: String,
    ino: u64,
    path: String,
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = String::from_utf8_lossy(line);
        let mut words = line.trim_end_matches('\n').splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let (major, minor) = words.nth(2)?.split_once(':')?;
        Some(Self {
            span: Span {
                start: hex(start)?,
                end: hex(end)?.checked_sub(1)?,
            },
            device: format!("{}:{}", hex(major)?, hex(minor)?),
            ino: words.next()?.parse().ok()?,
            path: words.next().unwrap_or("").trim_start().to_string(),
        })
    }

    /// Appends a line that continues this one, which mprotect() has divided.
    fn join(&mut self, next: &Self) -> bool {
        let joins = self.span.end.checked_add(1) == Some(next.span.start)
            && (&self.device, self.ino, &self.path) == (&next.device, next.ino, &next.path);
        if joins {
            self.span.end = next.span.end;
        }
        joins
    }
}

/// Adds the mappings of the target, and returns their addresses.
fn mappings(dir: &Path, wanted: &Wanted, process: &mut Process) -> io::Result<Vec<Span>> {
    let mut maps = BufReader::new(File::open(dir.join("maps"))?);
    let (mut spans, mut line) = (Vec::new(), Vec::new());
    let mut last: Option<Line> = None;
    let mut pagemap = None;
    loop {
        line.clear();
        let ended = maps.read_until(b'\n', &mut line)? == 0;
        let found = Line::parse(&line)
            .filter(|l| l.ino != 0)
            .filter(|l| wanted.has(&l.device, l.ino) || wanted.nodes.contains_key(&node_of(l)));
        if let (Some(last), Some(found)) = (&mut last, &found) {
            if last.join(found) {
                continue;
            }
        }
        if let Some(mapping) = last.take() {
            if let Some(holder) = mapped(dir, &mapping, wanted, &mut pagemap, process) {
                if spans.len() < MOST {
                    spans.push(mapping.span);
                }
                process.add(holder);
            }
        }
        last = found;
        if ended && last.is_none() {
            return Ok(spans);
        }
    }
}

fn node_of(line: &Line) -> (String, u64) {
    (line.device.clone(), line.ino)
}

/// Returns the holder that a mapping is; `None` if no page of it is in the physical range.
fn mapped(
    dir: &Path,
    mapping: &Line,
    wanted: &Wanted,
    pagemap: &mut Option<File>,
    process: &mut Process,
) -> Option<Holder> {
    let mut holder = Holder {
        file: Some(mapping.path.clone()),
        address: Some(mapping.span),
        ..Holder::new(Kind::Mapped, "")
    };
    if wanted.nodes.get(&node_of(mapping)) == Some(&false) {
        holder.what = "entries of 1 GiB are not counted: a look would split them".into();
        holder.certain = wanted.ranges.is_empty();
        return Some(holder);
    }
    if pagemap.is_none() {
        *pagemap = File::open(dir.join("pagemap")).ok();
    }
    let counted = match pagemap {
        Some(file) => pagemap::count(file, mapping.span, &wanted.ranges),
        None => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
    };
    match counted {
        Ok(count) => {
            if count.inside == Some(false) {
                return None;
            }
            holder.certain = wanted.ranges.is_empty() || count.inside == Some(true);
            (holder.huge, holder.small) = (Some(count.huge), Some(count.small));
        }
        Err(e) => {
            holder.certain = wanted.ranges.is_empty();
            process.uncounted = Some(match e.raw_os_error() {
                Some(libc::ENOTTY) => {
                    "the sizes of entries: the kernel has no PAGEMAP_SCAN (Linux 6.7)".into()
                }
                _ => format!("the sizes of some entries: pagemap: {e}"),
            });
        }
    }
    Some(holder)
}

/// Adds what the descriptors hold.
fn descriptors(
    dir: &Path,
    pid: u32,
    wanted: &Wanted,
    spans: &[Span],
    process: &mut Process,
) -> io::Result<()> {
    let mut pidfd = None;
    for entry in fs::read_dir(dir.join("fd"))?.flatten() {
        let Some(fd) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(link) = fs::read_link(entry.path()) else {
            continue;
        };
        let link = link.display().to_string();
        if link.starts_with("anon_inode:[io_uring]") {
            ring(dir, fd, wanted, spans, process);
        } else if link.starts_with("pipe:[") {
            if pidfd.is_none() {
                pidfd = Some(open_pidfd(pid));
            }
            if let Some(Ok(pidfd)) = &pidfd {
                if is_not_empty(pidfd, fd) {
                    let also = match spans.is_empty() {
                        true => "",
                        false => "; the process maps the target",
                    };
                    process.add(Holder {
                        certain: false,
                        fd: Some(fd),
                        ..Holder::new(Kind::Pipe, format!("{link} has data{also}"))
                    });
                }
            }
        } else if link.starts_with('/') {
            if wanted.long_term && PINNING.iter().any(|p| link.starts_with(p)) {
                process.add(Holder {
                    certain: false,
                    fd: Some(fd),
                    file: Some(link.clone()),
                    ..Holder::new(Kind::Driver, "its driver pins memory that it registers")
                });
            }
            if Status::of(&entry.path()).is_some_and(|s| wanted.has_status(&s)) {
                process.add(Holder {
                    fd: Some(fd),
                    file: Some(link),
                    ..Holder::new(Kind::Open, "")
                });
            }
        }
    }
    Ok(())
}

/// Adds the fixed buffers of a ring.
fn ring(dir: &Path, fd: u32, wanted: &Wanted, spans: &[Span], process: &mut Process) {
    let Ok(file) = File::open(dir.join("fdinfo").join(fd.to_string())) else {
        return;
    };
    let mut elsewhere = 0u32;
    for (index, buffer) in buffers(BufReader::new(file)) {
        if spans.iter().any(|s| s.overlaps(buffer)) {
            process.add(Holder {
                fd: Some(fd),
                address: Some(buffer),
                ..Holder::new(Kind::IoUring, format!("fixed buffer {index} of the ring"))
            });
        } else {
            elsewhere += 1;
        }
    }
    // A buffer stays pinned when its mapping ends. fsdax refuses fixed buffers.
    if elsewhere > 0 && wanted.long_term {
        process.add(Holder {
            certain: false,
            fd: Some(fd),
            ..Holder::new(
                Kind::IoUring,
                format!("{elsewhere} fixed buffers outside the mappings of the target, which may have ended"),
            )
        });
    }
}

/// Returns the fixed buffers in the text of a ring's fdinfo, with their indices.
fn buffers(fdinfo: impl BufRead) -> impl Iterator<Item = (u32, Span)> {
    let lines = fdinfo.lines().map_while(Result::ok);
    lines
        .skip_while(|l| !l.starts_with("UserBufs:"))
        .skip(1)
        .map_while(|line| {
            let (index, buffer) = line.split_once(':')?;
            let (start, size) = buffer.trim().split_once('/')?;
            let span = Span::new(number(start)?, number(size)?);
            Some((index.trim().parse().ok()?, span?))
        })
}

fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open() has no pointers among its arguments.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Returns whether a pipe of another process has data. The poll takes no lock of the pipe, unlike
/// FIONREAD, and the descriptor is a copy: nothing is opened.
fn is_not_empty(pidfd: &OwnedFd, fd: u32) -> bool {
    // SAFETY: pidfd_getfd() has no pointers among its arguments.
    let copy = owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) });
    let Ok(copy) = copy else {
        return false;
    };
    let mut poll = libc::pollfd {
        fd: copy.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: `poll` is one structure, valid for writes, and outlives the call.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 && poll.revents & libc::POLLIN != 0 }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: The descriptor is new, so nothing else closes it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Adds the threads that wait in the kernel for the target.
fn threads(dir: &Path, wanted: &Wanted, spans: &[Span], uses: bool, process: &mut Process) {
    if !wanted.dying && !uses {
        return;
    }
    for tid in entries(dir.join("task")) {
        let task = dir.join("task").join(&tid);
        let is_running = state(&read(task.join("stat")).unwrap_or_default()) == Some('R');
        if is_running {
            continue;
        }
        let stack = read(task.join("stack")).unwrap_or_default();
        let Some(place) = Place::of(&stack) else {
            continue;
        };
        let call = read(task.join("syscall")).unwrap_or_default();
        let Some(mut holder) = place.holder(&call, wanted, spans, uses) else {
            continue;
        };
        holder.pid = tid.parse().ok();
        process.add(holder);
    }
}

/// Returns the state letter in the text of /proc/PID/stat; the command before it may have any
/// character.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Where a thread waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Teardown,
    Truncate,
    DirectIo,
}

impl Place {
    /// Recognises the functions in the text of /proc/PID/stack.
    fn of(stack: &str) -> Option<Self> {
        let has = |names: &[&str]| names.iter().any(|name| stack.contains(name));
        // The names of Rust functions are mangled: `_RNv…8memremap9wait_idle…`.
        if has(&["memunmap_pages", "devm_memremap_pages", "8memremap"]) {
            Some(Place::Teardown)
        } else if has(&[
            "break_layouts",
            "break_dax_layouts",
            "dax_break",
            "3dax9wait_idle",
        ]) {
            Some(Place::Truncate)
        } else if has(&[
            "direct_IO",
            "blkdev_direct",
            "iomap_dio",
            "dio_rw",
            "blk_rq_map_user",
        ]) {
            Some(Place::DirectIo)
        } else {
            None
        }
    }

    /// Returns the holder that a thread is which waits here.
    fn holder(self, call: &str, wanted: &Wanted, spans: &[Span], uses: bool) -> Option<Holder> {
        match self {
            Place::Teardown => wanted.dying.then(|| {
                Holder::new(
                    Kind::Teardown,
                    "waits in a teardown until no page is in use",
                )
            }),
            Place::Truncate => {
                uses.then(|| Holder::new(Kind::Truncate, "waits until no page of a file is pinned"))
            }
            Place::DirectIo if spans.is_empty() => None,
            Place::DirectIo => {
                let buffer = buffer(call);
                Some(Holder {
                    certain: buffer.is_some_and(|b| spans.iter().any(|s| s.overlaps(b))),
                    address: buffer,
                    ..Holder::new(Kind::DirectIo, "waits for direct I/O")
                })
            }
        }
    }
}

/// Returns the buffer of a read() or write() in the text of /proc/PID/syscall; `None` for other
/// calls, and those with several buffers.
fn buffer(call: &str) -> Option<Span> {
    const CALLS: [libc::c_long; 4] = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
    ];
    let mut words = call.split_whitespace();
    let call = words.next()?.parse::<libc::c_long>().ok()?;
    let mut arguments = words.skip(1);
    let (start, size) = (number(arguments.next()?)?, number(arguments.next()?)?);
    CALLS.contains(&call).then(|| Span::new(start, size))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let parse = |text: &str| Line::parse(text.as_bytes());
        let line = "7f0000000000-7f0000200000 rw-s 00000000 103:02 12    /mnt/x/a b\n";
        let mut first = parse(line).unwrap_or_else(|| panic!("not parsed: {line}"));
        assert_eq!((first.device.as_str(), first.ino), ("259:2", 12));
        assert_eq!(first.path, "/mnt/x/a b");
        let next = line.replacen("7f0000000000-7f0000200000", "7f0000200000-7f0000201000", 1);
        assert!(parse(&next).is_some_and(|next| first.join(&next)));
        assert_eq!(first.span.end, 0x7f00_0020_0fff);
        let anonymous = parse("7f0000000000-7f0000200000 rw-p 00000000 00:00 0 \n");
        assert!(anonymous.is_some_and(|l| l.ino == 0 && l.path.is_empty()));
        assert_eq!(parse("x"), None);
    }

    #[test]
    fn fixed_buffers() {
        let text = "SqMask:\t0x3\nUserFiles:\t1\n    0: data\nUserBufs:\t2\n    0: 0x7f0000000000/4096\n    \
                    1: 0x7f0000100000/8192\nPollList:\nCqOverflowList:\n";
        let found: Vec<_> = buffers(text.as_bytes()).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].1.to_string(), "0x7f0000100000-0x7f0000101fff");
    }

    #[test]
    fn places() {
        let of = |text| Place::of(text);
        let rust = "[<0>] _RNvNtCs1_8memremap9wait_idle4wait+0x1/0x2\n";
        assert_eq!(of(rust), Some(Place::Teardown));
        assert_eq!(of("[<0>] memunmap_pages+0x1/0x2\n"), Some(Place::Teardown));
        assert_eq!(
            of("[<0>] ext4_break_layouts+0x1/0x2\n"),
            Some(Place::Truncate)
        );
        assert_eq!(
            of("[<0>] __blkdev_direct_IO_simple+0x1/0x2\n"),
            Some(Place::DirectIo)
        );
        assert_eq!(of("[<0>] do_wait+0x1/0x2\n"), None);
        assert_eq!(state("7 (a) b) D 1"), Some('D'));
        let call = format!("{} 0x3 0x7f0000000000 0x1000 0x0", libc::SYS_pread64);
        let at = buffer(&call).map(|s| s.to_string());
        assert_eq!(at.as_deref(), Some("0x7f0000000000-0x7f0000000fff"));
        assert_eq!(buffer("running"), None);
    }

    /// The folder of a process that has a file of another filesystem open.
    #[test]
    fn this_process() -> anyhow::Result<()> {
        let path = std::env::temp_dir().join(format!("daxstat-tasks-{}", std::process::id()));
        let file = File::create(&path)?;
        let status = Status::of(&path);
        fs::remove_file(&path)?;
        let status = status.ok_or_else(|| anyhow::anyhow!("no status"))?;
        let wanted = Wanted {
            filesystems: BTreeSet::new(),
            blocks: BTreeSet::new(),
            chars: BTreeSet::new(),
            nodes: BTreeMap::new(),
            file: Some((status.device.clone(), status.ino)),
            ranges: Vec::new(),
            long_term: false,
            dying: false,
        };
        let mut ends = [0; 2];
        // SAFETY: The array is valid for writes and outlives the call.
        anyhow::ensure!(unsafe { libc::pipe(ends.as_mut_ptr()) } == 0, "pipe");
        // SAFETY: The descriptors are new and owned here only.
        let [reader, writer] = ends.map(|fd| unsafe { File::from_raw_fd(fd) });
        io::Write::write_all(&mut &writer, b"x")?;
        let seen = look(Path::new("/proc"), std::process::id(), &wanted);
        let kinds: Vec<(Kind, Option<u32>)> = seen.holders.iter().map(|h| (h.kind, h.fd)).collect();
        let of = |fd: i32| u32::try_from(fd).ok();
        assert!(
            kinds.contains(&(Kind::Open, of(file.as_raw_fd()))),
            "{kinds:?}"
        );
        assert!(
            kinds.contains(&(Kind::Pipe, of(reader.as_raw_fd()))),
            "{kinds:?}"
        );
        io::Read::read_exact(&mut &reader, &mut [0])?;
        Ok(())
    }
}
