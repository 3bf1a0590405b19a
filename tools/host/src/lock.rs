// SPDX-License-Identifier: GPL-2.0

//! Locks for one writer at a time: of the cache, of a guest's NVDIMMs, of results.
//!
//! Every command that unpacks, builds or creates an image takes the lock while it
//! writes. Guests run without it. The lock file names the holder; the kernel drops
//! the lock when the holder dies, however it dies.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::paths::Paths;

/// A lock that is held until dropped.
pub struct CacheLock {
    _file: Flock<File>,
}

impl Drop for CacheLock {
    fn drop(&mut self) {
        // Closing the file unlocks it; this removes the holder's name before that.
        let _ = self._file.set_len(0);
    }
}

/// Takes the lock of the cache; prints the holder while waiting for it. `why`
/// describes the caller's work for other waiting commands: "building the kernel".
pub fn cache_lock(paths: &Paths, why: &str) -> Result<CacheLock> {
    lock_file(&paths.cache.join("lock"), why)
}

/// Locks a folder that may only have one writer: the NVDIMMs of a guest, the results
/// of a command. `why` is as for [`cache_lock`].
pub fn folder_lock(folder: &Path, why: &str) -> Result<CacheLock> {
    lock_file(&folder.join("lock"), why)
}

fn lock_file(path: &Path, why: &str) -> Result<CacheLock> {
    let cannot = || format!("cannot take the lock {}", path.display());
    let mut options = File::options();
    let options = options.create(true).truncate(false).read(true).write(true);
    let file = options.open(path).with_context(cannot)?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).or_else(|(mut file, e)| {
        if e != Errno::EWOULDBLOCK {
            return Err((file, e));
        }
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        let holder = match holder.trim() {
            "" => "another command",
            text => text,
        };
        eprintln!("Waiting for {holder} (lock {})", path.display());
        Flock::lock(file, FlockArg::LockExclusive)
    });
    let mut flock = lock.map_err(|(_, e)| e).with_context(cannot)?;
    flock.set_len(0).with_context(cannot)?;
    flock.rewind().with_context(cannot)?;
    write!(flock, "process {}: {why}", std::process::id()).with_context(cannot)?;
    Ok(CacheLock { _file: flock })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = lock_file(&path, "one").unwrap();
        let text = fs_err::read_to_string(&path).unwrap();
        assert!(text.ends_with(": one"), "{text}");
        let (tx, rx) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || {
                let lock = lock_file(&path, "two").unwrap();
                tx.send(()).unwrap();
                drop(lock);
            }
        });
        assert!(rx
            .recv_timeout(std::time::Duration::from_millis(100))
            .is_err());
        drop(first);
        rx.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
        waiter.join().unwrap();
    }
}
