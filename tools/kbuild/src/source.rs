// SPDX-License-Identifier: GPL-2.0

//! The kernel's source tree: unpacked, with the overlay and the patches.
//!
//! Files beside the tree `linux-R`, all with the tree's name as a stem:
//!
//! * `linux-R.origin`: the tarball it came from, written when the tree is
//!   complete;
//! * `linux-R.files`: the list of the tarball's files, to distinguish files of
//!   the overlay from files of the kernel;
//! * `linux-R.orig/`: pristine copies of the files that patches touch;
//! * `linux-R.managed`: the files in the tree that are ours or patched.
//!
//! A file is written only when its content changes, so that make rebuilds only
//! what depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use fs_err as fs;

use crate::overlay::{self, File, Files};
use crate::patches;
use crate::tarball::{parse_release, Release, Tarball};
use host::files::{self, Fingerprint};
use host::paths::Paths;

/// A prepared source tree.
#[derive(Clone, Debug)]
pub struct Source {
    pub release: Release,
    pub dir: PathBuf,
    /// Changes with the tarball, the overlay and the patches.
    pub digest: String,
    /// Changes with the tarball and the Kconfig files of overlay and patches.
    pub kconfig_digest: String,
    /// The overlay's files, by their path in the tree.
    pub overlay: Vec<String>,
}

impl Source {
    /// Describes an existing tree without preparing it.
    pub fn at(dir: &Path) -> Source {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        Source {
            release: Release(name.trim_start_matches("linux-").to_owned()),
            dir: dir.to_owned(),
            digest: String::new(),
            kconfig_digest: String::new(),
            overlay: Vec::new(),
        }
    }

    /// Returns the overlay's files with this ending, by their path in the tree.
    pub fn overlay_files<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = &'a str> {
        self.overlay
            .iter()
            .map(String::as_str)
            .filter(move |f| f.ends_with(ending))
    }
}

/// Unpacks the source if needed and brings overlay and patches up to date. The
/// caller holds the cache lock.
pub fn prepare(paths: &Paths) -> Result<Source> {
    files::make_dir(&paths.src_root())?;
    let tarball = Tarball::find(paths)?;
    check_release(&paths.checkout, &tarball.release)?;
    prepare_from(paths, &tarball)
}

fn prepare_from(paths: &Paths, tarball: &Tarball) -> Result<Source> {
    let dir = paths.src(&tarball.release);
    let fresh = unpack(paths, tarball, &dir)?;

    let pristine: BTreeSet<String> = fs::read_to_string(files::with_suffix(&dir, ".files"))?
        .lines()
        .map(str::to_owned)
        .collect();
    let overlay = overlay::read(&paths.checkout)?;
    for path in overlay.keys() {
        if pristine.contains(path) {
            bail!(
                "{} would replace the kernel's own {path}; change a kernel file with a patch in \
                 patches/, or give this one another name",
                overlay::origin(path)
            );
        }
    }
    let tree = Tree {
        dir: &dir,
        tarball,
        pristine: &pristine,
        log: paths.log("source"),
    };
    let patched = tree.patched(&paths.checkout.join("patches"), &overlay, fresh)?;

    let mut digest = Fingerprint::default();
    let mut kconfig_digest = Fingerprint::default();
    digest.add("tarball", tarball.id.as_bytes());
    kconfig_digest.add("tarball", tarball.id.as_bytes());
    for (path, file) in overlay.iter().chain(patched.iter()) {
        digest.add(path, &file.bytes);
        digest.add("exec", &[u8::from(file.exec)]);
        if is_kconfig(path) {
            kconfig_digest.add(path, &file.bytes);
        }
    }
    let names = overlay.keys().cloned().collect();
    let mut wanted = overlay;
    wanted.extend(patched);
    tree.sync(wanted)?;
    Ok(Source {
        release: tarball.release.clone(),
        dir: dir.clone(),
        digest: digest.finish(),
        kconfig_digest: kconfig_digest.finish(),
        overlay: names,
    })
}

/// Returns whether a path is a Kconfig file: `mm/Kconfig`, `lib/Kconfig.debug`.
fn is_kconfig(path: &str) -> bool {
    path.rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with("Kconfig"))
}

/// Fails for a series other than 6.12; warns about an untested release.
fn check_release(checkout: &Path, release: &Release) -> Result<()> {
    let path = checkout.join("config/releases");
    let text = fs::read_to_string(&path)?;
    if !release.0.starts_with("6.12.") {
        bail!(
            "this is Linux {release}; rust-dax is written against 6.12.y only, the last \
             long-term series with pfn_t and _PAGE_DEVMAP (install linux-source-6.12)"
        );
    }
    let known = known_releases(&text);
    if !known.contains(&release.0.as_str()) {
        eprintln!(
            "Warning: Linux {release} is untested; the tested releases are {}. Continuing: the \
             patches must apply exactly or the build stops.",
            known.join(", ")
        );
    }
    Ok(())
}

fn known_releases(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|l| l.split('#').next()?.split_whitespace().next())
        .collect()
}

/// Creates the tree if it does not exist; returns whether it did.
fn unpack(paths: &Paths, tarball: &Tarball, dir: &Path) -> Result<bool> {
    let origin = files::with_suffix(dir, ".origin");
    let listing = files::with_suffix(dir, ".files");
    let log = paths.log("unpack");
    let write_origin = |list: &[String]| -> Result<()> {
        files::write_atomic(&listing, (list.join("\n") + "\n").as_bytes(), false)?;
        files::write_atomic(&origin, tarball.id.as_bytes(), false)
    };
    match fs::read_to_string(&origin) {
        Ok(id) if id == tarball.id && dir.is_dir() && listing.is_file() => return Ok(false),
        // A tree gets its name when it is complete, so one without an origin
        // file has only lost that file.
        Err(_) if tree_release(dir) == Some(tarball.release.0.clone()) => {
            write_origin(&tarball.list(&log)?)?;
            return Ok(false);
        }
        _ => (),
    }
    host::requirements::require_disk(&paths.src_root(), 3, "unpacking the kernel's source")?;
    let tmp = files::with_suffix(dir, ".tmp");
    let list = tarball.unpack(&tmp, &log)?;
    files::remove_file(&origin)?;
    files::remove_file(&files::with_suffix(dir, ".managed"))?;
    files::remove_tree(&files::with_suffix(dir, ".orig"))?;
    files::replace_tree(&tmp, dir)?;
    write_origin(&list)?;
    Ok(true)
}

fn tree_release(dir: &Path) -> Option<String> {
    parse_release(&fs::read_to_string(dir.join("Makefile")).ok()?)
}

/// An unpacked tree and its properties.
struct Tree<'a> {
    dir: &'a Path,
    tarball: &'a Tarball,
    pristine: &'a BTreeSet<String>,
    log: PathBuf,
}

impl Tree<'_> {
    fn orig(&self) -> PathBuf {
        files::with_suffix(self.dir, ".orig")
    }

    /// Returns the content of every file that the patches change or create.
    fn patched(&self, dir: &Path, overlay: &Files, fresh: bool) -> Result<Files> {
        let patches = patches::read(dir)?;
        let mut touched = BTreeSet::new();
        for patch in &patches {
            for file in patch.changes.iter().chain(&patch.creates) {
                if overlay.contains_key(file) {
                    bail!(
                        "patches/{} touches {file}, which is the overlay's own file",
                        patch.name
                    );
                }
                touched.insert(file.clone());
            }
        }
        let bases: Vec<String> = touched.intersection(self.pristine).cloned().collect();
        self.keep_pristine(&bases, fresh)?;

        let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
        for file in &bases {
            let to = scratch.path().join(file);
            fs::create_dir_all(to.parent().unwrap_or(scratch.path()))?;
            fs::copy(self.orig().join(file), &to)?;
        }
        patches::apply(&patches, scratch.path(), &self.tarball.release.0)?;
        let mut out = Files::new();
        for file in touched {
            let path = scratch.path().join(&file);
            if !path.is_file() {
                bail!("a patch deletes {file}; patches only hook into kernel files");
            }
            out.insert(file, File::read(&path)?);
        }
        Ok(out)
    }

    /// Ensures that there is a pristine copy of each of these files.
    fn keep_pristine(&self, names: &[String], fresh: bool) -> Result<()> {
        let orig = self.orig();
        let missing: Vec<String> = names
            .iter()
            .filter(|n| !orig.join(n).is_file())
            .cloned()
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        // In a tree that was just unpacked they are still pristine; otherwise
        // only the tarball is certain.
        let tmp = files::with_suffix(self.dir, ".orig-tmp");
        files::remove_tree(&tmp)?;
        if !fresh {
            self.tarball.unpack_files(&tmp, &missing, &self.log)?;
        }
        let from = if fresh { self.dir } else { tmp.as_path() };
        for name in &missing {
            let bytes = fs::read(from.join(name))?;
            files::write_atomic(&orig.join(name), &bytes, files::is_exec(&from.join(name)))?;
        }
        files::remove_tree(&tmp)
    }

    /// Makes the tree hold exactly these files beside the pristine ones.
    fn sync(&self, wanted: Files) -> Result<()> {
        let note = files::with_suffix(self.dir, ".managed");
        let before: BTreeSet<String> = files::read_json(&note).unwrap_or_default();
        let names: BTreeSet<String> = wanted.keys().cloned().collect();
        // The union comes first: if this is interrupted, the next run still
        // knows every file that is not pristine.
        let union: BTreeSet<String> = before.union(&names).cloned().collect();
        if union != before {
            files::write_json(&note, &union)?;
        }

        let mut plan: BTreeMap<String, Option<File>> =
            wanted.into_iter().map(|(n, f)| (n, Some(f))).collect();
        for name in before.difference(&names) {
            let file = if self.pristine.contains(name) {
                self.keep_pristine(std::slice::from_ref(name), false)?;
                let path = self.orig().join(name);
                Some(File::read(&path)?)
            } else {
                None
            };
            plan.insert(name.clone(), file);
        }
        for (name, file) in &plan {
            let path = self.dir.join(name);
            match file {
                Some(file) => {
                    let same = files::read_if_exists(&path)?.as_ref() == Some(&file.bytes)
                        && files::is_exec(&path) == file.exec;
                    if !same {
                        files::write_atomic(&path, &file.bytes, file.exec)?;
                    }
                }
                None => {
                    files::remove_file(&path)?;
                    // An empty folder of ours is removed too; one of the
                    // kernel's never is.
                    let parents = path.ancestors().skip(1).take_while(|p| *p != self.dir);
                    for dir in parents {
                        if fs::remove_dir(dir).is_err() {
                            break;
                        }
                    }
                }
            }
        }
        if union != names {
            files::write_json(&note, &names)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
