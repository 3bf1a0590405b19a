// SPDX-License-Identifier: GPL-2.0

//! Media errors, which only the mock platform of nfit_test can produce on
//! request.

use super::io::without_wait;
use super::Made;
use crate::ndctl::regions;
use crate::tests::nfit::with_mock;
use crate::tests::prelude::*;

const BUS: &str = "nfit_test.0";
/// Bad ranges, in sectors of the disk: in the middle of a page, and across the
/// end of one.
const BAD: [(u64, u64); 2] = [(8 * 20 + 3, 1), (8 * 40 + 6, 4)];
const LEN: usize = 64 * PAGE;

declare! {
    /// bad sectors are read as if they were good, good ones next to them are refused, or overwriting
    /// them does not make them good: the list of bad sectors is not kept
    "pmem::poison", 300 s, essential => || with_mock(poison)
}

fn poison() -> Result<String> {
    Cmd::new("modprobe nfit_test").ok()?;
    for action in ["disable-region", "init-labels -f", "enable-region"] {
        let action = format!("ndctl {action}");
        Cmd::new(&action).arg_words(&format!("-b {BUS} all")).ok()?;
    }
    let region = regions(BUS)?
        .into_iter()
        .find(|r| r.available_size >= 32 * MIB)
        .context("the mock platform has no region with 32 MiB")?;
    let made = Made::ndctl(&format!("-t pmem -m raw -s 32M -r {}", region.dev))?;
    let disk = open_rw(&made.node()?, true)?;
    let memory = Mapping::anonymous(LEN)?;
    let bytes = data::bytes(5, LEN);
    memory.write(0, &bytes);
    pwrite_all(&disk, &memory, 0, LEN, 0, LEN)?;

    inject(&made)?;
    let list = made.disk()?.join("badblocks");
    let known = system::read(&list)?;
    ensure!(
        known.lines().count() == BAD.len(),
        "{} ranges were made bad, the disk knows of {known:?}",
        BAD.len()
    );
    // One bio over the whole range.
    require_errno(
        pread_once(&disk, &memory, 0, LEN, 0),
        libc::EIO,
        "a read of the whole range",
    )?;
    for (sector, count) in BAD {
        let at = sector * 512;
        require_errno(
            pread_once(&disk, &memory, 0, count as usize * 512, at),
            libc::EIO,
            "a read of bad sectors",
        )?;
        for good in [at - 512, at + count * 512] {
            let n = pread_once(&disk, &memory, 0, 512, good)
                .with_context(|| format!("a read of the good sector at {good}"))?;
            ensure!(n == 512, "a short read");
            let good = good as usize;
            memory.require(
                0,
                &bytes[good..good + 512],
                "a good sector next to a bad one",
            )?;
        }
    }
    // Clearing takes time. (The C driver serves no such request at all.)
    match without_wait(&disk, &memory, 0, true) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EOPNOTSUPP)) => {}
        other => bail!("an overwrite that must not wait returns {other:?}, not EAGAIN"),
    }
    // Whole pages over the first range, by many pages in one bio.
    memory.write(0, &bytes);
    let written = pwrite_once(&disk, &memory, 0, 32 * PAGE, 0)?;
    ensure!(written == 32 * PAGE, "a short write over bad sectors");
    let known = system::read(&list)?;
    ensure!(
        known.lines().count() == 1,
        "the first range was overwritten, the disk knows of {known:?}"
    );
    pwrite_all(&disk, &memory, 0, LEN, 0, LEN)?;
    let known = system::read(&list)?;
    ensure!(
        known.trim().is_empty(),
        "everything was overwritten, the disk knows of {known:?}"
    );
    memory.write(0, &vec![0; LEN]);
    let n = pread_once(&disk, &memory, 0, LEN, 0)?;
    ensure!(n == LEN, "a short read of overwritten sectors");
    memory.require(0, &bytes, "bytes that overwrote bad sectors")?;
    Ok(format!("{} bad ranges", BAD.len()))
}

fn inject(made: &Made) -> Result<()> {
    for (sector, count) in BAD {
        Cmd::new("ndctl inject-error")
            .arg_words(&format!("--block={sector} --count={count}"))
            .arg(&made.info.dev)
            .ok()?;
    }
    Cmd::new("ndctl start-scrub").arg(BUS).ok()?;
    Cmd::new("ndctl wait-scrub").arg(BUS).limit_secs(60).ok()?;
    Ok(())
}
