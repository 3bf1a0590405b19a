// SPDX-License-Identifier: GPL-2.0

//! Makes the bad calls of the table and records the result of each: `0` or the
//! return value of the call, the name of an errno, or that of a signal.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::calls::{self, Call, Shape};
use super::operation::{Then, ROOM};
use super::setup::{Object, Setup};
use super::Facts;
use crate::mapping::Mapping;
use crate::process::{pipe, spawn};

/// A disk with ordinary memory behind it, for direct I/O into mappings.
const SCRATCH: &str = "/dev/vdb";
/// Time limit of a call, in seconds.
const LIMIT: u64 = 20;

/// Makes all calls; returns the results by name, and notes on calls that could
/// not be made.
pub fn all(setup: &Setup) -> (Facts, Vec<String>) {
    let mut facts = Facts::new();
    let mut notes = Vec::new();
    for case in calls::all() {
        match make(setup, &case.call) {
            Ok(text) => {
                println!("{}: {text}", case.name);
                facts.insert(case.name, text);
            }
            Err(e) => {
                println!("{}: not made: {e:#}", case.name);
                notes.push(format!("{}: not made: {e:#}", case.name));
            }
        }
    }
    (facts, notes)
}

/// Makes one call in a child; its result comes through a pipe.
fn make(setup: &Setup, call: &Call) -> Result<String> {
    // Preconditions are looked up before: an error there is not the call's.
    let path = match call {
        Call::Store { node, file, .. } => Some(setup.node(*node)?.join(file)),
        Call::File { on, .. } | Call::Map { on, .. } | Call::Mount { on, .. } => setup.path(*on)?,
    };
    let (mut reader, writer) = pipe()?;
    let mut child = spawn(|| {
        let text = match run(call, path.as_deref()) {
            Ok(n) => n.to_string(),
            Err(e) => errno(&e),
        };
        (&writer)
            .write_all(text.as_bytes())
            .context("cannot report to the parent")
    })?;
    drop(writer);
    if let Some(signal) = child.wait_signal(LIMIT, "the call")? {
        let name = Signal::try_from(signal).map_or("an unknown signal", Signal::as_str);
        return Ok(name.to_owned());
    }
    let mut text = String::new();
    reader
        .read_to_string(&mut text)
        .context("cannot read the child's report")?;
    Ok(text)
}

fn run(call: &Call, path: Option<&Path>) -> io::Result<i64> {
    let missing = || io::Error::from_raw_os_error(libc::EBADF);
    match call {
        Call::Store { text, .. } => {
            let mut file = OpenOptions::new()
                .write(true)
                .open(path.ok_or_else(missing)?)?;
            file.write_all(text.as_bytes()).map(|()| 0)
        }
        Call::File {
            flags, operation, ..
        } => {
            let file = open(path.ok_or_else(missing)?, *flags)?;
            operation.run(&file)
        }
        Call::Map {
            on,
            flags,
            shape,
            then,
        } => {
            let file = match (on, path) {
                (Object::Memory, _) | (_, None) => None,
                (_, Some(path)) => Some(open(path, *flags)?),
            };
            let reserve = Mapping::reserve(ROOM, 2 << 20).map_err(io::Error::other)?;
            let at = map(reserve.addr(), shape, file.as_ref())?;
            let mut last = 0;
            for step in *then {
                last = step.run(at, Path::new(SCRATCH))?;
            }
            Ok(match then.last() {
                // The content of the memory is no result of the call.
                Some(Then::Load(_)) => 0,
                _ => last,
            })
        }
        Call::Mount { kind, options, .. } => {
            let dir = std::env::temp_dir().join("abi-mount");
            std::fs::create_dir_all(&dir)?;
            let source = path.ok_or_else(missing)?;
            nix::mount::mount(
                Some(source),
                &dir,
                Some(*kind),
                nix::mount::MsFlags::empty(),
                Some(*options),
            )?;
            nix::mount::umount(&dir)?;
            Ok(0)
        }
    }
}

fn open(path: &Path, flags: i32) -> io::Result<std::fs::File> {
    let mode = flags & libc::O_ACCMODE;
    OpenOptions::new()
        .read(mode != libc::O_WRONLY)
        .write(mode != libc::O_RDONLY)
        .custom_flags(flags & !libc::O_ACCMODE)
        .open(path)
}

/// Maps at a fixed address in the reserved address space.
fn map(room: usize, shape: &Shape, file: Option<&std::fs::File>) -> io::Result<usize> {
    use std::os::fd::AsRawFd;
    let flags = shape.flags | libc::MAP_FIXED;
    let (fd, flags) = match file {
        Some(file) => (file.as_raw_fd(), flags),
        None => (-1, flags | libc::MAP_ANONYMOUS),
    };
    // SAFETY: The mapping replaces a part of the reserved address space, which
    // nothing else uses.
    let at = unsafe {
        libc::mmap(
            (room + shape.skew) as *mut libc::c_void,
            shape.len,
            shape.prot,
            flags,
            fd,
            shape.offset,
        )
    };
    match at {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        at => Ok(at as usize),
    }
}

/// Formats an error: `EINVAL` and so on; an error without a number is written
/// out.
pub fn errno(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => match Errno::from_raw(number) {
            Errno::UnknownErrno => format!("errno {number}"),
            name => format!("{name:?}"),
        },
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_errnos() {
        let name = |n| errno(&io::Error::from_raw_os_error(n));
        assert_eq!(name(libc::EINVAL), "EINVAL");
        assert_eq!(name(libc::EOPNOTSUPP), "EOPNOTSUPP");
        assert_eq!(name(524), "errno 524");
        assert_eq!(errno(&io::Error::other("odd")), "odd");
    }

    #[test]
    fn calls_on_memory() {
        let prot = libc::PROT_READ;
        let shape = Shape {
            offset: 0,
            len: 8192,
            skew: 0,
            prot,
            flags: libc::MAP_PRIVATE,
        };
        let call = |then| Call::Map {
            on: Object::Memory,
            flags: 0,
            shape,
            then,
        };
        let end = |then| run(&call(then), None).map_err(|e| errno(&e));
        assert_eq!(end(&[Then::Load(0)]), Ok(0));
        assert_eq!(end(&[Then::Sync(1, 1, 0)]), Err("EINVAL".into()));
        assert_eq!(
            end(&[Then::Unmap(4096, 4096), Then::Peek(4096, 1)]),
            Err("EFAULT".into())
        );
    }

    #[test]
    fn every_call_has_a_name_of_its_own() {
        let mut names: Vec<_> = calls::all().into_iter().map(|c| c.name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
