// SPDX-License-Identifier: GPL-2.0

//! Tests that prepare a small tree: a tarball of three files, an overlay,
//! patches.

use std::os::unix::fs::MetadataExt;

use super::*;
use host::command::{clean, output};

struct Lab {
    _dir: tempfile::TempDir,
    paths: Paths,
    tarball: Tarball,
}

const PATCH: &str = "--- a/mm/a.c\n+++ b/mm/a.c\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n";

fn put(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("linux");
    put(
        &top,
        "Makefile",
        "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 9\n",
    );
    put(&top, "mm/a.c", "one\ntwo\nthree\n");
    put(&top, "mm/b.c", "b\n");
    let path = dir.path().join("linux.tar.gz");
    let mut tar = clean("tar");
    tar.arg("-czf")
        .arg(&path)
        .arg("-C")
        .arg(dir.path())
        .arg("linux");
    output(&mut tar).unwrap();
    let paths = Paths {
        checkout: dir.path().join("checkout"),
        cache: dir.path().join("cache"),
    };
    fs::create_dir_all(paths.src_root()).unwrap();
    Lab {
        paths,
        tarball: Tarball {
            path,
            release: Release("6.12.9".into()),
            top: "linux".into(),
            id: "1".into(),
        },
        _dir: dir,
    }
}

impl Lab {
    fn dir(&self) -> PathBuf {
        self.paths.src(&self.tarball.release)
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.dir().join(name)).ok()
    }

    fn change(&self, name: &str, text: &str) {
        put(&self.paths.checkout, name, text);
    }

    fn prepare(&self) -> Result<Source> {
        prepare_from(&self.paths, &self.tarball)
    }
}

#[test]
fn overlay_and_patches_come_and_go() {
    let lab = lab();
    lab.change("mm/ours.rs", "ours\n");
    lab.change("rust/deep/x.rs", "x\n");
    lab.change("patches/0001-a.patch", PATCH);
    let first = lab.prepare().unwrap();
    assert_eq!(first.overlay, ["mm/ours.rs", "rust/deep/x.rs"]);
    assert_eq!(lab.read("mm/a.c").unwrap(), "one\n2\nthree\n");
    assert_eq!(lab.read("mm/ours.rs").unwrap(), "ours\n");

    // Nothing changed, so nothing is written.
    let time = |name: &str| fs::metadata(lab.dir().join(name)).unwrap().mtime_nsec();
    let before = (time("mm/a.c"), time("mm/ours.rs"));
    assert_eq!(lab.prepare().unwrap().digest, first.digest);
    assert_eq!((time("mm/a.c"), time("mm/ours.rs")), before);

    // A source file is no reason to configure again; a Kconfig file is.
    lab.change("mm/ours.rs", "ours 2\n");
    let second = lab.prepare().unwrap();
    assert_ne!(second.digest, first.digest);
    assert_eq!(second.kconfig_digest, first.kconfig_digest);
    lab.change("Kconfig", "menu x\n");
    assert_ne!(lab.prepare().unwrap().kconfig_digest, first.kconfig_digest);

    // A manual change to a managed file is reverted.
    fs::write(lab.dir().join("mm/a.c"), "other\n").unwrap();
    lab.prepare().unwrap();
    assert_eq!(lab.read("mm/a.c").unwrap(), "one\n2\nthree\n");

    // A removed file vanishes, with its folder; a removed patch too.
    fs::remove_dir_all(lab.paths.checkout.join("rust")).unwrap();
    fs::remove_file(lab.paths.checkout.join("Kconfig")).unwrap();
    fs::remove_file(lab.paths.checkout.join("patches/0001-a.patch")).unwrap();
    let last = lab.prepare().unwrap();
    assert_ne!(last.digest, first.digest);
    assert_eq!(lab.read("mm/a.c").unwrap(), "one\ntwo\nthree\n");
    assert!(!lab.dir().join("rust").exists());
    assert!(lab.dir().join("mm/b.c").exists());
}

#[test]
fn a_patch_that_comes_later_starts_from_the_tarball() {
    let lab = lab();
    lab.prepare().unwrap();
    fs::write(lab.dir().join("mm/a.c"), "by hand\n").unwrap();
    lab.change("patches/0001-a.patch", PATCH);
    lab.prepare().unwrap();
    assert_eq!(lab.read("mm/a.c").unwrap(), "one\n2\nthree\n");
}

#[test]
fn the_overlay_must_not_hide_a_kernel_file() {
    let lab = lab();
    lab.change("mm/b.c", "mine\n");
    let err = lab.prepare().unwrap_err().to_string();
    assert!(
        err.contains("would replace the kernel's own mm/b.c"),
        "{err}"
    );
    assert_eq!(lab.read("mm/b.c").unwrap(), "b\n");
}

#[test]
fn a_patch_must_not_touch_the_overlay() {
    let lab = lab();
    lab.change("mm/new.c", "x\n");
    lab.change(
        "patches/0001-a.patch",
        "--- a/mm/new.c\n+++ b/mm/new.c\n@@ -1 +1 @@\n-x\n+y\n",
    );
    let err = lab.prepare().unwrap_err().to_string();
    assert!(err.contains("the overlay's own file"), "{err}");
}

#[test]
fn an_interrupted_unpacking_starts_again() {
    let lab = lab();
    put(&files::with_suffix(&lab.dir(), ".tmp"), "half", "x");
    lab.prepare().unwrap();
    assert!(lab.read("half").is_none());
    assert_eq!(lab.read("mm/b.c").unwrap(), "b\n");

    // A lost origin file of a complete tree is written again, without
    // unpacking.
    fs::remove_file(files::with_suffix(&lab.dir(), ".origin")).unwrap();
    put(&lab.dir(), "mark", "x");
    lab.prepare().unwrap();
    assert!(lab.read("mark").is_some());
}

#[test]
fn another_tarball_of_the_same_release_replaces_the_tree() {
    let mut lab = lab();
    lab.change("patches/0001-a.patch", PATCH);
    let first = lab.prepare().unwrap();
    put(&lab.dir(), "mark", "x");
    lab.tarball.id = "2".into();
    let second = lab.prepare().unwrap();
    assert!(lab.read("mark").is_none());
    assert_eq!(lab.read("mm/a.c").unwrap(), "one\n2\nthree\n");
    assert_ne!(first.digest, second.digest);
}

#[test]
fn releases() {
    assert_eq!(
        known_releases("# x\n6.12.94  # old\n\n6.12.107\n"),
        ["6.12.94", "6.12.107"]
    );
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "config/releases", "6.12.94\n");
    check_release(dir.path(), &Release("6.12.94".into())).unwrap();
    check_release(dir.path(), &Release("6.12.200".into())).unwrap();
    let err = check_release(dir.path(), &Release("6.17.1".into())).unwrap_err();
    assert!(err.to_string().starts_with("this is Linux 6.17.1;"));
}
