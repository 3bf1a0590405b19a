// SPDX-License-Identifier: GPL-2.0

//! Binding and unbinding the driver, during I/O.

use super::{bind, Made, DISKS};
use crate::system::{iomem, line_diff};
use crate::tests::prelude::*;

const LEN: usize = 1 << 20;
const AT: u64 = 32 << 20;

/// Returns the bytes of unreclaimable slab.
fn slab() -> Result<u64> {
    let text = system::read("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("SUnreclaim:"))
        .context("/proc/meminfo has no SUnreclaim")?;
    let kib = line.split_whitespace().next().context("no number")?;
    Ok(kib.parse::<u64>()? << 10)
}

declare! {
    /// unbinding the driver while a program reads and writes hangs, causes a kernel complaint, or leaks
    /// memory, a range in /proc/iomem or a disk
    "pmem::rebind" for DISKS, 900 s, essential "fsdax-mem" => rebind
}
fn rebind((_, arguments): &(&str, &str)) -> Result<String> {
    let rounds = match runner::thorough() {
        true => 1000,
        false if system::is_slow()? => 12,
        false => 60,
    };
    let made = Made::new(arguments)?;
    let device = made.bound()?;
    let node = made.node()?;
    let bytes = data::bytes(3, LEN);
    let memory = Mapping::anonymous(LEN)?;
    memory.write(0, &bytes);
    pwrite_all(&open_rw(&node, true)?, &memory, 0, LEN, AT, LEN)?;

    let (iomem_before, memmap_before) = (iomem()?, settled()?.memmap);
    if runner::thorough() {
        forget_leaks()?;
    }
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut slab_warm = 0;
    let worked = thread::scope(|scope| -> Result<()> {
        for _ in 0..2 {
            scope.spawn(|| busy(&node, &stop, &done));
        }
        if runner::thorough() {
            scope.spawn(|| fio(&node, &stop));
        }
        let mut work = || -> Result<()> {
            for round in 0..rounds {
                let seen = done.load(Ordering::Relaxed);
                bind("unbind", &device)?;
                ensure!(!made.disk()?.exists(), "the disk exists without its driver");
                bind("bind", &device)?;
                system::wait_for_node(&node)?;
                // I/O continues before the next round.
                while done.load(Ordering::Relaxed) == seen {
                    thread::yield_now();
                }
                if round == rounds / 3 {
                    slab_warm = slab()?;
                }
            }
            Ok(())
        };
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    });
    worked?;
    memory.write(0, &vec![0; LEN]);
    crate::mapping::pread_all(&open_rw(&node, true)?, &memory, 0, LEN, AT, LEN)?;
    memory.require(0, &bytes, "the disk after all rebinds")?;
    if let Some(diff) = line_diff(&iomem_before, &iomem()?) {
        bail!("/proc/iomem differs from before: {diff}");
    }
    let memmap = settled()?.memmap;
    ensure!(
        memmap == memmap_before,
        "nr_memmap_pages was {memmap_before} and is {memmap}"
    );
    // A bind allocates tens of KiB; caches that grow are not leaks.
    let grown = slab()?.saturating_sub(slab_warm);
    ensure!(
        grown < 8 << 20,
        "{} KiB more of slab after {rounds} rounds",
        grown >> 10
    );
    if runner::thorough() {
        no_leaks()?;
    }
    Ok(format!(
        "{rounds} rounds, {} concurrent I/Os",
        done.load(Ordering::Relaxed)
    ))
}

/// Reads with fio, which loses its disk, repeatedly.
fn fio(node: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        // It fails each time the disk disappears. fio treats a missing file as one to be laid out,
        // and removes what exists in its place by then: the node, unless it may only read.
        let _ = Cmd::new("fio --name=rebind --rw=randread --bs=4k --direct=1 --ioengine=libaio")
            .arg_words("--iodepth=8 --size=16M --time_based --runtime=2 --readonly")
            .arg("--allow_file_create=0")
            .arg(format!("--filename={}", node.display()))
            .ok();
    }
}

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";

/// Clears the leaks that kmemleak knows so far, which are not ours. Does nothing without kmemleak.
fn forget_leaks() -> Result<()> {
    for command in ["scan", "clear"] {
        kmemleak(command)?;
    }
    Ok(())
}

/// Returns an error if kmemleak has found leaks since.
fn no_leaks() -> Result<()> {
    // Young objects are not reported, and objects that moved during a scan only by the next scan.
    for _ in 0..2 {
        thread::sleep(Duration::from_secs(6));
        kmemleak("scan")?;
    }
    let report = fs::read_to_string(KMEMLEAK).unwrap_or_default();
    ensure!(report.is_empty(), "kmemleak has found: {report}");
    Ok(())
}

fn kmemleak(command: &str) -> Result<()> {
    if !Path::new(KMEMLEAK).exists() {
        return Ok(());
    }
    fs::write(KMEMLEAK, command).with_context(|| format!("kmemleak does not accept {command}"))
}

/// Opens the disk, reads and writes until that fails, and repeats.
fn busy(node: &Path, stop: &AtomicBool, done: &AtomicU64) {
    let Ok(memory) = Mapping::anonymous(64 << 10) else {
        return;
    };
    while !stop.load(Ordering::Relaxed) {
        let Ok(disk) = open_rw(node, true) else {
            thread::yield_now();
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let read = pread_once(&disk, &memory, 0, memory.len(), AT);
            if !matches!(read, Ok(n) if n > 0) {
                break;
            }
            // Does not overwrite the bytes that are compared at the end.
            if pwrite_once(&disk, &memory, 0, 8192, AT + LEN as u64).is_err() {
                break;
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}
