// SPDX-License-Identifier: GPL-2.0

//! The picture: a bar of the ratio per row, on a logarithmic axis, so that
//! half as much and twice as much are equally long.

use std::fmt::Display;

use anyhow::{anyhow, Result};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::{ratio, Report, Row, State};
use super::steady::LIMIT;
use super::table::units;

const WIDTH: u32 = 960;
/// Room for the names.
const LABELS: i32 = 380;
const RIGHT: i32 = 60;
const TOP: i32 = 74;
const BOTTOM: i32 = 34;
/// Heights of a row and of a group's heading.
const LINE: f64 = 16.0;
const HEADING: f64 = 30.0;

/// Where the axis has lines.
const TICKS: [f64; 13] = [
    0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0, 1000.0,
];

pub const FEWER: RGBColor = RGBColor(15, 118, 110);
pub const MORE: RGBColor = RGBColor(185, 28, 28);
pub const SAME: RGBColor = RGBColor(110, 120, 135);
const INK: RGBColor = RGBColor(30, 35, 45);
const FAINT: RGBColor = RGBColor(215, 219, 226);

/// What stands in a line of the picture.
enum Entry<'a> {
    Heading(String),
    Row(&'a Row),
}

impl Entry<'_> {
    fn height(&self) -> f64 {
        match self {
            Entry::Heading(_) => HEADING,
            Entry::Row(_) => LINE,
        }
    }
}

/// An error of the drawing library as one of ours; its own borrow the picture.
pub fn cannot(e: impl Display) -> anyhow::Error {
    anyhow!("cannot draw: {e}")
}

/// Draws the picture, as SVG.
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
                Entry::Row(row) => {
                    let (one, py) = at(1.0, middle);
                    say(row.short(), (LABELS - 10, py), 12, INK, HPos::Right)?;
                    let Some(value) = row.ratio else {
                        let what = match row.state {
                            State::Unsteady => "unsteady",
                            _ => "not measured",
                        };
                        say(what, (one + 6, py), 11, MORE, HPos::Left)?;
                        y += entry.height();
                        continue;
                    };
                    let (x, _) = at(value.clamp(range.start, range.end), middle);
                    let (colour, side) = colour(value);
                    // A ratio of one is a bar too.
                    let (from, to) = (one.min(x) - 1, one.max(x) + 1);
                    let bar = [(from, py - 5), (to, py + 5)];
                    root.draw(&Rectangle::new(bar, colour.filled()))
                        .map_err(cannot)?;
                    let end = match side {
                        HPos::Right => from - 4,
                        _ => to + 4,
                    };
                    say(&ratio(value), (end, py), 11, INK, side)?;
                }
            }
            y += entry.height();
        }
        root.present().map_err(cannot)?;
    }
    Ok(text)
}

/// The colour of a ratio, and on which side of its bar the number stands.
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
            let rows = report.in_group(group).filter(|r| r.unit == unit);
            entries.extend(rows.map(Entry::Row));
        }
    }
    entries
}

/// From below the smallest ratio to above the largest, with room for numbers.
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
    use crate::bench::report::tests::report;

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
