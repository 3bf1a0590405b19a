// SPDX-License-Identifier: GPL-2.0

//! The conditions under which a file is DAX: the flag of the inode, which new
//! files inherit from their directory, and the mount option, which overrides
//! it.

use std::mem::MaybeUninit;

use super::sync::refuses;
use super::{large, Config, Fixture, EXT4, XFS};
use crate::tests::prelude::*;

/// Value from linux/fs.h.
const FS_XFLAG_DAX: u32 = 0x8000;
nix::ioctl_read!(fsgetxattr, b'X', 31, Attributes);
nix::ioctl_write_ptr!(fssetxattr, b'X', 32, Attributes);

/// struct fsxattr.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    rest: [u32; 3],
    cow_extent_size: u32,
    padding: [u8; 8],
}

impl Attributes {
    fn of(file: &File) -> Result<Self> {
        let mut attributes = Self::default();
        // SAFETY: The structure is the one of the request, and outlives the call.
        unsafe { fsgetxattr(file.as_raw_fd(), &mut attributes) }.context("FS_IOC_FSGETXATTR")?;
        Ok(attributes)
    }

    fn set(&self, file: &File) -> Result<()> {
        // SAFETY: The structure is the one of the request, and outlives the call.
        unsafe { fssetxattr(file.as_raw_fd(), self) }.context("FS_IOC_FSSETXATTR")?;
        Ok(())
    }
}

/// Sets or clears the flag of a file or directory.
fn mark(path: &Path, dax: bool) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut attributes = Attributes::of(&file)?;
    match dax {
        true => attributes.flags |= FS_XFLAG_DAX,
        false => attributes.flags &= !FS_XFLAG_DAX,
    }
    attributes.set(&file)
}

/// Makes xfs copy shared blocks of a file in units of so many bytes.
pub fn copy_in_units(file: &File, bytes: u32) -> Result<()> {
    /// Value from linux/fs.h.
    const FS_XFLAG_COWEXTSIZE: u32 = 0x1_0000;
    let mut attributes = Attributes::of(file)?;
    attributes.flags |= FS_XFLAG_COWEXTSIZE;
    attributes.cow_extent_size = bytes;
    attributes.set(file)
}

/// Returns whether the file has one of the flags that `chattr` of xfs_io
/// changes.
pub fn has_flag(file: &File, flag: u32) -> Result<bool> {
    Ok(Attributes::of(file)?.flags & flag != 0)
}

/// Returns the DAX attribute of statx(2).
fn statx_dax(file: &File) -> Result<bool> {
    let mut about = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: The empty path selects the descriptor; `about` is valid for
    // writes and outlives the call.
    let rc = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_BASIC_STATS,
            about.as_mut_ptr(),
        )
    };
    ensure!(rc == 0, "statx: {}", io::Error::last_os_error());
    // SAFETY: statx filled the structure, and all zero bytes were a valid value
    // before.
    let about = unsafe { about.assume_init() };
    let bit = libc::STATX_ATTR_DAX as u64;
    ensure!(
        about.stx_attributes_mask & bit != 0,
        "statx does not support STATX_ATTR_DAX"
    );
    Ok(about.stx_attributes & bit != 0)
}

/// Requires that statx and a synchronous mapping agree on the expected state.
fn require(path: &Path, dax: bool, what: &str) -> Result<()> {
    let file = open_rw(path, false)?;
    let reported = statx_dax(&file)?;
    ensure!(
        reported == dax,
        "{what}: statx reports that the file is {}DAX",
        if reported { "" } else { "not " }
    );
    if !dax {
        return refuses(&file).context(what.to_string());
    }
    let flags = libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    Mapping::with(&file, 0, HUGE, HUGE, prot, flags)
        .map(drop)
        .with_context(|| format!("{what}: MAP_SYNC"))
}

/// Evicts the inode, so that the flag takes effect when it is read again.
fn forget() -> Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "2").context("cannot drop caches")
}

declare! {
    /// a file is DAX that should not be, or vice versa, by its flag, its directory's or the mount
    /// option; or bytes are lost when that changes
    "fsdax::inode" for [EXT4, XFS], 90 s, essential "ext4-dev-acpi" => flags
}
fn flags(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?.remount("dax=inode")?;
    let bytes = data::bytes(1, HUGE);
    drop(fixture.written("plain", &bytes)?);
    require(&fixture.path("plain"), false, "a file without the flag")?;

    // Inherited from the directory.
    let dir = fixture.path("dir");
    fs::create_dir(&dir).context("mkdir")?;
    mark(&dir, true)?;
    fs::create_dir(dir.join("below")).context("mkdir")?;
    for name in ["dir/new", "dir/below/new"] {
        drop(fixture.written(name, &bytes)?);
        require(
            &fixture.path(name),
            true,
            "a file of a directory with the flag",
        )?;
    }

    // The flag changes and the bytes are kept: written in one mode, read in the
    // other.
    let path = fixture.path("plain");
    for (round, dax) in [true, false, true, false].into_iter().enumerate() {
        mark(&path, dax)?;
        forget()?;
        require(&path, dax, "a file whose flag was changed")?;
        let file = open_rw(&path, false)?;
        let map = large(&file, HUGE)?;
        let at = round * 5000;
        map.require(at, &bytes[at..], "a file whose flag was changed")?;
        map.write(at, &data::bytes(round as u64 + 2, 5000));
        let mut got = vec![0; 5000];
        file.read_exact_at(&mut got, at as u64).context("read")?;
        ensure!(
            got == data::bytes(round as u64 + 2, 5000),
            "read() does not see a store, with the flag {dax}"
        );
    }
    drop(fixture.open("plain")?);

    let fixture = fixture.remount("dax=never")?;
    require(&fixture.path("dir/new"), false, "dax=never and the flag")?;
    let fixture = fixture.remount("dax=always")?;
    require(&fixture.path("plain"), true, "dax=always without the flag")?;
    let file = fixture.open("plain")?;
    let mut want = bytes.clone();
    for round in 0..4 {
        data::fill(round as u64 + 2, &mut want[round * 5000..][..5000]);
    }
    large(&file, HUGE)?.require(0, &want, "the file at the end")?;
    drop(file);
    fixture.finish()
}
