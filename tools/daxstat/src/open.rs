// SPDX-License-Identifier: GPL-2.0

//! Files named by the user, opened without side effects.
//!
//! Opening a FIFO waits for a writer, and opening a device can start something (a watchdog, a
//! rewinding tape), so the type is looked at first: [`Inode`] is opened by O_PATH, which reaches the
//! inode and nothing else. If the type is right, [`Inode::open`] opens that same inode again, not
//! its name, by way of /proc/self/fd; by then the name may belong to another file.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};

use crate::place::number;

/// An inode that has been looked up and not opened.
pub struct Inode {
    path: PathBuf,
    handle: File,
    pub about: Metadata,
}

impl Inode {
    /// Looks a path up. Symbolic links are followed.
    pub fn find(path: &Path) -> Result<Self> {
        let name = path.display();
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path)
            .with_context(|| format!("cannot open {name}"))?;
        let about = handle
            .metadata()
            .with_context(|| format!("cannot look at {name}"))?;
        Ok(Self {
            path: path.to_path_buf(),
            handle,
            about,
        })
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    ///
    /// If it is something else: for a character device with advice by its subsystem.
    pub fn open_regular(&self) -> Result<File> {
        let name = self.path.display();
        self.refuse_character_device(Path::new("/sys"))?;
        ensure!(
            self.about.file_type().is_file(),
            "{name} is not a regular file"
        );
        self.open().with_context(|| format!("cannot open {name}"))
    }

    /// Opens a block device for reading, which may need root, and returns its number too.
    ///
    /// # Errors
    ///
    /// If it is something else.
    pub fn open_block(&self) -> Result<(io::Result<File>, String)> {
        let name = self.path.display();
        self.refuse_character_device(Path::new("/sys"))?;
        ensure!(
            self.about.file_type().is_block_device(),
            "{name} is not a block device"
        );
        Ok((self.open(), number(self.about.rdev())))
    }

    /// Opens the inode itself. The flags matter if it is a device: no wait for a medium or a
    /// carrier, and no controlling terminal.
    fn open(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", self.handle.as_raw_fd()))
    }

    /// Returns the name of a device-dax device, `dax0.0`, if it is one.
    pub fn device_dax(&self, sys: &Path) -> Option<String> {
        let number = self
            .about
            .file_type()
            .is_char_device()
            .then(|| number(self.about.rdev()))?;
        subsystem(sys, &number).filter(|s| s == "dax")?;
        let dir = fs::canonicalize(sys.join("dev/char").join(number)).ok()?;
        Some(dir.file_name()?.to_str()?.to_string())
    }

    fn refuse_character_device(&self, sys: &Path) -> Result<()> {
        if !self.about.file_type().is_char_device() {
            return Ok(());
        }
        let name = self.path.display();
        match subsystem(sys, &number(self.about.rdev())).as_deref() {
            Some("dax") => bail!(
                "{name} is device-dax: it has no filesystem, and always maps pages of its own alignment, see \
                 `daxctl list`; for a filesystem: ndctl create-namespace -f -e … -m fsdax"
            ),
            Some(other) => bail!("{name} is a character device of the subsystem {other}"),
            None => bail!("{name} is a character device"),
        }
    }
}

/// Returns the subsystem of a character device by its number.
fn subsystem(sys: &Path, number: &str) -> Option<String> {
    let link = fs::read_link(sys.join("dev/char").join(number).join("subsystem")).ok()?;
    Some(link.file_name()?.to_str()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_fifo_is_not_waited_for() -> Result<()> {
        let path = std::env::temp_dir().join(format!("daxstat-fifo-{}", std::process::id()));
        let name = CString::new(path.to_string_lossy().as_bytes())?;
        // SAFETY: `name` is a C string that outlives the call.
        ensure!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) } == 0, "mkfifo");
        let (tx, rx) = mpsc::channel();
        let theirs = path.clone();
        std::thread::spawn(move || {
            let error = match Inode::find(&theirs).and_then(|i| i.open_regular()) {
                Ok(_) => String::new(),
                Err(e) => e.to_string(),
            };
            let _ = tx.send(error);
        });
        let error = rx.recv_timeout(Duration::from_secs(10));
        fs::remove_file(&path)?;
        ensure!(error?.contains("not a regular file"));
        Ok(())
    }

    #[test]
    fn character_devices_are_told_apart() -> Result<()> {
        let error = |path: &str| match Inode::find(Path::new(path)).and_then(|i| i.open_regular()) {
            Ok(_) => String::new(),
            Err(e) => e.to_string(),
        };
        ensure!(error("/dev/null").contains("is a character device"));
        ensure!(!error("/dev/null").contains("device-dax"));
        let sys = std::env::temp_dir().join(format!("daxstat-open-{}", std::process::id()));
        let dir = sys.join("dev/char/252:3");
        fs::create_dir_all(&dir)?;
        std::os::unix::fs::symlink("../../../bus/dax", dir.join("subsystem"))?;
        let found = subsystem(&sys, "252:3");
        fs::remove_dir_all(&sys)?;
        ensure!(found.as_deref() == Some("dax"));
        Ok(())
    }
}
