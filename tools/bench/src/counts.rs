// SPDX-License-Identifier: GPL-2.0

//! The counts of the TCG plugin, per operation.

use serde::{Deserialize, Serialize};

use super::recording::{Boot, Window};

/// Permitted distance between the plugin's instructions and those of the
/// guest's clock: as a fraction, and for reading that clock.
const TOLERANCE: f64 = 0.02;
const SLACK: f64 = 1000.0;

/// Counts for one operation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerOp {
    pub locked: f64,
    pub loads: f64,
    pub stores: f64,
}

/// Returns the counts of a row in a boot with the plugin, or `None` if the
/// plugin counted other windows than the guest intended: then its instructions
/// are not those of the samples.
pub fn per_op(boot: &Boot, row: &str) -> Option<PerOp> {
    let measured = boot.rows.get(row)?;
    let ops = measured.ops.max(1) as f64;
    let windows: Vec<&Window> = measured
        .windows
        .iter()
        .filter_map(|n| boot.windows.get(n))
        .collect();
    let best = windows.iter().min_by_key(|w| w.instructions)?;
    let expected = boot.minimum(row)? * ops;
    let off = (best.instructions as f64 - expected).abs();
    (off <= expected * TOLERANCE + SLACK).then(|| PerOp {
        locked: best.locked as f64 / ops,
        loads: best.loads as f64 / ops,
        stores: best.stores as f64 / ops,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Recording;

    #[test]
    fn the_window_with_the_fewest_instructions() {
        let text = r#"{"pass":"plugin","side":"c","machine":"standard","round":1}
{"bench":"row","row":"a","ops":1000,"samples":[120,100],"windows":[4,5]}
{"bench":"row","row":"other","ops":1000,"samples":[100],"windows":[4]}
{"bench":"row","row":"none","ops":1000,"samples":[100]}
{"window":4,"instructions":120010,"locked":5,"loads":5,"stores":5}
{"window":5,"instructions":100010,"locked":2000,"loads":30500,"stores":0}
"#;
        let boot = Recording::parse(text).unwrap().0.remove(0);
        assert_eq!(
            per_op(&boot, "a"),
            Some(PerOp {
                locked: 2.0,
                loads: 30.5,
                stores: 0.0
            })
        );
        assert_eq!(per_op(&boot, "other"), None);
        assert_eq!(per_op(&boot, "none"), None);
    }
}
