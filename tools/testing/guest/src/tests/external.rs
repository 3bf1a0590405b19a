// SPDX-License-Identifier: GPL-2.0

//! External suites on real memory: ndctl's tests that need no nfit_test, and
//! the kernel's hmm-tests.

use crate::command::Output;
use crate::filesystem::unmount_devices;
use crate::memory::SystemThp;
use crate::suites::{dax_pmd, tap, Ndctl, SKIPPED};
use crate::tests::prelude::*;

/// ndctl's own tests: name, limit in seconds.
pub const NDCTL_TESTS: &[(&str, u64)] = &[
    ("dax-dev", 60),
    ("device-dax", 240),
    ("hugetlb", 60),
    ("pmem-ns", 120),
    ("revoke_devmem", 60),
    ("dax-ext4.sh", 300),
    ("dax-xfs.sh", 300),
    ("align.sh", 300),
    ("sub-section.sh", 300),
    ("dm.sh", 120),
    ("daxctl-devices.sh", 300),
    ("device-dax-fio.sh", 300),
    ("mmap.sh", 1500),
];

declare! { on_real_pmem }
fn on_real_pmem() -> Vec<Test> {
    const DOC: &str = "this test of ndctl fails; its last lines show the place";
    let test = |(name, limit): &'static (&str, u64)| {
        Test::new(format!("suite::{name}"), limit + 30, DOC, || {
            run(name, *limit)
        })
    };
    NDCTL_TESTS.iter().map(test).collect()
}

/// Runs one of ndctl's tests and removes what it leaves: some do not clean up
/// after a failure, and dm.sh expects a link that udev would have created.
fn run(name: &str, limit_secs: u64) -> Result<String> {
    let before = ndctl::namespaces("")?;
    let out = program(name)?.limit_secs(limit_secs).run();
    let tidied = put_away(&before);
    let detail = judge(name, &out?)?;
    let left = tidied?;
    Ok(match left.is_empty() {
        true => detail,
        false => format!("{detail}the test did not clean up: {}", left.join(", ")),
    })
}

pub fn put_away(before: &[ndctl::Info]) -> Result<Vec<String>> {
    unmount_devices(&["/dev/pmem", "/dev/mapper/"])?;
    if Path::new("/dev/mapper/test_pmem").exists() {
        Cmd::new("dmsetup remove test_pmem")
            .env("DM_DISABLE_UDEV", "1")
            .ok()?;
    }
    ndctl::restore(before)
}

/// Returns one of ndctl's programs, or the reason for its absence.
pub fn program(name: &str) -> Result<Cmd> {
    Ndctl::find()
        .ok_or_else(|| Skip("the guest has no built ndctl".into()))?
        .command(name)
        .ok_or_else(|| Skip(format!("ndctl's {name} was not built")).into())
}

/// Evaluates the exit status of one of ndctl's tests.
pub fn judge(name: &str, out: &Output) -> Result<String> {
    let text = out.all();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    // A script reports where it fails, and cleans up after that.
    let end = lines
        .iter()
        .position(|l| l.contains(": failed at line "))
        .map_or(lines.len(), |at| at + 1);
    let tail = lines[end.saturating_sub(6)..end].join(" | ");
    if out.code() == SKIPPED {
        skip!("{name} skips itself: {tail}");
    }
    if let Some(missing) = lacking(&text) {
        skip!("{name} needs {missing}, which the guest lacks");
    }
    // device-dax measures the speed of uncached memory; an emulated CPU is
    // slower than that.
    if text.contains("verify loop took too long") {
        skip!("{name} takes the emulated CPU for uncached memory: {tail}");
    }
    ensure!(
        out.status.success(),
        "{name} failed with exit status {}: {tail}",
        out.code()
    );
    Ok(String::new())
}

/// Returns the first command that the shell did not find.
fn lacking(text: &str) -> Option<&str> {
    text.lines()
        .find_map(|l| l.strip_suffix(": command not found"))
        .and_then(|l| l.rsplit(": ").next())
}

declare! {
    /// one of ndctl's O_DIRECT, fork, remap and poison cases on an fsdax file fails, or is not done
    /// in pages of 2 MiB
    "suite::dax-pmd", 300 s, essential => pmd
}
fn pmd() -> Result<String> {
    if Ndctl::find().is_none() {
        skip!("the guest has no built ndctl");
    }
    let target = Target::create(&want(Mode::Fsdax, 2 * MIB, Map::Dev, Bus::Acpi), 256 * MIB)?;
    let trace = FaultTrace::start()?;
    if let Some(mount) = &target.mount {
        let result = dax_pmd(&mount.path("data"))?;
        ensure!(result.passed, "dax-pmd failed: {}", result.output);
    }
    let faults = trace.take()?;
    // The last case touches a page that it has poisoned: under the VMA lock,
    // and again under the mmap lock.
    ensure!(
        faults.pmd >= 10 && faults.pmd_fallback <= 2,
        "ten faults of 2 MiB at least were expected, and none that falls back but at the poison: {faults:?}"
    );
    drop(trace);
    target.finish()?;
    Ok(format!("all cases, {} faults of 2 MiB", faults.pmd))
}

declare! { hmm_tests }
fn hmm_tests() -> Vec<Test> {
    const DOC: &str =
        "a test of hmm-tests fails: pages of device memory are not allocated, migrated, shared or freed \
         as they should be, or test_hmm cannot be unloaded because memunmap_pages() hangs";
    const COHERENT: &str = "spm_addr_dev0=0x200000000 spm_addr_dev1=0x210000000";
    let tests = vec![
        Test::new("suite::hmm-private", 300, DOC, || hmm("")),
        Test::new("suite::hmm-coherent", 300, DOC, || hmm(COHERENT)),
    ];
    mark_essential(tests, &[])
}

fn hmm(parameters: &str) -> Result<String> {
    const PROGRAM: &str = "/usr/local/bin/hmm-tests";
    if !Path::new(PROGRAM).exists() {
        skip!("the guest has no {PROGRAM}");
    }
    // Three of them expect small pages where no program asks for others, and fail with either GUP.
    let _huge = SystemThp::set("madvise")?;
    let load = Cmd::new("modprobe test_hmm").arg_words(parameters).run()?;
    if !load.status.success() {
        skip!("test_hmm cannot be loaded: {}", load.stderr.trim());
    }
    let out = Cmd::new(PROGRAM).limit_secs(240).run();
    let unload = Cmd::new("modprobe -r test_hmm").limit_secs(60).ok();
    let out = out?;
    unload?;
    let (passed, failed) = tap(&out);
    // Each has 30 s, of which one takes 25 with KASAN on an idle machine.
    let late = match system::is_slow()? {
        true => out.all().matches(": Test terminated by timeout").count(),
        false => 0,
    };
    ensure!(
        failed.len() <= late && (out.status.success() || late > 0) && passed > 0,
        "{passed} passed; {}; exit status {}",
        failed.join("; "),
        out.code()
    );
    Ok(format!("{passed} tests, {late} cut off after 30 s"))
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn missing_commands_are_named() {
        let text = "+ x\n/usr/src/ndctl/test/track-uuid.sh: line 34: uuidgen: command not found\n";
        assert_eq!(lacking(text), Some("uuidgen"));
        assert_eq!(lacking("all is well\n"), None);
    }
}
