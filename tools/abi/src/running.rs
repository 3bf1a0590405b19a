// SPDX-License-Identifier: GPL-2.0

//! The facts of a running guest: `guest-test abi` writes those of its areas as
//! one JSON document. Both variants are booted once, on the same machine.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use fs_err as fs;
use serde::Deserialize;

use super::facts::{compare, Area, Compared, Facts};
use host::kernel::Built;
use host::paths::Paths;
use host::progress::Step;
use kbuild::program;
use vm::guest;
use vm::options::GuestOptions;
use vm::rootfs;

/// File that the guest writes, in the job folder.
const DOCUMENT: &str = "abi.json";

/// Time limit of a guest.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// The guest's document.
#[derive(Debug, Deserialize)]
struct Document {
    kernel: String,
    areas: BTreeMap<Area, Facts>,
    #[serde(default)]
    notes: Vec<String>,
}

/// Boots both kernels and compares their documents.
pub fn compare_guests(
    paths: &Paths,
    built: &[Built; 2],
    areas: &mut BTreeMap<Area, Compared>,
) -> Result<()> {
    let program = program::build(paths)?;
    let [c, rust] = built;
    let c = ask(paths, c, &program)?;
    let rust = ask(paths, rust, &program)?;
    add(&c, &rust, areas)
}

fn add(c: &Document, rust: &Document, areas: &mut BTreeMap<Area, Compared>) -> Result<()> {
    for area in Area::RUNNING {
        let facts = |document: &Document| {
            let facts = document.areas.get(&area).cloned();
            facts.with_context(|| {
                format!(
                    "the guest with Linux {} reported nothing about the area {}",
                    document.kernel,
                    area.name()
                )
            })
        };
        let mut compared = compare(area, &facts(c)?, &facts(rust)?);
        if area == Area::Errno {
            compared.notes = c.notes.clone();
            compared
                .notes
                .extend(rust.notes.iter().filter(|n| !c.notes.contains(n)).cloned());
        }
        areas.insert(area, compared);
    }
    Ok(())
}

fn ask(paths: &Paths, built: &Built, program: &Path) -> Result<Document> {
    let image = rootfs::guest_image(paths, built)?;
    let options = GuestOptions {
        timeout: LIMIT,
        copy: vec![program.to_owned()],
        ..GuestOptions::default()
    };
    let command = format!(
        "./{} abi --expect {} --json /host/job/{DOCUMENT}",
        program::NAME,
        built.variant.language()
    );
    let log = paths.log(&format!("abi-{}", built.variant));
    let mut file = fs::File::create(&log)?;
    let label = format!("Asking a guest with the {} kernel", built.variant);
    let mut step = Step::start(&label, None, &log);
    let mut lines = 0;
    let outcome = guest::run_with(paths, built, &image, &options, &command, &mut |bytes| {
        // The log is for people; the document is what counts.
        let _ = file.write_all(bytes);
        let text = String::from_utf8_lossy(bytes);
        if let Some(line) = text.lines().last() {
            lines += text.lines().count() as u64;
            step.set(lines, line);
        }
    })?;
    if outcome.status() != 0 {
        eprint!("{}", outcome.explain());
        bail!(
            "the guest with the {} kernel ended with status {}; its output: {}",
            built.variant,
            outcome.status(),
            log.display()
        );
    }
    let text = outcome
        .job_file(DOCUMENT)
        .context("the guest wrote no document")?;
    step.done();
    serde_json::from_str(&text).context(
        "the guest's document is not what this harness expects; was the guest's program built \
         from other sources?",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shortened documents of guests of both variants.
    const C: &str = r#"{"kernel":"6.12.117","notes":["skipped: x"],"areas":{
        "sysfs":{"/sys/bus/nd":"folder 755"},"value":{},"tracepoint":{},
        "debugfs":{"/sys/kernel/debug/bdi":"folder 755"},
        "errno":{"devdax: map privately":"EINVAL"}}}"#;
    const RUST: &str = r#"{"kernel":"6.12.117","areas":{
        "sysfs":{"/sys/bus/nd":"folder 755"},"value":{},"tracepoint":{},
        "debugfs":{"/sys/kernel/debug/bdi":"folder 755",
                   "/sys/kernel/debug/dev_pagemap":"folder 755"},
        "errno":{"devdax: map privately":"0"}}}"#;

    #[test]
    fn documents_of_two_guests() {
        let (c, rust) = (
            serde_json::from_str(C).unwrap(),
            serde_json::from_str(RUST).unwrap(),
        );
        let mut areas = BTreeMap::new();
        add(&c, &rust, &mut areas).unwrap();
        assert!(areas[&Area::Sysfs].differences.is_empty());
        assert_eq!(
            areas[&Area::Debugfs].differences[0].name,
            "/sys/kernel/debug/dev_pagemap"
        );
        let errno = &areas[&Area::Errno];
        assert_eq!(errno.differences[0].rust.as_deref(), Some("0"));
        assert_eq!(errno.notes, ["skipped: x"]);
    }

    #[test]
    fn an_area_that_is_missing_is_named() {
        let document: Document = serde_json::from_str(r#"{"kernel":"6.12","areas":{}}"#).unwrap();
        let err = add(&document, &document, &mut BTreeMap::new()).unwrap_err();
        assert!(err.to_string().contains("sysfs"), "{err}");
    }
}
