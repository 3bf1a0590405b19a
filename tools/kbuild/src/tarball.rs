// SPDX-License-Identifier: GPL-2.0

//! The kernel's source as Debian packages it: the release in a tarball, the
//! list of its files, and unpacking.
//!
//! Properties of a tarball are remembered beside the unpacked trees, keyed
//! by its size and time, because reading a whole tarball takes many seconds.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use host::command::{clean, run_logged};
use host::files;
use host::paths::Paths;
use host::progress::Step;

/// Path at which Debian's package installs it.
const DEFAULT: &str = "/usr/src/linux-source-6.12.tar.xz";

/// Approximate number of entries of a 6.12 tarball; only the first progress bar
/// needs it.
const ENTRIES: u64 = 92_451;

/// A kernel release: `6.12.117`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Release(pub String);

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tarball of the kernel's source.
#[derive(Clone, Debug)]
pub struct Tarball {
    pub path: PathBuf,
    pub release: Release,
    /// The single top-level folder.
    pub top: String,
    /// Changes with the content, as far as that is known without reading it.
    pub id: String,
}

/// The remembered properties of a tarball.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    id: String,
    release: String,
    top: String,
}

impl Tarball {
    /// Finds the tarball (`$KERNEL_SOURCE`, else Debian's) and its release.
    pub fn find(paths: &Paths) -> Result<Tarball> {
        let path = match env::var_os("KERNEL_SOURCE").filter(|v| !v.is_empty()) {
            Some(p) => PathBuf::from(p),
            None => PathBuf::from(DEFAULT),
        };
        let meta = fs::metadata(&path).with_context(|| {
            format!(
                "cannot find the kernel's source {}; `make setup` installs Debian's, or set \
                 KERNEL_SOURCE to a linux-source-6.12.tar.xz",
                path.display()
            )
        })?;
        if !meta.is_file() {
            bail!(
                "KERNEL_SOURCE must name a tarball; {} is not a file",
                path.display()
            );
        }
        let path = fs::canonicalize(&path)?;
        let id = format!("{}-{}.{:09}", meta.size(), meta.mtime(), meta.mtime_nsec());

        let memory = paths.src_root().join("tarballs.json");
        let mut known: BTreeMap<String, Known> = files::read_json(&memory).unwrap_or_default();
        let key = path.display().to_string();
        let entry = match known.get(&key).filter(|k| k.id == id) {
            Some(entry) => entry.clone(),
            None => {
                let (top, makefile) = read_makefile(&path)?;
                let release = parse_release(&makefile).with_context(|| {
                    format!("{} has no kernel release in its Makefile", path.display())
                })?;
                let entry = Known { id, release, top };
                known.insert(key, entry.clone());
                files::write_json(&memory, &known)?;
                entry
            }
        };
        Ok(Tarball {
            path,
            release: Release(entry.release),
            top: entry.top,
            id: entry.id,
        })
    }

    /// Unpacks everything into the new folder `dir` and returns the list of the
    /// files, relative to it. Time stamps are those of unpacking, so that a
    /// build sees every file of a replaced tree as new.
    pub fn unpack(&self, dir: &Path, log: &Path) -> Result<Vec<String>> {
        files::remove_tree(dir)?;
        files::make_dir(dir)?;
        let mut cmd = clean("tar");
        cmd.arg("-xvf").arg(&self.path).arg("-C").arg(dir).args([
            "--strip-components=1",
            "--touch",
            "--no-same-owner",
        ]);
        self.listing_of(&mut cmd, &format!("Unpacking Linux {}", self.release), log)
    }

    /// Returns the list of the files, relative to the top folder.
    pub fn list(&self, log: &Path) -> Result<Vec<String>> {
        let mut cmd = clean("tar");
        cmd.arg("-tf").arg(&self.path);
        self.listing_of(&mut cmd, &format!("Listing Linux {}", self.release), log)
    }

    fn listing_of(
        &self,
        cmd: &mut std::process::Command,
        label: &str,
        log: &Path,
    ) -> Result<Vec<String>> {
        let _ = fs::remove_file(log);
        let mut step = Step::start(label, Some(ENTRIES), log);
        let mut list = Vec::new();
        let mut n = 0;
        run_logged(cmd, log, |line| {
            n += 1;
            let inside = line
                .strip_prefix(&self.top)
                .and_then(|l| l.strip_prefix('/'));
            if let Some(file) = inside.filter(|f| !f.is_empty() && !f.ends_with('/')) {
                list.push(file.to_owned());
            }
            if n % 64 == 0 {
                step.set(n, inside.unwrap_or(line));
            }
        })?;
        step.done();
        Ok(list)
    }

    /// Unpacks only the named files into `dir`.
    pub fn unpack_files(&self, dir: &Path, names: &[String], log: &Path) -> Result<()> {
        files::make_dir(dir)?;
        let mut cmd = clean("tar");
        cmd.arg("-xf").arg(&self.path).arg("-C").arg(dir).args([
            "--strip-components=1",
            "--touch",
            "--no-same-owner",
        ]);
        cmd.args(names.iter().map(|n| format!("{}/{n}", self.top)));
        let step = Step::start("Reading the files that the patches change", None, log);
        run_logged(&mut cmd, log, |_| ())?;
        step.done();
        Ok(())
    }
}

/// Reads the top folder's name and the top Makefile, which is early in the
/// tarball.
fn read_makefile(path: &Path) -> Result<(String, String)> {
    let tar = |args: &[&str]| {
        let mut cmd = clean("tar");
        cmd.args(args).arg("-f").arg(path);
        cmd
    };
    let cannot = || format!("cannot read {}", path.display());
    let mut cmd = tar(&["-x", "--to-stdout", "--occurrence=1", "--wildcards"]);
    cmd.args(["--no-wildcards-match-slash", "--verbose", "*/Makefile"]);
    // With --to-stdout the names go to standard error; both are parsed.
    let out = cmd.output().with_context(cannot)?;
    if !out.status.success() {
        bail!(
            "{}: {}",
            cannot(),
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    let names = String::from_utf8_lossy(&out.stderr);
    let top = names
        .lines()
        .find_map(|l| l.strip_suffix("/Makefile"))
        .with_context(|| format!("{} has no top folder with a Makefile", path.display()))?;
    Ok((
        top.to_owned(),
        String::from_utf8_lossy(&out.stdout).into_owned(),
    ))
}

/// Returns the release that a kernel's top Makefile names.
pub fn parse_release(makefile: &str) -> Option<String> {
    let get = |key: &str| {
        makefile.lines().take(12).find_map(|l| {
            let (k, v) = l.split_once('=')?;
            (k.trim() == key).then(|| v.trim().to_owned())
        })
    };
    let number = |key| get(key).filter(|v| v.parse::<u32>().is_ok());
    Some(format!(
        "{}.{}.{}",
        number("VERSION")?,
        number("PATCHLEVEL")?,
        number("SUBLEVEL")?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::command::output;

    #[test]
    fn release_of_a_makefile() {
        let text = "# SPDX-License-Identifier: GPL-2.0\nVERSION = 6\nPATCHLEVEL = 12\n\
                    SUBLEVEL = 117\nEXTRAVERSION =\nNAME = Baby Opossum Posse\n";
        assert_eq!(parse_release(text).unwrap(), "6.12.117");
        assert_eq!(parse_release("VERSION = 6\nall:\n"), None);
        assert_eq!(
            parse_release("VERSION = x\nPATCHLEVEL = 1\nSUBLEVEL = 1\n"),
            None
        );
    }

    #[test]
    fn a_small_tarball() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("linux-x");
        fs::create_dir_all(top.join("mm")).unwrap();
        fs::write(top.join("Makefile"), "VERSION = 6\n").unwrap();
        fs::write(top.join("mm/Makefile"), "no\n").unwrap();
        fs::write(top.join("mm/a.c"), "a\n").unwrap();
        let path = dir.path().join("x.tar.gz");
        output(
            clean("tar")
                .arg("-czf")
                .arg(&path)
                .arg("-C")
                .arg(dir.path())
                .arg("linux-x"),
        )
        .unwrap();
        let (name, makefile) = read_makefile(&path).unwrap();
        assert_eq!(
            (name.as_str(), makefile.as_str()),
            ("linux-x", "VERSION = 6\n")
        );

        let tarball = Tarball {
            path,
            release: Release("6.12.1".into()),
            top: name,
            id: String::new(),
        };
        let log = dir.path().join("log");
        let new = dir.path().join("new");
        let mut list = tarball.unpack(&new, &log).unwrap();
        list.sort();
        assert_eq!(list, ["Makefile", "mm/Makefile", "mm/a.c"]);
        assert_eq!(fs::read_to_string(new.join("mm/a.c")).unwrap(), "a\n");
        let part = dir.path().join("part");
        tarball
            .unpack_files(&part, &["mm/a.c".into()], &log)
            .unwrap();
        assert!(part.join("mm/a.c").is_file() && !part.join("Makefile").exists());
    }
}
