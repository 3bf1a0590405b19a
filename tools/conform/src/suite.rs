// SPDX-License-Identifier: GPL-2.0

//! The suites: their descriptions, and the order in which they run. The tests of each are listed on the guest's side
//! (`tools/testing/guest/src/conform`), which knows what was built.

use anyhow::{bail, Result};

/// One suite: its name on the command line and in the results, and what it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Suite {
    pub name: &'static str,
    pub what: &'static str,
}

/// The big ones are last, so that the first results come early.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "stress",
        what: "stress-ng's stressors of mappings and asynchronous I/O on a DAX mount",
    },
    Suite {
        name: "mm",
        what: "the kernel's selftests of GUP, device memory, huge pages, copy on write",
    },
    Suite {
        name: "nfit",
        what: "ndctl's tests on the mock bus of nfit_test",
    },
    Suite {
        name: "ndctl",
        what: "ndctl's tests on e820 memory and on NVDIMMs",
    },
    Suite {
        name: "pmdk",
        what: "PMDK's unit tests of libpmem and libpmem2 on a DAX mount",
    },
];

/// Returns the suites that SUITES names, in our order; all of them if it names
/// none.
pub fn chosen(text: &str) -> Result<Vec<&'static Suite>> {
    let words: Vec<&str> = text
        .split([' ', ',', '\t', '\n'])
        .filter(|w| !w.is_empty())
        .collect();
    if let Some(word) = words.iter().find(|w| !SUITES.iter().any(|s| s.name == **w)) {
        let names: Vec<_> = SUITES.iter().map(|s| s.name).collect();
        bail!("SUITES names {word}; the suites are {}", names.join(", "));
    }
    Ok(SUITES
        .iter()
        .filter(|s| words.is_empty() || words.contains(&s.name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choosing() {
        let names = |t: &str| -> Vec<_> { chosen(t).unwrap().iter().map(|s| s.name).collect() };
        assert_eq!(names("").len(), SUITES.len());
        assert_eq!(names("mm, stress"), ["stress", "mm"]);
        let err = chosen("xfstests").unwrap_err().to_string();
        assert!(err.contains("xfstests") && err.contains("pmdk"), "{err}");
    }
}
