// SPDX-License-Identifier: GPL-2.0

//! Evaluates the kmemleak report after the tests of a debug kernel.
//!
//! The kernel's own test modules leak a little when they are unloaded, with
//! the C code as well as with ours. These leaks are recognised by their
//! reports; each is printed when it occurs, and does not fail a run. Any other
//! leak does.

/// Prefix of each object's report.
const BEGIN: &str = "unreferenced object ";

/// A leak of the stock kernel: strings that its report must contain, and the
/// reason.
struct Known {
    holds: &'static [&'static str],
    why: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        holds: &["hmm_dmirr", "dev_set_name+", "do_init_module+"],
        why: "lib/test_hmm.c does not release its devices: their names",
    },
    Known {
        holds: &[
            "(size 512)",
            "device_add+",
            "cdev_device_add+",
            "do_init_module+",
        ],
        why: "lib/test_hmm.c does not release its devices: their private parts",
    },
    Known {
        holds: &["(size 32)", "] platform_probe+", "do_init_module+"],
        why: "nfit_test keeps an object that its probe made",
    },
];

/// The objects of a report, divided into known and unknown leaks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leaks {
    /// Reports of leaks without an explanation.
    pub unknown: Vec<String>,
    /// The reason of each known leak.
    pub known: Vec<&'static str>,
}

impl Leaks {
    /// Parses the content of `/sys/kernel/debug/kmemleak`.
    pub fn parse(report: &str) -> Self {
        let mut leaks = Self::default();
        let mut rest = report.find(BEGIN).map_or("", |at| &report[at..]);
        while !rest.is_empty() {
            let end = rest[BEGIN.len()..]
                .find(BEGIN)
                .map_or(rest.len(), |at| at + BEGIN.len());
            let (object, behind) = rest.split_at(end);
            match why(object) {
                Some(why) => leaks.known.push(why),
                None => leaks.unknown.push(object.trim_end().to_owned()),
            }
            rest = behind;
        }
        leaks
    }

    /// Formats the known leaks as one line, if there are any.
    pub fn note(&self) -> Option<String> {
        let mut reasons = self.known.clone();
        reasons.sort_unstable();
        reasons.dedup();
        (!reasons.is_empty()).then(|| {
            format!(
                "{} known leaks of the kernel's test modules: {}",
                self.known.len(),
                reasons.join("; ")
            )
        })
    }
}

/// Returns why an object is a known leak.
fn why(object: &str) -> Option<&'static str> {
    // Functions of an unloaded module are bare addresses, so the caller of
    // `platform_probe` is matched as an address.
    let text = bare_calls(object);
    KNOWN
        .iter()
        .find(|known| known.holds.iter().all(|part| text.contains(part)))
        .map(|known| known.why)
}

/// Returns the report with each line joined to the one before it, and a bare
/// address written as `[module]`.
fn bare_calls(object: &str) -> String {
    object
        .lines()
        .map(str::trim)
        .map(|line| match line.starts_with("0xffffffffc") {
            true => "[module]",
            false => line,
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "\
unreferenced object 0xff1100022f11fa80 (size 16):
  comm \"modprobe\", pid 998, jiffies 4295252920
  hex dump (first 16 bytes):
    68 6d 6d 5f 64 6d 69 72 72 6f 72 30 00 00 11 ff  hmm_dmirror0....
  backtrace (crc a8970280):
    __kmalloc_node_track_caller_noprof+0x23b/0x450
    kvasprintf+0x77/0xd0
    dev_set_name+0x70/0x80
    0xffffffffc047b15b
    do_init_module+0x128/0x360
";
    const PROBE: &str = "\
unreferenced object 0xff1100022fb1d180 (size 32):
  comm \"modprobe\", pid 1336, jiffies 4295313201
  backtrace (crc 5b8e9204):
    __kmalloc_cache_noprof+0x149/0x340
    0xffffffffc0474eee
    platform_probe+0x98/0xc0
    0xffffffffc048437a
    do_init_module+0x128/0x360
";
    const OURS: &str = "\
unreferenced object 0xff1100022fb1d180 (size 32):
  comm \"ndctl\", pid 1336, jiffies 4295313201
  backtrace (crc 5b8e9204):
    __kmalloc_cache_noprof+0x149/0x340
    memremap_pages+0x98/0xc0
    platform_probe+0x98/0xc0
    do_init_module+0x128/0x360
";

    #[test]
    fn known_and_unknown() {
        let leaks = Leaks::parse(&format!("{NAME}{OURS}{PROBE}"));
        assert_eq!(leaks.known.len(), 2);
        assert_eq!(leaks.unknown, [OURS.trim_end()]);
        let note = leaks.note().unwrap_or_default();
        assert!(
            note.starts_with("2 known") && note.contains("test_hmm"),
            "{note}"
        );
    }

    #[test]
    fn nothing() {
        for text in ["", "\n", "kmemleak: something else\n"] {
            assert_eq!(Leaks::parse(text), Leaks::default());
            assert_eq!(Leaks::parse(text).note(), None);
        }
    }
}
