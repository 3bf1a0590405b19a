// SPDX-License-Identifier: GPL-2.0

//! The computation of one figure from the samples of many boots.
//!
//! Within a boot the minimum counts: a timer tick or a first touch adds to a
//! sample, and nothing subtracts from one. The minima of the boots of one kernel
//! must then agree; their distance is the spread. A round consists of a few
//! boots of both kernels. The first round in which the boots of each kernel
//! agree gives the figure; later rounds repeat more often within a boot. For a
//! row that needed more than one round, the lowest boots of all rounds are also
//! accepted, as many of them as a round has: what a boot adds (by the placement
//! of its memory or the phase of its timers) it adds to every sample, and again
//! nothing subtracts. A row that never becomes steady has no figure: a ratio of
//! figures that do not repeat means nothing.

use serde::{Deserialize, Serialize};

use super::recording::{Pass, Recording, Side};

/// The largest spread that a figure may have.
pub const LIMIT: f64 = 0.01;

/// The result for a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// It repeats.
    Steady {
        c: f64,
        rust: f64,
        spread: f64,
        /// The round that was used.
        round: u32,
    },
    /// It does not.
    Unsteady {
        spread: f64,
        rounds: u32,
        /// The minima of the last round's boots.
        minima: Minima,
    },
    /// A boot lacks it.
    Missing(String),
}

/// The minimum of every boot, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Minima {
    pub c: Vec<f64>,
    pub rust: Vec<f64>,
}

impl Minima {
    /// Returns the larger of the two kernels' spreads.
    fn spread(&self) -> f64 {
        spread(&self.c).max(spread(&self.rust))
    }

    /// Returns the figure of these minima, if they agree.
    fn steady(&self, round: u32) -> Option<Figure> {
        let least = |list: &[f64]| list.iter().copied().fold(f64::INFINITY, f64::min);
        let spread = self.spread();
        (spread <= LIMIT).then(|| Figure::Steady {
            c: least(&self.c),
            rust: least(&self.rust),
            spread,
            round,
        })
    }

    /// Returns the lowest ones of each kernel.
    fn lowest(&self, boots: usize) -> Minima {
        let of = |list: &[f64]| {
            let mut list = list.to_vec();
            list.sort_by(f64::total_cmp);
            list.truncate(boots);
            list
        };
        Minima {
            c: of(&self.c),
            rust: of(&self.rust),
        }
    }
}

/// Returns the distance between the figures, as a fraction of the smallest.
fn spread(minima: &[f64]) -> f64 {
    let low = minima.iter().copied().fold(f64::INFINITY, f64::min);
    let high = minima.iter().copied().fold(0.0, f64::max);
    if high <= low {
        0.0
    } else if low > 0.0 {
        (high - low) / low
    } else {
        f64::INFINITY
    }
}

/// Returns the figure of a row after the recorded boots, with `boots` of each
/// kernel in a round.
pub fn figure(recording: &Recording, row: &str, boots: usize) -> Figure {
    let mut last = None;
    let mut missing = None;
    let mut all = Minima::default();
    let rounds = recording.of(Pass::Icount).map(|b| b.head.round).max();
    for round in 1..=rounds.unwrap_or(0) {
        let mut minima = Minima::default();
        for boot in recording.of(Pass::Icount).filter(|b| b.head.round == round) {
            if let Some(why) = boot.missing.get(row) {
                missing = Some(why.clone());
            }
            if let Some(minimum) = boot.minimum(row) {
                match boot.head.side {
                    Side::C => minima.c.push(minimum),
                    Side::Rust => minima.rust.push(minimum),
                }
            }
        }
        if minima.c.len() < boots || minima.rust.len() < boots {
            // Either the round did not include this row, or a boot lacks it.
            continue;
        }
        all.c.extend(&minima.c);
        all.rust.extend(&minima.rust);
        let steady = minima.steady(round);
        if let Some(figure) = steady.or_else(|| all.lowest(boots).steady(round)) {
            return figure;
        }
        last = Some((minima.spread(), round, minima));
    }
    match (last, missing) {
        (Some((spread, rounds, minima)), _) => Figure::Unsteady {
            spread,
            rounds,
            minima,
        },
        (None, Some(why)) => Figure::Missing(why),
        (None, None) => Figure::Missing("a guest ended before it measured this".into()),
    }
}

/// Returns whether the row is worth measuring again.
pub fn again(figure: &Figure, recording: &Recording, row: &str) -> bool {
    match figure {
        Figure::Steady { .. } => false,
        Figure::Unsteady { .. } => true,
        // A row that was skipped or failed with a reason will do so again.
        Figure::Missing(_) => !recording.0.iter().any(|b| b.missing.contains_key(row)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Shape;
    use crate::recording::{Boot, Head};

    fn recording(boots: &[(Side, u32, &[f64])]) -> Recording {
        let boots = boots.iter().map(|(side, round, samples)| {
            let mut boot = Boot::new(Head {
                pass: Pass::Icount,
                side: *side,
                machine: Shape::Standard,
                round: *round,
            });
            if !samples.is_empty() {
                let line = format!(
                    "{{\"bench\":\"row\",\"row\":\"r\",\"ops\":1,\"samples\":{samples:?}}}"
                );
                assert!(boot.guest_line(&line) && boot.garbled.is_empty());
            }
            boot
        });
        Recording(boots.collect())
    }

    #[test]
    fn the_least_of_each_kernel() {
        let r = recording(&[
            (Side::C, 1, &[120.0, 100.0, 101.0]),
            (Side::Rust, 1, &[50.0, 70.0]),
            (Side::C, 1, &[100.5]),
            (Side::Rust, 1, &[50.25]),
        ]);
        assert_eq!(
            figure(&r, "r", 2),
            Figure::Steady {
                c: 100.0,
                rust: 50.0,
                spread: 0.005,
                round: 1
            }
        );
    }

    #[test]
    fn figures_that_do_not_repeat_give_none() {
        let first = [
            (Side::C, 1, &[100.0][..]),
            (Side::Rust, 1, &[50.0]),
            (Side::C, 1, &[103.0]),
            (Side::Rust, 1, &[50.0]),
        ];
        let r = recording(&first);
        let f = figure(&r, "r", 2);
        assert!(
            matches!(&f, Figure::Unsteady { spread, rounds: 1, minima }
                if (*spread - 0.03).abs() < 1e-9 && minima.c == [100.0, 103.0]),
            "{f:?}"
        );
        assert!(again(&f, &r, "r"));
        // The second round is evaluated separately.
        let second = [
            (Side::C, 2, &[103.0][..]),
            (Side::Rust, 2, &[50.0]),
            (Side::C, 2, &[103.0]),
            (Side::Rust, 2, &[50.0]),
        ];
        let r = recording(&[first, second].concat());
        let f = figure(&r, "r", 2);
        assert!(
            matches!(
                f,
                Figure::Steady {
                    c: 103.0,
                    round: 2,
                    ..
                }
            ),
            "{f:?}"
        );
        assert!(!again(&f, &r, "r"));
    }

    #[test]
    fn the_lowest_boots_of_all_rounds() {
        // No round agrees in itself, but two boots of each kernel do.
        let r = recording(&[
            (Side::C, 1, &[100.0]),
            (Side::Rust, 1, &[50.0]),
            (Side::C, 1, &[103.0]),
            (Side::Rust, 1, &[50.25]),
            (Side::C, 2, &[100.5]),
            (Side::Rust, 2, &[52.0]),
            (Side::C, 2, &[102.0]),
            (Side::Rust, 2, &[50.0]),
        ]);
        let f = figure(&r, "r", 2);
        let expected = Figure::Steady {
            c: 100.0,
            rust: 50.0,
            spread: 0.005,
            round: 2,
        };
        assert_eq!(f, expected);
    }

    #[test]
    fn a_boot_without_the_row() {
        let mut r = recording(&[
            (Side::C, 1, &[100.0]),
            (Side::Rust, 1, &[50.0]),
            (Side::C, 1, &[]),
            (Side::Rust, 1, &[50.0]),
        ]);
        let f = figure(&r, "r", 2);
        assert!(matches!(&f, Figure::Missing(why) if why.contains("a guest ended")));
        assert!(again(&f, &r, "r"));
        r.0[2].missing.insert("r".into(), "skipped: no fio".into());
        let f = figure(&r, "r", 2);
        assert_eq!(f, Figure::Missing("skipped: no fio".into()));
        assert!(!again(&f, &r, "r"));
        assert!(matches!(
            figure(&Recording::default(), "r", 2),
            Figure::Missing(_)
        ));
    }

    #[test]
    fn spreads() {
        assert_eq!(spread(&[]), 0.0);
        assert_eq!(spread(&[0.0, 0.0]), 0.0);
        assert_eq!(spread(&[0.0, 1.0]), f64::INFINITY);
        assert_eq!(spread(&[4.0, 5.0, 4.0]), 0.25);
    }
}
