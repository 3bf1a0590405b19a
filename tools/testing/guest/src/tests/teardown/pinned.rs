// SPDX-License-Identifier: GPL-2.0

//! Pages that somebody has when their device is to go.
//!
//! 6.12 takes the memory away in C, and who gives a page back later writes to
//! where its `struct page` was. So on C these tests bind the driver again before
//! they do that.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use super::bound::Bound;
use crate::command::{patient, Cmd};
use crate::filesystem::DaxMount;
use crate::live::{self, Language};
use crate::mapping::{open_rw, PAGE};
use crate::ndctl::Want;
use crate::system;
use crate::target::{mount_point, Target};
use crate::tests::fsdax::Held;
use crate::tests::{mapped_kinds, per_kind, Test};
use crate::vmstat::require_unpinned;

const LEN: usize = 4 << 20;

pub fn tests() -> Vec<Test> {
    per_kind(
        &mapped_kinds(),
        "teardown::differs_pinned",
        90,
        "a driver is unbound while a pipe holds pages of its device, does not say what it waits for, does not go on \
         when they are given back, or their bytes are lost",
        pinned,
    )
}

fn pinned(want: &Want) -> Result<String> {
    let target = Target::create(want, LEN as u64)?;
    let map = target.map(LEN)?;
    map.prefault_write(PAGE);
    let in_c = live::ask()?.registry.implementation == Language::C;
    let marker = format!("rust-dax: {} is to go", target.namespace.dev());
    system::log(&marker)?;
    // All of these are dropped from the last to the first.
    let Target {
        namespace,
        mount,
        file,
        ..
    } = target;
    // The inode of a file that is open stays, and so does not wait itself. An
    // open device would keep ndctl from disabling it.
    let file = mount.is_some().then_some(file);
    let mut bound = Bound::of(&namespace)?;
    let mut held = Held::take(&map, 7)?;
    drop(map);
    let operation = bound.unbind();
    let waited = operation
        .must_wait("unbinding the driver")
        .and_then(|()| told(&marker));
    if waited.is_err() && in_c {
        bound.bind()?;
        // Given back, the page has no reference left that it was born with.
        system::log("rust-dax-expect: at mm/memremap.c:")?;
    }
    let whole = held.give_back();
    waited?;
    whole?;
    let took = operation.must_end("unbinding the driver")?;
    require_unpinned("unbinding")?;

    drop(file);
    let kind = mount.as_ref().map(DaxMount::kind);
    if let Some(mount) = mount {
        mount.unmount()?;
    }
    let node = bound.bind()?;
    match kind {
        Some(kind) => {
            let mount = DaxMount::mount(kind, &node, &mount_point())?;
            let file = fs::read(mount.path("data")).context("cannot read the file")?;
            held.require(&file)?;
            mount.unmount()?;
        }
        None => {
            let again = Target {
                file: open_rw(&node, false)?,
                mount: None,
                namespace,
                want: *want,
            };
            let map = again.map(LEN)?;
            let mut bytes = vec![0; LEN];
            map.read(0, &mut bytes);
            held.require(&bytes)?;
            drop(map);
            return again.finish().map(|()| woken(took));
        }
    }
    namespace.destroy()?;
    Ok(woken(took))
}

fn woken(took: Duration) -> String {
    format!("woken after {} ms", took.as_millis())
}

/// In the log and in debugfs is what the unbinding waits for.
fn told(marker: &str) -> Result<()> {
    let path = system::debugfs()?.join("dev_pagemap/ranges");
    let limit = Instant::now() + patient(Duration::from_secs(10));
    loop {
        let text = system::read(&path)?;
        let line = text.lines().find(|l| l.contains(" dying "));
        if line.is_some_and(|line| line.contains(" busy=")) {
            break;
        }
        if Instant::now() > limit {
            bail!(
                "{} does not say how many pages are busy: {text}",
                path.display()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = Cmd::new("dmesg").ok()?.stdout;
    let since = log.rsplit(marker).next().unwrap_or_default();
    ensure!(
        since.contains("pagemap: unmapping 0x") && since.contains(" pinned pages"),
        "the log does not say what the unbinding waits for: {since}"
    );
    Ok(())
}
