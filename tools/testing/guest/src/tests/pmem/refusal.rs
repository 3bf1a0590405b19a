// SPDX-License-Identifier: GPL-2.0

//! The reasons that the kernel gives for a namespace without a disk, or with one that is not fit for
//! DAX: each is provoked, and the log must have one line with the rule and the number that breaks it.

use super::info_block::{self, raw, seal, Field, AT, LEN};
use super::{bind, Made, SIZE};
use crate::ndctl::namespace;
use crate::tests::prelude::*;

const DEVICES: &str = "/sys/bus/nd/devices";

/// What becomes of a namespace.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Outcome {
    /// It has no disk.
    Refused,
    /// It has a disk of all its bytes, without DAX.
    Raw,
}

/// A block that breaks a rule.
struct Broken {
    rule: &'static str,
    /// The fields that differ from those of a good block.
    fields: &'static [(Field, u64)],
    /// Whether the checksum fits.
    sealed: bool,
    outcome: Outcome,
    /// What the line says.
    line: &'static str,
}

const fn broken(
    rule: &'static str,
    fields: &'static [(Field, u64)],
    outcome: Outcome,
    line: &'static str,
) -> Broken {
    Broken {
        rule,
        fields,
        sealed: true,
        outcome,
        line,
    }
}

/// The blocks of fsdax. The good one has its data at 6 MiB of 256 MiB, aligned to 2 MiB.
const FSDAX: &[Broken] = &[
    Broken {
        sealed: false,
        ..broken(
            "checksum",
            &[(info_block::FLAGS, 1)],
            Outcome::Raw,
            "data are not where they were: the fsdax info block: its checksum is wrong",
        )
    },
    broken(
        "parent",
        &[(info_block::PARENT, 1)],
        Outcome::Raw,
        "the fsdax info block: it has the UUID of another namespace",
    ),
    broken(
        "mode",
        &[(info_block::MODE, 7)],
        Outcome::Raw,
        "the fsdax info block: its mode is 7, not 1 (mem) or 2 (dev)",
    ),
    broken(
        "page-size",
        &[(info_block::PAGE_SIZE, 0x10000)],
        Outcome::Refused,
        "refused: the fsdax info block: it was made for pages of 0x10000 bytes, and this kernel has \
         0x1000, errno -95",
    ),
    broken(
        "page-struct-size",
        &[(info_block::PAGE_STRUCT_SIZE, 32)],
        Outcome::Refused,
        "it has 32 bytes for a struct page, and this kernel needs 64, errno -95",
    ),
    broken(
        "align-capacity",
        &[(info_block::ALIGN, 1 << 30)],
        Outcome::Refused,
        "its alignment 0x40000000 is more than the size of the namespace, 0x10000000, errno -95",
    ),
    broken(
        "offset-capacity",
        &[(info_block::DATA_OFFSET, SIZE)],
        Outcome::Refused,
        "its data begin at offset 0x10000000, behind the end of what is used, 0x10000000, errno -95",
    ),
    broken(
        "offset-align",
        &[(info_block::DATA_OFFSET, (6 << 20) + 4096)],
        Outcome::Refused,
        "601000, which is not a multiple of 0x200000, errno -95",
    ),
    broken(
        "offset-page",
        &[(info_block::DATA_OFFSET, (6 << 20) + 512), (info_block::ALIGN, 512)],
        Outcome::Refused,
        "600200, which is not a multiple of 0x1000, errno -95",
    ),
    broken(
        "start",
        &[(info_block::START_PAD, 4096), (info_block::ALIGN, 4096)],
        Outcome::Refused,
        "001000, where what is mapped begins or ends, is not a multiple of 0x200000, errno -95",
    ),
    broken(
        "end",
        &[(info_block::END_TRUNC, 4096)],
        Outcome::Refused,
        "fff000, where what is mapped begins or ends, is not a multiple of 0x200000, errno -95",
    ),
    broken(
        "offset-rest",
        &[(info_block::END_TRUNC, SIZE - (2 << 20))],
        Outcome::Refused,
        "its data begin at offset 0x600000, behind the end of what is used, 0x200000, errno -95",
    ),
    broken(
        "reserve",
        &[
            (info_block::MODE, 1),
            (info_block::DATA_OFFSET, 4096),
            (info_block::ALIGN, 4096),
        ],
        Outcome::Refused,
        "its data begin at offset 0x1000, within the info blocks, errno -22",
    ),
];

/// The blocks of devdax.
const DEVDAX: &[Broken] = &[broken(
    "align",
    &[(info_block::ALIGN, 0x3000)],
    Outcome::Refused,
    "the devdax info block: its alignment 0x3000 is not 0x1000, 0x200000 or 0x40000000, errno -95",
)];

/// Requires that the log has exactly one line of the driver since the mark that says this, and none
/// that says "refused" otherwise.
fn require_line(mark: &system::LogMark, wanted: &str) -> Result<()> {
    let log = mark.since()?;
    let lines = || log.lines().filter(|line| line.contains("nd_pmem "));
    let found = lines().filter(|line| line.contains(wanted)).count();
    let refused = lines().filter(|line| line.contains("refused: ")).count();
    ensure!(
        found == 1 && refused <= 1,
        "the log has {found} lines with {wanted:?} and {refused} refusals: {log}"
    );
    Ok(())
}

/// Writes a broken block, enables the namespace, and requires its outcome and its line.
fn try_block(dev: &str, good: &[u8], row: &Broken) -> Result<()> {
    let mut block = good.to_vec();
    for (field, number) in row.fields {
        info_block::set(&mut block, *field, *number);
    }
    if row.sealed {
        seal(&mut block);
    }
    raw(dev, |disk| Ok(disk.write_all_at(&block, AT)?))?;
    let mark = system::LogMark::new(row.rule)?;
    let enabled = Cmd::new("ndctl enable-namespace").arg(dev).run()?;
    let outcome = if enabled.status.success() {
        let info = namespace(dev)?.context("the namespace is gone")?;
        ensure!(info.mode == "raw", "the block was taken: {info:?}");
        Cmd::new("ndctl disable-namespace").arg(dev).ok()?;
        Outcome::Raw
    } else {
        Outcome::Refused
    };
    ensure!(
        outcome == row.outcome,
        "{outcome:?}, not {:?}: {}",
        row.outcome,
        enabled.all().trim()
    );
    require_line(&mark, row.line)
}

declare! {
    /// a namespace whose info block cannot be used shows an errno only: no line in the log has the rule
    /// and the number that breaks it, or there are several lines for one attempt
    "pmem::refusal::differs_info_block", 300 s, essential => || info_block("fsdax", FSDAX)
}
declare! {
    /// a namespace whose info block cannot be used shows an errno only: no line in the log has the rule
    /// and the number that breaks it
    "pmem::refusal::differs_info_block_devdax", 120 s => || info_block("devdax", DEVDAX)
}
fn info_block(mode: &str, rows: &[Broken]) -> Result<String> {
    let made = Made::new(&format!("-m {mode} -M dev"))?;
    let dev = made.info.dev.clone();
    Cmd::new("ndctl disable-namespace").arg(&dev).ok()?;
    let mut good = vec![0; LEN];
    raw(&dev, |disk| Ok(disk.read_exact_at(&mut good, AT)?))?;
    // A row takes a minute on a slow kernel.
    let step = if system::is_slow()? { 5 } else { 1 };
    let done = rows
        .iter()
        .step_by(step)
        .try_for_each(|row| try_block(&dev, &good, row).with_context(|| row.rule));
    // The device that claimed the namespace may still have it, so it is made anew.
    drop(made);
    done?;
    Made::new(&format!("-m {mode} -M dev"))?;
    Ok(format!("{} blocks", rows.len().div_ceil(step)))
}

/// A device that a test configures by hand for a namespace, which is disabled; dropping it takes the
/// namespace from the device, and destroys it.
struct Configured {
    device: String,
    made: Made,
}

impl Configured {
    /// Lets the seed device of the region claim a raw namespace.
    fn new() -> Result<Self> {
        let made = Made::new("-m raw")?;
        let dev = &made.info.dev;
        Cmd::new("ndctl disable-namespace").arg(dev).ok()?;
        let real = fs::canonicalize(Path::new(DEVICES).join(dev))?;
        let region = real.parent().context("a namespace without a region")?;
        let device = system::read(region.join("pfn_seed"))?;
        let this = Self { device, made };
        this.set("namespace", &this.made.info.dev)?;
        Ok(this)
    }

    fn path(&self) -> PathBuf {
        Path::new(DEVICES).join(&self.device)
    }

    /// Sets an attribute of the device.
    fn set(&self, attribute: &str, value: &str) -> Result<()> {
        fs::write(self.path().join(attribute), value)
            .with_context(|| format!("{attribute} of {}", self.device))
    }

    /// Requires that the device gets no disk, and that the log says why.
    fn require_refused(&self, line: &str) -> Result<()> {
        let mark = system::LogMark::new(line)?;
        ensure!(
            bind("bind", &self.device).is_err(),
            "a driver was bound to {}",
            self.device
        );
        require_line(&mark, line)
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        clean_up(self.set("namespace", ""));
    }
}

declare! {
    /// a device that is not configured completely, or has no room or no leave for an info block, shows
    /// an errno only: no line in the log says what is missing
    "pmem::refusal::differs_configuration", 120 s, essential => configuration
}
fn configuration() -> Result<()> {
    let device = Configured::new()?;
    device.require_refused("refused: it is not configured: no uuid, errno -19")?;
    device.set("uuid", "3f1f5a39-2fb2-4b5b-8a13-1e1b6e7bd0a5")?;
    device.require_refused("refused: it is not configured: mode is none, errno -6")?;
    device.set("mode", "pmem")?;
    device.set("align", &GIB.to_string())?;
    device.require_refused(
        "with alignment 0x40000000, and the namespace has 0x10000000 bytes, errno -6",
    )?;
    device.set("align", &(2 * MIB).to_string())?;

    let real = fs::canonicalize(device.path())?;
    let region = real.parent().context("a device without a region")?;
    let read_only = region.join("read_only");
    fs::write(&read_only, "1").context("read_only")?;
    let refused = device.require_refused("refused: the region is read-only, so no info block");
    fs::write(&read_only, "0").context("read_only")?;
    refused?;

    // What was missing is there now.
    bind("bind", &device.device)?;
    bind("unbind", &device.device)
}

declare! {
    /// a disk that filesystems cannot use with DAX does not say so, so that mounting it fails without a
    /// reason
    "pmem::refusal::differs_raw", 60 s => raw_disk
}
fn raw_disk() -> Result<()> {
    let mark = system::LogMark::new("raw")?;
    let made = Made::new("-m raw")?;
    require_line(
        &mark,
        "raw: no DAX; ndctl create-namespace -f -m fsdax -e changes that",
    )?;
    let dev = made.info.dev.clone();
    Cmd::new("ndctl disable-namespace").arg(&dev).ok()?;
    let mark = system::LogMark::new("force_raw")?;
    raw(&dev, |_| Ok(()))?;
    require_line(&mark, "raw, as force_raw asks: no DAX")?;
    Cmd::new("ndctl enable-namespace").arg(&dev).ok()?;
    Ok(())
}
