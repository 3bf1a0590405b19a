// SPDX-License-Identifier: GPL-2.0

//! From a checkout to a built kernel.
//!
//! ```text
//! toolchain   the compilers, by path
//! source      Debian's tarball (tarball) + the overlay (overlay) + patches (patches)
//! kconfig     tinyconfig + fragments of a variant
//! debian      Debian's own configurations
//! build       make (make), modules, and nfit_test's modules (nfit); a first build may
//!             start from a sibling's (seed)
//! deb         Debian packages of a kernel
//! lint, doc   rustfmt, clippy, rustdoc, Sphinx; their messages (diagnostics)
//! objects     what was linked, and whether it can panic (panics)
//! program     the programs for the guest
//! ```

pub mod build;
pub mod deb;
pub mod debian;
pub mod diagnostics;
pub mod doc;
pub mod kconfig;
pub mod lint;
pub mod make;
mod nfit;
pub mod objects;
pub mod overlay;
pub mod panics;
pub mod patches;
pub mod program;
mod seed;
pub mod source;
mod tarball;
pub mod toolchain;
