// SPDX-License-Identifier: GPL-2.0

//! A file and what should be in it: every operation is done on both.
//!
//! The file is mapped twice all the time, once in pages of any size and once in
//! small ones, so that an operation that forgets to take pages away from a
//! mapping is seen.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{bail, Context, Result};

use super::{large, small};
use crate::data;
use crate::filesystem::fallocate;
use crate::mapping::{Mapping, PAGE};

/// Through which of the mappings.
#[derive(Debug, Clone, Copy)]
pub enum View {
    Large,
    Small,
}

pub struct Model {
    file: File,
    want: Vec<u8>,
    /// The file never becomes larger, so that the mappings cover it.
    most: usize,
    large: Mapping,
    small: Mapping,
}

impl Model {
    /// `file` is empty, and will have at most `most` bytes.
    pub fn new(file: File, most: usize) -> Result<Self> {
        Ok(Self {
            want: Vec::new(),
            most,
            large: large(&file, most)?,
            small: small(&file, most)?,
            file,
        })
    }

    pub fn len(&self) -> usize {
        self.want.len()
    }

    pub fn most(&self) -> usize {
        self.most
    }

    fn map(&self, view: View) -> &Mapping {
        match view {
            View::Large => &self.large,
            View::Small => &self.small,
        }
    }

    /// What should be in the file is as long as `len`, or longer.
    fn extend(&mut self, len: usize) {
        if len > self.want.len() {
            self.want.resize(len, 0);
        }
    }

    /// write(2), which may make the file longer.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, at as u64)
            .with_context(|| format!("write of {:#x} bytes at {at:#x}", bytes.len()))?;
        self.extend(at + bytes.len());
        self.want[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Stores, inside of the file.
    pub fn store(&mut self, view: View, at: usize, bytes: &[u8]) {
        self.map(view).write(at, bytes);
        self.want[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Loads, inside of the file.
    pub fn load(&self, view: View, at: usize, len: usize) -> Result<()> {
        self.map(view).require(
            at,
            &self.want[at..at + len],
            &format!("{view:?} mapping from {at:#x}"),
        )
    }

    /// read(2).
    pub fn read(&self, at: usize, len: usize) -> Result<()> {
        let mut got = vec![0; len];
        self.file
            .read_exact_at(&mut got, at as u64)
            .with_context(|| format!("read of {len:#x} bytes at {at:#x}"))?;
        match data::first_difference(&self.want[at..at + len], &got) {
            None => Ok(()),
            Some(diff) => bail!("read() from {at:#x}: {diff}"),
        }
    }

    /// ftruncate(2), up or down.
    pub fn resize(&mut self, len: usize) -> Result<()> {
        self.file
            .set_len(len as u64)
            .with_context(|| format!("ftruncate to {len:#x}"))?;
        self.want.resize(len, 0);
        Ok(())
    }

    fn fallocate(&self, mode: i32, at: usize, len: usize, what: &str) -> Result<()> {
        fallocate(&self.file, mode, at as u64, len as u64)
            .with_context(|| format!("{what} of {len:#x} bytes at {at:#x}"))
    }

    /// Zeros inside of the file, by giving up the blocks.
    pub fn punch(&mut self, at: usize, len: usize) -> Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        self.fallocate(mode, at, len, "punching a hole")?;
        self.clear(at, len);
        Ok(())
    }

    /// Zeros, which may make the file longer.
    pub fn zero(&mut self, at: usize, len: usize) -> Result<()> {
        self.fallocate(libc::FALLOC_FL_ZERO_RANGE, at, len, "zeroing a range")?;
        self.extend(at + len);
        self.clear(at, len);
        Ok(())
    }

    fn clear(&mut self, at: usize, len: usize) {
        let end = (at + len).min(self.want.len());
        if at < end {
            self.want[at..end].fill(0);
        }
    }

    /// Blocks, which may make the file longer, and change no byte.
    pub fn allocate(&mut self, at: usize, len: usize) -> Result<()> {
        self.fallocate(0, at, len, "allocating")?;
        self.extend(at + len);
        Ok(())
    }

    /// Takes whole pages out of the file, which do not reach its end.
    pub fn collapse(&mut self, at: usize, len: usize) -> Result<()> {
        self.fallocate(libc::FALLOC_FL_COLLAPSE_RANGE, at, len, "collapsing")?;
        self.want.drain(at..at + len);
        Ok(())
    }

    /// Puts a hole of whole pages into the file.
    pub fn insert(&mut self, at: usize, len: usize) -> Result<()> {
        self.fallocate(libc::FALLOC_FL_INSERT_RANGE, at, len, "inserting")?;
        self.want.splice(at..at, std::iter::repeat_n(0, len));
        Ok(())
    }

    /// fsync(2), or fdatasync(2).
    pub fn sync(&self, metadata: bool) -> Result<()> {
        match metadata {
            true => self.file.sync_all(),
            false => self.file.sync_data(),
        }
        .context("fsync")
    }

    /// msync(2) of whole pages.
    pub fn msync(&self, view: View, at: usize, len: usize) -> Result<()> {
        let map = self.map(view);
        assert!(at % PAGE == 0);
        map.sync(at, len).context("msync")
    }

    /// Takes the pages away from one mapping, which gets them back by faults.
    pub fn zap(&self, view: View) -> Result<()> {
        self.map(view)
            .advise(0, self.most, libc::MADV_DONTNEED)
            .context("MADV_DONTNEED")
    }

    /// New mappings for old ones.
    pub fn remap(&mut self) -> Result<()> {
        self.large = large(&self.file, self.most)?;
        self.small = small(&self.file, self.most)?;
        Ok(())
    }

    /// All bytes in every way, and the length. Behind the end, the last page
    /// is zero: nobody stored there.
    pub fn check(&self) -> Result<()> {
        let len = self.file.metadata().context("fstat")?.len();
        if len != self.want.len() as u64 {
            bail!(
                "the file has {len:#x} bytes instead of {:#x}",
                self.want.len()
            );
        }
        self.read(0, self.want.len())?;
        for view in [View::Large, View::Small] {
            self.load(view, 0, self.want.len())?;
            let rest = self.want.len().next_multiple_of(PAGE) - self.want.len();
            self.map(view)
                .require(self.want.len(), &vec![0; rest], "what is behind the end")?;
        }
        Ok(())
    }

    /// How many sectors the file has.
    pub fn sectors(&self) -> Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.file.metadata().context("fstat")?.blocks())
    }

    /// An error unless a load behind the end raises SIGBUS, where that is mapped.
    pub fn require_end(&self) -> Result<()> {
        let end = self.want.len().next_multiple_of(PAGE);
        if end >= self.most {
            return Ok(());
        }
        for (map, what) in [
            (&self.large, "behind the end, of huge pages"),
            (&self.small, "behind the end, of small pages"),
        ] {
            super::require_sigbus(map, end, what)?;
        }
        Ok(())
    }

    /// The bytes, for a comparison after the file was closed.
    pub fn into_bytes(self) -> Vec<u8> {
        self.want
    }
}
