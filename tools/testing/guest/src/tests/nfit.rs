// SPDX-License-Identifier: GPL-2.0

//! nfit_test: the nvdimm and dax modules linked against a mock platform.
//!
//! It replaces loaded modules, so the real ones are unloaded first and loaded
//! again afterwards. The mock's memory is vmalloc'd: these tests prove that the
//! modules link and probe, not that pages work.

use super::external::{judge, program};
use crate::ndctl::{namespaces, parse_list, regions, Info};
use crate::tests::prelude::*;

const BUS: &str = "nfit_test.0";
const MODULES: &str = "/lib/modules";
/// Name of the folder with the replaced modules.
const TREE: &str = "/host/job/nfit-modules";
/// The modules, in the order in which they can be unloaded.
const STACK: [&str; 12] = [
    "nfit_test",
    "dax_pmem",
    "kmem",
    "device_dax",
    "nd_btt",
    "nd_pmem",
    "nd_e820",
    "nfit",
    "nfit_test_iomap",
    "libnvdimm",
    "dax",
    "encrypted_keys",
];

/// ndctl's tests that run on nfit_test: name, limit in seconds.
pub const NDCTL_TESTS: &[(&str, u64)] = &[
    ("libndctl", 300),
    ("create.sh", 180),
    ("clear.sh", 180),
    ("multi-dax.sh", 180),
    ("daxdev-errors.sh", 180),
    ("pmem-errors.sh", 180),
    ("pfn-meta-errors.sh", 180),
    ("sector-mode.sh", 180),
    ("track-uuid.sh", 180),
];

declare! { ndctl_tests }
fn ndctl_tests() -> Vec<Test> {
    const DOC: &str = "this test of ndctl fails on the mock bus; its last lines show the place";
    let test = |(name, limit): &'static (&str, u64)| {
        let run = || judge(name, &program(name)?.limit_secs(*limit).run()?);
        Test::new(format!("nfit::{name}"), limit + 90, DOC, move || {
            with_mock(run)
        })
    };
    NDCTL_TESTS.iter().map(test).collect()
}

/// Returns a folder like /lib/modules in which the replaced modules are in
/// `updates`: modprobe prefers them there, and ndctl's tests look for them
/// there.
fn tree() -> Result<PathBuf> {
    let none = || Skip("this boot lacks the modules of nfit_test".into());
    let dir = PathBuf::from(system::read(TREE).map_err(|_| none())?);
    let updates = dir.join(system::kernel_release()?).join("updates");
    if !fs::read_dir(&updates).is_ok_and(|mut d| d.next().is_some()) {
        return Err(none().into());
    }
    Ok(dir)
}

/// Swaps the modules, runs `work`, and swaps them back whatever the result.
pub fn with_mock<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let tree = tree()?;
    unload()?;
    Cmd::new("mount --bind").arg(&tree).arg(MODULES).ok()?;
    let result = work();
    let unloaded = unload();
    Cmd::new("umount").arg(MODULES).ok()?;
    system::load_modules()?;
    let detail = result?;
    unloaded?;
    Ok(detail)
}

fn loaded() -> Result<Vec<String>> {
    let text = fs::read_to_string("/proc/modules").context("cannot read /proc/modules")?;
    Ok(text
        .lines()
        .filter_map(|l| l.split(' ').next())
        .filter(|m| STACK.contains(m) && *m != "encrypted_keys")
        .map(str::to_string)
        .collect())
}

/// Unloads the whole stack, real or mock.
fn unload() -> Result<()> {
    // An active region or DIMM holds the module of its bus. Without loaded
    // modules these commands fail; whether all modules are unloaded is checked
    // below.
    for what in ["disable-region", "disable-dimm"] {
        let _ = Cmd::new("ndctl").arg(what).arg("all").run();
    }
    let mut why = String::new();
    // A module may need another round, after its user has been unloaded.
    for _ in 0..4 {
        for module in STACK {
            if loaded()?.iter().any(|m| m == module) {
                let out = Cmd::new("modprobe -r").arg(module).limit_secs(30).run()?;
                if !out.status.success() {
                    why = out.stderr.trim().to_string();
                }
            }
        }
        if loaded()?.is_empty() {
            return Ok(());
        }
    }
    bail!("cannot unload {}: {why}", loaded()?.join(", "))
}

declare! {
    /// the modules of nfit_test do not load against this kernel, a namespace cannot be made on the
    /// mock bus, or the modules cannot be unloaded again
    "nfit::smoke", 240 s, essential => || with_mock(smoke)
}
fn smoke() -> Result<String> {
    Cmd::new("modprobe nfit_test").ok()?;
    let all = regions(BUS)?;
    ensure!(!all.is_empty(), "{BUS} has no region");
    // The mock DIMMs come with labels of an old namespace layout.
    Cmd::new("ndctl disable-region -b")
        .arg(BUS)
        .arg("all")
        .ok()?;
    Cmd::new("ndctl init-labels -f -b")
        .arg(BUS)
        .arg("all")
        .ok()?;
    Cmd::new("ndctl enable-region -b")
        .arg(BUS)
        .arg("all")
        .ok()?;
    let mut made = Vec::new();
    for mode in ["fsdax", "devdax"] {
        let out = Cmd::new("ndctl create-namespace -t pmem -s 32M -a 4K -M mem -b")
            .arg(BUS)
            .arg("-m")
            .arg(mode)
            .ok()?;
        let info: Info = parse_list(&out.stdout)?
            .into_iter()
            .next()
            .context("ndctl printed nothing about the mock namespace")?;
        ensure!(
            info.mode == mode,
            "a {mode} namespace was expected, ndctl made {info:?}"
        );
        system::wait_for_node(&info.node()?)?;
        made.push(info.dev);
    }
    for dev in &made {
        Cmd::new("ndctl disable-namespace").arg(dev).ok()?;
        Cmd::new("ndctl enable-namespace").arg(dev).ok()?;
        Cmd::new("ndctl destroy-namespace -f").arg(dev).ok()?;
    }
    let left = namespaces(&format!("-b {BUS}"))?;
    ensure!(
        !left.iter().any(|n| made.contains(&n.dev)),
        "destroyed mock namespaces are still there: {left:?}"
    );
    Ok(format!(
        "{} regions, namespaces {}",
        all.len(),
        made.join(" and ")
    ))
}
