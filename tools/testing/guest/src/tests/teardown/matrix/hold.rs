// SPDX-License-Identifier: GPL-2.0

//! Pins of some pages of a mapping, and their release, after which the bytes must be right.

use std::io::Read;
use std::sync::mpsc;

use nix::unistd::gettid;

use super::place::Spot;
use super::user::User;
use crate::tests::fsdax::Dm;
use crate::tests::prelude::*;
use crate::tests::users::{Link, Rdma, Ring};
use crate::userfault::LateMemory;

/// The pages: as many as a pipe of the default size holds, in the middle of a huge page.
const AT: usize = HUGE / 2;
const PINNED: usize = 16 * PAGE;

/// Releases the pages and compares bytes.
pub type Release<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// Pins pages as this user does; returns nothing if it does not.
pub fn hold<'a>(
    user: User,
    map: &Arc<Mapping>,
    spot: &'a Spot,
    slow: Option<&Path>,
) -> Result<Option<Release<'a>>> {
    let expected = &spot.bytes[AT..AT + PINNED];
    Ok(match user {
        User::Pipe | User::Fork => Some(piped(map, expected)?),
        User::DirectIo => {
            let slow = slow.context("no disk for direct I/O")?;
            Some(direct_io(map, expected, slow)?)
        }
        User::ProcessVm => Some(process_vm(map, &expected[..4 * PAGE])?),
        User::Fixed => {
            let ring = Ring::new()?;
            ring.register(map, HUGE).context("registering a buffer")?;
            Some(Box::new(move || {
                drop(ring);
                Ok(())
            }))
        }
        User::Rdma => {
            let rdma = Rdma::open(Path::new(Link::NODE))?;
            rdma.register(map, HUGE).context("registering memory")?;
            Some(Box::new(move || {
                drop(rdma);
                Ok(())
            }))
        }
        _ => None,
    })
}

fn piped<'a>(map: &Mapping, expected: &'a [u8]) -> Result<Release<'a>> {
    let (mut reader, writer) = pipe()?;
    vmsplice(map, AT, PINNED, &writer)?;
    Ok(Box::new(move || {
        let _writer = writer;
        let mut got = vec![0; PINNED];
        reader.read_exact(&mut got).context("reading the pipe")?;
        data::require_same(expected, &got, "the pages in the pipe")
    }))
}

/// Writes from the mapping to a disk that is suspended.
fn direct_io<'a>(map: &Arc<Mapping>, expected: &'a [u8], slow: &Path) -> Result<Release<'a>> {
    let disk = open_rw(slow, true)?;
    Dm::call("suspend --noflush --nolockfs").arg(slow).ok()?;
    let (theirs, node) = (map.clone(), slow.to_owned());
    let other = disk.try_clone().context("dup")?;
    let (tx, id) = mpsc::channel();
    let write = thread::spawn(move || {
        // The receiver is waiting.
        let _ = tx.send(gettid());
        pwrite_all(&other, &theirs, AT, PINNED, 0, PINNED)
    });
    let id = id.recv().context("the thread of direct I/O")?;
    let limit = Instant::now() + timeout(Duration::from_secs(10));
    // The pages are pinned by then. The count of all pins may be that of another lane.
    while settled()?.pinned() == 0 || !waits_for_disk(id.as_raw())? {
        ensure!(Instant::now() < limit, "direct I/O pins no page");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(Box::new(move || {
        Dm::call("resume").arg(node).ok()?;
        write.join().map_err(|_| anyhow!("a thread panicked"))??;
        let memory = Mapping::anonymous(PINNED)?;
        pread_all(&disk, &memory, 0, PINNED, 0, PINNED)?;
        memory.require(0, expected, "what direct I/O wrote from the mapping")
    }))
}

/// Returns whether a thread of this process has waited for a disk for some time.
fn waits_for_disk(thread: i32) -> Result<bool> {
    for _ in 0..3 {
        let stat = system::read(format!("/proc/self/task/{thread}/stat"))?;
        // The name before it may have blanks.
        let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if !state.starts_with('D') {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}

/// Copies to memory of which the last page is missing.
fn process_vm<'a>(map: &Mapping, expected: &'a [u8]) -> Result<Release<'a>> {
    let late = Arc::new(LateMemory::create(&vec![0; expected.len() - PAGE])?);
    let (theirs, from, len) = (late.clone(), map.addr() + AT, expected.len());
    let this = i32::try_from(std::process::id()).context("a process ID")?;
    let copy = thread::spawn(move || cross_copy(this, &theirs.map, from, len, false));
    late.wait()?;
    Ok(Box::new(move || {
        late.provide(&[0; PAGE])?;
        let copied = copy.join().map_err(|_| anyhow!("a thread panicked"))?;
        let n = copied.context("process_vm_readv")?;
        ensure!(n == len, "process_vm_readv moved {n} of {len} bytes");
        late.map.require(0, expected, "what process_vm_readv moved")
    }))
}
