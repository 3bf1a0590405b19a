// SPDX-License-Identifier: GPL-2.0

//! Lines that a guest prints: its output, which arrives in pieces, and the kernel's log.

use std::sync::LazyLock;

use regex::Regex;

/// Splits a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Adds bytes, and passes each line that is now complete to `on_line`, without its end.
    pub fn take(&mut self, bytes: &[u8], mut on_line: impl FnMut(&str)) {
        self.0.extend_from_slice(bytes);
        while let Some(end) = self.0.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            on_line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
        }
    }

    /// Passes what follows the last end of a line to `on_line`, if there is anything.
    pub fn finish(&mut self, on_line: impl FnMut(&str)) {
        if !self.0.is_empty() {
            self.take(b"\n", on_line);
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_come_in_pieces() {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        for piece in ["{\"a\"", ":1}\r\n{\"b\":2", "}\nrest"] {
            lines.take(piece.as_bytes(), |l| seen.push(l.to_owned()));
        }
        assert_eq!(seen, ["{\"a\":1}", "{\"b\":2}"]);
        lines.finish(|l| seen.push(l.to_owned()));
        assert_eq!(seen[2], "rest");
    }
}
