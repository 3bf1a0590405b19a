// SPDX-License-Identifier: GPL-2.0

//! Debian's own configurations of the kernel, from the package `linux-config-6.12`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use host::command::{clean, output};

/// The package.
pub const PACKAGE: &str = "linux-config-6.12";

/// A kernel that Debian builds for amd64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flavour {
    /// For cloud guests: few drivers.
    Cloud,
    /// For all machines.
    Amd64,
}

impl Flavour {
    /// Returns Debian's name.
    pub const fn name(self) -> &'static str {
        match self {
            Flavour::Cloud => "cloud-amd64",
            Flavour::Amd64 => "amd64",
        }
    }

    /// Returns the file with the configuration.
    pub fn path(self) -> PathBuf {
        format!("/usr/src/{PACKAGE}/config.amd64_none_{}.xz", self.name()).into()
    }

    /// Reads the configuration; returns `None` if the package is not installed.
    pub fn configuration(self) -> Result<Option<String>> {
        let path = self.path();
        if !path.is_file() {
            return Ok(None);
        }
        let text = output(clean("xz").args(["-dc", "--"]).arg(&path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(text))
    }
}

/// Returns the release that a configuration was made for, from its title.
pub fn release(configuration: &str) -> Option<&str> {
    configuration.lines().find_map(|line| {
        line.strip_prefix("# Linux/x86 ")?
            .strip_suffix(" Kernel Configuration")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_has_the_release() {
        let text = "#\n# Automatically generated file; DO NOT EDIT.\n\
                    # Linux/x86 6.12.117 Kernel Configuration\n#\nCONFIG_A=y\n";
        assert_eq!(release(text), Some("6.12.117"));
        assert_eq!(release("CONFIG_A=y\n"), None);
    }

    #[test]
    fn files_of_the_package() {
        let path = Flavour::Cloud.path();
        assert!(path.ends_with("linux-config-6.12/config.amd64_none_cloud-amd64.xz"));
    }
}
