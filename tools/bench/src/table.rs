// SPDX-License-Identifier: GPL-2.0

//! The table for the terminal.

use comfy_table::{presets, CellAlignment, Table};

use super::report::{number, percent, ratio, Report, Row, State};

/// Formats the rows, then throughput if there is any, then what was left out.
pub fn text(report: &Report) -> String {
    let mut text = rows(report);
    for row in &report.rows {
        if let Some(why) = &row.why {
            text.push_str(&format!("\nno ratio for {}: {why}", row.row));
        }
    }
    if !report.wall.is_empty() {
        text.push_str("\n\nBy the clock on the wall: noisy, and no verdict follows from it.\n\n");
        text.push_str(&wall(report));
    }
    text.push('\n');
    for remark in &report.remarks {
        text.push_str(&format!("\n{remark}"));
    }
    for problem in &report.problems {
        text.push_str(&format!("\nPROBLEM: {problem}"));
    }
    text.push_str(&format!("\n{}.\n", report.summary()));
    text
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Returns the table's lines without trailing blanks.
fn lines(table: &Table) -> String {
    table.trim_fmt()
}

fn rows(report: &Report) -> String {
    let counted = report
        .rows
        .iter()
        .any(|r| r.c_counts.is_some() || r.rust_counts.is_some());
    let mut header = vec!["row", "C", "Rust", "Rust/C", "spread"];
    if counted {
        header.extend(["locked C/Rust", "loads C/Rust", "stores C/Rust"]);
    }
    let mut table = table(&header);
    for group in report.groups() {
        for unit in units(report, group) {
            table.add_row([format!("{group}, {unit}")]);
            for row in report.in_group(group).filter(|r| r.unit == unit) {
                table.add_row(cells(row, counted));
            }
        }
    }
    lines(&table)
}

/// Returns the units in a group, in the order of its rows.
pub fn units<'a>(report: &'a Report, group: &'a str) -> Vec<&'a str> {
    let mut units: Vec<&str> = Vec::new();
    for row in report.in_group(group) {
        if !units.contains(&row.unit.as_str()) {
            units.push(&row.unit);
        }
    }
    units
}

fn cells(row: &Row, counted: bool) -> Vec<String> {
    let mut cells = vec![
        format!("  {}", row.short()),
        row.c.map(number).unwrap_or_default(),
        row.rust.map(number).unwrap_or_default(),
        verdict(row),
        row.spread.map(percent).unwrap_or_default(),
    ];
    if counted {
        let pair = |get: fn(&super::counts::PerOp) -> f64| pair(row, get);
        cells.extend([pair(|c| c.locked), pair(|c| c.loads), pair(|c| c.stores)]);
    }
    cells
}

/// Returns the ratio, or a word on why there is none.
pub fn verdict(row: &Row) -> String {
    match (row.ratio, row.state) {
        (Some(r), _) => ratio(r),
        (None, State::Unsteady) => "unsteady".into(),
        (None, _) => "none".into(),
    }
}

/// Formats the counts of both kernels in one cell.
pub fn pair(row: &Row, get: impl Fn(&super::counts::PerOp) -> f64) -> String {
    let one = |counts: &Option<super::counts::PerOp>| {
        let shown = counts.as_ref().map(|c| number(get(c)));
        shown.unwrap_or_else(|| "?".into())
    };
    match (&row.c_counts, &row.rust_counts) {
        (None, None) => String::new(),
        (c, rust) => format!("{}/{}", one(c), one(rust)),
    }
}

fn wall(report: &Report) -> String {
    let mut table = table(&["row", "C, median (range)", "Rust", "unit"]);
    for row in &report.wall {
        let [c, rust] = row.ranges();
        let unit = row.why.as_ref().unwrap_or(&row.unit);
        table.add_row([&row.row, &c, &rust, unit]);
    }
    lines(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn what_a_person_sees() {
        let text = text(&report());
        println!("{text}");
        let line = |start: &str| {
            let found = text.lines().find(|l| l.trim_start().starts_with(start));
            let words = found.unwrap_or_default().split_whitespace();
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            line("fsdax-2m/pin-fast/write/n=1/get"),
            [
                "fsdax-2m/pin-fast/write/n=1/get",
                "629.0",
                "62.90",
                "0.10",
                "0.10",
                "%",
                "2.00/2.00",
                "90.00/90.00",
                "41.50/41.50"
            ]
        );
        assert_eq!(line("jumpy"), ["jumpy", "unsteady", "50", "%"]);
        assert_eq!(line("skipped"), ["skipped", "none"]);
        assert!(text.contains("\nno ratio for lookup/skipped: skipped: not in this kernel"));
        assert_eq!(
            line("fio/libpmem/read").join(" "),
            "fio/libpmem/read 950.0 (900.0 .. 1,000) 950.0 (950.0 .. 950.0) MiB/s"
        );
        assert!(text.contains("\n gup, instructions/page"));
    }

    #[test]
    fn no_columns_without_the_plugin() {
        let mut report = report();
        for row in &mut report.rows {
            (row.c_counts, row.rust_counts) = (None, None);
        }
        assert!(!text(&report).contains("locked"));
    }
}
