// SPDX-License-Identifier: GPL-2.0

//! Small file operations that leave either the old state or the new one.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{de::DeserializeOwned, Serialize};
use sha2::{Digest, Sha256};

/// Writes `bytes` to a file beside `path` and renames that to `path`.
pub fn write_atomic(path: &Path, bytes: &[u8], exec: bool) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let tmp = with_suffix(path, ".rust-dax-tmp");
    fs::write(&tmp, bytes)?;
    let mode = if exec { 0o755 } else { 0o644 };
    fs::set_permissions(&tmp, Permissions::from_mode(mode))?;
    Ok(fs::rename(&tmp, path)?)
}

/// Returns the path with a suffix appended to its last component.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Returns the content of a file, or `None` if there is no file.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Creates a folder and its parents; existing ones are not an error.
pub fn make_dir(path: &Path) -> Result<()> {
    Ok(fs::create_dir_all(path)?)
}

/// Creates a sparse file.
pub fn make_sparse(path: &Path, mib: u64) -> Result<()> {
    Ok(fs::File::create(path)?.set_len(mib << 20)?)
}

/// Removes a file; a missing one is not an error.
pub fn remove_file(path: &Path) -> Result<()> {
    unless_missing(fs::remove_file(path))
}

/// Removes a folder with its contents; a missing one is not an error.
pub fn remove_tree(path: &Path) -> Result<()> {
    unless_missing(fs::remove_dir_all(path))
}

fn unless_missing(result: io::Result<()>) -> Result<()> {
    match result {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Returns the files of a folder with this extension, in order; none if there is no folder.
pub fn with_extension(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if dir.exists() {
        for entry in fs::read_dir(dir)? {
            files.push(entry?.path());
        }
    }
    files.retain(|f| f.extension().is_some_and(|e| e == extension));
    files.sort();
    Ok(files)
}

/// Removes the file or folder at this path.
pub fn remove_tree_or_file(path: &Path) -> Result<()> {
    if path.is_dir() && !path.is_symlink() {
        remove_tree(path)
    } else {
        remove_file(path)
    }
}

/// Replaces `path` by the folder `new`.
pub fn replace_tree(new: &Path, path: &Path) -> Result<()> {
    let old = with_suffix(path, ".old");
    remove_tree(&old)?;
    if path.exists() {
        fs::rename(path, &old)?;
    }
    fs::rename(new, path)?;
    remove_tree(&old)
}

/// Reads a file that an earlier run of the harness wrote. An unreadable or
/// foreign one counts as absent: its content can be determined again.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a file for `read_json`.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).context("cannot encode as JSON")?;
    bytes.push(b'\n');
    write_atomic(path, &bytes, false)
}

/// Returns whether the owner may execute the file.
pub fn is_exec(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o100 != 0)
}

/// A digest of named parts, each with its length, so that no two lists of parts
/// have the same digest.
#[derive(Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
        self.0.update((name.len() as u64).to_le_bytes());
        self.0.update(name.as_bytes());
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub fn finish(self) -> String {
        format!("{:x}", self.0.finalize())
    }
}

/// The record of the inputs from which a result was made.
pub struct Stamp {
    path: PathBuf,
    digest: String,
}

impl Stamp {
    /// Describes the record in this file of a result that is made from these inputs.
    pub fn new(path: PathBuf, inputs: Fingerprint) -> Stamp {
        let digest = inputs.finish();
        Stamp { path, digest }
    }

    /// Returns whether the result was made from these inputs.
    pub fn holds(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|digest| digest == self.digest)
    }

    /// Removes the record: a result that is being made must not pass for a finished one.
    pub fn lift(&self) -> Result<()> {
        remove_file(&self.path)
    }

    /// Records that the result is made.
    pub fn set(&self) -> Result<()> {
        write_atomic(&self.path, self.digest.as_bytes(), false)
    }

    /// Returns when the result was made, if it was.
    pub fn set_at(&self) -> Option<SystemTime> {
        fs::metadata(&self.path).ok()?.modified().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_distinguishes_parts() {
        let of = |parts: &[(&str, &str)]| {
            let mut f = Fingerprint::default();
            for (n, b) in parts {
                f.add(n, b.as_bytes());
            }
            f.finish()
        };
        assert_eq!(of(&[("a", "b")]), of(&[("a", "b")]));
        assert_ne!(of(&[("a", "bc")]), of(&[("ab", "c")]));
        assert_ne!(of(&[("a", ""), ("b", "")]), of(&[("a", "b")]));
    }

    #[test]
    fn a_stamp_holds_for_its_inputs() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = |text: &[u8]| {
            let mut inputs = Fingerprint::default();
            inputs.add("x", text);
            Stamp::new(dir.path().join("stamp"), inputs)
        };
        assert!(!stamp(b"1").holds());
        stamp(b"1").set().unwrap();
        assert!(stamp(b"1").holds() && !stamp(b"2").holds());
        stamp(b"2").lift().unwrap();
        assert!(!stamp(b"1").holds());
    }

    #[test]
    fn replacing() {
        let dir = tempfile::tempdir().unwrap();
        let (new, path) = (dir.path().join("new"), dir.path().join("path"));
        for text in ["one", "two"] {
            fs::create_dir(&new).unwrap();
            fs::write(new.join("f"), text).unwrap();
            replace_tree(&new, &path).unwrap();
            assert_eq!(fs::read_to_string(path.join("f")).unwrap(), text);
            assert!(!new.exists());
        }
        let file = dir.path().join("sub/file");
        write_atomic(&file, b"x", true).unwrap();
        assert!(is_exec(&file));
        assert_eq!(read_if_exists(&file).unwrap().unwrap(), b"x");
        remove_file(&file).unwrap();
        remove_file(&file).unwrap();
        assert!(read_if_exists(&file).unwrap().is_none());
    }
}
