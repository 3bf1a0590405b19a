// SPDX-License-Identifier: GPL-2.0

//! The guest's root filesystem: Debian 13 with the test suites in it.
//!
//! mmdebstrap creates it from Debian's packages, verified with the archive's
//! keys; `build-suites` then runs inside it. The result is one sparse ext4
//! image in the cache, kept until the recipe changes. Guests never write to it.
//! It is Debian 13 on both hosts, so that both test the same.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use fs_err as fs;

use crate::suites;
use host::command::{clean, output, run_logged};
use host::files::{self, Fingerprint, Stamp};
use host::kernel::Built;
use host::lock::cache_lock;
use host::paths::Paths;
use host::progress::Step;
use host::requirements::require_disk;

const SUITE: &str = "trixie";
const IMAGE: &str = "guest.ext4";
/// Ending of the stamp of an image, which describes its contents.
pub const STAMP: &str = "stamp";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const KEYS: &str = "/usr/share/keyrings";

/// The apt sources inside the image; deb-src for the suites.
const SOURCES: &str = "\
deb http://deb.debian.org/debian trixie main
deb-src http://deb.debian.org/debian trixie main
deb http://deb.debian.org/debian trixie-updates main
deb http://deb.debian.org/debian-security trixie-security main
";

/// Paths left out of every package: documentation, the rule that makes ndctl
/// look for security keys whenever libnvdimm is loaded, and the graphics
/// drivers that stress-ng depends on.
const LEFT_OUT: [&str; 6] = [
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/etc/modprobe.d/nvdimm-security.conf",
    "/usr/lib/*/libLLVM.so*",
    "/usr/lib/*/libgallium*",
];

/// Hooks that turn a Debian tree into the guest.
const HOOKS: &[&str] = &[
    "chroot \"$1\" /usr/local/sbin/build-suites",
    "mkdir -p \"$1/host/job\" \"$1/usr/lib/modules\"",
    // The host's resolver and name do not belong in the image.
    "rm -f \"$1/etc/resolv.conf\"",
    "echo rust-dax >\"$1/etc/hostname\"",
];

/// Free space for files of tests, in MiB.
const FREE_MIB: u64 = 1024;
/// Space needed during creation, in GiB: the tree, the image, the packages.
const NEEDED_GIB: u64 = 5;
/// Approximate number of lines that mmdebstrap and the suites print.
const LINES: u64 = 2450;

/// Returns the image, which is created again if the recipe changed.
pub fn guest_image(paths: &Paths, built: &Built) -> Result<PathBuf> {
    let image = paths.rootfs().join(IMAGE);
    let inputs = suites::inputs(paths, &built.source)?;
    let tree = Tree {
        label: "Making the guest image",
        lines: LINES,
        work: paths.rootfs().join("new"),
        log: paths.log("rootfs"),
        hooks: HOOKS,
        part: "",
        name: "rust-dax",
        free_mib: FREE_MIB,
    };
    make_unless_made(paths, &image, packages(paths)?, &inputs, &tree)?;
    Ok(image)
}

/// The parameters of a Debian tree and the part of it that becomes an image.
pub struct Tree<'a> {
    /// Label for the progress display.
    pub label: &'a str,
    /// Approximate number of lines that it prints.
    pub lines: u64,
    /// Working folder, removed afterwards.
    pub work: PathBuf,
    pub log: PathBuf,
    /// Commands that run after the packages are installed; `$1` is the tree.
    pub hooks: &'a [&'a str],
    /// Folder of the tree that becomes the image.
    pub part: &'a str,
    /// The filesystem's label.
    pub name: &'a str,
    pub free_mib: u64,
}

/// Creates an image from packages and from files with their paths in the tree, unless it is made
/// from the same already. The image's stamp is beside it, with this ending.
pub fn make_unless_made(
    paths: &Paths,
    image: &Path,
    packages: Vec<String>,
    inputs: &[(String, PathBuf)],
    tree: &Tree,
) -> Result<()> {
    let mut digest = Fingerprint::default();
    digest.add("suite", SUITE.as_bytes());
    digest.add("sources", SOURCES.as_bytes());
    digest.add("left out", LEFT_OUT.join(" ").as_bytes());
    for (name, path) in inputs {
        digest.add(name, &fs::read(path)?);
    }
    digest.add("packages", packages.join(" ").as_bytes());
    let stamp = Stamp::new(image.with_extension(STAMP), digest);
    let is_made = || image.is_file() && stamp.holds();
    if is_made() {
        return Ok(());
    }
    let _lock = cache_lock(paths, &tree.label.to_lowercase())?;
    if !is_made() {
        stamp.lift()?;
        make(paths, &packages, inputs, tree, image)?;
        stamp.set()?;
    }
    Ok(())
}

fn packages(paths: &Paths) -> Result<Vec<String>> {
    let list = suites::image_files(paths).join("packages");
    Ok(parse_packages(&fs::read_to_string(list)?))
}

fn parse_packages(list: &str) -> Vec<String> {
    list.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Creates the tree and the image.
fn make(
    paths: &Paths,
    packages: &[String],
    inputs: &[(String, PathBuf)],
    tree: &Tree,
    image: &Path,
) -> Result<()> {
    let root = paths.rootfs();
    files::make_dir(&root)?;
    let what = tree.label.to_lowercase();
    require_disk(&root, NEEDED_GIB, &what)?;
    require_keys()?;
    ask_for_root(&what)?;
    let work = &tree.work;
    remove_as_root(work)?;
    files::make_dir(work)?;

    let log = &tree.log;
    // The log covers this image only, not every earlier one.
    files::remove_file(log)?;
    let mut step = Step::start(tree.label, Some(tree.lines), log);
    suites::gather(inputs, work, log)?;
    fs::write(work.join("sources.list"), SOURCES).context("cannot write sources.list")?;
    let (mut lines, mut doing) = (0, String::from("starting"));
    let mut cmd = mmdebstrap(packages, tree.hooks);
    run_logged(cmd.current_dir(work), log, |line| {
        lines += 1;
        if let Some(what) = activity(line) {
            doing = what;
        }
        step.set(lines, &doing);
    })
    .with_context(|| format!("{what} failed; is the network up?"))?;
    step.set(lines, "writing the filesystem");
    write_image(tree, image, log)?;
    remove_as_root(work)?;
    step.done();
    Ok(())
}

/// Creates the command for mmdebstrap as root, in the work folder, where file
/// names are plain.
fn mmdebstrap(packages: &[String], hooks: &[&str]) -> Command {
    let mut cmd = as_root("mmdebstrap");
    cmd.args([
        "--verbose",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
    ]);
    cmd.args(["--architectures=amd64", &format!("--keyring={KEYRING}")]);
    cmd.arg(format!("--include={}", packages.join(",")));
    cmd.arg("--aptopt=Acquire::Languages \"none\"");
    cmd.arg("--aptopt=Acquire::Retries \"3\"");
    cmd.args(
        LEFT_OUT
            .iter()
            .map(|p| format!("--dpkgopt=path-exclude={p}")),
    );
    cmd.arg("--customize-hook=tar-in overlay.tar /");
    cmd.args(hooks.iter().map(|h| format!("--customize-hook={h}")));
    cmd.args([SUITE, "tree", "sources.list"]);
    cmd
}

/// Writes the tree to an image beside the old one, which it then replaces: a
/// running guest keeps its open file.
fn write_image(made: &Tree, image: &Path, log: &Path) -> Result<()> {
    let tree = made.work.join("tree").join(made.part);
    let new = made.work.join("image");
    let used = output(as_root("du").args(["-sxm"]).arg(&tree))?;
    let used: u64 = used
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .with_context(|| format!("du printed nothing about {}", tree.display()))?;
    // Filesystem metadata and rounding take about a tenth more.
    let size = used + used / 10 + made.free_mib;
    files::make_sparse(&new, size)?;
    let mut cmd = as_root("mke2fs");
    cmd.args(["-q", "-F", "-t", "ext4", "-m", "0", "-J", "size=32"]);
    cmd.args(["-L", made.name]);
    // No initialisation is left to run in the background of a guest.
    cmd.args([
        "-E",
        "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0",
    ]);
    cmd.arg("-d").arg(&tree).arg(&new);
    run_logged(&mut cmd, log, |_| ())?;
    Ok(fs::rename(&new, image)?)
}

/// Checks for the archive keys; an old keyring package has no keys of Debian
/// 13.
fn require_keys() -> Result<()> {
    let known = fs::read_dir(KEYS).into_iter().flatten().flatten().any(|e| {
        e.file_name()
            .to_string_lossy()
            .starts_with("debian-archive-trixie-stable")
    });
    if !known || !Path::new(KEYRING).exists() {
        bail!(
            "the archive keys of Debian 13 are missing; upgrade debian-archive-keyring \
             (2023.3+deb12u2 or later has them)"
        );
    }
    Ok(())
}

/// Checks, before a first build of up to an hour, that the image can be created
/// afterwards, which needs sudo for users other than root.
pub fn require_root(paths: &Paths) -> Result<()> {
    if paths.rootfs().join(IMAGE).is_file() {
        return Ok(());
    }
    ask_for_root("making the guest image")
}

/// Lets sudo ask for a password while nothing else writes to the terminal.
fn ask_for_root(what: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let mut cmd = clean("sudo");
    if !std::io::stdin().is_terminal() {
        cmd.arg("-n");
    }
    let status = cmd.arg("-v").status().with_context(|| {
        format!("{what} needs root, and there is no sudo; install it, or call this as root")
    })?;
    if !status.success() {
        bail!("{what} needs root, and sudo does not let you; call this as root");
    }
    Ok(())
}

/// Creates a command that runs as root: through sudo for other users.
fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return clean(program);
    }
    let mut cmd = clean("sudo");
    // sudo clears the environment; apt needs the proxy settings.
    cmd.arg("--preserve-env=http_proxy,https_proxy,no_proxy")
        .arg(program);
    cmd
}

/// Removes a tree that belongs to root, possibly left by an interrupted run.
fn remove_as_root(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    output(as_root("rm").args(["-rf", "--one-file-system"]).arg(dir))
        .with_context(|| format!("cannot remove {}", dir.display()))?;
    Ok(())
}

/// Returns the activity that a line of the log stands for.
fn activity(line: &str) -> Option<String> {
    if let Some(what) = line
        .strip_prefix("I: ")
        .or(line.strip_prefix("build-suites: "))
        .or(line.strip_prefix("build-conform: "))
    {
        return Some(what.trim_end_matches('.').to_owned());
    }
    let mut words = line.split_whitespace();
    let verb = words.next()?;
    let name = words.next()?.split(':').next()?;
    match verb {
        "Unpacking" => Some(format!("unpacking {name}")),
        "Setting" => Some(format!("setting up {}", words.next()?.split(':').next()?)),
        _ if verb.starts_with('[') && verb.ends_with(']') => Some(format!("building ndctl {verb}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_lists_have_comments() {
        assert_eq!(parse_packages("# a\nndctl\n\n jq \n"), ["ndctl", "jq"]);
    }

    #[test]
    fn activities() {
        assert_eq!(
            activity("I: running apt-get update...").as_deref(),
            Some("running apt-get update")
        );
        assert_eq!(
            activity("Setting up jq:amd64 (1.7) ...").as_deref(),
            Some("setting up jq")
        );
        assert_eq!(
            activity("Unpacking gcc:amd64 (14) ...").as_deref(),
            Some("unpacking gcc")
        );
        assert_eq!(
            activity("[7/182] Compiling C object x").as_deref(),
            Some("building ndctl [7/182]")
        );
        assert_eq!(activity("Get:1 http://x").as_deref(), None);
    }
}
