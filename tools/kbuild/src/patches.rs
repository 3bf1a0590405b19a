// SPDX-License-Identifier: GPL-2.0

//! The patches to existing kernel files.
//!
//! They are applied to pristine copies in a scratch folder, never to the tree
//! itself, so the tree is always "pristine plus all patches", and a patch that
//! was edited or removed needs no reverting. Context must match exactly
//! (`--fuzz=0`); line numbers may differ.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use fs_err as fs;

use host::command::clean;
use host::files;

/// One patch and the files it touches.
#[derive(Clone, Debug)]
pub struct Patch {
    pub path: PathBuf,
    pub name: String,
    /// Files that it changes or deletes.
    pub changes: BTreeSet<String>,
    /// Files that it creates.
    pub creates: BTreeSet<String>,
}

/// Reads `patches/*.patch` in the order of their numbers.
pub fn read(dir: &Path) -> Result<Vec<Patch>> {
    let read = |path: PathBuf| {
        let bytes = fs::read(&path)?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let (changes, creates) = touched(&String::from_utf8_lossy(&bytes))
            .with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Patch {
            path,
            name,
            changes,
            creates,
        })
    };
    files::with_extension(dir, "patch")?
        .into_iter()
        .map(read)
        .collect()
}

/// Returns the files of a unified diff with `a/` and `b/`: (changed, created).
fn touched(text: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let (mut changes, mut creates) = (BTreeSet::new(), BTreeSet::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(old) = line.strip_prefix("--- ") else {
            continue;
        };
        let Some(new) = lines.peek().and_then(|l| l.strip_prefix("+++ ")) else {
            continue;
        };
        let file = |header: &str, side: &str| -> Result<Option<String>> {
            let name = header.split('\t').next().unwrap_or("").trim();
            if name == "/dev/null" {
                return Ok(None);
            }
            match name.strip_prefix(side) {
                Some(n) if !n.split('/').any(|p| p == ".." || p.is_empty()) => {
                    Ok(Some(n.to_owned()))
                }
                _ => bail!("it names the file \"{name}\"; a patch must be made with a/ and b/"),
            }
        };
        match (file(old, "a/")?, file(new, "b/")?) {
            (None, Some(new)) => creates.insert(new),
            (Some(old), _) => changes.insert(old),
            (None, None) => bail!("a hunk names no file"),
        };
    }
    if changes.is_empty() && creates.is_empty() {
        bail!("it changes no file");
    }
    Ok((changes, creates))
}

/// Applies the patches in `dir`, which holds the pristine files. `release` is
/// for the error message.
pub fn apply(patches: &[Patch], dir: &Path, release: &str) -> Result<()> {
    for patch in patches {
        if let Some(file) = patch.changes.iter().find(|f| !dir.join(f).is_file()) {
            bail!(
                "patches/{} does not apply: Linux {release} has no {file}",
                patch.name
            );
        }
        let mut cmd = clean("patch");
        cmd.args(["-p1", "--fuzz=0", "--no-backup-if-mismatch", "--force"])
            .args(["--reject-file=-", "-d"])
            .arg(dir)
            .arg("-i")
            .arg(&patch.path);
        let out = cmd
            .output()
            .context("cannot start patch; `make setup` installs what is needed")?;
        if !out.status.success() {
            let mut text = String::from_utf8_lossy(&out.stdout).into_owned();
            text += &String::from_utf8_lossy(&out.stderr);
            bail!(
                "patches/{} does not apply to Linux {release}: {}. The patches need these lines \
                 unchanged; see config/releases for the releases that are known to work",
                patch.name,
                failures(&text)
            );
        }
    }
    Ok(())
}

/// Extracts failed hunks from the output of patch(1): "mm/memory.c: Hunk #2
/// FAILED at 31".
fn failures(text: &str) -> String {
    let mut file = "?";
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("patching file ") {
            file = name.trim_matches('\'');
        } else if line.starts_with("Hunk #") && line.contains("FAILED") {
            found.push(format!("{file}: {}", line.trim_end_matches('.')));
        }
    }
    if found.is_empty() {
        text.lines().take(5).collect::<Vec<_>>().join("; ")
    } else {
        found.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_has_each_patch_once() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../patches");
        let list = fs::read_to_string(dir.join("series.list")).unwrap();
        let numbers: Vec<&str> = list
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split('|').next())
            .filter(|number| *number != "-")
            .collect();
        let patches = read(&dir).unwrap();
        let names: Vec<&str> = patches.iter().map(|patch| &patch.name[..4]).collect();
        assert_eq!(numbers, names);
    }

    const PATCH: &str = "From: someone\n---\n mm/a.c | 2 +-\n\n\
        diff --git a/mm/a.c b/mm/a.c\n--- a/mm/a.c\t2026\n+++ b/mm/a.c\n\
        @@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n\
        --- /dev/null\n+++ b/mm/new.c\n@@ -0,0 +1 @@\n+new\n";

    #[test]
    fn files_of_a_patch() {
        let (changes, creates) = touched(PATCH).unwrap();
        assert_eq!(changes.into_iter().collect::<Vec<_>>(), ["mm/a.c"]);
        assert_eq!(creates.into_iter().collect::<Vec<_>>(), ["mm/new.c"]);
        assert!(touched("--- mm/a.c\n+++ mm/a.c\n").is_err());
        assert!(touched("--- a/../x\n+++ b/../x\n").is_err());
        assert!(touched("just text\n").is_err());
    }

    #[test]
    fn applying_allows_an_offset_but_no_fuzz() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("0002-b.txt"), "not a patch").unwrap();
        fs::write(dir.path().join("0001-a.patch"), PATCH).unwrap();
        let patches = read(dir.path()).unwrap();
        assert_eq!(patches.len(), 1);

        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("mm")).unwrap();
        fs::write(tree.join("mm/a.c"), "zero\nzero\none\ntwo\nthree\n").unwrap();
        apply(&patches, &tree, "6.12.1").unwrap();
        let text = fs::read_to_string(tree.join("mm/a.c")).unwrap();
        assert_eq!(text, "zero\nzero\none\n2\nthree\n");
        assert_eq!(fs::read_to_string(tree.join("mm/new.c")).unwrap(), "new\n");

        fs::remove_file(tree.join("mm/new.c")).unwrap();
        fs::write(tree.join("mm/a.c"), "ONE\ntwo\nthree\n").unwrap();
        let err = apply(&patches, &tree, "6.12.1").unwrap_err().to_string();
        assert!(err.contains("patches/0001-a.patch"), "{err}");
        assert!(err.contains("mm/a.c: Hunk #1 FAILED at 1"), "{err}");
        assert!(!tree.join("mm/a.c.rej").exists());
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("0001-a.patch"), PATCH).unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(&tree).unwrap();
        let err = apply(&read(dir.path()).unwrap(), &tree, "6.12.1").unwrap_err();
        assert!(err.to_string().ends_with("has no mm/a.c"), "{err}");
    }
}
