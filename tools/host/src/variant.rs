// SPDX-License-Identifier: GPL-2.0

//! The kernels that the harness can build.
//!
//! `rust` and `c` differ only in the Kconfig bools of the four pieces; `debug`
//! and `cdebug` are the same two with every checker of the kernel enabled. `distro`
//! is Debian's own kernel for cloud guests with the Rust pieces. A variant is a list of
//! configuration fragments in `config/`, merged over a [`Base`] in this order; a later
//! one wins.

use std::fmt;
use std::time::Duration;

/// The configuration that the fragments of a variant are merged over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// `make tinyconfig`.
    Tiny,
    /// Debian's configuration of the flavour `cloud-amd64`.
    DebianCloud,
    /// Debian's configuration of the flavour `amd64`.
    DebianAmd64,
}

/// The configuration of a kernel, and where it is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recipe {
    /// The name of the build directory.
    pub name: &'static str,
    /// What the fragments are merged over.
    pub base: Base,
    /// Fragments in `config/`, in the order in which they are merged.
    pub fragments: &'static [&'static str],
    /// A list in `config/` of the modules that are built; `None` for all.
    pub modules: Option<&'static str>,
}

/// One kernel: a list of fragments and a build directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, clap::ValueEnum, serde::Deserialize)]
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
    /// Debian's configuration for cloud guests, with the Rust implementations.
    Distro,
    /// The Rust implementations, with the lines of the source in their objects; `make coverage`
    /// builds it.
    #[value(hide = true)]
    Coverage,
}

impl Variant {
    /// Every variant, the default one first.
    #[cfg(test)]
    pub const ALL: [Variant; 6] = [
        Variant::Rust,
        Variant::C,
        Variant::Debug,
        Variant::Cdebug,
        Variant::Distro,
        Variant::Coverage,
    ];

    /// Returns the name on the command line and of the build directory.
    pub const fn name(self) -> &'static str {
        match self {
            Variant::Rust => "rust",
            Variant::C => "c",
            Variant::Debug => "debug",
            Variant::Cdebug => "cdebug",
            Variant::Distro => "distro",
            Variant::Coverage => "coverage",
        }
    }

    /// Returns what the fragments are merged over.
    pub const fn base(self) -> Base {
        match self {
            Variant::Distro => Base::DebianCloud,
            Variant::Rust | Variant::C | Variant::Debug | Variant::Cdebug | Variant::Coverage => {
                Base::Tiny
            }
        }
    }

    /// Returns the fragments in `config/`, in the order in which they are
    /// merged.
    pub const fn fragments(self) -> &'static [&'static str] {
        match self {
            Variant::Rust | Variant::Coverage => &["base.config", "rust.config"],
            Variant::C => &["base.config", "c.config"],
            Variant::Debug => &[
                "base.config",
                "rust.config",
                "debug.config",
                "compare.config",
            ],
            Variant::Cdebug => &["base.config", "c.config", "debug.config"],
            Variant::Distro => &["rust.config", "distro.config"],
        }
    }

    /// Returns the configuration and the build directory.
    pub const fn recipe(self) -> Recipe {
        Recipe {
            name: self.name(),
            base: self.base(),
            fragments: self.fragments(),
            modules: match self {
                Variant::Distro => Some("distro.modules"),
                _ => None,
            },
        }
    }

    /// Returns whether the pieces are in Rust.
    pub const fn is_rust(self) -> bool {
        matches!(
            self,
            Variant::Rust | Variant::Debug | Variant::Distro | Variant::Coverage
        )
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

    /// Returns the GiB that a first build needs.
    pub const fn disk(self) -> u64 {
        match self {
            Variant::Rust | Variant::C | Variant::Coverage => 4,
            Variant::Debug | Variant::Cdebug => 6,
            // With debugging information, for BTF.
            Variant::Distro => 10,
        }
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
            Variant::Distro => &[],
            Variant::Coverage => &[Variant::Rust, Variant::C],
        }
    }

    /// Returns arguments for the kernel's make besides the configuration.
    pub const fn make_arguments(self) -> &'static [&'static str] {
        match self {
            Variant::Coverage => &["KRUSTFLAGS=-Cdebuginfo=line-tables-only"],
            _ => &[],
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
    fn every_variant_starts_from_its_base() {
        for v in Variant::ALL {
            let first = match v.base() {
                Base::Tiny => "base.config",
                Base::DebianCloud | Base::DebianAmd64 => "rust.config",
            };
            assert_eq!(v.fragments()[0], first);
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
