// SPDX-License-Identifier: GPL-2.0

//! The facts that are compared. A fact is a name with a text, in an area: the
//! exported symbol `get_dev_pagemap` is `EXPORT_SYMBOL_GPL, vmlinux`.
//!
//! Each area has a module of its own that reads the facts of one variant; the
//! comparison is common to all areas.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The facts of one variant in one area: name to text.
pub type Facts = BTreeMap<String, String>;

/// An area: one aspect of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    Symbol,
    Global,
    Prototype,
    Layout,
    Binding,
    Module,
    Config,
    Kconfig,
    Sysfs,
    Debugfs,
    Value,
    Tracepoint,
    Errno,
}

impl Area {
    /// Areas that need only the builds.
    #[cfg(test)]
    pub const BUILT: [Area; 8] = [
        Area::Symbol,
        Area::Global,
        Area::Prototype,
        Area::Layout,
        Area::Binding,
        Area::Module,
        Area::Config,
        Area::Kconfig,
    ];
    /// Areas that a running guest reports.
    pub const RUNNING: [Area; 5] = [
        Area::Sysfs,
        Area::Debugfs,
        Area::Value,
        Area::Tracepoint,
        Area::Errno,
    ];

    /// Returns the name that the file of intended differences uses.
    pub const fn name(self) -> &'static str {
        match self {
            Area::Symbol => "symbol",
            Area::Global => "global",
            Area::Prototype => "prototype",
            Area::Layout => "layout",
            Area::Binding => "binding",
            Area::Module => "module",
            Area::Config => "config",
            Area::Kconfig => "kconfig",
            Area::Sysfs => "sysfs",
            Area::Debugfs => "debugfs",
            Area::Value => "value",
            Area::Tracepoint => "tracepoint",
            Area::Errno => "errno",
        }
    }

    /// Describes the area's facts and their source.
    pub const fn explain(self) -> &'static str {
        match self {
            Area::Symbol => "exported symbols: licence class, namespace, module (Module.symvers)",
            Area::Global => "symbols that other objects can link to (vmlinux and modules)",
            Area::Prototype => {
                "symbols that Rust defines and a C header declares: rustc compares those with \
                 #[export] with bindgen's prototype, and each must have it"
            }
            Area::Layout => "structs as clang lays them out in the two builds",
            Area::Binding => "structs as clang and rustc lay them out in one build",
            Area::Module => "modules: aliases, parameters, dependencies, licence (.modinfo)",
            Area::Config => "the two .config files",
            Area::Kconfig => "what the C option of a piece depends on and selects",
            Area::Sysfs => "files, folders and links in /sys: type, mode, target",
            Area::Debugfs => "files, folders and links in debugfs: type and mode",
            Area::Value => {
                "what files of nvdimm and dax devices hold, where that is the same at each boot"
            }
            Area::Tracepoint => "trace events and their formats",
            Area::Errno => "how bad calls end",
        }
    }
}

/// One name on which the two sides differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub area: Area,
    pub name: String,
    /// The text in C.
    pub c: Option<String>,
    /// The text in Rust.
    pub rust: Option<String>,
}

/// The sides that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Only C has it.
    C,
    /// Only Rust has it.
    Rust,
    /// Both have it, with different texts.
    Both,
}

impl Difference {
    pub fn side(&self) -> Side {
        match (&self.c, &self.rust) {
            (Some(_), None) => Side::C,
            (None, _) => Side::Rust,
            (Some(_), Some(_)) => Side::Both,
        }
    }
}

/// The result of comparing an area.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Number of names in C and in Rust.
    pub c: usize,
    pub rust: usize,
    pub differences: Vec<Difference>,
    /// Limits of the comparison, for the reader.
    pub notes: Vec<String>,
}

/// Compares two sets of facts.
pub fn compare(area: Area, c: &Facts, rust: &Facts) -> Compared {
    let names: BTreeSet<&String> = c.keys().chain(rust.keys()).collect();
    let differences = names
        .into_iter()
        .filter(|name| c.get(*name) != rust.get(*name))
        .map(|name| Difference {
            area,
            name: name.clone(),
            c: c.get(name).cloned(),
            rust: rust.get(name).cloned(),
        })
        .collect();
    Compared {
        c: c.len(),
        rust: rust.len(),
        differences,
        notes: Vec::new(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn facts(list: &[(&str, &str)]) -> Facts {
        list.iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    }

    #[test]
    fn sides_of_a_difference() {
        let c = facts(&[("same", "1"), ("other", "1"), ("gone", "1")]);
        let rust = facts(&[("same", "1"), ("other", "2"), ("new", "1")]);
        let compared = compare(Area::Symbol, &c, &rust);
        let sides: Vec<_> = compared
            .differences
            .iter()
            .map(|d| (d.name.as_str(), d.side()))
            .collect();
        assert_eq!(
            sides,
            [
                ("gone", Side::C),
                ("new", Side::Rust),
                ("other", Side::Both)
            ]
        );
        assert_eq!((compared.c, compared.rust), (3, 3));
    }

    #[test]
    fn the_name_is_that_of_the_file() {
        for area in Area::BUILT.into_iter().chain(Area::RUNNING) {
            let json = serde_json::to_string(&area).unwrap();
            assert_eq!(json, format!("\"{}\"", area.name()));
        }
    }
}
