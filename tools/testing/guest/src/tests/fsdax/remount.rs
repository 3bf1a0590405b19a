// SPDX-License-Identifier: GPL-2.0

//! A pin lasts longer than a mount: the filesystem is unmounted and mounted again while a pipe has
//! pages of a file, of which nothing is mapped or read after that.
//!
//! Unmounting waits for nothing, because the blocks of the file are not freed. When they are about to
//! be, the filesystem must still know of the pin. C does not, and frees them.

use super::hang::{others_go_on, require_listed, wait_delayed};
use super::idle::{must_wait, Announced, Held, LEN};
use super::{large, Config, Fixture, EXT4, XFS};
use crate::tests::prelude::*;
use crate::tests::truncate::free_blocks;

/// Time until the blocks of a removed file are free after its pages were unpinned.
const FREED: Duration = Duration::from_secs(10);

/// Writes a file, puts pages of it into a pipe, and mounts the filesystem anew.
fn set_up(config: &Config) -> Result<(Fixture, Announced, Held)> {
    let fixture = Fixture::create(config)?;
    let warning = Announced::new()?;
    let file = fixture.written("data", &data::bytes(1, LEN))?;
    let map = large(&file, LEN)?;
    let held = Held::take(&map, 2)?;
    file.sync_all().context("fsync")?;
    drop((map, file));
    Ok((fixture.remount("dax")?, warning, held))
}

declare! {
    /// blocks of a file are freed while a pipe holds their pages, because the filesystem was mounted
    /// again since
    "fsdax::remount::differs_truncate_{kind}" for [EXT4, XFS], 90 s, essential "ext4"
        => |config| shrink(config, false)
}
declare! {
    /// a hole is made of blocks while a pipe holds their pages, because the filesystem was mounted
    /// again since
    "fsdax::remount::differs_punch_{kind}" for [EXT4, XFS], 90 s => |config| shrink(config, true)
}
fn shrink(config: &Config, punch: bool) -> Result<String> {
    let (fixture, _warning, mut held) = set_up(config)?;
    let file = fixture.open("data")?;
    let theirs = file.try_clone().context("dup")?;
    let took = must_wait(&mut held, "freeing the blocks of a file", move || {
        free_blocks(&theirs, punch)
    })?;
    // The pages are idle: nothing is left to wait for.
    let again = file.try_clone().context("dup")?;
    Background::start(move || free_blocks(&again, false)).must_end("a second ftruncate")?;
    drop(file);
    fixture.finish()?;
    Ok(format!("woken after {} ms", took.as_millis()))
}

declare! {
    /// the blocks of a removed file are freed while a pipe holds their pages, because the filesystem
    /// was mounted again since; or removing it hangs
    "fsdax::remount::differs_remove_{kind}" for [EXT4, XFS], 90 s, essential "xfs" => remove
}
fn remove(config: &Config) -> Result<String> {
    let (fixture, _warning, mut held) = set_up(config)?;
    let path = fixture.path("data");
    let went = Background::start(move || fs::remove_file(path).context("unlink"))
        .must_end("removing the file")
        .and_then(|_| require_listed(fixture.kind))
        .and_then(|()| others_go_on(fixture.mount.dir()));
    let whole = held.release();
    went?;
    whole?;
    let start = Instant::now();
    wait_delayed(0)?;
    ensure!(
        start.elapsed() < timeout(FREED),
        "the file is kept after its pages were unpinned"
    );
    require_unpinned("removing a file")?;
    fixture.finish()?;
    Ok(String::new())
}

declare! {
    /// a pin that lasted longer than a mount makes the truncation of another file wait, or of the
    /// file itself once the page is unpinned
    "fsdax::remount::other_{kind}" for [EXT4, XFS], 90 s => other
}
fn other(config: &Config) -> Result<String> {
    super::require_rust("which warns that a page in use is freed")?;
    let (fixture, _warning, mut held) = set_up(config)?;
    let file = fixture.written("other", &data::bytes(3, LEN))?;
    let went = Background::start(move || free_blocks(&file, false))
        .must_end("ftruncate of another file")
        .map(drop);
    let whole = held.release();
    went?;
    whole?;
    let file = fixture.open("data")?;
    let took = Background::start(move || free_blocks(&file, false)).must_end("ftruncate")?;
    fixture.finish()?;
    Ok(format!("ended after {} ms", took.as_millis()))
}
