// SPDX-License-Identifier: GPL-2.0

//! The pieces that a running kernel has, as the guest's programs report them.

use serde::Deserialize;

/// The implementation of each piece that runs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Live {
    pub registry: Piece,
    pub pmem_driver: Piece,
    pub fs_dax: Piece,
    pub gup: Piece,
}

impl Live {
    /// Returns all four pieces.
    pub fn pieces(&self) -> [&Piece; 4] {
        [&self.registry, &self.pmem_driver, &self.fs_dax, &self.gup]
    }
}

/// One of the four pieces.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Piece {
    pub name: String,
    /// `rust` or `c`.
    pub implementation: String,
}
