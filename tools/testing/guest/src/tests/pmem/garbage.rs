// SPDX-License-Identifier: GPL-2.0

//! Random info blocks: correct signature and checksum, with random numbers in between.
//! And labels of random bytes.

use super::info_block::{self, raw, seal, AT, LEN};
use super::{Made, SIZE};
use crate::ndctl::{namespace, regions, Info};
use crate::tests::prelude::*;

/// Fields of the block: offset and bytes.
const FIELDS: &[(usize, usize)] = &[
    info_block::FLAGS,
    info_block::VERSION_MAJOR,
    info_block::VERSION_MINOR,
    info_block::DATA_OFFSET,
    info_block::PAGES,
    info_block::MODE,
    info_block::START_PAD,
    info_block::END_TRUNC,
    info_block::ALIGN,
    info_block::PAGE_SIZE,
    info_block::PAGE_STRUCT_SIZE,
];

/// Returns a number that is likely to break a field that should hold `old`.
fn nasty(random: &mut Random, old: u64) -> u64 {
    match random.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << random.below(64),
        3 => old.wrapping_add(1),
        4 => old.wrapping_neg(),
        5 => old ^ (1 << random.below(32)),
        6 => SIZE
            .wrapping_add(4096 * random.below(3) as u64)
            .wrapping_sub(4096),
        _ => random.next(),
    }
}

declare! {
    /// an info block with random content makes the kernel complain or hang, or results in a device that
    /// is larger than its namespace, instead of being refused
    "pmem::garbage::info-block", 300 s, essential => || info_block("fsdax", b"NVDIMM_PFN_INFO\0")
}
declare! {
    /// an info block with random content makes the kernel complain or hang, or results in a device that
    /// is larger than its namespace, instead of being refused
    "pmem::garbage::info-block-devdax", 300 s, essential
        => || info_block("devdax", b"NVDIMM_DAX_INFO\0")
}
/// Tests a namespace in this mode, whose info block begins with this signature.
fn info_block(mode: &str, signature: &[u8]) -> Result<String> {
    let rounds = if system::is_slow()? { 8 } else { 24 };
    let made = Made::new(&format!("-m {mode} -M dev"))?;
    let dev = made.info.dev.clone();
    Cmd::new("ndctl disable-namespace").arg(&dev).ok()?;
    let mut good = vec![0; LEN];
    raw(&dev, |disk| Ok(disk.read_exact_at(&mut good, AT)?))?;
    let mut sealed = good.clone();
    seal(&mut sealed);
    ensure!(
        sealed == good && good.starts_with(signature),
        "there is no info block, or its checksum differs"
    );
    let mut random = Random::new(0);
    let mut refused = 0;
    for round in 0..rounds {
        let mut block = good.clone();
        let mut changed = Vec::new();
        for _ in 0..1 + random.below(3) {
            let (at, len) = FIELDS[random.below(FIELDS.len())];
            let new = nasty(&mut random, info_block::get(&block, (at, len)));
            info_block::set(&mut block, (at, len), new);
            changed.push((at, new));
        }
        seal(&mut block);
        raw(&dev, |disk| Ok(disk.write_all_at(&block, AT)?))?;
        let enabled = Cmd::new("ndctl enable-namespace")
            .arg(&dev)
            .limit_secs(60)
            .run()?;
        let info = namespace(&dev)?.context("the namespace is gone")?;
        let checked = match offered(&info) {
            Some(Offered::Disk(disk)) => check_disk(disk),
            Some(Offered::Dax(device)) => check_dax(device),
            None => {
                refused += 1;
                Ok(())
            }
        };
        checked.with_context(|| format!("round {round}, {changed:x?}"))?;
        if enabled.status.success() || info.enabled() {
            Cmd::new("ndctl disable-namespace").arg(&dev).ok()?;
        }
    }
    raw(&dev, |disk| Ok(disk.write_all_at(&good, AT)?))?;
    Cmd::new("ndctl enable-namespace").arg(&dev).ok()?;
    let info = namespace(&dev)?.context("the namespace is gone")?;
    ensure!(
        info.mode == mode && info.uuid == made.info.uuid,
        "the original info block no longer works: {info:?}"
    );
    ensure!(refused > 0, "all {rounds} info blocks were accepted");
    Ok(format!("{refused} refused, {} taken", rounds - refused))
}

/// The device that an enabled namespace offers to programs.
enum Offered<'a> {
    Disk(&'a str),
    Dax(&'a str),
}

fn offered(info: &Info) -> Option<Offered<'_>> {
    if !info.enabled() {
        return None;
    }
    let device = info.daxregion.as_ref().and_then(|r| r.devices.first());
    match device {
        Some(device) => Some(Offered::Dax(&device.chardev)),
        None => info.blockdev.as_deref().map(Offered::Disk),
    }
}

/// Requires that a disk is no larger than its namespace, and that its first and last
/// sector can be read.
fn check_disk(disk: &str) -> Result<()> {
    let sectors = system::read_u64(Path::new("/sys/block").join(disk).join("size"))?;
    ensure!(
        sectors.checked_mul(512).is_some_and(|size| size <= SIZE),
        "a disk of {sectors} sectors in {SIZE} bytes"
    );
    let node = Path::new("/dev").join(disk);
    system::wait_for_node(&node)?;
    let disk = open_rw(&node, false)?;
    let mut sector = [0; 512];
    for at in [0, sectors.saturating_sub(1) * 512] {
        disk.read_exact_at(&mut sector, at)
            .with_context(|| format!("the sector at {at}"))?;
    }
    Ok(())
}

/// Requires that a device is no larger than its namespace, and that its first and last
/// page can be mapped and read.
fn check_dax(device: &str) -> Result<()> {
    let folder = Path::new("/sys/bus/dax/devices").join(device);
    let (size, align) = (
        system::read_u64(folder.join("size"))?,
        system::read_u64(folder.join("align"))?,
    );
    ensure!(
        size <= SIZE,
        "a dax device of {size} bytes in {SIZE}, aligned to {align}"
    );
    let node = Path::new("/dev").join(device);
    system::wait_for_node(&node)?;
    let file = open_rw(&node, false)?;
    let page = usize::try_from(align)?;
    for at in [0, size.saturating_sub(align)] {
        let map = Mapping::shared(&file, at, page, page)
            .with_context(|| format!("mapping {align} bytes at {at} of {size}"))?;
        map.peek(0);
        map.peek(page - 1);
    }
    Ok(())
}

declare! {
    /// labels of random bytes make the kernel complain, or new labels cannot be written over them
    "pmem::garbage::labels", 180 s => labels
}
fn labels() -> Result<String> {
    let rounds = if system::is_slow()? { 2 } else { 4 };
    let region = regions(Bus::Acpi.provider())?
        .into_iter()
        .find(|r| r.available_size == r.size)
        .ok_or_else(|| crate::skip::Skip("no region is free of namespaces".into()))?;
    let dimm = dimm_of(&region.dev)?;
    let file = std::env::temp_dir().join("labels");
    let control = |verb: &str, what: &str| Cmd::new(&format!("ndctl {verb}")).arg(what).ok();
    control("disable-region", &region.dev)?;
    let read = Cmd::new("ndctl read-labels -o").arg(&file).arg(&dimm).ok();
    let worked = read.and_then(|_| -> Result<()> {
        let good = fs::read(&file)?;
        for round in 0..rounds {
            let mut bytes = good.clone();
            // All of it, or what follows the first index alone.
            let from = if round % 2 == 0 { 0 } else { 256 };
            data::fill(100 + round, bytes.get_mut(from..).unwrap_or_default());
            fs::write(&file, &bytes)?;
            Cmd::new("ndctl write-labels -i")
                .arg(&file)
                .arg(&dimm)
                .ok()?;
            let enabled = Cmd::new("ndctl enable-region")
                .arg(&region.dev)
                .limit_secs(60)
                .run()?;
            if enabled.status.success() {
                control("disable-region", &region.dev)?;
            }
        }
        Ok(())
    });
    let mended =
        control("init-labels -f", &dimm).and_then(|_| control("enable-region", &region.dev));
    let _ = fs::remove_file(&file);
    worked?;
    mended?;
    let now = regions(Bus::Acpi.provider())?;
    let now = now
        .iter()
        .find(|r| r.dev == region.dev)
        .context("the region is gone")?;
    if now.available_size != region.size {
        bail!(
            "of {} bytes only {} are available after all rounds",
            region.size,
            now.available_size
        );
    }
    Ok(format!("{rounds} rounds on {dimm}"))
}

/// Returns the DIMM of a region.
fn dimm_of(region: &str) -> Result<String> {
    let mapping = format!("/sys/bus/nd/devices/{region}/mapping0");
    let text = system::read(mapping)?;
    let name = text.split(',').next().context("an empty mapping")?;
    Ok(name.trim().to_owned())
}
