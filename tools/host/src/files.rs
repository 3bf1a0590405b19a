// SPDX-License-Identifier: GPL-2.0

//! Small file operations that leave either the old state or the new one.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{de::DeserializeOwned, Serialize};
use sha2::{Digest, Sha256};

/// Writes `bytes` to a file beside `path` and renames that to `path`.
pub fn write_atomic(path: &Path, bytes: &[u8], exec: bool) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(cannot)?;
    }
    let tmp = with_suffix(path, ".rust-dax-tmp");
    fs::write(&tmp, bytes).with_context(cannot)?;
    let mode = if exec { 0o755 } else { 0o644 };
    fs::set_permissions(&tmp, fs::Permissions::from_mode(mode)).with_context(cannot)?;
    fs::rename(&tmp, path).with_context(cannot)
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
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Creates a folder and its parents; existing ones are not an error.
pub fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

/// Removes a file; a missing one is not an error.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a folder with its contents; a missing one is not an error.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
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
    let cannot = || format!("cannot replace {}", path.display());
    if path.exists() {
        fs::rename(path, &old).with_context(cannot)?;
    }
    fs::rename(new, path).with_context(cannot)?;
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
