// SPDX-License-Identifier: GPL-2.0

//! Lines of the kernel's log.

use std::sync::LazyLock;

use regex::Regex;

/// Matches the time stamp and, with PRINTK_CALLER, the printing context.
static STAMP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?").expect("a constant pattern is valid")
});

/// Returns a console line without carriage return and time stamp.
pub fn message(raw: &str) -> &str {
    let line = raw.trim_end_matches(['\r', '\n']);
    match STAMP.find(line) {
        Some(m) => &line[m.end()..],
        None => line,
    }
}
