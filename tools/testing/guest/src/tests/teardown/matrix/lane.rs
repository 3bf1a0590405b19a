// SPDX-License-Identifier: GPL-2.0

//! A lane: a part of the machine in which cells run one after the other. A row of the matrix has the
//! machine to itself; the lanes of a soak run side by side, each in a region and with names of its own,
//! and what counts for the whole machine is judged when all of them have ended.

use super::super::pinned::dying_of;
use crate::ndctl::{region_with, regions};
use crate::tests::prelude::*;

pub struct Lane {
    own: Option<Own>,
}

/// What a lane has that runs beside others.
struct Own {
    number: usize,
    region: String,
    /// Start and end of the region in physical memory, in bytes; the end is exclusive.
    start: u64,
    end: u64,
}

impl Lane {
    /// The lane that has the machine to itself.
    pub const ALONE: Self = Self { own: None };

    /// Returns the lane of a region of NVDIMMs, by its number.
    pub fn beside_others(number: usize) -> Result<Self> {
        let all = regions(Bus::Acpi.provider())?;
        let Some(region) = all.into_iter().nth(number) else {
            bail!("the guest has no NVDIMM {number}");
        };
        let dir = Path::new("/sys/bus/nd/devices").join(&region.dev);
        let start = system::read_u64(dir.join("resource"))?;
        Ok(Self {
            own: Some(Own {
                number,
                region: region.dev,
                start,
                end: start + region.size,
            }),
        })
    }

    /// Returns whether others run at the same time.
    pub fn is_beside_others(&self) -> bool {
        self.own.is_some()
    }

    /// Returns whether it is the only lane, or the first. Only that one has an RDMA device, and a region
    /// that begins at a multiple of 1 GiB.
    pub fn is_first(&self) -> bool {
        self.own.as_ref().map_or(0, |own| own.number) == 0
    }

    /// Returns the region for a namespace of this size.
    pub fn region(&self, size: u64) -> Result<String> {
        match &self.own {
            Some(own) => Ok(own.region.clone()),
            None => Ok(region_with(Bus::Acpi, size)?.dev),
        }
    }

    /// Returns a name for something that the whole machine sees.
    pub fn name(&self, what: &str) -> String {
        match &self.own {
            Some(own) => format!("{what}-{}", own.number),
            None => what.to_owned(),
        }
    }

    /// Returns the line of debugfs on a pgmap of this lane that is being torn down.
    pub fn dying(&self) -> Result<Option<String>> {
        dying_of(|line| match (&self.own, start_of(line)) {
            (None, _) => true,
            (Some(own), Some(start)) => (own.start..own.end).contains(&start),
            (Some(_), None) => false,
        })
    }

    /// Waits until no page is pinned, as far as this lane can tell.
    pub fn require_unpinned(&self, what: &str) -> Result<()> {
        match self.own {
            // The pins of others are in the same counters.
            Some(_) => Ok(()),
            None => require_unpinned(what).map(drop),
        }
    }
}

/// Returns the address at which a line of `dev_pagemap/ranges` begins.
fn start_of(line: &str) -> Option<u64> {
    let (start, _) = line.split_once('-')?;
    system::parse_u64(start)
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn lines_of_ranges_begin_with_their_address() {
        let line = "0x140000000-0x15fffffff fsdax dying shift=9 altmap=1/2 busy=3";
        assert_eq!(start_of(line), Some(0x1_4000_0000));
        assert_eq!(start_of("nothing"), None);
    }

    #[test]
    fn names_differ_between_lanes() {
        let own = Own {
            number: 1,
            region: "region1".into(),
            start: 0,
            end: 1,
        };
        assert_eq!(Lane { own: Some(own) }.name("matrix"), "matrix-1");
        assert_eq!(Lane::ALONE.name("matrix"), "matrix");
    }
}
