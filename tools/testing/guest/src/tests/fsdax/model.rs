// SPDX-License-Identifier: GPL-2.0

//! A file and its expected content: every operation is applied to both.
//!
//! The file is always mapped twice, once with pages of any size and once with
//! small ones, so that an operation that fails to remove pages from a mapping is
//! detected.

use super::{large, small, Fixture};
use crate::flushed::{Flushes, Stored};
use crate::tests::prelude::*;

/// Stores that are recorded, if there is a record.
struct Touched<'f>(Option<(&'f Flushes, Stored)>);

impl Touched<'_> {
    /// Returns an error unless all of it was flushed since.
    fn require_flushed(&self, what: &str) -> Result<()> {
        match &self.0 {
            Some((flushes, stored)) => flushes.require(stored, what),
            None => Ok(()),
        }
    }
}

/// Starts a record of what is flushed; none on C, which does not notice stores to pages that are left
/// of an entry of 2 MiB.
pub fn recorded() -> Result<Option<Flushes>> {
    match live::ask()?.fs_dax.implementation {
        Language::C => Ok(None),
        Language::Rust => Flushes::start().map(Some),
    }
}

/// The mapping that an operation uses.
#[derive(Debug, Clone, Copy)]
pub enum View {
    Large,
    Small,
}

pub struct Model {
    file: File,
    want: Vec<u8>,
    /// The file never becomes larger, so the mappings cover it.
    most: usize,
    large: Mapping,
    small: Mapping,
}

impl Model {
    /// Creates a model of `file`, which is empty and will have at most `most`
    /// bytes.
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

    /// Extends the expected content to at least `len` bytes.
    fn extend(&mut self, len: usize) {
        if len > self.want.len() {
            self.want.resize(len, 0);
        }
    }

    /// Calls write(2), which may extend the file.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, at as u64)
            .with_context(|| format!("write of {:#x} bytes at {at:#x}", bytes.len()))?;
        self.extend(at + bytes.len());
        self.want[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Stores inside the file.
    pub fn store(&mut self, view: View, at: usize, bytes: &[u8]) {
        self.map(view).write(at, bytes);
        self.want[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Loads inside the file, and compares.
    pub fn load(&self, view: View, at: usize, len: usize) -> Result<()> {
        self.map(view).require(
            at,
            &self.want[at..at + len],
            &format!("{view:?} mapping from {at:#x}"),
        )
    }

    /// Calls read(2), and compares.
    pub fn read(&self, at: usize, len: usize) -> Result<()> {
        let mut got = vec![0; len];
        self.file
            .read_exact_at(&mut got, at as u64)
            .with_context(|| format!("read of {len:#x} bytes at {at:#x}"))?;
        data::require_same(
            &self.want[at..at + len],
            &got,
            format_args!("read() from {at:#x}"),
        )
    }

    /// Calls ftruncate(2), up or down.
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

    /// Zeroes a range inside the file by freeing its blocks.
    pub fn punch(&mut self, at: usize, len: usize) -> Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        self.fallocate(mode, at, len, "punching a hole")?;
        self.clear(at, len);
        Ok(())
    }

    /// Zeroes a range, which may extend the file.
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

    /// Allocates blocks, which may extend the file, and changes no byte.
    pub fn allocate(&mut self, at: usize, len: usize) -> Result<()> {
        self.fallocate(0, at, len, "allocating")?;
        self.extend(at + len);
        Ok(())
    }

    /// Removes whole pages from the file, in a range that does not reach its end.
    pub fn collapse(&mut self, at: usize, len: usize) -> Result<()> {
        self.fallocate(libc::FALLOC_FL_COLLAPSE_RANGE, at, len, "collapsing")?;
        self.want.drain(at..at + len);
        Ok(())
    }

    /// Inserts a hole of whole pages into the file.
    pub fn insert(&mut self, at: usize, len: usize) -> Result<()> {
        self.fallocate(libc::FALLOC_FL_INSERT_RANGE, at, len, "inserting")?;
        self.want.splice(at..at, std::iter::repeat_n(0, len));
        Ok(())
    }

    /// Calls fsync(2) or fdatasync(2), and requires that it flushes stores to some pages.
    pub fn sync(&self, metadata: bool, flushes: Option<&Flushes>) -> Result<()> {
        let stored = self.touch(0, self.len(), flushes)?;
        match metadata {
            true => self.file.sync_all(),
            false => self.file.sync_data(),
        }
        .context("fsync")?;
        stored.require_flushed("fsync")
    }

    /// Calls msync(2) on whole pages, and requires that it flushes stores to some of them.
    pub fn msync(
        &self,
        view: View,
        at: usize,
        len: usize,
        flushes: Option<&Flushes>,
    ) -> Result<()> {
        let map = self.map(view);
        assert!(at % PAGE == 0);
        let stored = self.touch(at, (at + len).min(self.len()), flushes)?;
        map.sync(at, len).context("msync")?;
        stored.require_flushed("msync")
    }

    /// Stores to some pages from `at` to `end`, through both mappings, what they have already. The
    /// result says whether that was flushed.
    fn touch<'f>(
        &self,
        at: usize,
        end: usize,
        flushes: Option<&'f Flushes>,
    ) -> Result<Touched<'f>> {
        const PLACES: usize = 8;
        let Some(flushes) = flushes else {
            return Ok(Touched(None));
        };
        let step = ((end - at) / PLACES / PAGE).max(1) * PAGE;
        let mut places = Vec::new();
        for map in [&self.large, &self.small] {
            for place in (at..end).step_by(step) {
                map.poke(place, self.want[place]);
                places.push((map, place..place + 1));
            }
        }
        Ok(Touched(Some((flushes, flushes.stored_in(&places)?))))
    }

    /// Removes the pages from one mapping, which gets them back by faults.
    pub fn zap(&self, view: View) -> Result<()> {
        self.map(view)
            .advise(0, self.most, libc::MADV_DONTNEED)
            .context("MADV_DONTNEED")
    }

    /// Replaces the mappings by new ones.
    pub fn remap(&mut self) -> Result<()> {
        self.large = large(&self.file, self.most)?;
        self.small = small(&self.file, self.most)?;
        Ok(())
    }

    /// Checks all bytes in every way, and the length. Beyond the end, the last
    /// page is zero, because no store went there.
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
                .require(self.want.len(), &vec![0; rest], "the bytes beyond the end")?;
        }
        Ok(())
    }

    /// Returns the number of the file's sectors.
    pub fn sectors(&self) -> Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.file.metadata().context("fstat")?.blocks())
    }

    /// Returns an error unless a load beyond the end raises SIGBUS, where that is
    /// mapped.
    pub fn require_end(&self) -> Result<()> {
        let end = self.want.len().next_multiple_of(PAGE);
        if end >= self.most {
            return Ok(());
        }
        for (map, what) in [
            (&self.large, "beyond the end, of huge pages"),
            (&self.small, "beyond the end, of small pages"),
        ] {
            super::require_sigbus(map, end, what)?;
        }
        Ok(())
    }

    /// Unmounts the filesystem, requires that this flushes stores to some pages, and mounts it again.
    /// The file must then have all bytes.
    pub fn remount(self, fixture: Fixture, name: &str) -> Result<Fixture> {
        let flushes = recorded()?;
        let stored = self.touch(0, self.len(), flushes.as_ref())?;
        let want = self.want;
        drop((self.large, self.small, self.file));
        let fixture = fixture.remount("dax")?;
        stored.require_flushed("unmounting")?;
        let got = fs::read(fixture.path(name)).context("read")?;
        data::require_same(&want, &got, "the file after mounting again")?;
        Ok(fixture)
    }
}
