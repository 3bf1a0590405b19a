// SPDX-License-Identifier: GPL-2.0

//! The recording of a terminal as one SVG without scripts: all lines below each other, behind a window
//! that an animation moves down whenever a line comes. A viewer that does not animate shows the end.

use std::fmt::Write;
use std::time::Duration;

use maud::{html, Markup, PreEscaped};

/// The window, in characters.
const COLUMNS: usize = 108;
const ROWS: usize = 30;
/// A character and a line, in pixels.
const WIDTH: f64 = 7.8;
const HEIGHT: f64 = 17.0;
const MARGIN: f64 = 12.0;
/// What remains of a time in which nothing happens, and what a line is shown alone, in seconds.
const LONGEST: f64 = 2.0;
const SHORTEST: f64 = 0.25;
/// How long a heading waits for its readers, and the end for the next round.
const HEADING: f64 = 3.0;
const END: f64 = 6.0;

/// What a terminal has shown, with the time of each part.
#[derive(Default)]
pub struct Recording(Vec<(Duration, Vec<u8>)>);

/// A line, the time at which it begins, and its parts with their colours.
struct Line {
    at: f64,
    parts: Vec<(&'static str, String)>,
}

impl Recording {
    /// Adds what was shown at this time since the beginning.
    pub fn add(&mut self, at: Duration, bytes: &[u8]) {
        self.0.push((at, bytes.to_owned()));
    }

    /// Returns the lines, with the times of a viewer.
    fn lines(&self) -> Vec<Line> {
        let mut text = Vec::new();
        let mut starts = vec![Duration::ZERO];
        for (at, bytes) in &self.0 {
            for byte in bytes {
                text.push(*byte);
                if *byte == b'\n' {
                    starts.push(*at);
                }
            }
        }
        let text = String::from_utf8_lossy(&text);
        let (mut now, mut last) = (0.0, 0.0);
        let mut lines = Vec::new();
        for (line, start) in text.lines().zip(&starts) {
            let start = start.as_secs_f64();
            now += (start - last).clamp(SHORTEST, LONGEST);
            last = start;
            for parts in rows(line.trim_end()) {
                let at = now;
                if parts.first().is_some_and(|(class, _)| *class == "h") {
                    now += HEADING;
                }
                lines.push(Line { at, parts });
            }
        }
        lines
    }

    /// Returns the recording as SVG.
    pub fn svg(&self, title: &str) -> String {
        let lines = self.lines();
        let total = lines.last().map_or(0.0, |line| line.at) + END;
        let hidden = |shown: usize| (shown as f64 - ROWS as f64) * HEIGHT;
        let mut frames = String::new();
        for (index, line) in lines.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(
                frames,
                "{:.2}%{{transform:translateY({:.0}px)}}",
                line.at / total * 100.0,
                -hidden(index + 1)
            );
        }
        let end = -hidden(lines.len());
        let style = format!(
            "svg{{background:#16191f}}text{{font:13px monospace;fill:#d5d8de;white-space:pre}}\
             .h{{fill:#5fd7d7;font-weight:bold}}.l{{fill:#d7af5f}}.c{{fill:#87d787}}\
             #t{{transform:translateY({end:.0}px);animation:m {total:.1}s step-end infinite}}\
             @keyframes m{{{frames}100%{{transform:translateY({end:.0}px)}}}}"
        );
        let (width, height) = (
            COLUMNS as f64 * WIDTH + 2.0 * MARGIN,
            ROWS as f64 * HEIGHT + 2.0 * MARGIN,
        );
        let picture = html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height)
                viewBox={"0 0 " (width) " " (height)} {
                title { (title) }
                style { (PreEscaped(style)) }
                clipPath id="w" {
                    rect x="0" y=(MARGIN) width=(width) height=(height - 2.0 * MARGIN) {}
                }
                g clip-path="url(#w)" {
                    g id="t" {
                        @for (index, line) in lines.iter().enumerate() {
                            (text(index, line))
                        }
                    }
                }
            }
        };
        picture.into_string()
    }
}

/// Returns the element of a line.
fn text(index: usize, line: &Line) -> Markup {
    let y = MARGIN + (index as f64 + 0.78) * HEIGHT;
    html! {
        text x=(MARGIN) y=(format!("{y:.1}")) xml:space="preserve" {
            @for (class, part) in &line.parts {
                @if class.is_empty() { (part) } @else { tspan class=(class) { (part) } }
            }
        }
    }
}

/// Splits a line at its colours, and into rows that fit the window.
fn rows(line: &str) -> Vec<Vec<(&'static str, String)>> {
    let (mut rows, mut class, mut room) = (vec![Vec::new()], "", COLUMNS);
    for (index, piece) in line.split('\x1b').enumerate() {
        let text = if index == 0 {
            piece
        } else {
            let (code, rest) = piece.split_once('m').unwrap_or(("", piece));
            class = match code {
                "[1;36" => "h",
                "[33" => "l",
                "[32" => "c",
                _ => "",
            };
            rest
        };
        let mut rest: Vec<char> = text.replace('\t', "    ").chars().collect();
        while !rest.is_empty() {
            if room == 0 {
                rows.push(Vec::new());
                room = COLUMNS;
            }
            let row: String = rest.drain(..room.min(rest.len())).collect();
            room -= row.chars().count();
            if let Some(last) = rows.last_mut() {
                last.push((class, row));
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> Recording {
        let mut recording = Recording::default();
        recording.add(
            Duration::from_secs(1),
            b"\n\x1b[1;36m1. A <namespace>\x1b[0m\n",
        );
        recording.add(
            Duration::from_secs(60),
            b"\x1b[32m# ndctl\x1b[0m list\nplain\n",
        );
        recording
    }

    #[test]
    fn colours_are_classes() {
        let line = rows("\x1b[32m# ndctl\x1b[0m list");
        assert_eq!(
            line,
            [[("c", "# ndctl".to_owned()), ("", " list".to_owned())]]
        );
        let long = rows(&"x".repeat(2 * COLUMNS + 1));
        let lengths: Vec<usize> = long.iter().map(|row| row[0].1.len()).collect();
        assert_eq!(lengths, [COLUMNS, COLUMNS, 1]);
    }

    #[test]
    fn long_waits_are_short() {
        let lines = recording().lines();
        let times: Vec<f64> = lines.iter().map(|line| line.at).collect();
        assert_eq!(lines.len(), 4);
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
        assert!(times[3] < 9.0, "{times:?}");
    }

    #[test]
    fn the_picture_has_all_lines() {
        let svg = recording().svg("a & b");
        assert!(svg.contains("1. A &lt;namespace&gt;") && svg.contains("a &amp; b"));
        assert_eq!(svg.matches("<text").count(), 4);
        assert!(svg.contains("@keyframes m{"));
    }
}
