// SPDX-License-Identifier: GPL-2.0

//! The choice between KVM and TCG. KVM is used only where it is known to work:
//! a host that is itself a guest often has a /dev/kvm that cannot run this
//! kernel.
//!
//! The CPU must have vmx or svm, /dev/kvm must open, and the kernel must
//! have reached its init under KVM once. The result of that probe is remembered
//! per kernel and boot of the host.
//!
//! TCG runs each CPU in a thread of its own only from QEMU 8.1 on. In
//! earlier releases the translation of a page could start while another CPU
//! wrote to that page, and remain valid after the write. A kernel that patches
//! its code through a breakpoint, as for each jump label, then dies of a
//! breakpoint that it has already removed ("Oops: int3"), about once in fifty
//! boots. With all CPUs on one thread this cannot happen.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{bail, Context, Result};
use fs_err as fs;

use crate::job::{self, Job};
use crate::options::GuestOptions;
use crate::qemu::Accel;
use crate::running::Running;
use host::command;
use host::kernel::Built;
use host::paths::Paths;

/// Timeout of the probe; a kernel that works under KVM reaches its init within
/// seconds.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Chooses the accelerator and prints the choice with its reason.
pub fn choose(paths: &Paths, built: &Built, image: &Path, icount: bool) -> Result<Accel> {
    let (accel, why) = if icount {
        (Accel::Icount, "TCG with -icount, one CPU".to_owned())
    } else {
        match obstacle(paths, built, image)? {
            None => (Accel::Kvm, "KVM".to_owned()),
            Some(why) if translates_under_lock(&version()?) => (Accel::Tcg, format!("TCG ({why})")),
            Some(why) => (
                Accel::TcgInTurn,
                format!(
                    "TCG ({why}), on one thread because this QEMU is older than 8.1 \
                     (bookworm-backports has 10.0)"
                ),
            ),
        }
    };
    eprintln!("accelerator: {why}");
    Ok(accel)
}

/// Refuses a guest with CXL memory where QEMU is too old.
pub fn require_cxl() -> Result<()> {
    let version = version()?;
    if !translates_under_lock(&version) {
        bail!(
            "CXL=1 needs QEMU 8.1 or newer, for volatile devices, and this is {}; on Debian 12, \
             install qemu-system-x86 from bookworm-backports",
            version.lines().next().unwrap_or("unknown")
        );
    }
    Ok(())
}

/// Returns QEMU's version text.
fn version() -> Result<String> {
    let out = command::clean("qemu-system-x86_64")
        .arg("--version")
        .output()
        .context("cannot run qemu-system-x86_64")?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Returns whether TCG locks a page before it translates from it. A version
/// that cannot be parsed counts as an old one.
fn translates_under_lock(version: &str) -> bool {
    let numbers = version.split_once("version ").and_then(|(_, rest)| {
        let mut parts = rest.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    numbers.is_some_and(|numbers: (u32, u32)| numbers >= (8, 1))
}

/// Returns the reason why KVM cannot be used, or `None` if it can.
fn obstacle(paths: &Paths, built: &Built, image: &Path) -> Result<Option<String>> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !has_virtualization(&cpuinfo) {
        return Ok(Some("no vmx/svm".into()));
    }
    if let Err(e) = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
    {
        return Ok(Some(format!("/dev/kvm: {}", e.kind())));
    }
    let key = key(built)?;
    let memory = paths.cache.join("kvm");
    let known = fs::read_to_string(&memory).unwrap_or_default();
    let works = match recall(&known, &key) {
        Some(works) => works,
        None => {
            let works = match probe(paths, built, image)? {
                Probe::Works => true,
                Probe::Fails => false,
                // The cause may be temporary: another program uses the
                // virtualization extension.
                Probe::Refused(why) => return Ok(Some(why)),
            };
            let line = format!("{key} {}\n", if works { "works" } else { "fails" });
            // This is only a cache: without it the next guest probes again.
            let _ = fs::write(&memory, remember(&known, &line));
            works
        }
    };
    Ok((!works).then(|| "this kernel does not boot under KVM here".into()))
}

/// The result of a boot under KVM.
enum Probe {
    Works,
    Fails,
    /// QEMU could not start; the reason.
    Refused(String),
}

/// Returns whether the flags of any CPU name hardware virtualization.
fn has_virtualization(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|l| l.strip_prefix("flags")?.split_once(':'))
        .flat_map(|(_, flags)| flags.split_whitespace())
        .any(|f| f == "vmx" || f == "svm")
}

/// Returns the key of a probe's result: this boot of the host and this kernel.
fn key(built: &Built) -> Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let meta = fs::metadata(&built.bzimage)
        .with_context(|| format!("there is no kernel {}", built.bzimage.display()))?;
    let time = meta
        .modified()
        .ok()
        .and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let time = time.unwrap_or_default().as_nanos();
    Ok(format!(
        "{} {} {} {time}",
        boot.trim(),
        built.variant,
        meta.len()
    ))
}

fn recall(known: &str, key: &str) -> Option<bool> {
    known
        .lines()
        .find_map(|l| l.strip_prefix(key)?.strip_prefix(' '))
        .map(|verdict| verdict == "works")
}

/// Returns the last few results and a new one.
fn remember(known: &str, line: &str) -> String {
    let lines: Vec<&str> = known.lines().collect();
    let old = lines.iter().skip(lines.len().saturating_sub(7));
    old.map(|l| format!("{l}\n"))
        .chain([line.to_owned()])
        .collect()
}

fn probe(paths: &Paths, built: &Built, image: &Path) -> Result<Probe> {
    eprintln!("probing whether the kernel boots under KVM ...");
    let dir = paths.run_dir()?;
    let options = GuestOptions::default();
    let machine = options.machine(built, image, Accel::Kvm, dir.path());
    Job {
        command: "true".into(),
        ..Job::default()
    }
    .write(&machine.job())?;
    machine.make_disks()?;
    let mut running = Running::start(&machine)?;
    let works = running.wait_for("guest-init: up", TIMEOUT)?;
    running.stop(true);
    let errors = job::text(dir.path(), "qemu.err").unwrap_or_default();
    Ok(match complaint(&errors) {
        _ if works => Probe::Works,
        Some(line) => Probe::Refused(line.to_owned()),
        None => Probe::Fails,
    })
}

/// Returns QEMU's own error message.
fn complaint(errors: &str) -> Option<&str> {
    errors.lines().find(|l| !l.contains("warning:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        assert!(has_virtualization(
            "processor\t: 0\nflags\t\t: fpu vme svm sse\n"
        ));
        assert!(has_virtualization("flags\t\t: fpu vmx\n"));
        assert!(!has_virtualization(
            "flags\t\t: fpu hypervisor\nvmx flags\t: vnmi\n"
        ));
        assert!(!has_virtualization(""));
    }

    #[test]
    fn versions() {
        let debian = |v: &str| format!("QEMU emulator version {v}\nCopyright (c) 2003-2022\n");
        for old in ["7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", "8.0.5", "x", ""] {
            assert!(!translates_under_lock(&debian(old)), "{old}");
        }
        for new in ["8.1.0", "10.0.2 (Debian 1:10.0.2+ds-2+deb13u1)", "8.10.0"] {
            assert!(translates_under_lock(&debian(new)), "{new}");
        }
    }

    #[test]
    fn complaints() {
        let busy = "qemu-system-x86_64: ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy";
        let warning = "qemu-system-x86_64: warning: host doesn't support requested feature";
        assert_eq!(complaint(&format!("{warning}\n{busy}\n")), Some(busy));
        assert_eq!(complaint(warning), None);
        assert_eq!(complaint(""), None);
    }

    #[test]
    fn results_are_remembered_by_key() {
        let known = remember("", "boot rust 1 2 works\n");
        let known = remember(&known, "boot c 1 2 fails\n");
        assert_eq!(recall(&known, "boot rust 1 2"), Some(true));
        assert_eq!(recall(&known, "boot c 1 2"), Some(false));
        assert_eq!(recall(&known, "boot rust 1 3"), None);
        let many = (0..20).fold(String::new(), |k, i| remember(&k, &format!("{i} works\n")));
        assert_eq!(many.lines().count(), 8);
    }
}
