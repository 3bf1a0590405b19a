// SPDX-License-Identifier: GPL-2.0

//! Every allocation of a bind fails once: the first in one attempt, the second in
//! the next, until an attempt needs no more of them. After each attempt no state
//! may be left, and finally the driver binds as if nothing had failed.
//!
//! Needs the fault injection of a debug kernel: `fail-nth` of a task counts
//! the places in the kernel at which an allocation can fail.

use std::fs::OpenOptions;
use std::io::Write;

use super::{Made, DRIVER};
use crate::inject;
use crate::system::{iomem, line_diff};
use crate::tests::prelude::*;

const LEN: usize = 1 << 20;
const AT: u64 = 32 << 20;
/// More allocations than any bind has; it bounds an attempt that never ends.
const MOST: u32 = 5000;
/// Unless all tests were requested, one allocation in this number fails.
const SAMPLE: usize = 7;

const DISKS: [(&str, &str); 3] = [
    ("raw", "-m raw"),
    ("fsdax-mem", "-m fsdax -M mem"),
    ("fsdax-dev", "-m fsdax -M dev"),
];

/// Configures the failures: allocations that may sleep fail as well, silently.
fn configure() -> Result<()> {
    inject::configure("failslab", &[("ignore-gfp-wait", "N"), ("verbose", "0")])?;
    let pages = [
        ("ignore-gfp-wait", "N"),
        ("ignore-gfp-highmem", "N"),
        // A page for the tables of the direct map must not be missing: there the
        // kernel dies (phys_pmd_init(), in C, with either driver).
        ("min-order", "1"),
        ("verbose", "0"),
    ];
    inject::configure("fail_page_alloc", &pages)
}

/// This thread's `fail-nth`.
struct FailNth(File);

impl FailNth {
    fn open() -> Result<Self> {
        let path = "/proc/thread-self/fail-nth";
        let file = OpenOptions::new().read(true).write(true).open(path);
        Ok(Self(file.with_context(|| path.to_owned())?))
    }

    /// Runs `work` with its `n`-th allocation failing; returns whether there were
    /// as many.
    fn during(
        &self,
        n: u32,
        work: impl FnOnce() -> io::Result<()>,
    ) -> Result<(bool, io::Result<()>)> {
        self.0.write_all_at(n.to_string().as_bytes(), 0)?;
        let result = work();
        let mut text = [0; 16];
        let read = self.0.read_at(&mut text, 0);
        self.0.write_all_at(b"0", 0)?;
        let left = text.get(..read?).unwrap_or_default();
        Ok((left.starts_with(b"0"), result))
    }
}

fn write_to(file: &str) -> Result<File> {
    let path = Path::new(DRIVER).join(file);
    let open = OpenOptions::new().write(true).open(&path);
    open.with_context(|| format!("cannot open {}", path.display()))
}

// add_pages(), in C, warns once if there is no memory for a section.
declare! {
    /// an attempt to bind the driver that runs out of memory at some step does not undo its work: a
    /// range in /proc/iomem, a disk, memory, or a device that does not bind any more
    "pmem::no-memory" for DISKS, 900 s, essential "fsdax-dev", may warn "arch/x86/mm/init_64.c:"
        => every_step
}
fn every_step((_, arguments): &(&str, &str)) -> Result<String> {
    configure()?;
    let made = Made::new(arguments)?;
    let device = made.bound()?;
    let node = made.node()?;
    let bytes = data::bytes(11, LEN);
    let memory = Mapping::anonymous(LEN)?;
    memory.write(0, &bytes);
    pwrite_all(&open_rw(&node, true)?, &memory, 0, LEN, AT, LEN)?;

    let bound = Path::new(DRIVER).join(&device);
    let (mut bind, mut unbind) = (write_to("bind")?, write_to("unbind")?);
    unbind.write_all(device.as_bytes()).context("unbind")?;
    let (iomem_before, memmap_before) = (iomem()?, settled()?.memmap);
    let fail_nth = FailNth::open()?;
    let (mut refused, mut borne) = (0, 0);
    let step = if runner::thorough() { 1 } else { SAMPLE };
    for n in (1..MOST).step_by(step) {
        let (injected, result) = fail_nth.during(n, || bind.write_all(device.as_bytes()))?;
        match &result {
            Ok(()) => {
                ensure!(
                    bound.exists(),
                    "step {n}: bind succeeds, the device is not bound"
                );
                unbind.write_all(device.as_bytes()).context("unbind")?;
                borne += u32::from(injected);
            }
            Err(e) if injected && e.raw_os_error() == Some(libc::ENOMEM) => refused += 1,
            // Some parts of the kernel return another errno.
            Err(e) if injected => {
                println!("step {n}: {e}");
                refused += 1;
            }
            Err(e) => bail!("step {n}: no allocation was made to fail, and bind returns {e}"),
        }
        ensure!(
            !bound.exists(),
            "step {n}: the device is bound after {result:?}"
        );
        if let Some(diff) = line_diff(&iomem_before, &iomem()?) {
            bail!("step {n}, {result:?}: /proc/iomem differs from before: {diff}");
        }
        if !injected {
            break;
        }
        ensure!(
            n + (step as u32) < MOST,
            "{MOST} allocations without an end"
        );
    }
    let memmap = settled()?.memmap;
    ensure!(
        memmap == memmap_before,
        "nr_memmap_pages was {memmap_before} and is {memmap}"
    );
    bind.write_all(device.as_bytes()).context("the last bind")?;
    system::wait_for_node(&node)?;
    memory.write(0, &vec![0; LEN]);
    pread_all(&open_rw(&node, true)?, &memory, 0, LEN, AT, LEN)?;
    memory.require(0, &bytes, "the disk after all attempts")?;
    ensure!(refused > 0, "no attempt failed");
    Ok(format!("{refused} attempts refused, {borne} tolerated"))
}
