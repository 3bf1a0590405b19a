// SPDX-License-Identifier: GPL-2.0

//! The cost of creating and removing the struct pages of device memory: the
//! driver of a namespace is unbound and bound again through sysfs.
//!
//! Teardown waits for an RCU grace period, during which the clock jumps, so
//! the caller's own instructions are counted. Each repeat gives two rows: the
//! whole, and the same per page. From two sizes a reader gets the slope, which
//! is the cost of a page, and the rest, which is the driver.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::clock::Span;
use super::files::size_name;
use super::memory::{self, FSDAX, HUGE};
use super::reader::Reader;
use super::{Bench, Plan, Row};
use crate::filesystem::{DaxMount, Kind};
use crate::mapping::{open_rw, Mapping, PAGE};
use crate::ndctl::{Bus, Map, Mode, Namespace, Want, GIB, MIB};
use crate::system;
use crate::target::{mount_point, Target, FILE};

/// Sizes of namespaces; from the given index on they are left out of a quick
/// run and need the large machine.
const SIZES: [u64; 5] = [256 * MIB, GIB, 4 * GIB, 16 * GIB, 64 * GIB];
const SLOW: usize = 1;
const LARGE: usize = 3;

/// Numbers of other pgmaps; the rows above have none.
const COUNTS: [usize; 2] = [64, 1024];

const KINDS: [(&str, Mode, Map); 4] = [
    ("fsdax-mem", Mode::Fsdax, Map::Mem),
    ("fsdax-dev", Mode::Fsdax, Map::Dev),
    ("devdax-2m-mem", Mode::Devdax, Map::Mem),
    ("devdax-2m-dev", Mode::Devdax, Map::Dev),
];

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for (at, size) in SIZES.into_iter().enumerate() {
        for (name, mode, map) in KINDS {
            let names = Names::of(name, size);
            let mut rows = names.rows();
            for row in &mut rows {
                row.quick = at < SLOW;
                row.large = at >= LARGE;
            }
            let want = Want {
                mode,
                align: 2 * MIB,
                map,
                bus: Bus::Acpi,
            };
            plans.push(Plan::new(rows, 600, move |b| run(b, &names, &want, size)));
        }
    }
    plans.extend(COUNTS.map(crowded));
    plans.push(used());
    plans
}

/// Returns the plan for a namespace most of which was mapped in pages of 2 MiB.
fn used() -> Plan {
    const NAME: &str = "memmap/fsdax-mem/teardown-after-2m/size=256m";
    let size = SIZES[0];
    let row = Row::new(
        NAME,
        "instructions/page",
        "unbinding the driver, divided by the pages of the namespace, three quarters of which a file \
         had mapped in 2 MiB",
    );
    let want = Want {
        map: Map::Mem,
        ..FSDAX
    };
    Plan::new(vec![row], 600, move |b| {
        let target = Target::sized(&want, size, size / 4 * 3)?;
        let (_, bytes) = target.namespace.resource()?;
        let Target {
            file,
            mount,
            namespace,
            ..
        } = target;
        let bound = Bound::of(&namespace, want.mode)?;
        drop(file);
        mount.context("fsdax without a mount")?.unmount()?;
        let mut spans = Vec::new();
        for repeat in 0..=b.repeats() {
            let mount = DaxMount::mount(Kind::Ext4, &namespace.node()?, &mount_point())?;
            let file = open_rw(&mount.path(FILE), false)?;
            let len = (size / 4 * 3) as usize;
            let map = Mapping::shared(&file, 0, len, HUGE)?;
            memory::touch(&map, len, HUGE);
            drop((map, file));
            mount.unmount()?;
            let span = bound.write_name(b, "unbind")?;
            bound.write_name(b, "bind")?;
            if repeat > 0 {
                spans.push(span);
            }
        }
        b.report(NAME, bytes / PAGE as u64, &spans)?;
        namespace.destroy()
    })
}

/// Returns the plan for a small namespace, while many pgmaps are registered.
fn crowded(count: usize) -> Plan {
    let size = SIZES[0];
    let want = Want {
        map: Map::Mem,
        ..FSDAX
    };
    let name = |verb| {
        let size = size_name(size);
        format!("bind/fsdax-mem/{verb}/size={size}/pgmaps={count}")
    };
    let (bind, unbind) = (name("bind"), name("unbind"));
    let rows = [&bind, &unbind].map(|name| {
        Row::new(
            name.clone(),
            "instructions",
            "with so many other pgmaps registered",
        )
        .slow()
    });
    Plan::new(rows.to_vec(), 600, move |b| {
        let mut reader = Reader::open()?;
        reader.pgmaps(count)?;
        let namespace = Namespace::create_sized(&want, size)?;
        let (binds, unbinds) = cycle(b, &namespace, want.mode)?;
        b.report(&bind, 1, &binds)?;
        b.report(&unbind, 1, &unbinds)?;
        namespace.destroy()
    })
}

struct Names {
    bind: String,
    unbind: String,
    init: String,
    teardown: String,
}

impl Names {
    fn of(kind: &str, size: u64) -> Self {
        let size = size_name(size);
        Self {
            bind: format!("bind/{kind}/bind/size={size}"),
            unbind: format!("bind/{kind}/unbind/size={size}"),
            init: format!("memmap/{kind}/init/size={size}"),
            teardown: format!("memmap/{kind}/teardown/size={size}"),
        }
    }

    fn rows(&self) -> Vec<Row> {
        let row = |name: &String, unit, note| Row::new(name.clone(), unit, note);
        vec![
            row(
                &self.bind,
                "instructions",
                "binding the driver, with the struct pages",
            ),
            row(&self.unbind, "instructions", "unbinding it"),
            row(
                &self.init,
                "instructions/page",
                "binding the driver, divided by the pages of the namespace",
            ),
            row(
                &self.teardown,
                "instructions/page",
                "unbinding it, likewise",
            ),
        ]
    }
}

/// A device and the driver that creates its struct pages.
struct Bound {
    driver: PathBuf,
    device: String,
}

impl Bound {
    fn of(namespace: &Namespace, mode: Mode) -> Result<Self> {
        match mode {
            Mode::Fsdax => Ok(Self {
                driver: "/sys/bus/nd/drivers/nd_pmem".into(),
                device: pfn_device(namespace.dev())?,
            }),
            Mode::Devdax => {
                let node = namespace.node()?;
                let name = node.file_name().context("a device without a name")?;
                Ok(Self {
                    driver: "/sys/bus/dax/drivers/device_dax".into(),
                    device: name.to_string_lossy().into_owned(),
                })
            }
        }
    }

    fn write_name(&self, bench: &Bench, file: &str) -> Result<Span> {
        let path = self.driver.join(file);
        let (written, span) = bench
            .clock
            .time_running(|| fs::write(&path, &self.device))?;
        written.with_context(|| format!("cannot write {} to {}", self.device, path.display()))?;
        Ok(span)
    }
}

/// Returns the device that claimed an fsdax namespace, to which the driver is
/// bound.
fn pfn_device(namespace: &str) -> Result<String> {
    let devices = Path::new("/sys/bus/nd/devices");
    let entries =
        fs::read_dir(devices).with_context(|| format!("cannot list {}", devices.display()))?;
    entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("pfn"))
        .find(|e| system::read(e.path().join("namespace")).is_ok_and(|n| n == namespace))
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .with_context(|| format!("no pfn device has claimed {namespace}"))
}

fn run(bench: &Bench, names: &Names, want: &Want, size: u64) -> Result<()> {
    let namespace = Namespace::create_sized(want, size)?;
    let (_, bytes) = namespace.resource()?;
    let pages = bytes / PAGE as u64;
    let (binds, unbinds) = cycle(bench, &namespace, want.mode)?;
    bench.report(&names.bind, 1, &binds)?;
    bench.report(&names.unbind, 1, &unbinds)?;
    bench.report(&names.init, pages, &binds)?;
    bench.report(&names.teardown, pages, &unbinds)?;
    namespace.destroy()
}

/// Unbinds and binds again in each repeat; the first time does not count.
fn cycle(bench: &Bench, namespace: &Namespace, mode: Mode) -> Result<(Vec<Span>, Vec<Span>)> {
    let bound = Bound::of(namespace, mode)?;
    let (mut binds, mut unbinds) = (Vec::new(), Vec::new());
    for repeat in 0..=bench.repeats() {
        let unbind = bound.write_name(bench, "unbind")?;
        let bind = bound.write_name(bench, "bind")?;
        if repeat > 0 {
            unbinds.push(unbind);
            binds.push(bind);
        }
    }
    Ok((binds, unbinds))
}
