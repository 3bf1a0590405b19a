// SPDX-License-Identifier: GPL-2.0

//! The kernels that the harness can build.
//!
//! `rust` and `c` differ only in the Kconfig bools of the four pieces; `debug`
//! and `cdebug` are the same two with every checker of the kernel enabled. A
//! variant is a list of configuration fragments in `config/`, merged over `make
//! tinyconfig` in this order; a later one wins.

use std::fmt;
use std::time::Duration;

/// One kernel: a list of fragments and a build directory.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Hash, clap::ValueEnum, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The Rust implementations.
    Rust,
    /// The C originals.
    C,
    /// The Rust implementations with KASAN, lockdep and the like.
    Debug,
    /// The C originals with KASAN, lockdep and the like.
    Cdebug,
}

impl Variant {
    /// Every variant, the default one first.
    #[cfg(test)]
    pub const ALL: [Variant; 4] = [Variant::Rust, Variant::C, Variant::Debug, Variant::Cdebug];

    /// Returns the name on the command line and of the build directory.
    pub const fn name(self) -> &'static str {
        match self {
            Variant::Rust => "rust",
            Variant::C => "c",
            Variant::Debug => "debug",
            Variant::Cdebug => "cdebug",
        }
    }

    /// Returns the fragments in `config/`, in the order in which they are
    /// merged.
    pub const fn fragments(self) -> &'static [&'static str] {
        match self {
            Variant::Rust => &["base.config", "rust.config"],
            Variant::C => &["base.config", "c.config"],
            Variant::Debug => &[
                "base.config",
                "rust.config",
                "debug.config",
                "compare.config",
            ],
            Variant::Cdebug => &["base.config", "c.config", "debug.config"],
        }
    }

    /// Returns whether the pieces are in Rust.
    pub const fn is_rust(self) -> bool {
        matches!(self, Variant::Rust | Variant::Debug)
    }

    /// Returns the language of the pieces, as the guest's programs name it.
    pub const fn language(self) -> &'static str {
        if self.is_rust() {
            "rust"
        } else {
            "c"
        }
    }

    /// Returns whether the checkers are enabled: such a kernel is 15 to 20
    /// times slower.
    pub const fn is_debug(self) -> bool {
        matches!(self, Variant::Debug | Variant::Cdebug)
    }

    /// Returns the time limit for a kernel of this variant.
    pub fn limit(self, limit: Duration) -> Duration {
        limit * if self.is_debug() { 15 } else { 1 }
    }

    /// Returns the variants whose build directory is worth copying to start
    /// this one, the closest first. A debug kernel shares no object with a
    /// release one.
    pub const fn siblings(self) -> &'static [Variant] {
        match self {
            Variant::Rust => &[Variant::C],
            Variant::C => &[Variant::Rust],
            Variant::Debug => &[Variant::Cdebug],
            Variant::Cdebug => &[Variant::Debug],
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn names_match_the_command_line() {
        for v in Variant::ALL {
            assert_eq!(Variant::from_str(v.name(), false), Ok(v));
        }
    }

    #[test]
    fn every_variant_starts_from_the_base() {
        for v in Variant::ALL {
            assert_eq!(v.fragments()[0], "base.config");
            assert_eq!(v.is_debug(), v.fragments().contains(&"debug.config"));
        }
    }

    #[test]
    fn a_sibling_differs_only_in_the_pieces() {
        for v in Variant::ALL {
            for s in v.siblings() {
                assert_eq!(s.is_debug(), v.is_debug());
                assert_ne!(*s, v);
            }
        }
    }
}
