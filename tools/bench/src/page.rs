// SPDX-License-Identifier: GPL-2.0

//! The page: a whole report in one file that needs no network.

use anyhow::Result;
use maud::{html, Markup, PreEscaped};
use plotters::style::RGBColor;

use super::report::{number, percent, Report, Row, State};
use super::slopes::{self, Slope};
use super::steady::LIMIT;
use super::table::{pair, units, verdict};

/// Explanation of the report.
const READING: &[&str] = &[
    "Each row is one operation, done many times by the same program on two kernels that differ in \
     nothing but the language of a few pieces. QEMU runs them on one virtual CPU whose clock \
     advances by one nanosecond per instruction, so the guest reads instructions off its clock, \
     and the figures are the same on any host.",
    "C and Rust are the instructions of one operation: the minimum of the repeats in a boot, and \
     the minimum of the boots. Spread is the distance between the boots of one kernel. A row whose \
     spread stays above 1 % is called unsteady and has no ratio. Rust/C below 1 means that the \
     Rust kernel needs fewer instructions.",
    "Locked instructions, loads and stores are counted in a separate pass, C before the slash \
     and Rust after it. A locked instruction costs some 20 others on a real CPU, and more when \
     CPUs compete for the line.",
];

/// Limits of the report.
const LIMITS: &[&str] = &[
    "Time. An instruction is not a nanosecond on a CPU: caches, TLBs, branch prediction and the \
     latency of the memory do not exist here. Fewer instructions, locked instructions and \
     references are an indication and not a proof.",
    "Contention. There is one virtual CPU; how the code behaves when many compete for a lock or \
     a counter is not measured.",
    "The memory. It is the host's RAM: no bandwidth limit of a module, and flushing costs \
     nothing.",
    "Other configurations. The kernels are small ones made for tests; config/base.config says \
     what is in them.",
];

const STYLE: &str = "
h1 { font-size: 1.5rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
table { border-collapse: collapse; background: #fff; width: 100%; }
th, td { padding: .18rem .6rem; border-bottom: 1px solid #e3e6eb; text-align: right;
         font-variant-numeric: tabular-nums; white-space: nowrap; }
th { font-weight: 600; color: #5a6478; }
td:first-child, th:first-child { text-align: left; white-space: normal; }
td.fewer { color: #0f766e; font-weight: 600; } td.more, .bad { color: #b91c1c; font-weight: 600; }
td.why, dd { color: #5a6478; text-align: left; white-space: normal; }
figure { margin: 0; background: #fff; border: 1px solid #e3e6eb; overflow-x: auto; }
figcaption { padding: .4rem .6rem 0; font-size: .85rem; overflow-wrap: anywhere; }
.slopes { display: grid; grid-template-columns: repeat(auto-fill, minmax(420px, 1fr)); gap: .8rem; }
.wide { overflow-x: auto; }
summary { cursor: pointer; padding: .3rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
";

/// Generates the page; `picture` is the SVG of all ratios.
pub fn html(report: &Report, picture: &str) -> Result<String> {
    let slopes = slope_charts(report)?;
    let body = html! {
        p { (report.summary()) "." }
        @for problem in &report.problems { p.bad { (problem) } }
        @for remark in &report.remarks { p { (remark) } }
        h2 { "How to read it" }
        @for paragraph in READING { p { (paragraph) } }
        h2 { "All ratios" }
        figure { (PreEscaped(picture)) }
        h2 { "All rows" }
        @for group in report.groups() {
            @for unit in units(report, group) {
                h3 { (group) ", " (unit) }
                div.wide { (table(report, group, unit)) }
            }
        }
        @if !slopes.is_empty() {
            h2 { "How it grows" }
            p { (line("C", slopes::C)) " " (line("Rust", slopes::RUST)) }
            @for (group, charts) in &slopes {
                details {
                    summary { (group) ", " (charts.len()) " charts" }
                    div.slopes {
                        @for (slope, svg) in charts {
                            figure {
                                figcaption { (slope.name) br; (slope.unit) }
                                (PreEscaped(svg))
                            }
                        }
                    }
                }
            }
        }
        @if !report.wall.is_empty() { (wall(report)) }
        h2 { "Limits" }
        ul { @for limit in LIMITS { li { (limit) } } }
        h2 { "Provenance" }
        (about(report))
    };
    Ok(report::html::page(
        "rust-dax: C and Rust side by side",
        STYLE,
        body,
    ))
}

/// Every slope of a group, with its chart.
type Charts = Vec<(Slope, String)>;

/// Draws the slopes of each group that has any.
fn slope_charts(report: &Report) -> Result<Vec<(String, Charts)>> {
    let mut groups: Vec<(String, Charts)> = Vec::new();
    for slope in slopes::find(report) {
        let chart = slopes::svg(&slope)?;
        match groups.iter_mut().find(|(group, _)| *group == slope.group) {
            Some((_, charts)) => charts.push((slope, chart)),
            None => groups.push((slope.group.clone(), vec![(slope, chart)])),
        }
    }
    Ok(groups)
}

fn line(name: &str, colour: RGBColor) -> Markup {
    let RGBColor(r, g, b) = colour;
    html! { b style=(format!("color: rgb({r}, {g}, {b})")) { "━ " (name) } }
}

fn table(report: &Report, group: &str, unit: &str) -> Markup {
    let rows: Vec<&Row> = report.in_group(group).filter(|r| r.unit == unit).collect();
    let counted = rows
        .iter()
        .any(|r| r.c_counts.is_some() || r.rust_counts.is_some());
    html! {
        table {
            tr {
                th { "row" } th { "C" } th { "Rust" } th { "Rust/C" } th { "spread" }
                @if counted { th { "locked" } th { "loads" } th { "stores" } }
            }
            @for row in rows {
                tr {
                    td title=(row.note) { (row.short()) }
                    @if let (None, State::Missing, Some(why)) = (row.ratio, row.state, &row.why) {
                        td.why colspan=(if counted { 7 } else { 4 }) { (why) }
                    } @else {
                        td { (row.c.map(number).unwrap_or_default()) }
                        td { (row.rust.map(number).unwrap_or_default()) }
                        td class=(class(row)) title=[row.why.as_ref()] { (verdict(row)) }
                        td { (row.spread.map(percent).unwrap_or_default()) }
                        @if counted {
                            td { (pair(row, |c| c.locked)) }
                            td { (pair(row, |c| c.loads)) }
                            td { (pair(row, |c| c.stores)) }
                        }
                    }
                }
            }
        }
    }
}

fn class(row: &Row) -> &'static str {
    match row.ratio {
        Some(r) if r < 1.0 - LIMIT => "fewer",
        Some(r) if r <= 1.0 + LIMIT => "",
        _ => "more",
    }
}

fn wall(report: &Report) -> Markup {
    html! {
        h2 { "By the clock on the wall" }
        p {
            "Throughput of whole programs, measured without -icount on "
            (report.about.wall_on.as_deref().unwrap_or("an emulated CPU"))
            ": the median of all samples and their range. It is noisy and depends on the host; it only shows "
            "that nothing is out of proportion, and no verdict follows from it."
        }
        div.wide { table {
            tr { th { "row" } th { "C" } th { "Rust" } th { "unit" } }
            @for row in &report.wall {
                tr {
                    td title=(row.note) { (row.row) }
                    @if let Some(why) = &row.why {
                        td.why colspan="3" { (why) }
                    } @else {
                        @for range in row.ranges() { td { (range) } }
                        td { (row.unit) }
                    }
                }
            }
        } }
    }
}

fn about(report: &Report) -> Markup {
    let a = &report.about;
    let rows = [
        ("date", a.date.as_str()),
        ("commit", &a.commit),
        ("C kernel", &a.kernel_c),
        ("Rust kernel", &a.kernel_rust),
        (
            "configuration (SHA-256, without our symbols)",
            &a.config_digest,
        ),
        ("machine", &a.qemu),
    ];
    html! {
        dl {
            @for (name, value) in rows { dt { (name) } dd { (value) } }
            dt { "boots" }
            dd {
                (a.boots) " of each kernel in a round, " (a.seconds) " seconds in all"
                @if a.quick { ", with QUICK=1" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart;
    use crate::report::tests::report;

    #[test]
    fn the_page_stands_alone() {
        let report = report();
        let picture = chart::svg(&report).unwrap();
        let page = html(&report, &picture).unwrap();
        assert!(page.contains(&picture));
        // Nothing is fetched: the only address is the namespace of SVG.
        assert_eq!(
            page.matches("http").count(),
            page.matches("http://www.w3.org/2000/svg").count()
        );
        for text in [
            "lookup/&lt;miss&gt;".trim_start_matches("lookup/"),
            "skipped: not in this kernel",
            "failed: no engine",
            "n=…/get",
            "d1d2",
        ] {
            assert!(page.contains(text), "{text}");
        }
        assert_eq!(page.matches("<svg").count(), 2);
    }
}
