// SPDX-License-Identifier: GPL-2.0

//! External test programs: ndctl's tests as built into the guest, and the
//! kernel's selftests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::command::{Cmd, Output};

/// Folder in which ndctl was built.
const NDCTL_SOURCE: &str = "/usr/src/ndctl";
/// Exit status by which ndctl's tests (like automake's) report "skipped".
pub const SKIPPED: i32 = 77;

/// ndctl's build and source directories.
pub struct Ndctl {
    /// Holds the built test programs.
    pub test_bin: PathBuf,
    /// Holds the test scripts.
    pub test_src: PathBuf,
}

impl Ndctl {
    /// Looks for the built dax-pmd; all other paths are relative to it.
    pub fn find() -> Option<Self> {
        let program = find_file(Path::new(NDCTL_SOURCE), 4, &|path| {
            path.file_name().is_some_and(|n| n == "dax-pmd") && is_program(path)
        })?;
        let script = find_file(Path::new(NDCTL_SOURCE), 4, &|path| {
            path.file_name().is_some_and(|n| n == "dax.sh")
        })?;
        Some(Self {
            test_bin: program.parent()?.to_path_buf(),
            test_src: script.parent()?.to_path_buf(),
        })
    }

    /// Returns one of the test programs or scripts, with the environment that
    /// `meson test` would set.
    pub fn command(&self, name: &str) -> Option<Cmd> {
        let path = [self.test_bin.join(name), self.test_src.join(name)]
            .into_iter()
            .find(|p| is_program(p))?;
        let build = self.test_bin.parent()?;
        let tool = |name: &str| {
            let built = build.join(name).join(name);
            match is_program(&built) {
                true => built,
                false => PathBuf::from("/usr/bin").join(name),
            }
        };
        Some(
            Cmd::new(&path.to_string_lossy())
                .env("NDCTL", tool("ndctl"))
                .env("DAXCTL", tool("daxctl"))
                .env("CXL", tool("cxl"))
                .env("TEST_PATH", &self.test_bin)
                .env("DATA_PATH", &self.test_src)
                // Without udev, libdevmapper creates the nodes itself.
                .env("DM_DISABLE_UDEV", "1")
                // In some versions the scripts look for ./ndctl/ndctl.
                .cwd(build),
        )
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Searches depth-first, in the order of names.
fn find_file(dir: &Path, depth: usize, wanted: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)
        .ok()?
        .flatten()
        .map(|e| e.path())
        .collect();
    entries.sort();
    if let Some(found) = entries.iter().find(|p| p.is_file() && wanted(p)) {
        return Some(found.clone());
    }
    if depth == 0 {
        return None;
    }
    entries
        .iter()
        .filter(|p| p.is_dir())
        .find_map(|d| find_file(d, depth - 1, wanted))
}

/// The output of ndctl's dax-pmd.
#[derive(Debug, Default, Serialize)]
pub struct DaxPmd {
    pub passed: bool,
    pub cases: Vec<String>,
    /// Its last lines, for the report of a failure.
    pub output: String,
}

/// Runs dax-pmd on an allocated DAX file, from a directory whose filesystem
/// supports O_DIRECT.
pub fn dax_pmd(file: &Path) -> Result<DaxPmd> {
    let suite = Ndctl::find().with_context(|| {
        format!("no built test/dax-pmd below {NDCTL_SOURCE}; rebuild the guest image")
    })?;
    let work = Path::new("/root");
    let out = suite
        .command("dax-pmd")
        .context("dax-pmd is not executable")?
        .arg(file)
        .cwd(work)
        .limit_secs(300)
        .run()?;
    Ok(judge_dax_pmd(&out.all(), out.code()))
}

/// Names of the five O_DIRECT cases, as test/dax-pmd.c numbers them.
const DIRECT_IO_CASES: [&str; 5] = [
    "O_DIRECT read of unfaulted address",
    "O_DIRECT of pre-faulted address",
    "fork with pre-faulted pmd",
    "convert ro mapping to rw",
    "O_DIRECT write of unfaulted address",
];

fn judge_dax_pmd(text: &str, code: i32) -> DaxPmd {
    let mut cases = Vec::new();
    for (i, name) in DIRECT_IO_CASES.iter().enumerate() {
        if text.contains(&format!("test_dax_directio: test: {i}\n")) {
            cases.push((*name).to_string());
        }
    }
    if text.contains("test_dax_remap") || text.contains("remap") {
        cases.insert(0, "remap".into());
    }
    if text.contains("BUS_MCEERR_AR") {
        cases.push("poison".into());
    }
    // Exit status 0 alone would also occur if the program had been built
    // without its cases.
    let all = DIRECT_IO_CASES.iter().all(|c| cases.iter().any(|x| x == c));
    let lines: Vec<&str> = text.lines().collect();
    DaxPmd {
        passed: code == 0 && all && cases.iter().any(|c| c == "poison"),
        cases,
        output: format!(
            "exit status {code}: {}",
            lines[lines.len().saturating_sub(6)..].join(" | ")
        ),
    }
}

/// Returns the number of ok lines of a TAP output, and the other result lines.
pub fn tap(out: &Output) -> (usize, Vec<String>) {
    let mut passed = 0;
    let mut failed = Vec::new();
    for line in out.stdout.lines() {
        if line.starts_with("ok ") {
            passed += 1;
        } else if line.starts_with("not ok ") {
            failed.push(line.to_string());
        }
    }
    (passed, failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dax_pmd_needs_every_case() {
        let mut text = String::new();
        for i in 0..5 {
            text += &format!("test_dax_directio: test: {i}\n");
        }
        assert!(!judge_dax_pmd(&text, 0).passed);
        text += "sigbus_hdl: BUS_MCEERR_AR addr: 0x7f len: 4096\n";
        let good = judge_dax_pmd(&text, 0);
        assert!(good.passed);
        assert_eq!(good.cases.len(), 6);
        assert!(!judge_dax_pmd(&text, 1).passed);
        assert!(!judge_dax_pmd(&text.replace("test: 3", ""), 0).passed);
    }
}
