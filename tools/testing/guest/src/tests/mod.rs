// SPDX-License-Identifier: GPL-2.0

//! The guest tests, by subject. A name is `subject::case` or
//! `subject::case::namespace`; a doc string says what a failure would mean.

/// Declares a test beside its code. The comment says what a failure means; the name of each of the
/// cases is that of the test with the case's own behind it. `essential` has the ends of the names
/// that a debug kernel runs in any case, `may warn` words of a warning that is no fault.
///
/// ```text
///  declare! {
///      /// the mapping shows other bytes than the file has
///      "subject::case" for [EXT4, XFS], 60 s, essential "xfs-mem-acpi" => function
///  }
/// ```
///
/// Tests that have no such form are those of a function: `declare! { function }`.
macro_rules! declare {
    ($tests:ident) => {
        inventory::submit! { $crate::tests::Declared { place: (file!(), line!()), tests: $tests } }
    };
    ($(#[doc = $doc:literal])+ $name:literal $(for $cases:expr)?, $limit:literal s
     $(, essential $($end:literal)*)? $(, may warn $words:literal)? => $run:expr) => {
        inventory::submit! {
            $crate::tests::Declared {
                place: (file!(), line!()),
                tests: || {
                    const DOC: &str = concat!($($doc),+);
                    let tests = declare!(@tests $name, $limit, DOC, $run $(, $cases)?);
                    $(let tests = $crate::tests::mark_essential(tests, &[$($end),*]);)?
                    $(let tests = $crate::tests::may_warn(tests, $words);)?
                    tests
                },
            }
        }
    };
    (@tests $name:literal, $limit:literal, $doc:ident, $run:expr) => {
        vec![$crate::tests::Test::new($name, $limit, $doc, $run)]
    };
    (@tests $name:literal, $limit:literal, $doc:ident, $run:expr, $cases:expr) => {
        $crate::tests::each($cases, $name, $limit, $doc, $run)
    };
}

mod cxl;
mod devmap;
mod direct_io;
pub mod external;
mod fork;
pub mod fsdax;
mod fsdev;
mod gup;
mod lifecycle;
pub mod nfit;
mod pins;
mod pmem;
mod prelude;
mod ranges;
pub mod reboot;
mod refuse;
mod remote;
mod samples;
pub mod teardown;
mod truncate;
mod users;

use anyhow::Result;

use crate::filesystem;
use crate::memory;
use crate::ndctl::{Bus, Map, Mode, Want, GIB, KIB, MIB};

/// One test. `run` returns a detail for the output.
pub struct Test {
    pub name: String,
    pub doc: &'static str,
    pub limit_secs: u64,
    /// Text of a warning that the test may cause and that is no fault.
    pub may_warn: Option<&'static str>,
    /// Whether a debug kernel runs it although not all tests are requested: every kind of test, with
    /// the namespaces that take different paths. Under TCG all of them would take hours.
    pub essential: bool,
    pub run: Box<dyn Fn() -> Result<String>>,
}

impl Test {
    fn new<D: Detail>(
        name: impl Into<String>,
        limit_secs: u64,
        doc: &'static str,
        run: impl Fn() -> D + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            doc: doc.trim_start(),
            limit_secs,
            may_warn: None,
            essential: false,
            run: Box::new(move || run().detail()),
        }
    }
}

/// What a test returns: a detail for the output, or nothing.
pub trait Detail {
    fn detail(self) -> Result<String>;
}

impl Detail for Result<String> {
    fn detail(self) -> Result<String> {
        self
    }
}

impl Detail for Result<()> {
    fn detail(self) -> Result<String> {
        self.map(|()| String::new())
    }
}

/// A case of which a test has several: a namespace, a filesystem, a kind of memory.
pub trait Case: Copy + 'static {
    fn name(&self) -> String;

    /// Returns the name of the test of this case.
    fn test(&self, name: &str) -> String {
        format!("{name}::{}", self.name())
    }
}

impl Case for Want {
    fn name(&self) -> String {
        Want::name(self)
    }
}

impl Case for filesystem::Kind {
    fn name(&self) -> String {
        (*self).name().into()
    }
}

impl Case for memory::Kind {
    fn name(&self) -> String {
        (*self).name().into()
    }
}

/// A name, with what else the test of this case needs.
impl<T: Copy + 'static> Case for (&'static str, T) {
    fn name(&self) -> String {
        self.0.into()
    }
}

/// Returns a test for each case.
fn each<C: Case, D: Detail + 'static>(
    cases: impl IntoIterator<Item = C>,
    name: &str,
    limit_secs: u64,
    doc: &'static str,
    run: fn(&C) -> D,
) -> Vec<Test> {
    let test = |case: C| Test::new(case.test(name), limit_secs, doc, move || run(&case));
    cases.into_iter().map(test).collect()
}

/// Tests that a file declares, and its place.
pub struct Declared {
    place: (&'static str, u32),
    tests: fn() -> Vec<Test>,
}

inventory::collect!(Declared);

/// Marks the tests whose names end so; all of them if there are no ends.
fn mark_essential(mut tests: Vec<Test>, ends: &[&str]) -> Vec<Test> {
    for test in &mut tests {
        test.essential = ends.is_empty() || ends.iter().any(|end| test.name.ends_with(end));
    }
    tests
}

/// Permits each of them one kernel warning that contains these words.
fn may_warn(mut tests: Vec<Test>, words: &'static str) -> Vec<Test> {
    for test in &mut tests {
        test.may_warn = Some(words);
    }
    tests
}

/// Returns all tests, in the order in which they run. Tests that load other modules are last.
pub fn all() -> Vec<Test> {
    let mut declared: Vec<_> = inventory::iter::<Declared>.into_iter().collect();
    let loads = |file: &str| file.ends_with("tests/external.rs") || file.ends_with("tests/nfit.rs");
    declared.sort_by_key(|d| (loads(d.place.0), d.place));
    declared.iter().flat_map(|d| (d.tests)()).collect()
}

use {Bus::*, Map::*, Mode::*};

const fn want(mode: Mode, align: u64, map: Map, bus: Bus) -> Want {
    Want {
        mode,
        align,
        map,
        bus,
    }
}

/// Every kind of namespace that is worth a full life cycle.
const EVERY_KIND: [Want; 16] = [
    want(Fsdax, 4 * KIB, Dev, Acpi),
    want(Fsdax, 4 * KIB, Mem, Acpi),
    want(Fsdax, 2 * MIB, Dev, Acpi),
    want(Fsdax, 2 * MIB, Mem, Acpi),
    want(Fsdax, GIB, Dev, Acpi),
    want(Devdax, 4 * KIB, Dev, Acpi),
    want(Devdax, 4 * KIB, Mem, Acpi),
    want(Devdax, 2 * MIB, Dev, Acpi),
    want(Devdax, 2 * MIB, Mem, Acpi),
    want(Devdax, GIB, Dev, Acpi),
    want(Devdax, GIB, Mem, Acpi),
    want(Fsdax, 4 * KIB, Mem, E820),
    want(Fsdax, 2 * MIB, Dev, E820),
    want(Devdax, 4 * KIB, Dev, E820),
    want(Devdax, 2 * MIB, Mem, E820),
    want(Devdax, GIB, Dev, E820),
];

/// The kinds of namespaces in which GUP behaves differently.
const MAPPED_KINDS: [Want; 8] = [
    want(Fsdax, 4 * KIB, Dev, Acpi),
    want(Fsdax, 2 * MIB, Dev, Acpi),
    want(Devdax, 4 * KIB, Mem, Acpi),
    want(Devdax, 2 * MIB, Dev, Acpi),
    want(Devdax, 2 * MIB, Mem, Acpi),
    want(Devdax, GIB, Mem, Acpi),
    want(Fsdax, 2 * MIB, Mem, E820),
    want(Devdax, 2 * MIB, Dev, E820),
];

/// Each size of page table entries, of files and of devices.
const EACH_SIZE: [Want; 5] = [
    want(Fsdax, 4 * KIB, Dev, Acpi),
    want(Fsdax, 2 * MIB, Dev, Acpi),
    want(Devdax, 4 * KIB, Mem, Acpi),
    want(Devdax, 2 * MIB, Dev, Acpi),
    want(Devdax, GIB, Mem, Acpi),
];

/// One of each mode, 2 MiB aligned.
const ONE_OF_EACH: [Want; 2] = [
    want(Fsdax, 2 * MIB, Dev, Acpi),
    want(Devdax, 2 * MIB, Dev, Acpi),
];

#[cfg(test)]
mod checks {
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_documented() {
        let all = super::all();
        let names: HashSet<&str> = all.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|t| t.doc.len() > 20 && t.limit_secs > 0));
        assert!(all.iter().filter(|t| t.essential).count() > 100);
    }
}
