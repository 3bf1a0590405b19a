// SPDX-License-Identifier: GPL-2.0

//! Tests of the report of an artificial recording, which the tests of the
//! table, the chart and the page use too.

use super::*;
use crate::protocol::parse_list;

const LIST: &str = r#"
{"row":"gup/fsdax-2m/pin-fast/write/n=1/get","group":"gup","unit":"instructions/page","note":"pins"}
{"row":"gup/fsdax-2m/pin-fast/write/n=16/get","group":"gup","unit":"instructions/page"}
{"row":"gup/fsdax-2m/pin-fast/write/n=512/get","group":"gup","unit":"instructions/page"}
{"row":"lookup/<miss>","group":"lookup","unit":"instructions"}
{"row":"lookup/jumpy","group":"lookup","unit":"instructions"}
{"row":"lookup/skipped","group":"lookup","unit":"instructions"}
{"row":"fio/libpmem/read","group":"fio","unit":"MiB/s","wall":true}
{"row":"fio/none","group":"fio","unit":"MiB/s","wall":true}
"#;

/// Returns the lines of a boot; `scale` multiplies every sample, `jump` one
/// row.
fn boot(pass: &str, side: &str, scale: f64, jump: f64) -> String {
    let mut text = format!(
        "{{\"pass\":\"{pass}\",\"side\":\"{side}\",\"machine\":\"standard\",\"round\":1}}\n"
    );
    let mut row = |name: &str, sample: f64, window: u32| {
        text.push_str(&format!(
            "{{\"bench\":\"row\",\"row\":\"{name}\",\"ops\":1000,\"samples\":[{},{sample}],\
             \"windows\":[{},{}]}}\n",
            sample * 1.5,
            2 * window,
            2 * window + 1
        ));
    };
    row("gup/fsdax-2m/pin-fast/write/n=1/get", 629.0 * scale, 0);
    row("gup/fsdax-2m/pin-fast/write/n=16/get", 181.0 * scale, 1);
    row("gup/fsdax-2m/pin-fast/write/n=512/get", 152.0 * scale, 2);
    row("lookup/<miss>", 40.0, 3);
    row("lookup/jumpy", 100.0 * jump, 4);
    text.push_str(
        "{\"bench\":\"skip\",\"row\":\"lookup/skipped\",\"why\":\"not in this kernel\"}\n",
    );
    text.push_str("{\"bench\":\"end\"}\n");
    if pass == "plugin" {
        text.push_str(&format!(
            "{{\"window\":1,\"instructions\":{},\"locked\":2000,\"loads\":90000,\"stores\":41500}}\n",
            629_000.0 * scale
        ));
    }
    text
}

fn wall(side: &str, samples: &str) -> String {
    format!(
        "{{\"pass\":\"wall\",\"side\":\"{side}\",\"machine\":\"standard\",\"round\":1}}\n\
         {{\"bench\":\"row\",\"row\":\"fio/libpmem/read\",\"samples\":{samples}}}\n\
         {{\"bench\":\"skip\",\"row\":\"fio/none\",\"why\":\"no engine\",\"failed\":true}}\n"
    )
}

/// Returns the report that the other tests examine.
pub fn report() -> Report {
    let text = [
        boot("icount", "c", 1.0, 1.0),
        boot("icount", "rust", 0.1, 1.0),
        boot("icount", "c", 1.001, 1.5),
        boot("icount", "rust", 0.1, 1.0),
        boot("plugin", "c", 1.0, 1.0),
        boot("plugin", "rust", 0.1, 1.0),
        wall("c", "[900,1000]"),
        wall("rust", "[950]"),
    ];
    let recording = Recording::parse(&text.concat()).unwrap();
    let about = About {
        date: "2026-01-01T00:00:00Z".into(),
        commit: "0123abc".into(),
        kernel_c: "6.12.1-c".into(),
        kernel_rust: "6.12.1-rust".into(),
        config_digest: "d1d2".into(),
        qemu: "QEMU emulator version 7.2.22".into(),
        wall_on: Some("TCG".into()),
        quick: true,
        boots: 2,
        seconds: 480,
    };
    Report::new(about, &parse_list(LIST).unwrap(), &recording)
}

#[test]
fn rows_have_figures_or_reasons() {
    let report = report();
    assert_eq!(report.groups(), ["gup", "lookup"]);
    let first = &report.rows[0];
    assert_eq!(first.short(), "fsdax-2m/pin-fast/write/n=1/get");
    assert_eq!(first.state, State::Steady);
    assert_eq!((first.c, first.rounds), (Some(629.0), 1));
    assert!((first.ratio.unwrap() - 0.1).abs() < 1e-9);
    assert!((first.spread.unwrap() - 0.001).abs() < 1e-9);
    assert_eq!(first.c_counts.unwrap().locked, 2.0);
    assert_eq!(first.rust_counts.unwrap().stores, 41.5);
    let jumpy = &report.rows[4];
    assert_eq!((jumpy.state, jumpy.ratio), (State::Unsteady, None));
    assert_eq!(jumpy.minima.as_ref().unwrap().c, [100.0, 150.0]);
    let skipped = &report.rows[5];
    assert_eq!(skipped.why.as_deref(), Some("skipped: not in this kernel"));
    assert_eq!(
        report.summary(),
        "6 rows: Rust needs fewer instructions than C in 3, as many (within 1 %) in 1, more in \
         0; 1 unsteady; 1 not measured"
    );
    assert!(!report.complete());
}

#[test]
fn wall_rows_stand_apart() {
    let report = report();
    assert_eq!(
        report.wall[0].ranges(),
        ["950.0 (900.0 .. 1,000)", "950.0 (950.0 .. 950.0)"]
    );
    assert_eq!(report.wall[1].ranges(), ["", ""]);
    assert_eq!(report.wall[1].why.as_deref(), Some("failed: no engine"));
}

#[test]
fn complete_means_all() {
    let mut report = report();
    report.rows.truncate(4);
    report.wall.truncate(1);
    assert!(report.complete());
    report.problems.push("the kernel reported something".into());
    assert!(!report.complete());
}

#[test]
fn json_round_trip() {
    let text = serde_json::to_string(&report()).unwrap();
    for key in [
        "\"ratio\":",
        "\"spread\":",
        "\"config_digest\":\"d1d2\"",
        "\"state\":\"unsteady\"",
    ] {
        assert!(text.contains(key), "{key}");
    }
    let back: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(back.rows.len(), 6);
}

#[test]
fn figures_for_people() {
    assert_eq!(number(0.0), "0.00");
    assert_eq!(number(10.04), "10.04");
    assert_eq!(number(152.04), "152.0");
    assert_eq!(number(1234567.4), "1,234,567");
    assert_eq!(number(-1000.0), "-1,000");
    assert_eq!(percent(0.0), "0 %");
    assert_eq!(percent(0.00001), "<0.01 %");
    assert_eq!(percent(0.0312), "3.12 %");
    assert_eq!(percent(0.5), "50 %");
    assert_eq!(ratio(0.0711), "0.071");
    assert_eq!(ratio(1.0), "1.00");
}
