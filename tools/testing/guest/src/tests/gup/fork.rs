// SPDX-License-Identifier: GPL-2.0

//! Pins and the sharing of pages after a fork. The holder of a pin must see later writes of the
//! process; so either the page is exclusive to the process when it is pinned, or the other
//! process gets a copy.

use crate::gup::Device;
use crate::memory::{Kind, Memory};
use crate::tests::prelude::*;

const LEN: usize = 2 * HUGE;
const KINDS: [Kind; 4] = [Kind::Anon, Kind::Thp, Kind::Hugetlb, Kind::Private];

declare! {
    /// a page that is pinned when the process forks is shared and then replaced under the pin: what
    /// the parent writes does not reach the pinned page, or the child sees it
    "gup::fork-after" for KINDS, 120 s => |kind| each(*kind, forked_while_pinned)
}

declare! {
    /// a page that parent and child share since a fork is pinned as it is, although the parent's next
    /// store goes to a copy: the pinned page does not get it, or the child does
    "gup::fork-before" for KINDS, 120 s, essential "thp" => |kind| each(*kind, pinned_while_shared)
}

/// The parameters of one run of a test.
struct Case<'a> {
    device: &'a Device,
    map: &'a Mapping,
    first: Vec<u8>,
    second: Vec<u8>,
    write: bool,
    fast: bool,
}

impl Case<'_> {
    fn pin(&self) -> Result<()> {
        self.device
            .pin_longterm(self.map, LEN, self.write, self.fast)
            .context("pin")
    }

    /// Requires that the parent's later stores are in the pinned pages.
    fn store_and_compare(&self) -> Result<()> {
        self.map.write(0, &self.second);
        let copy = Mapping::anonymous(LEN)?;
        self.device.read_pinned(&copy).context("reading pages")?;
        copy.require(0, &self.second, "the pinned pages")?;
        self.map.require(0, &self.second, "the parent's mapping")
    }
}

fn each(kind: Kind, run: fn(&Case<'_>) -> Result<()>) -> Result<String> {
    let device = Device::open()?;
    let mut seed = 141;
    for write in [false, true] {
        for fast in [false, true] {
            // One for the parent, one for the child, and one while a page is replaced.
            let memory = Memory::create(kind, LEN, 3)?;
            if kind == Kind::Private {
                // The other half stays in the page cache.
                memory.map.write(0, &data::bytes(seed, LEN / 2));
            } else {
                memory.touch()?;
                memory.map.write(0, &data::bytes(seed, LEN));
            }
            let mut first = vec![0; LEN];
            memory.map.read(0, &mut first);
            let case = Case {
                device: &device,
                map: &memory.map,
                first,
                second: data::bytes(seed + 1, LEN),
                write,
                fast,
            };
            run(&case).with_context(|| format!("write: {write}, fast: {fast}"))?;
            device.unpin().context("unpin")?;
            require_unpinned("the unpin")?;
            seed += 2;
        }
    }
    Ok(String::new())
}

fn forked_while_pinned(case: &Case<'_>) -> Result<()> {
    case.pin()?;
    let (written, theirs) = (Gate::new()?, data::bytes(7, PAGE));
    let child = spawn(|| {
        written.pass()?;
        case.map.require(0, &case.first, "the child's view")?;
        case.map.write(PAGE, &theirs);
        Ok(())
    })?;
    case.store_and_compare()?;
    written.open()?;
    child.join(60, "fork with pinned pages")?;
    case.store_and_compare()
}

fn pinned_while_shared(case: &Case<'_>) -> Result<()> {
    let (ready, written) = (Gate::new()?, Gate::new()?);
    let child = spawn(|| {
        case.map.require(0, &case.first, "the child's view")?;
        ready.open()?;
        written.pass()?;
        case.map
            .require(0, &case.first, "the child's view after the parent's stores")
    })?;
    ready.pass()?;
    case.pin()?;
    case.store_and_compare()?;
    written.open()?;
    child.join(60, "pin of shared pages")?;
    case.store_and_compare()
}
