// SPDX-License-Identifier: GPL-2.0

//! PMDK's unit tests of libpmem and libpmem2. A test here is one of its folders;
//! its output holds a result per case.

use std::fs;
use std::path::Path;

use anyhow::{ensure, Context, Result};

use super::item::{Environment, Item, Parse};
use super::setup::SUITES;

/// Folder of RUNTESTS, below the suites.
const TESTS: &str = "/opt/suites/pmdk/src/test";

/// Folders with nothing to compare: the first has no case for this build, and the
/// other two are Python that does not run with the version of Debian 13.
const EMPTY: [&str; 3] = [
    "pmem2_badblock",
    "pmem2_badblock_mocks",
    "pmem2_source_numa",
];

/// Returns the folders that were built, without those above.
pub fn items() -> Result<Vec<Item>> {
    let mut names = Vec::new();
    let list = fs::read_dir(TESTS)
        .with_context(|| format!("no PMDK in {SUITES}; the disk with the suites lacks it"))?;
    for entry in list {
        let dir = entry
            .with_context(|| format!("cannot list {TESTS}"))?
            .path();
        if let Some(runner) = runner(&dir) {
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            if !EMPTY.contains(&&*name) {
                names.push((name.into_owned(), runner));
            }
        }
    }
    ensure!(!names.is_empty(), "{TESTS} holds no test");
    names.sort();
    Ok(names
        .into_iter()
        .map(|(name, runner)| Item {
            dir: TESTS,
            limit_secs: 600,
            parse: Parse::Pmdk,
            ..Item::shell(
                name.as_str(),
                Environment::DaxMount,
                format!("{runner} {name}"),
            )
        })
        .collect())
}

/// Returns the runner: the older tests are shell scripts, the newer ones Python.
fn runner(dir: &Path) -> Option<&'static str> {
    let has = |name: &str| dir.join(name).is_file();
    match () {
        _ if has("TESTS.py") => Some("python3 -uB ./RUNTESTS.py"),
        _ if has("TEST0") => Some("./RUNTESTS -b debug"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_kinds_of_tests() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("pmdk-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        assert_eq!(runner(&dir), None);
        fs::write(dir.join("TEST0"), "")?;
        assert_eq!(runner(&dir), Some("./RUNTESTS -b debug"));
        fs::write(dir.join("TESTS.py"), "")?;
        assert_eq!(runner(&dir), Some("python3 -uB ./RUNTESTS.py"));
        fs::remove_dir_all(&dir)?;
        Ok(())
    }
}
