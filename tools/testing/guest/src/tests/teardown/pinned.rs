// SPDX-License-Identifier: GPL-2.0

//! Pages that are pinned when their device is unbound.
//!
//! In 6.12 the C code unmaps the memory, and a later put of a page writes to the
//! location of its former `struct page`. So on C these tests bind the driver again
//! before they release the pages.

use super::bound::Bound;
use crate::filesystem::Kind;
use crate::tests::fsdax::Held;
use crate::tests::prelude::*;

const LEN: usize = 4 << 20;

declare! {
    /// a driver is unbound while a pipe holds pages of its device, does not say what it waits for,
    /// does not continue when they are released, or their bytes are lost
    "teardown::differs_pinned" for MAPPED_KINDS, 90 s, essential "fsdax-2M-dev-acpi" "devdax-2M-dev-acpi"
        => pinned
}
fn pinned(want: &Want) -> Result<String> {
    unbound(Pinned::new(want)?)
}

declare! {
    /// the same for pages of the second 2 MiB: only the first folio of a device is looked at
    "teardown::differs_pinned_second" for [SECOND], 90 s => |want| {
        let target = Target::create(want, LEN as u64)?;
        unbound(Pinned::at(target, Bound::of, HUGE + HUGE / 4)?)
    }
}
const SECOND: Want = want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi);

fn unbound(mut pinned: Pinned) -> Result<String> {
    let operation = pinned.bound.unbind();
    let waited = operation
        .must_wait("unbinding the driver")
        .and_then(|()| pinned.require_reported());
    pinned.release(waited)?;
    let took = operation.must_end("unbinding the driver")?;
    require_unpinned("unbinding")?;
    pinned.unmount()?;
    pinned.require_kept()?;
    Ok(format!("woken after {} ms", took.as_millis()))
}

/// A device whose pages a pipe holds.
pub struct Pinned {
    want: Want,
    held: Held,
    pub bound: Bound,
    /// An open file keeps its inode, whose eviction would wait. An open device
    /// would keep ndctl from disabling it.
    file: Option<File>,
    mount: Option<DaxMount>,
    kind: Option<Kind>,
    namespace: Namespace,
    /// A line of the log from before the unbinding.
    mark: system::LogMark,
    in_c: bool,
}

impl Pinned {
    pub fn new(want: &Want) -> Result<Self> {
        Self::of(Target::create(want, LEN as u64)?, Bound::of)
    }

    pub fn device_dax(want: &Want) -> Result<Self> {
        Self::of(Target::create(want, LEN as u64)?, Bound::device_dax)
    }

    /// Creates one with pages of a file on this kind of filesystem.
    pub fn on(want: &Want, kind: Kind) -> Result<Self> {
        Self::of(Target::on(want, kind, LEN as u64)?, Bound::of)
    }

    fn of(target: Target, bound: impl FnOnce(&Namespace) -> Result<Bound>) -> Result<Self> {
        Self::at(target, bound, HUGE / 2)
    }

    /// Creates one with pages from this offset on.
    fn at(
        target: Target,
        bound: impl FnOnce(&Namespace) -> Result<Bound>,
        at: usize,
    ) -> Result<Self> {
        let map = target.map(LEN)?;
        map.prefault_write(PAGE);
        let in_c = live::ask()?.registry.implementation == Language::C;
        let mark = system::LogMark::new(target.namespace.dev())?;
        Ok(Self {
            want: target.want,
            held: Held::take_at(&map, at, 7)?,
            bound: bound(&target.namespace)?,
            file: target.mount.is_some().then_some(target.file),
            kind: target.mount.as_ref().map(DaxMount::kind),
            mount: target.mount,
            namespace: target.namespace,
            mark,
            in_c,
        })
    }

    /// Releases the pages, whose bytes must be unchanged. In C, if the unbinding did
    /// not wait, the device is bound again before; that is an error.
    pub fn release(&mut self, waited: Result<()>) -> Result<()> {
        if waited.is_err() && self.in_c {
            self.bound.bind()?;
            // The released page lacks its initial reference.
            system::log("rust-dax-expect: at mm/memremap.c:")?;
        }
        let whole = self.held.release();
        waited?;
        whole
    }

    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns the namespace, to which no driver is bound; it is not bound again.
    pub fn into_namespace(self) -> Namespace {
        self.bound.leave();
        self.namespace
    }

    /// Returns another descriptor of the file.
    pub fn file(&self) -> Result<File> {
        let file = self.file.as_ref().context("there is no file")?;
        file.try_clone().context("dup")
    }

    /// Unmounts the filesystem, binds the device again, and destroys the namespace, whose data may
    /// be lost.
    pub fn finish(mut self) -> Result<()> {
        self.unmount()?;
        self.bound.bind()?;
        self.namespace.destroy()
    }

    pub fn unmount(&mut self) -> Result<()> {
        self.file = None;
        self.mount.take().map_or(Ok(()), DaxMount::unmount)
    }

    /// Requires that the device can be bound again, and has the bytes.
    pub fn require_kept(mut self) -> Result<()> {
        let node = self.bound.bind()?;
        if let Some(kind) = self.kind {
            let mount = DaxMount::mount(kind, &node, &mount_point())?;
            let file = fs::read(mount.path("data")).context("cannot read the file")?;
            self.held.require(&file)?;
            mount.unmount()?;
            return self.namespace.destroy();
        }
        let again = Target {
            file: open_rw(&node, false)?,
            mount: None,
            namespace: self.namespace,
            want: self.want,
        };
        let map = again.map(LEN)?;
        let mut bytes = vec![0; LEN];
        map.read(0, &mut bytes);
        self.held.require(&bytes)?;
        drop(map);
        again.finish()
    }

    /// Requires that the log and debugfs show what the unbinding waits for.
    pub fn require_reported(&self) -> Result<()> {
        let limit = Instant::now() + timeout(Duration::from_secs(10));
        while !dying()?.is_some_and(|line| line.contains(" busy=")) {
            if Instant::now() > limit {
                bail!("dev_pagemap/ranges does not say how many pages are busy");
            }
            thread::sleep(Duration::from_millis(100));
        }
        let since = self.log()?;
        ensure!(
            since.contains("memremap: 0x") && since.contains(": waiting for "),
            "the log does not say what the unbinding waits for: {since}"
        );
        Ok(())
    }

    /// Returns the log since this was created.
    pub fn log(&self) -> Result<String> {
        self.mark.since()
    }
}

/// Returns the line of debugfs on the pgmap that is being torn down.
pub fn dying() -> Result<Option<String>> {
    dying_of(|_| true)
}

/// Returns the line of debugfs on a pgmap that is being torn down, among these.
pub fn dying_of(these: impl Fn(&str) -> bool) -> Result<Option<String>> {
    let text = system::read(system::debugfs()?.join("dev_pagemap/ranges"))?;
    let line = text.lines().find(|l| l.contains(" dying ") && these(l));
    Ok(line.map(str::to_owned))
}
