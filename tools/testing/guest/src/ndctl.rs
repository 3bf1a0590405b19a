// SPDX-License-Identifier: GPL-2.0

//! ndctl, typed: regions, namespaces, and a namespace that is destroyed when
//! its owner is dropped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};

use crate::command::{Cmd, Output};
use crate::skip::Skip;
use crate::system::{self, clean_up};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// The kinds of emulated persistent memory in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// QEMU's NVDIMMs: with labels, several namespaces per region.
    Acpi,
    /// `memmap=nn!ss`: without labels, one permanent namespace per region.
    E820,
}

impl Bus {
    pub fn provider(self) -> &'static str {
        match self {
            Bus::Acpi => "ACPI.NFIT",
            Bus::E820 => "e820",
        }
    }
}

/// A region as `ndctl list -R` shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Region {
    pub dev: String,
    pub size: u64,
    #[serde(default)]
    pub available_size: u64,
}

/// A namespace as `ndctl list -N` and `ndctl create-namespace` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    pub dev: String,
    #[serde(default)]
    pub name: Option<String>,
    pub mode: String,
    #[serde(default)]
    pub map: Option<String>,
    #[serde(default)]
    pub size: u64,
    /// Unconfigured label-less namespaces have none.
    #[serde(default)]
    pub uuid: Option<String>,
    #[serde(default)]
    pub align: Option<u64>,
    #[serde(default)]
    pub blockdev: Option<String>,
    #[serde(default)]
    pub daxregion: Option<DaxRegion>,
    #[serde(default)]
    pub state: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaxRegion {
    #[serde(default)]
    pub devices: Vec<DaxDevice>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaxDevice {
    pub chardev: String,
    #[serde(default)]
    pub size: u64,
}

impl Info {
    pub fn enabled(&self) -> bool {
        self.state.as_deref() != Some("disabled")
    }

    /// Returns the namespace's character or block device.
    pub fn node(&self) -> Result<PathBuf> {
        let dax = self
            .daxregion
            .as_ref()
            .and_then(|r| r.devices.first())
            .map(|d| d.chardev.as_str());
        let name = dax
            .or(self.blockdev.as_deref())
            .with_context(|| format!("{} offers neither a block nor a dax device", self.dev))?;
        Ok(Path::new("/dev").join(name))
    }
}

/// Parses ndctl's output, which is empty, one object or an array, depending on
/// the number of objects and on its version.
pub fn parse_list<T: for<'a> Deserialize<'a>>(json: &str) -> Result<Vec<T>> {
    let json = json.trim();
    if json.is_empty() {
        return Ok(Vec::new());
    }
    if json.starts_with('[') {
        return serde_json::from_str(json).context("cannot parse ndctl's list");
    }
    Ok(vec![
        serde_json::from_str(json).context("cannot parse ndctl's object")?
    ])
}

pub fn regions(bus: &str) -> Result<Vec<Region>> {
    let mut all: Vec<Region> = parse_list(&Cmd::new("ndctl list -R -b").arg(bus).ok()?.stdout)?;
    all.sort_by(|a, b| a.dev.cmp(&b.dev));
    Ok(all)
}

/// Returns the namespaces, including disabled ones. An empty seed namespace
/// (size 0) is left out.
pub fn namespaces(filter: &str) -> Result<Vec<Info>> {
    let text = Cmd::new("ndctl list -N -D -i -X")
        .arg_words(filter)
        .ok()?
        .stdout;
    let text = if text.trim_start().starts_with('{') && text.contains("\"namespaces\"") {
        let all: serde_json::Value =
            serde_json::from_str(&text).context("cannot parse ndctl's list")?;
        all["namespaces"].to_string()
    } else {
        text
    };
    let all: Vec<Info> = parse_list(&text)?;
    Ok(all.into_iter().filter(|n| n.size > 0).collect())
}

/// Runs `ndctl create-namespace` with these arguments.
pub fn create(arguments: &str) -> Result<Info> {
    let out = Cmd::new("ndctl create-namespace")
        .arg_words(arguments)
        .limit_secs(180)
        .ok()?;
    parse_list::<Info>(&out.stdout)?
        .into_iter()
        .next()
        .context("ndctl create-namespace printed nothing about what it made")
}

/// Returns the first region with enough space; a [`Skip`] error if there is
/// none. The first region of the NVDIMMs begins at a 1 GiB boundary, later ones
/// may not.
pub fn region_with(bus: Bus, size: u64) -> Result<Region> {
    regions(bus.provider())?
        .into_iter()
        .find(|r| r.available_size >= size)
        .ok_or_else(|| no_room(bus, size))
}

fn no_room(bus: Bus, size: u64) -> anyhow::Error {
    Skip(format!(
        "{} has no {} MiB available",
        bus.provider(),
        size / MIB
    ))
    .into()
}

/// Returns the namespace with this name on this bus.
pub fn named(bus: Bus, name: &str) -> Result<Info> {
    namespaces(&format!("-b {}", bus.provider()))?
        .into_iter()
        .find(|info| info.name.as_deref() == Some(name))
        .with_context(|| format!("no namespace is called {name}"))
}

pub fn namespace(dev: &str) -> Result<Option<Info>> {
    Ok(namespaces(&format!("-n {dev}"))?.into_iter().next())
}

/// The two claims of persistent memory with struct pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Fsdax,
    Devdax,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Fsdax => "fsdax",
            Mode::Devdax => "devdax",
        }
    }
}

/// The location of the struct pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// In the namespace itself (an altmap).
    Dev,
    /// In ordinary memory.
    Mem,
}

impl Map {
    pub fn name(self) -> &'static str {
        match self {
            Map::Dev => "dev",
            Map::Mem => "mem",
        }
    }
}

/// The namespace that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    pub mode: Mode,
    pub align: u64,
    pub map: Map,
    pub bus: Bus,
}

pub fn align_name(align: u64) -> String {
    match align {
        a if a >= GIB => format!("{}G", a / GIB),
        a if a >= MIB => format!("{}M", a / MIB),
        a => format!("{}K", a / KIB),
    }
}

impl Want {
    /// Returns whether this is a label-less fsdax namespace with its struct
    /// pages in memory, which needs no info block: ndctl leaves it as the kernel
    /// offers it, without an alignment of its own.
    fn is_native(&self) -> bool {
        self.bus == Bus::E820 && self.mode == Mode::Fsdax && self.map == Map::Mem
    }

    /// Returns the name for test names: `fsdax-2M-dev-acpi`.
    pub fn name(&self) -> String {
        if self.is_native() {
            return "fsdax-native-e820".into();
        }
        let bus = match self.bus {
            Bus::Acpi => "acpi",
            Bus::E820 => "e820",
        };
        format!(
            "{}-{}-{}-{bus}",
            self.mode.name(),
            align_name(self.align),
            self.map.name()
        )
    }

    /// Returns the size to request from a labelled region. A 1 GiB alignment
    /// needs one unit for the metadata and at least two for data.
    pub fn size(&self) -> u64 {
        if self.align >= GIB {
            3 * GIB
        } else {
            512 * MIB
        }
    }

    fn flags(&self) -> String {
        format!(
            "-m {} -M {} -a {}",
            self.mode.name(),
            self.map.name(),
            self.align
        )
    }
}

/// A namespace that is destroyed when dropped.
pub struct Namespace {
    pub info: Info,
    bus: Bus,
    gone: bool,
}

impl Namespace {
    /// Creates a namespace; returns a [`Skip`] error if the machine lacks space.
    pub fn create(want: &Want) -> Result<Self> {
        Self::create_sized(want, want.size())
    }

    /// Creates a namespace of the caller's size.
    pub fn create_sized(want: &Want, size: u64) -> Result<Self> {
        let namespace = Self {
            info: create(&format!("{} {}", want.flags(), Self::place(want, size)?))?,
            bus: want.bus,
            gone: false,
        };
        namespace.require(want)?;
        system::wait_for_node(&namespace.info.node()?)?;
        Ok(namespace)
    }

    /// Returns its location, as arguments.
    fn place(want: &Want, size: u64) -> Result<String> {
        match want.bus {
            Bus::Acpi => Ok(format!("-r {} -s {size}", region_with(want.bus, size)?.dev)),
            Bus::E820 => namespaces("-b e820")?
                .iter()
                .filter(|n| n.size >= size)
                .min_by_key(|n| n.size)
                .map(|n| format!("-f -e {}", n.dev))
                .ok_or_else(|| no_room(want.bus, size)),
        }
    }

    fn require(&self, want: &Want) -> Result<()> {
        let i = &self.info;
        if i.mode != want.mode.name()
            || i.map.as_deref() != Some(want.map.name())
            || (i.align != Some(want.align) && !want.is_native())
        {
            bail!("{} was expected, ndctl made {i:?}", want.name());
        }
        Ok(())
    }

    pub fn dev(&self) -> &str {
        &self.info.dev
    }

    pub fn node(&self) -> Result<PathBuf> {
        self.info.node()
    }

    pub fn disable(&self) -> Result<()> {
        Cmd::new("ndctl disable-namespace").arg(self.dev()).ok()?;
        Ok(())
    }

    /// Enables it and reads its device names again, because they can change.
    pub fn enable(&mut self) -> Result<()> {
        Cmd::new("ndctl enable-namespace").arg(self.dev()).ok()?;
        self.info = namespace(self.dev())?
            .with_context(|| format!("{} is gone after it was enabled", self.dev()))?;
        if !self.info.enabled() {
            bail!(
                "{} is still disabled after ndctl enable-namespace",
                self.dev()
            );
        }
        system::wait_for_node(&self.node()?)
    }

    /// Returns the namespace's position in physical memory: start and size.
    pub fn resource(&self) -> Result<(u64, u64)> {
        let dir = Path::new("/sys/bus/nd/devices").join(self.dev());
        Ok((
            system::read_u64(dir.join("resource"))?,
            system::read_u64(dir.join("size"))?,
        ))
    }

    /// Destroys it; on e820 it becomes unconfigured again.
    pub fn destroy(mut self) -> Result<()> {
        self.gone = true;
        destroy(&self.info.dev, self.bus)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.gone {
            clean_up(destroy(&self.info.dev, self.bus));
        }
    }
}

/// Destroys a namespace. A label-less one cannot disappear; destroying wipes its
/// info block and leaves it disabled, so it is enabled again as the unconfigured
/// device that it was.
fn destroy(dev: &str, bus: Bus) -> Result<()> {
    Cmd::new("ndctl destroy-namespace -f")
        .arg(dev)
        .limit_secs(120)
        .ok()?;
    if bus == Bus::E820 {
        Cmd::new("ndctl enable-namespace").arg(dev).ok()?;
    }
    Ok(())
}

impl Cmd {
    /// Adds arguments given in one string, split at blanks.
    pub fn arg_words(mut self, words: &str) -> Self {
        for word in words.split_whitespace() {
            self = self.arg(word);
        }
        self
    }
}

/// Runs `ndctl create-namespace` with the caller's arguments; a failure is not
/// an error.
pub fn try_create(arguments: &str) -> Result<Output> {
    Cmd::new("ndctl create-namespace")
        .arg_words(arguments)
        .run()
}

/// Restores the namespaces to `before`: new ones are destroyed, previously
/// unconfigured ones are wiped. Returns what it had to do.
pub fn restore(before: &[Info]) -> Result<Vec<String>> {
    reset_seeds()?;
    let mut done = Vec::new();
    for now in namespaces("")? {
        match before.iter().find(|b| b.dev == now.dev) {
            Some(b) if b.uuid.is_none() && now.uuid.is_some() => {
                destroy(&now.dev, Bus::E820)?;
                done.push(format!("wiped {}", now.dev));
            }
            Some(b) if b.enabled() && !now.enabled() => {
                Cmd::new("ndctl enable-namespace").arg(&now.dev).ok()?;
                done.push(format!("enabled {}", now.dev));
            }
            // Without a uuid it is the namespace that the kernel creates for a
            // region without labels.
            Some(_) => {}
            None if now.uuid.is_none() => {}
            None => {
                destroy(&now.dev, Bus::Acpi)?;
                done.push(format!("destroyed {}", now.dev));
            }
        }
    }
    Ok(done)
}

/// Resets the alignment of each region's seeds, the devices that the next namespace
/// becomes. A refused creation leaves it, on the C kernel too, and it is ndctl's
/// default for the size of the next one.
fn reset_seeds() -> Result<()> {
    const DEVICES: &str = "/sys/bus/nd/devices";
    for entry in fs::read_dir(DEVICES).context(DEVICES)? {
        let device = entry.context(DEVICES)?.path();
        for seed in ["pfn_seed", "dax_seed"] {
            // Only regions have seeds, and not while they are disabled.
            let Ok(name) = fs::read_to_string(device.join(seed)) else {
                continue;
            };
            let align = Path::new(DEVICES).join(name.trim()).join("align");
            if align.exists() {
                fs::write(&align, "2097152").with_context(|| align.display().to_string())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_or_many() -> Result<()> {
        let one = r#"{"dev":"namespace0.0","mode":"fsdax","map":"dev","size":526385152,
            "uuid":"x","sector_size":512,"align":2097152,"blockdev":"pmem0"}"#;
        let parsed: Vec<Info> = parse_list(one)?;
        assert_eq!(parsed[0].node()?, Path::new("/dev/pmem0"));
        assert!(parsed[0].enabled());
        let many: Vec<Info> = parse_list(&format!("[{one},{one}]"))?;
        assert_eq!(many.len(), 2);
        assert!(parse_list::<Info>("")?.is_empty());
        Ok(())
    }

    #[test]
    fn devdax_has_a_character_device() -> Result<()> {
        let json = r#"[{"dev":"namespace1.0","mode":"devdax","map":"mem","size":1,"align":4096,
            "daxregion":{"id":1,"size":1,"align":4096,"devices":[{"chardev":"dax1.0","size":1}]},
            "state":"disabled"}]"#;
        let parsed: Vec<Info> = parse_list(json)?;
        assert_eq!(parsed[0].node()?, Path::new("/dev/dax1.0"));
        assert!(!parsed[0].enabled());
        Ok(())
    }

    #[test]
    fn names() {
        let want = Want {
            mode: Mode::Devdax,
            align: GIB,
            map: Map::Mem,
            bus: Bus::E820,
        };
        assert_eq!(want.name(), "devdax-1G-mem-e820");
    }
}
