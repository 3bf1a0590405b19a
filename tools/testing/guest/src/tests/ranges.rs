// SPDX-License-Identifier: GPL-2.0

//! The registry's own list of ranges, which only the Rust registry has.

use crate::tests::prelude::*;

/// One line of `/sys/kernel/debug/dev_pagemap/ranges`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    /// The last byte (inclusive).
    pub end: u64,
    pub kind: String,
    pub state: String,
    pub shift: u64,
}

impl Range {
    /// Parses `0x<start>-0x<end> <type> <live|dying> refs=… shift=…`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let kind = words.next()?.to_string();
        let state = words.next()?.to_string();
        let shift = words.find_map(|w| w.strip_prefix("shift="))?;
        Some(Self {
            start: system::parse_u64(start)?,
            end: system::parse_u64(end)?,
            kind,
            state,
            shift: shift.parse().ok()?,
        })
    }
}

/// Returns the whole list; a [`Skip`] error on the C registry.
pub fn listed() -> Result<Vec<Range>> {
    let path = system::debugfs()?.join("dev_pagemap/ranges");
    let text = match fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            skip!("the C registry does not list its ranges")
        }
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    text.lines()
        .filter(|l| l.starts_with("0x"))
        .map(|l| Range::parse(l).with_context(|| format!("cannot parse the range line {l:?}")))
        .collect()
}

/// Returns the ranges that intersect `[start, start + size)`.
pub fn touching(start: u64, size: u64) -> Result<Vec<Range>> {
    Ok(listed()?
        .into_iter()
        .filter(|r| r.start < start + size && r.end >= start)
        .collect())
}

declare! {
    /// dev_pagemap/ranges lacks the range of an enabled namespace, shows it with another type, state
    /// or page size, or still shows it after it was disabled or destroyed
    "ranges" for EVERY_KIND, 90 s, essential "fsdax-native-e820" "devdax-2M-dev-acpi" => followed
}
fn followed(want: &Want) -> Result<String> {
    let before = listed()?;
    let mut namespace = Namespace::create(want)?;
    let (start, size) = namespace.resource()?;
    let seen = require_listed(want, start, size)?;
    namespace.disable()?;
    let left = touching(start, size)?;
    ensure!(
        left.is_empty(),
        "a disabled namespace is still listed: {left:x?}"
    );
    namespace.enable()?;
    require_listed(want, start, size)?;
    namespace.destroy()?;
    let after = listed()?;
    ensure!(
        before == after,
        "the list differs after the namespace was destroyed: {before:x?} before, {after:x?} after"
    );
    Ok(format!("{seen:x?}"))
}

fn require_listed(want: &Want, start: u64, size: u64) -> Result<Range> {
    let found = touching(start, size)?;
    let [range] = found.as_slice() else {
        bail!("one range was expected in {start:#x}+{size:#x}, the registry has {found:x?}");
    };
    // Only device-dax has compound pages.
    let (kind, shift) = match want.mode {
        Mode::Fsdax => ("fs_dax", 0),
        Mode::Devdax => ("generic", u64::from((want.align / 4096).trailing_zeros())),
    };
    ensure!(
        range.kind == kind && range.state == "live" && range.shift == shift,
        "{} shows as {range:x?}; type {kind}, state live, shift {shift} were expected",
        want.name()
    );
    // Alignment may cost up to one unit at either end.
    let slack = want.align.max(2 << 20);
    ensure!(
        range.start >= start
            && range.end < start + size
            && range.end - range.start + 1 + 2 * slack > size,
        "the range {range:x?} does not fill the namespace {start:#x}+{size:#x}"
    );
    Ok(range.clone())
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn lines() {
        let line = "0x240000000-0x25fffffff generic live refs=131073 shift=9";
        assert_eq!(
            Range::parse(line),
            Some(Range {
                start: 0x2_4000_0000,
                end: 0x2_5fff_ffff,
                kind: "generic".into(),
                state: "live".into(),
                shift: 9
            })
        );
        assert_eq!(Range::parse("0x1 generic"), None);
    }
}
