// SPDX-License-Identifier: GPL-2.0

//! The growth of figures: rows whose names differ in one number, as lines.
//!
//! `lookup/hit/pgmaps=1`, `…=64` and `…=1024` are three points of the slope
//! `lookup/hit/pgmaps=…`. A row with two numbers is a point of two slopes.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::cannot;
use super::report::{number, Report};

pub const C: RGBColor = RGBColor(90, 100, 120);
pub const RUST: RGBColor = RGBColor(194, 65, 12);

const SIZE: (u32, u32) = (420, 230);

/// Rows that differ in one number.
#[derive(Clone, Debug, PartialEq)]
pub struct Slope {
    pub group: String,
    /// The rows' name with `…` for the number.
    pub name: String,
    pub unit: String,
    /// In order of increasing number.
    pub points: Vec<Point>,
}

/// One row of a slope.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The number as written in the name.
    pub label: String,
    pub value: f64,
    pub c: f64,
    pub rust: f64,
}

/// Returns all slopes with at least two points.
pub fn find(report: &Report) -> Vec<Slope> {
    let mut slopes: Vec<Slope> = Vec::new();
    for row in &report.rows {
        let (Some(c), Some(rust)) = (row.c, row.rust) else {
            continue;
        };
        let parts: Vec<&str> = row.row.split('/').collect();
        for (i, part) in parts.iter().enumerate() {
            let Some((key, label, value)) = numbered(part) else {
                continue;
            };
            let open = format!("{key}=…");
            let mut named = parts.clone();
            named[i] = &open;
            let name = named.join("/");
            let point = Point {
                label: label.to_owned(),
                value,
                c,
                rust,
            };
            let same = |s: &&mut Slope| s.name == name && s.unit == row.unit;
            match slopes.iter_mut().find(same) {
                Some(slope) => slope.points.push(point),
                None => slopes.push(Slope {
                    group: row.group.clone(),
                    name,
                    unit: row.unit.clone(),
                    points: vec![point],
                }),
            }
        }
    }
    slopes.retain(|s| s.points.len() > 1);
    for slope in &mut slopes {
        slope.points.sort_by(|a, b| a.value.total_cmp(&b.value));
    }
    slopes
}

/// Parses `size=64g` into ("size", "64g", 64 << 30).
fn numbered(part: &str) -> Option<(&str, &str, f64)> {
    let (key, label) = part.split_once('=')?;
    let (digits, factor) = match label.strip_suffix(['k', 'm', 'g']) {
        Some(digits) => {
            let power = "kmg".find(&label[digits.len()..])? + 1;
            (digits, 1024f64.powi(i32::try_from(power).ok()?))
        }
        None => (label, 1.0),
    };
    let value = digits.parse::<u64>().ok().filter(|v| *v > 0)? as f64 * factor;
    Some((key, label, value))
}

/// Draws a slope, as SVG. The numbers grow by factors, so their axis is
/// logarithmic; the cost axis begins at zero, so that a constant cost looks
/// constant.
pub fn svg(slope: &Slope) -> Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(cannot)?;
        let (first, last) = match slope.points.as_slice() {
            [first, .., last] => (first.value.log2(), last.value.log2()),
            _ => return Ok(String::new()),
        };
        let high = slope
            .points
            .iter()
            .map(|p| p.c.max(p.rust))
            .fold(1e-9, f64::max);
        let room = (last - first).max(0.1) * 0.05;
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .margin_right(18)
            .y_label_area_size(62)
            .x_label_area_size(24)
            .build_cartesian_2d(first - room..last + room, 0.0..high * 1.12)
            .map_err(cannot)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_labels(5)
            .y_label_formatter(&|v| number(*v))
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 12))
            .draw()
            .map_err(cannot)?;
        for point in &slope.points {
            let (x, y) = chart.backend_coord(&(point.value.log2(), 0.0));
            let style = ("sans-serif", 12).into_font().color(&BLACK);
            let style = style.pos(Pos::new(HPos::Center, VPos::Top));
            root.draw(&Text::new(point.label.clone(), (x, y + 6), style))
                .map_err(cannot)?;
        }
        // C is drawn first and wider, so that it shows where both are equal.
        for (colour, width, get) in [
            (C, 4, (|p: &Point| p.c) as fn(&Point) -> f64),
            (RUST, 2, |p: &Point| p.rust),
        ] {
            let points = || slope.points.iter().map(|p| (p.value.log2(), get(p)));
            chart
                .draw_series(LineSeries::new(points(), colour.stroke_width(width)))
                .map_err(cannot)?;
            chart
                .draw_series(points().map(|p| Circle::new(p, width + 1, colour.filled())))
                .map_err(cannot)?;
        }
        root.present().map_err(cannot)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn numbers_in_names() {
        let gib = 1073741824.0;
        assert_eq!(numbered("n=16"), Some(("n", "16", 16.0)));
        assert_eq!(numbered("size=64g"), Some(("size", "64g", 64.0 * gib)));
        assert_eq!(numbered("64g"), None);
        for part in ["write", "map=mem", "n=", "n=0", "n=1X", "n=-1"] {
            assert_eq!(numbered(part), None, "{part}");
        }
    }

    #[test]
    fn rows_that_differ_in_a_number() {
        let slopes = find(&report());
        assert_eq!(slopes.len(), 1);
        assert_eq!(slopes[0].name, "gup/fsdax-2m/pin-fast/write/n=…/get");
        let points: Vec<_> = slopes[0].points.iter().map(|p| (&*p.label, p.c)).collect();
        assert_eq!(points, [("1", 629.0), ("16", 181.0), ("512", 152.0)]);
    }

    #[test]
    fn a_line_for_each_kernel() {
        let svg = svg(&find(&report())[0]).unwrap();
        assert!(svg.contains(">\n512\n<"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 6);
        for colour in ["#5A6478", "#C2410C"] {
            assert!(svg.contains(&format!("fill=\"none\" opacity=\"1\" stroke=\"{colour}\"")));
        }
    }
}
