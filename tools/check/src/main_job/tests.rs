// SPDX-License-Identifier: GPL-2.0

//! Tests of the report: from what the guest writes to what a person reads.

use std::time::Duration;

use super::*;
use host::variant::Variant;
use vm::outcome::End;

const RUST_GUP: &str = r#""gup", "implementation": "rust""#;

fn guest_report(digest: &str) -> String {
    format!(
        r#"{{
        "ok": true, "kernel": "6.12.117", "steps": [{{"name": "mount", "ok": true, "detail": "/mnt/dax"}}],
        "live": {{"kernel": "6.12.117",
            "registry": {{"name": "registry", "implementation": "rust", "evidence": []}},
            "pmem_driver": {{"name": "pmem driver", "implementation": "rust", "evidence": []}},
            "fs_dax": {{"name": "fs dax", "implementation": "rust", "evidence": []}},
            "gup": {{"name": "gup", "implementation": "rust", "evidence": []}}}},
        "namespace": {{"dev": "namespace2.0", "mode": "fsdax", "map": "dev", "size": 1073741824, "align": 2097152}},
        "mappings": {{"pmd": 40, "pte": 3, "pmd_fallback": 0, "other": 0}},
        "direct_read_mappings": {{"pmd": 32, "pte": 0, "pmd_fallback": 0, "other": 0}},
        "direct_read": {{"bytes": 67108864, "sha256": "{digest}", "ok": true}},
        "pinned_peak": 4096, "dax_pmd": {{"passed": true, "cases": ["a", "b"], "output": ""}},
        "destroyed": true }}"#
    )
}

fn built() -> Built {
    Built {
        variant: Variant::Rust,
        bzimage: "/b/bzImage".into(),
        modules: "/b/m".into(),
        nfit_modules: "/b/n".into(),
        release_string: "6.12.117".into(),
        source: "/s".into(),
        _copies: None,
    }
}

fn outcome(report: Option<&str>) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    fs_err::create_dir(dir.path().join("job")).unwrap();
    if let Some(text) = report {
        fs_err::write(dir.path().join("job").join(REPORT), text).unwrap();
    }
    Outcome {
        end: End::Exited(0),
        splats: Vec::new(),
        missing: Vec::new(),
        allow_splat: false,
        leaks: None,
        note: None,
        tail: Vec::new(),
        lines: Vec::new(),
        console: "/c".into(),
        accel: Accel::Tcg,
        boot: Some(Duration::from_secs(8)),
        total: Duration::from_secs(20),
        timeout: TIMEOUT,
        dir,
    }
}

#[test]
fn a_good_report() {
    let json = guest_report("abc");
    let report: Report = serde_json::from_str(&json).unwrap();
    let out = outcome(Some(&json));
    assert_eq!(problems(&report, "abc", &built(), &out), [""; 0]);
    let t = text(&report, &built(), &out);
    for part in [
        "kernel            Linux 6.12.117 (variant rust)",
        "registry          Rust",
        "gup               Rust",
        "namespace2.0: fsdax, 1024 MiB, map dev, align 2 MiB",
        "40 of 2 MiB, 3 of 4 KiB",
        "64 MiB from a virtio disk into 32 mappings",
        "4096 pages (16 MiB)",
        "2 cases passed",
        "namespace destroyed",
        "booted in 8.0 s",
    ] {
        assert!(t.contains(part), "{part} is not in:\n{t}");
    }
}

#[test]
fn other_data_fails() {
    let json = guest_report("abc");
    let report: Report = serde_json::from_str(&json).unwrap();
    let p = problems(&report, "def", &built(), &outcome(Some(&json)));
    assert_eq!(
        p,
        ["the direct read returned other data than the disk holds"]
    );
}

#[test]
fn the_wrong_implementation_fails() {
    let json = guest_report("abc");
    let report: Report = serde_json::from_str(&json).unwrap();
    let c = Built {
        variant: Variant::C,
        ..built()
    };
    // All four are Rust, none should be.
    assert_eq!(problems(&report, "abc", &c, &outcome(Some(&json))).len(), 4);
    // One is C, and should be Rust.
    let json = json.replacen(RUST_GUP, &RUST_GUP.replace("rust", "c"), 1);
    let report: Report = serde_json::from_str(&json).unwrap();
    let p = problems(&report, "abc", &built(), &outcome(Some(&json)));
    assert_eq!(
        p,
        ["the gup is not the implementation that this variant has"]
    );
}

#[test]
fn a_guest_without_a_report_fails() {
    let mut out = outcome(None);
    out.end = End::Died;
    let p = problems(&Report::default(), "abc", &built(), &out);
    assert_eq!(
        p,
        [
            "the guest ended with status 98",
            "the guest wrote no report"
        ]
    );
}

#[test]
fn a_job_that_stopped_early_names_the_step() {
    let json =
        r#"{"ok": false, "steps": [{"name": "namespace", "ok": false, "detail": "no room"}]}"#;
    let report: Report = serde_json::from_str(json).unwrap();
    let p = problems(&report, "abc", &built(), &outcome(Some(json)));
    assert_eq!(p[0], "namespace: no room");
    assert!(p.len() > 1);
}

#[test]
fn the_data_is_the_same_each_time_and_no_page_twice() {
    let a = pseudo_random(1 << 20);
    assert_eq!(a, pseudo_random(1 << 20));
    let pages: std::collections::HashSet<_> = a.chunks(4096).collect();
    assert_eq!(pages.len(), 256);
}
