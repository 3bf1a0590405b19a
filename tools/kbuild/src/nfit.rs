// SPDX-License-Identifier: GPL-2.0

//! The modules of nfit_test: the nvdimm and dax modules linked once more, with
//! their calls to the platform wrapped, and the mock platform itself.
//!
//! `tools/testing/nvdimm/Kbuild` names its sources by `../../../drivers/`, so a
//! plain `make M=tools/testing/nvdimm` works only inside a source tree, which
//! it fills with objects. Here every output directory gets a shadow of those
//! few folders, made of links to the sources, and the objects are created
//! beside the links.
//!
//! The result is a second module tree, `modules_nfit`, with the wrapped modules
//! in `updates/`: modprobe prefers those, and ndctl's tests look for them
//! there. The ordinary tree never contains them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;

use crate::make::{kernel_make, progress_line, release};
use crate::source::Source;
use crate::toolchain::Toolchain;
use host::command::{clean, run_logged};
use host::files;
use host::paths::Paths;
use host::progress::Step;

/// Folders of the shadow tree.
const FOLDERS: &[&str] = &[
    "drivers/acpi/nfit",
    "drivers/dax",
    "drivers/nvdimm",
    "drivers/nvdimm/pmem",
    "tools/testing/nvdimm",
    "tools/testing/nvdimm/test",
];

/// Builds and installs the modules; needs a finished build in `dir`.
pub fn build(paths: &Paths, source: &Source, dir: &Path, tc: &Toolchain, log: &Path) -> Result<()> {
    let shadow = dir.join("nfit");
    for folder in FOLDERS {
        link_sources(&source.dir.join(folder), &shadow.join(folder))?;
    }
    let mut m = OsString::from("M=");
    m.push(shadow.join("tools/testing/nvdimm"));
    let mut cmd = kernel_make(paths, source, dir, tc);
    cmd.arg(&m).arg("modules");
    let mut step = Step::start("Building the modules of nfit_test", None, log);
    let mut lines = 0;
    run_logged(&mut cmd, log, |line| {
        if let Some(what) = progress_line(line) {
            lines += 1;
            step.set(lines, &what);
        }
    })
    .context("cannot build the modules of nfit_test")?;
    step.done();

    let new = dir.join("modules_nfit.new");
    files::remove_tree(&new)?;
    let mut cp = clean("cp");
    cp.args(["-a", "--reflink=auto"])
        .arg(dir.join("modules_install"))
        .arg(&new);
    run_logged(&mut cp, log, |_| ()).context("cannot copy the modules")?;
    let mut to = OsString::from("INSTALL_MOD_PATH=");
    to.push(&new);
    let mut cmd = kernel_make(paths, source, dir, tc);
    cmd.arg(&m)
        .arg("modules_install")
        .arg(&to)
        .args(["INSTALL_MOD_STRIP=1", "INSTALL_MOD_DIR=updates"]);
    run_logged(&mut cmd, log, |_| ()).context("cannot install the modules of nfit_test")?;
    files::remove_file(&new.join("lib/modules").join(release(dir)?).join("build"))?;
    files::replace_tree(&new, &dir.join("modules_nfit"))
}

/// Makes `to` hold a link to every source file of the folder `from`, and no
/// other links.
fn link_sources(from: &Path, to: &Path) -> Result<()> {
    files::make_dir(to)?;
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let source = [".c", ".h", ".rs", ".S"].iter().any(|e| text.ends_with(e))
            || text == "Kbuild"
            || text == "Makefile";
        if source && !text.ends_with(".mod.c") && entry.path().is_file() {
            names.insert(name);
        }
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if entry.path().is_symlink() && !names.contains(&entry.file_name()) {
            files::remove_file(&entry.path())?;
        }
    }
    for name in names {
        let (target, link) = (from.join(&name), to.join(&name));
        if fs::read_link(&link).ok().as_deref() != Some(&target) {
            files::remove_file(&link)?;
            fs_err::os::unix::fs::symlink(&target, &link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_follow_the_sources() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(&from).unwrap();
        for name in ["a.c", "a.h", "Kbuild", "a.o", "a.mod.c"] {
            fs::write(from.join(name), "x").unwrap();
        }
        link_sources(&from, &to).unwrap();
        assert!(to.join("a.c").is_symlink() && to.join("Kbuild").is_symlink());
        assert!(!to.join("a.o").exists() && !to.join("a.mod.c").exists());
        fs::write(to.join("a.o"), "object").unwrap();
        fs::remove_file(from.join("a.h")).unwrap();
        link_sources(&from, &to).unwrap();
        assert!(!to.join("a.h").is_symlink() && to.join("a.o").exists());
    }
}
