// SPDX-License-Identifier: GPL-2.0

//! The kernel crate's documentation, by the kernel's own `make rustdoc`.

use std::path::PathBuf;

use anyhow::{bail, Result};

use crate::command::run_logged;
use crate::diagnostics::{ours, Collector};
use crate::files::{self, Fingerprint};
use crate::kbuild::kernel_make;
use crate::kconfig;
use crate::lock::cache_lock;
use crate::paths::Paths;
use crate::progress::Step;
use crate::source;
use crate::toolchain::Toolchain;
use crate::variant::Variant;

/// Makes the documentation and returns its first page. A warning in a file of
/// ours is an error. Nothing is done while the last result still holds.
pub fn run(paths: &Paths) -> Result<PathBuf> {
    let _lock = cache_lock(paths, "making the documentation")?;
    let tc = Toolchain::find(paths)?;
    let source = source::prepare(paths)?;
    // `make rustdoc` needs what `make prepare` makes and touches no object.
    let dir = paths.build(Variant::Rust);
    let log = paths.log("rustdoc");
    files::remove_file(&log)?;
    kconfig::configure(paths, &source, Variant::Rust.fragments(), &dir, &tc, &log)?;

    let index = dir.join("Documentation/output/rust/rustdoc/kernel/index.html");
    let stamp = dir.join(".rust-dax-rustdoc");
    let mut digest = Fingerprint::default();
    digest.add("source", source.digest.as_bytes());
    digest.add("toolchain", tc.id.as_bytes());
    let digest = digest.finish();
    if index.is_file() && std::fs::read_to_string(&stamp).ok().as_deref() == Some(&digest) {
        return Ok(index);
    }
    files::remove_file(&stamp)?;

    let mut step = Step::start("Documentation of the kernel crate", None, &log);
    let mut cmd = kernel_make(paths, &source, &dir, &tc);
    cmd.arg("rustdoc");
    let mut collector = Collector::default();
    let mut lines = 0;
    let result = run_logged(&mut cmd, &log, |line| {
        lines += 1;
        if line.starts_with("  ") && !line.starts_with("   ") {
            step.set(lines, line.trim());
        }
        collector.line(line);
    });
    let found = collector.finish();
    let found = ours(&found, &source.overlay);
    if !found.is_empty() {
        let text: Vec<_> = found.iter().map(|d| d.text.as_str()).collect();
        bail!(
            "rustdoc warns of our files:\n{}\nthe whole log: {}",
            text.join("\n\n"),
            log.display()
        );
    }
    result?;
    if !index.is_file() {
        bail!("rustdoc made no {}", index.display());
    }
    step.done();
    files::write_atomic(&stamp, digest.as_bytes(), false)?;
    Ok(index)
}
