// SPDX-License-Identifier: GPL-2.0

//! Files that are open only briefly, while their inodes are evicted: by reclaim, or with their
//! filesystem.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use nix::mount::{umount2, MntFlags};

use super::super::{large, Config, Fixture};
use super::Race;
use crate::data;
use crate::filesystem::DaxMount;
use crate::mapping::PAGE;

/// Adds races on files that are opened and closed, each with bytes that depend on its name, except
/// for the first ones, one per writer.
fn passing_files(race: &mut Race, fixture: &Fixture) -> Result<()> {
    const FILES: usize = 24;
    const SIZE: usize = 5 * PAGE;
    const WRITERS: usize = 2;
    let name = |n: usize| format!("file-{n}");
    for n in 0..FILES {
        let mut bytes = data::bytes(n as u64, SIZE);
        bytes[..WRITERS].fill(0);
        drop(fixture.written(&name(n), &bytes)?);
    }
    let paths: Arc<Vec<PathBuf>> = Arc::new((0..FILES).map(|n| fixture.path(&name(n))).collect());
    for writer in 0..WRITERS {
        let paths = paths.clone();
        let mut last = [0u8; FILES];
        race.add("opens", move |random| {
            let n = random.below(FILES);
            let file = match File::options().read(true).write(true).open(&paths[n]) {
                // Not mounted at the moment.
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                file => file.with_context(|| paths[n].display().to_string())?,
            };
            let map = large(&file, SIZE)?;
            drop(file);
            map.require(WRITERS, &data::bytes(n as u64, SIZE)[WRITERS..], "a file")?;
            ensure!(
                map.peek(writer) == last[n],
                "a file has {} where {} was stored",
                map.peek(writer),
                last[n]
            );
            last[n] = random.below(256) as u8;
            map.poke(writer, last[n]);
            Ok(())
        });
    }
    Ok(())
}

pub fn reclaim(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let mut race = Race::default();
    passing_files(&mut race, &fixture)?;
    race.add("reclaims", move |_| {
        fs::write("/proc/sys/vm/drop_caches", "2").context("cannot drop caches")?;
        thread::sleep(Duration::from_millis(3));
        Ok(())
    });
    let report = race.run()?;
    fixture.finish()?;
    Ok(report)
}

/// Unmounts the filesystem while files of it are mapped, so that it ends with the last of them; and
/// mounts it again, whether its end is in progress or complete.
pub fn unmount(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let mut race = Race::default();
    passing_files(&mut race, &fixture)?;
    let (node, dir) = (fixture.namespace.node()?, fixture.mount.dir().to_owned());
    let kind = config.kind;
    race.add("unmounts", move |random| {
        detach(&dir)?;
        thread::sleep(Duration::from_millis(random.below(4) as u64));
        // It stays mounted: its creator unmounts it.
        std::mem::forget(DaxMount::mount(kind, &node, &dir)?);
        thread::sleep(Duration::from_millis(20));
        Ok(())
    });
    let report = race.run()?;
    fixture.finish()?;
    Ok(report)
}

fn detach(dir: &Path) -> Result<()> {
    umount2(dir, MntFlags::MNT_DETACH).context("umount -l")
}
