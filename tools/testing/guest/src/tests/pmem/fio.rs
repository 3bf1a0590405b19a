// SPDX-License-Identifier: GPL-2.0

//! fio on the disks, which verifies its writes: arbitrary sizes and offsets
//! through the page cache, multiples of sectors without it.

use super::{Made, DISKS};
use crate::tests::prelude::*;

declare! {
    /// a block that fio wrote, alone or concurrently with others, is not read with the checksum that it
    /// was written with
    "pmem::fio" for DISKS, 180 s => verified
}
fn verified((_, arguments): &(&str, &str)) -> Result<String> {
    let made = Made::new(arguments)?;
    let node = made.node()?;
    let sector = system::read_u64(made.disk()?.join("queue/logical_block_size"))?;
    let jobs = [
        // A checksum covers whole blocks, so they may not overlap: the sizes
        // vary by file offset, in an order that fio remembers.
        ("buffered", "--ioengine=psync --bsrange=700-90000 --bs_unaligned --size=5m".to_owned()),
        (
            "direct",
            format!("--ioengine=psync --direct=1 --bsrange={sector}-128k --blockalign={sector} --size=8m"),
        ),
        (
            "queued",
            format!("--ioengine=libaio --direct=1 --iodepth=16 --bsrange={sector}-64k --blockalign={sector} --size=8m"),
        ),
        (
            "synced",
            "--ioengine=psync --direct=1 --bs=4k --fsync=7 --size=2m".to_owned(),
        ),
    ];
    for (index, (name, job)) in jobs.iter().enumerate() {
        Cmd::new("fio --rw=randwrite --norandommap=0 --verify=crc32c --verify_fatal=1 --do_verify=1 --thread")
            .arg(format!("--name={name}"))
            .arg(format!("--filename={}", node.display()))
            .arg(format!("--offset={}m", 16 * (index + 1)))
            .arg_words(job)
            .limit_secs(90)
            .ok()?;
    }
    Ok(format!("{} jobs, sectors of {sector} bytes", jobs.len()))
}
