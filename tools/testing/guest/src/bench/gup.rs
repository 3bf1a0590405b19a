// SPDX-License-Identifier: GPL-2.0

//! Taking and releasing pages: the kernel's GUP test device, on memory of every kind.
//!
//! The device times both halves itself, in microseconds: that is a resolution of a
//! thousand instructions, in millions. A third row has the whole call, which the plugin's
//! window covers.

use anyhow::{ensure, Result};

use super::clock::Span;
use super::memory::{self, HugetlbPool};
use super::{Bench, Plan, Row};
use crate::gup::{Device, Method};
use crate::mapping::{Mapping, PAGE};
use crate::ndctl::{Want, MIB};
use crate::target::Target;

const UNIT: &str = "instructions/page";
/// The device's functions: the first two without the mmap lock, the others with it.
const METHODS: [Method; 4] = [
    Method::GupFast,
    Method::PinFast,
    Method::PinLongterm,
    Method::Gup,
];

/// Pages per call.
const BATCHES: [u32; 3] = [512, 16, 1];

pub fn plans() -> Vec<Plan> {
    let mut plans = vec![
        plan("anon-thp", |b| {
            rows_of(b, "anon-thp", &memory::anonymous(b.size, true)?)
        }),
        plan("anon-4k", |b| {
            rows_of(b, "anon-4k", &memory::anonymous(b.size, false)?)
        }),
        plan("hugetlb-2m", |b| {
            let _pool = HugetlbPool::fill(b.size)?;
            rows_of(b, "hugetlb-2m", &memory::hugetlb(b.size)?)
        }),
        plan("shmem", |b| rows_of(b, "shmem", &memory::shmem(b.size)?)),
        Plan::new(
            [rows("fsdax-2m"), rows("fsdax-4k")].concat(),
            LIMIT_SECS,
            fsdax,
        ),
    ];
    for (name, want, huge) in [
        ("devdax-2m", memory::DEVDAX_2M, true),
        ("devdax-4k", memory::DEVDAX_4K, false),
    ] {
        plans.push(plan(name, move |b| {
            let target = target(b.size, &want)?;
            let map = memory::dax(&target, b.size, huge)?;
            rows_of(b, name, &map)?;
            drop(map);
            target.finish()
        }));
    }
    plans.extend([
        sizes_plan("fsdax-2m", memory::FSDAX),
        sizes_plan("devdax-2m", memory::DEVDAX_2M),
    ]);
    plans
}

const LIMIT_SECS: u64 = 300;

fn plan(mapping: &'static str, run: impl Fn(&Bench) -> Result<()> + 'static) -> Plan {
    Plan::new(rows(mapping), LIMIT_SECS, run)
}

/// Creates a namespace with room for the mapping and its struct pages.
fn target(len: usize, want: &Want) -> Result<Target> {
    let len = len as u64;
    Target::sized(
        want,
        (2 * len).max(want.size()).next_multiple_of(128 * MIB),
        len,
    )
}

/// Measures one file, first with 2 MiB entries, then, through a mapping that cannot have
/// them, with 4 KiB ones: in the reverse order the small entries would prevent the large
/// ones.
fn fsdax(bench: &Bench) -> Result<()> {
    let target = target(bench.size, &memory::FSDAX)?;
    for (name, huge) in [("fsdax-2m", true), ("fsdax-4k", false)] {
        let wanted = cases(name).any(|case| case.parts().iter().any(|part| bench.wants(part)));
        if wanted {
            rows_of(bench, name, &memory::dax(&target, bench.size, huge)?)?;
        }
    }
    target.finish()
}

/// Sizes that show how the cost of a page grows with the mapping.
const SIZES: [(&str, usize); 3] = [("16m", 16 << 20), ("128m", 128 << 20), ("512m", 512 << 20)];

fn sizes_plan(mapping: &'static str, want: Want) -> Plan {
    let names = move |label: &str| {
        ["get", "put"].map(|part| sized_case(mapping).name(&format!("size={label}/{part}")))
    };
    let row = |name| Row::new(name, UNIT, "all pages of a mapping of this size").slow();
    let rows = SIZES.iter().flat_map(|(label, _)| names(label)).map(row);
    Plan::new(rows.collect(), 2 * LIMIT_SECS, move |bench| {
        let device = Device::open()?;
        for (label, len) in SIZES {
            let names = names(label);
            if !names.iter().any(|name| bench.wants(name)) {
                continue;
            }
            let target = target(len, &want)?;
            let map = memory::dax(&target, len, true)?;
            let [get, put, _] = measure(bench, &device, &sized_case(mapping), &map, len)?;
            let pages = (len / PAGE) as u64;
            for (name, spans) in names.iter().zip([get, put]) {
                bench.report(name, pages, &spans)?;
            }
            drop(map);
            target.finish()?;
        }
        Ok(())
    })
}

fn sized_case(mapping: &'static str) -> Case {
    Case {
        mapping,
        method: Method::PinFast,
        write: true,
        batch: 512,
    }
}

/// One way to take the pages of a mapping.
struct Case {
    mapping: &'static str,
    method: Method,
    write: bool,
    batch: u32,
}

impl Case {
    fn name(&self, part: &str) -> String {
        let method = match self.method {
            Method::GupFast => "gup-fast",
            Method::PinFast => "pin-fast",
            Method::PinLongterm => "pin-longterm",
            Method::Gup => "gup",
            Method::Pin => "pin",
        };
        let access = if self.write { "write" } else { "read" };
        let (mapping, batch) = (self.mapping, self.batch);
        format!("gup/{mapping}/{method}/{access}/n={batch}/{part}")
    }

    /// Returns whether a quick run includes it: writes of whole batches, and one of single
    /// pages.
    fn quick(&self) -> bool {
        let single = self.batch == 1 && self.method == Method::PinFast;
        self.write && (self.batch == 512 || single)
    }

    /// Returns the names of its rows: get, put, both.
    fn parts(&self) -> [String; 3] {
        ["get", "put", "cycle"].map(|part| self.name(part))
    }
}

fn cases(mapping: &'static str) -> impl Iterator<Item = Case> {
    let methods = METHODS.into_iter().filter(move |method| match method {
        // Long-term pins of a filesystem's pages are refused.
        Method::PinLongterm => !mapping.starts_with("fsdax"),
        // The slow path of other memory is unchanged.
        Method::Gup => mapping.contains("dax"),
        _ => true,
    });
    methods.flat_map(move |method| {
        [true, false].into_iter().flat_map(move |write| {
            BATCHES.into_iter().map(move |batch| Case {
                mapping,
                method,
                write,
                batch,
            })
        })
    })
}

fn rows(mapping: &'static str) -> Vec<Row> {
    const NOTES: [&str; 3] = [
        "taking the pages, by gup_test",
        "releasing them",
        "both, and the call of the test device around them",
    ];
    let mut rows = Vec::new();
    for case in cases(mapping) {
        for (name, note) in case.parts().into_iter().zip(NOTES) {
            let row = Row::new(name, UNIT, note);
            rows.push(if case.quick() { row } else { row.slow() });
        }
    }
    rows
}

fn rows_of(bench: &Bench, mapping: &'static str, map: &Mapping) -> Result<()> {
    let device = Device::open()?;
    for case in cases(mapping) {
        let names = case.parts();
        if !names.iter().any(|name| bench.wants(name)) {
            continue;
        }
        match measure(bench, &device, &case, map, bench.size) {
            Ok(spans) => {
                let pages = (bench.size / PAGE) as u64;
                for (name, spans) in names.iter().zip(spans) {
                    bench.report(name, pages, &spans)?;
                }
            }
            Err(e) => {
                for name in &names {
                    bench.fail(name, &e)?;
                }
            }
        }
    }
    Ok(())
}

/// Measures the repeats of getting, of putting, and of the whole.
fn measure(
    bench: &Bench,
    device: &Device,
    case: &Case,
    map: &Mapping,
    len: usize,
) -> Result<[Vec<Span>; 3]> {
    let mut spans: [Vec<Span>; 3] = Default::default();
    for repeat in 0..=bench.repeats() {
        let (cycle, whole) = bench
            .clock
            .time(|| device.timed_cycle(case.method, map, (0, len), case.batch, case.write));
        let cycle = cycle?;
        ensure!(
            cycle.pages == (len / PAGE) as u64,
            "{:?} took {} of {} pages",
            case.method,
            cycle.pages,
            len / PAGE
        );
        if repeat == 0 {
            continue;
        }
        let part = |usec| Span {
            cost: usec * 1000,
            window: None,
        };
        let all = [part(cycle.get_usec), part(cycle.put_usec), whole];
        for (to, span) in spans.iter_mut().zip(all) {
            to.push(span);
        }
    }
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_is_left_out() {
        let all = rows("fsdax-2m");
        assert_eq!(all.len(), 3 * 2 * 3 * 3);
        assert_eq!(all[0].name, "gup/fsdax-2m/gup-fast/write/n=512/get");
        assert_eq!(rows("devdax-4k").len(), 4 * 2 * 3 * 3);
        assert_eq!(rows("anon-4k").iter().filter(|r| r.quick).count(), 12);
    }
}
