// SPDX-License-Identifier: GPL-2.0

//! The chart: a bar of the ratio per row, on a logarithmic axis, so that one
//! half and two have bars of the same length. In a group with too many rows,
//! some share a line: then the bar is their mean, and each is a dot.

use std::fmt::Display;

use anyhow::{anyhow, Result};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::{ratio, Report, Row, State};
use super::steady::LIMIT;
use super::table::units;

const WIDTH: u32 = 960;
/// Width of the names.
const LABELS: i32 = 380;
const RIGHT: i32 = 60;
const TOP: i32 = 74;
const BOTTOM: i32 = 34;
/// Heights of a row and of a group's heading.
const LINE: f64 = 16.0;
const HEADING: f64 = 30.0;

/// Maximum number of lines of a group, for readability.
const MOST: usize = 24;

/// Ticks of the axis.
const TICKS: [f64; 13] = [
    0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0, 1000.0,
];

pub const FEWER: RGBColor = RGBColor(15, 118, 110);
pub const MORE: RGBColor = RGBColor(185, 28, 28);
pub const SAME: RGBColor = RGBColor(110, 120, 135);
const INK: RGBColor = RGBColor(30, 35, 45);
const FAINT: RGBColor = RGBColor(215, 219, 226);

/// An entry of the chart.
enum Entry<'a> {
    Heading(String),
    /// One row, or several with the same first parts of their names.
    Line(String, Vec<&'a Row>),
}

impl Entry<'_> {
    fn height(&self) -> f64 {
        match self {
            Entry::Heading(_) => HEADING,
            Entry::Line(..) => LINE,
        }
    }
}

/// Converts an error of the drawing library, which borrows the chart, into one
/// of ours.
pub fn cannot(e: impl Display) -> anyhow::Error {
    anyhow!("cannot draw: {e}")
}

/// Draws the chart, as SVG.
pub fn svg(report: &Report) -> Result<String> {
    let entries = entries(report);
    let body: f64 = entries.iter().map(Entry::height).sum();
    let height = TOP + body.ceil() as i32 + BOTTOM;
    let mut text = String::new();
    {
        let size = (WIDTH, height.unsigned_abs());
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(cannot)?;
        let chart = ChartBuilder::on(&root)
            .margin_left(LABELS)
            .margin_right(RIGHT)
            .margin_top(TOP)
            .margin_bottom(BOTTOM)
            .build_cartesian_2d(axis(report).log_scale(), body..0.0)
            .map_err(cannot)?;
        let at = |ratio: f64, y: f64| chart.backend_coord(&(ratio, y));
        let say = |what: &str, at: (i32, i32), size: i32, colour: RGBColor, side: HPos| {
            let style = ("sans-serif", size).into_font().color(&colour);
            let style = style.pos(Pos::new(side, VPos::Center));
            root.draw(&Text::new(what.to_owned(), at, style))
                .map_err(cannot)
        };
        let line = |from: (i32, i32), to: (i32, i32), colour: RGBColor| {
            root.draw(&PathElement::new(vec![from, to], colour))
                .map_err(cannot)
        };

        let title = "Guest instructions per operation, Rust / C";
        say(title, (16, 20), 19, INK, HPos::Left)?;
        let about = &report.about;
        let below = format!(
            "Linux {}, {}, commit {}{}. Left of 1 the Rust kernel needs fewer.",
            about.kernel_rust,
            about.date.get(..10).unwrap_or(&about.date),
            short(&about.commit),
            if about.quick { ", QUICK=1" } else { "" }
        );
        say(&below, (16, 42), 13, SAME, HPos::Left)?;

        let range = axis(report);
        for tick in TICKS.into_iter().filter(|t| range.contains(t)) {
            let (x, _) = at(tick, 0.0);
            let colour = if tick == 1.0 { INK } else { FAINT };
            line((x, TOP), (x, height - BOTTOM), colour)?;
            for y in [TOP - 10, height - BOTTOM + 12] {
                say(&tick.to_string(), (x, y), 12, INK, HPos::Center)?;
            }
        }

        let mut y = 0.0;
        for entry in &entries {
            let middle = y + entry.height() / 2.0;
            match entry {
                Entry::Heading(name) => {
                    let (_, py) = at(1.0, middle + 3.0);
                    say(name, (16, py), 14, INK, HPos::Left)?;
                }
                Entry::Line(name, rows) => {
                    let (one, py) = at(1.0, middle);
                    say(name, (LABELS - 10, py), 12, INK, HPos::Right)?;
                    let ratios: Vec<f64> = rows.iter().filter_map(|r| r.ratio).collect();
                    let place = |r: f64| at(r.clamp(range.start, range.end), middle).0;
                    let mut right = one + 1;
                    if let Some(mean) = geometric_mean(&ratios) {
                        let x = place(mean);
                        // A ratio of one has a bar too.
                        let (from, to) = (one.min(x) - 1, one.max(x) + 1);
                        let bar = [(from, py - 5), (to, py + 5)];
                        let (colour, side) = colour(mean);
                        root.draw(&Rectangle::new(bar, colour.filled()))
                            .map_err(cannot)?;
                        let (mut left, dots) = (from, ratios.len() > 1);
                        right = to;
                        for dot in ratios.iter().filter(|_| dots).map(|r| place(*r)) {
                            root.draw(&Circle::new((dot, py), 3, INK.mix(0.5).filled()))
                                .map_err(cannot)?;
                            left = left.min(dot - 3);
                            right = right.max(dot + 3);
                        }
                        match side {
                            HPos::Right => say(&ratio(mean), (left - 4, py), 11, INK, side)?,
                            _ => {
                                say(&ratio(mean), (right + 4, py), 11, INK, side)?;
                                right += 30;
                            }
                        }
                    }
                    say(&without(rows), (right + 6, py), 11, MORE, HPos::Left)?;
                }
            }
            y += entry.height();
        }
        root.present().map_err(cannot)?;
    }
    Ok(text)
}

/// Returns the colour of a ratio, and the side of its bar on which the number
/// is.
fn colour(value: f64) -> (RGBColor, HPos) {
    match value {
        v if v < 1.0 - LIMIT => (FEWER, HPos::Right),
        v if v > 1.0 + LIMIT => (MORE, HPos::Left),
        _ => (SAME, HPos::Left),
    }
}

fn entries(report: &Report) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    for group in report.groups() {
        for unit in units(report, group) {
            entries.push(Entry::Heading(format!("{group}, {unit}")));
            let rows: Vec<&Row> = report.in_group(group).filter(|r| r.unit == unit).collect();
            entries.extend(lines(&rows).into_iter().map(|(name, rows)| {
                let name = match rows.len() {
                    1 => rows[0].short().to_owned(),
                    n => format!("{name} ({n} rows)"),
                };
                Entry::Line(name, rows)
            }));
        }
    }
    entries
}

/// Returns a line for each row; in a large group one for all rows whose names
/// have the same first parts, with the number of parts that makes the group
/// fit.
fn lines<'a>(rows: &[&'a Row]) -> Vec<(String, Vec<&'a Row>)> {
    let longest = rows.iter().map(|r| r.short().split('/').count()).max();
    let mut depth = longest.unwrap_or(1);
    loop {
        let mut lines: Vec<(String, Vec<&Row>)> = Vec::new();
        for row in rows {
            let parts: Vec<&str> = row.short().split('/').take(depth).collect();
            let name = parts.join("/");
            match lines.iter_mut().find(|(n, _)| *n == name) {
                Some((_, same)) => same.push(row),
                None => lines.push((name, vec![row])),
            }
        }
        if lines.len() <= MOST || depth == 1 {
            return lines;
        }
        depth -= 1;
    }
}

/// Returns the geometric mean of ratios: that of one half and two is one.
fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    let sum: f64 = ratios.iter().map(|r| r.max(1e-6).ln()).sum();
    (!ratios.is_empty()).then(|| (sum / ratios.len() as f64).exp())
}

/// Returns the note on rows without a ratio.
fn without(rows: &[&Row]) -> String {
    let count = |state| rows.iter().filter(|r| r.state == state).count();
    let kinds = [
        (State::Unsteady, "unsteady"),
        (State::Missing, "not measured"),
    ];
    let texts = kinds
        .iter()
        .filter_map(|(state, what)| match count(*state) {
            0 => None,
            1 if rows.len() == 1 => Some((*what).to_owned()),
            n => Some(format!("{n} {what}")),
        });
    texts.collect::<Vec<_>>().join(", ")
}

/// Returns the axis, from below the smallest ratio to above the largest, with
/// room for numbers.
fn axis(report: &Report) -> std::ops::Range<f64> {
    let ratios = || report.rows.iter().filter_map(|r| r.ratio);
    let low = ratios().fold(0.5, f64::min).max(0.0005);
    let high = ratios().fold(2.0, f64::max).min(2000.0);
    low * 0.6..high * 1.4
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn every_row_is_in_the_picture() {
        let report = report();
        let svg = svg(&report).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        for row in &report.rows {
            let name = row.short().replace('<', "&lt;").replace('>', "&gt;");
            assert!(svg.contains(&name), "{name}");
        }
        for text in ["unsteady", "not measured", "0.10", "2026-01-01", "QUICK=1"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(svg.matches("<rect").count() >= 5, "a bar per steady row");
        assert_eq!(svg.matches("<circle").count(), 0);
    }

    #[test]
    fn many_rows_share_lines() {
        let mut report = report();
        let first = report.rows.remove(0);
        report.rows.clear();
        for mapping in ["anon", "devdax", "fsdax"] {
            for n in 0..20 {
                let mut row = first.clone();
                row.row = format!("gup/{mapping}/write/n={n}");
                report.rows.push(row);
            }
        }
        report.rows[0].ratio = None;
        report.rows[0].state = State::Unsteady;
        let svg = svg(&report).unwrap();
        assert!(svg.contains("devdax/write (20 rows)"), "{svg}");
        assert!(svg.contains("1 unsteady"));
        assert_eq!(svg.matches("<circle").count(), 59);
    }

    #[test]
    fn a_half_and_a_double_make_one() {
        assert!((geometric_mean(&[0.5, 2.0]).unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(geometric_mean(&[]), None);
    }

    #[test]
    fn an_empty_report_is_no_error() {
        let mut report = report();
        report.rows.clear();
        assert!(svg(&report).is_ok());
    }

    #[test]
    fn the_axis_holds_every_ratio() {
        let mut report = report();
        report.rows[0].ratio = Some(0.0);
        report.rows[1].ratio = Some(f64::INFINITY);
        let axis = axis(&report);
        assert!(axis.start > 0.0 && axis.end.is_finite());
        assert!(svg(&report).is_ok());
    }
}
