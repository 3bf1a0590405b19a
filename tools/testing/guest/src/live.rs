// SPDX-License-Identifier: GPL-2.0

//! The running implementation of each of the four pieces: the C original or the
//! Rust one.
//!
//! A test of the wrong kernel proves nothing, so this is checked before every
//! run, from several sources of evidence: the kernel's configuration, the files
//! of the registry and of fs/dax in debugfs, and the symbols of the kernel and
//! its modules. Contradicting evidence is an error; there is no majority vote.

use std::collections::HashSet;
use std::fmt;
use std::fs;

use anyhow::{bail, Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use crate::system;

/// The two implementations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Rust,
    C,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Language::Rust => "Rust",
            Language::C => "C",
        })
    }
}

/// One piece of evidence.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    pub source: &'static str,
    pub detail: String,
    pub language: Language,
}

/// One of the four pieces.
#[derive(Debug, Clone, Serialize)]
pub struct Piece {
    pub name: &'static str,
    pub implementation: Language,
    pub evidence: Vec<Evidence>,
}

/// All four pieces.
#[derive(Debug, Clone, Serialize)]
pub struct Live {
    pub kernel: String,
    pub registry: Piece,
    pub pmem_driver: Piece,
    pub fs_dax: Piece,
    pub gup: Piece,
}

impl Live {
    pub fn pieces(&self) -> [&Piece; 4] {
        [&self.registry, &self.pmem_driver, &self.fs_dax, &self.gup]
    }

    /// Formats the evidence for people.
    pub fn text(&self) -> String {
        let mut text = format!("kernel {}\n", self.kernel);
        for piece in self.pieces() {
            let detail: Vec<String> = piece
                .evidence
                .iter()
                .map(|e| format!("{}: {}", e.source, e.detail))
                .collect();
            text += &format!(
                "{:<12} {:<5} ({})\n",
                piece.name,
                piece.implementation.to_string(),
                detail.join("; ")
            );
        }
        text
    }

    /// Returns a message unless the kernel is the expected one: all pieces in
    /// Rust, or none.
    pub fn mismatch(&self, expect: Language) -> Option<String> {
        let wrong: Vec<&str> = match expect {
            Language::Rust => self.pieces().to_vec(),
            Language::C => self.pieces().to_vec(),
        }
        .into_iter()
        .filter(|p| p.implementation != expect)
        .map(|p| p.name)
        .collect();
        if wrong.is_empty() {
            return None;
        }
        Some(format!(
            "a kernel in {expect} was expected, but kernel {} is not in {expect} in: {}; boot the other variant",
            self.kernel,
            wrong.join(", ")
        ))
    }
}

/// Determines the implementation of one piece from its evidence.
fn piece(name: &'static str, evidence: Vec<Evidence>) -> Result<Piece> {
    let first = evidence
        .first()
        .with_context(|| format!("there is no evidence whether {name} is C or Rust"))?
        .language;
    if evidence.iter().any(|e| e.language != first) {
        let statements: Vec<String> = evidence
            .iter()
            .map(|e| format!("{} indicates {} ({})", e.source, e.language, e.detail))
            .collect();
        bail!(
            "the evidence on the {name} is contradictory: {}; the modules or the configuration do not \
             belong to the running kernel",
            statements.join("; ")
        );
    }
    Ok(Piece {
        name,
        implementation: first,
        evidence,
    })
}

/// Returns the evidence of one bool of the configuration.
fn from_config(config: &str, option: &str) -> Evidence {
    let set = config.lines().any(|l| l == format!("{option}=y"));
    Evidence {
        source: "/proc/config.gz",
        detail: format!("{option} is {}", if set { "y" } else { "not set" }),
        language: if set { Language::Rust } else { Language::C },
    }
}

/// Returns the evidence of the file `implementation` in a folder of debugfs,
/// which only the Rust code creates: `dev_pagemap` for the registry, `fs_dax`.
fn from_debugfs(source: &'static str) -> Result<Evidence> {
    let path = system::debugfs()?.join(source.trim_start_matches("debugfs "));
    let (detail, language) = match fs::read_to_string(&path) {
        Ok(text) if text.lines().next() == Some("rust") => {
            ("first line is rust".into(), Language::Rust)
        }
        Ok(text) => bail!(
            "{} should begin with the line `rust` but begins with {:?}",
            path.display(),
            text.lines().next().unwrap_or_default()
        ),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => ("absent".into(), Language::C),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    Ok(Evidence {
        source,
        detail,
        language,
    })
}

/// The symbols of vmlinux.
struct Symbols(HashSet<String>);

impl Symbols {
    fn parse(kallsyms: &str) -> Self {
        let names = kallsyms
            .lines()
            .filter_map(|l| l.split_whitespace().nth(2))
            .map(str::to_owned);
        Self(names.collect())
    }

    fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/kallsyms").context("cannot read /proc/kallsyms")?;
        Ok(Self::parse(&text))
    }

    /// Returns the evidence of symbols. `always` exists in either case; `c` is a
    /// local function of the C original, `rust` one of the Rust code.
    fn evidence_of(
        &self,
        always: &str,
        c: Option<&str>,
        rust: Option<&str>,
        needs: &str,
    ) -> Result<Evidence> {
        let has = |name: &str| self.0.contains(name);
        if !has(always) {
            bail!("/proc/kallsyms has no {always}: CONFIG_KALLSYMS_ALL or {needs} is missing");
        }
        let presence =
            |name: &&str| format!(", {name} {}", if has(name) { "present" } else { "absent" });
        let detail = [c, rust].iter().flatten().map(presence).collect::<String>();
        let language = match (c.map(has), rust.map(has)) {
            (Some(true), Some(true)) => bail!("/proc/kallsyms has both implementations{detail}"),
            (_, Some(true)) | (Some(false), None) => Language::Rust,
            _ => Language::C,
        };
        Ok(Evidence {
            source: "/proc/kallsyms",
            detail: format!("{always} present{detail}"),
            language,
        })
    }

    fn registry(&self) -> Result<Evidence> {
        let c = "dev_pagemap_percpu_release";
        self.evidence_of("get_dev_pagemap", Some(c), None, "CONFIG_ZONE_DEVICE")
    }

    /// Returns the evidence on the pmem driver, or `None` if the module is not
    /// loaded.
    fn pmem_driver(&self) -> Result<Option<Evidence>> {
        let always = "__pmem_direct_access";
        if !self.0.contains(always) {
            return Ok(None);
        }
        let (c, rust) = ("pmem_submit_bio", "pmem_direct_access");
        self.evidence_of(always, Some(c), Some(rust), "CONFIG_BLK_DEV_PMEM")
            .map(Some)
    }

    fn fs_dax(&self) -> Result<Evidence> {
        let (c, rust) = ("wake_exceptional_entry_func", "rust_do_trace_dax_pte_fault");
        self.evidence_of("dax_iomap_fault", Some(c), Some(rust), "CONFIG_FS_DAX")
    }

    fn page_tables(&self) -> Result<Evidence> {
        let c = "__vm_insert_mixed";
        self.evidence_of("vmf_insert_mixed", Some(c), None, "CONFIG_MMU")
    }

    fn gup(&self) -> Result<Evidence> {
        // A debug kernel has the C walk too, for comparison.
        let rust = "gup_fast_walk";
        self.evidence_of("get_user_pages_fast", None, Some(rust), "CONFIG_MMU")
    }
}

/// Collects the evidence of the running kernel.
pub fn ask() -> Result<Live> {
    let config = system::kernel_config()?;
    let symbols = Symbols::read()?;
    Ok(Live {
        kernel: system::kernel_release()?,
        registry: piece(
            "registry",
            vec![
                from_config(&config, "CONFIG_RUST_DEV_PAGEMAP"),
                from_debugfs("debugfs dev_pagemap/implementation")?,
                symbols.registry()?,
            ],
        )?,
        pmem_driver: piece(
            "pmem driver",
            [from_config(&config, "CONFIG_RUST_BLK_DEV_PMEM")]
                .into_iter()
                .chain(symbols.pmem_driver()?)
                .collect(),
        )?,
        fs_dax: piece(
            "fs/dax",
            vec![
                from_config(&config, "CONFIG_RUST_FS_DAX"),
                from_debugfs("debugfs fs_dax/implementation")?,
                symbols.fs_dax()?,
                symbols.page_tables()?,
            ],
        )?,
        gup: piece(
            "GUP",
            vec![from_config(&config, "CONFIG_RUST_X86_GUP"), symbols.gup()?],
        )?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_lines() {
        let text = "CONFIG_RUST=y\nCONFIG_RUST_DEV_PAGEMAP=y\n# CONFIG_RUST_FS_DAX is not set\n";
        assert_eq!(
            from_config(text, "CONFIG_RUST_DEV_PAGEMAP").language,
            Language::Rust
        );
        assert_eq!(
            from_config(text, "CONFIG_RUST_FS_DAX").language,
            Language::C
        );
        assert_eq!(
            from_config(text, "CONFIG_RUST_X86_GUP").language,
            Language::C
        );
    }

    #[test]
    fn symbols() -> Result<()> {
        let both = "ffffffff81000000 T get_dev_pagemap\nffffffff81000080 T get_user_pages_fast\n";
        let rust = Symbols::parse(&format!("{both}ffffffff81000100 T gup_fast_walk\n"));
        let c = Symbols::parse(&format!(
            "{both}ffffffff81000100 t dev_pagemap_percpu_release\n"
        ));
        assert_eq!(rust.registry()?.language, Language::Rust);
        assert_eq!(rust.gup()?.language, Language::Rust);
        assert_eq!(c.registry()?.language, Language::C);
        assert_eq!(c.gup()?.language, Language::C);
        assert!(rust.pmem_driver()?.is_none(), "no module, no evidence");
        let pmem = "ffffffffc0000000 W __pmem_direct_access\t[nd_pmem]\n";
        for (local, language) in [
            ("pmem_direct_access", Language::Rust),
            ("pmem_submit_bio", Language::C),
        ] {
            let both = format!("{pmem}ffffffffc0000000 t {local}\t[nd_pmem]\n");
            let evidence = Symbols::parse(&both).pmem_driver()?;
            assert_eq!(evidence.map(|w| w.language), Some(language));
        }
        let neither = Symbols::parse("ffffffff81000000 T schedule\n");
        assert!(neither.registry().is_err() && neither.gup().is_err());
        Ok(())
    }

    #[test]
    fn disagreement_is_an_error() {
        let evidence = |language| Evidence {
            source: "x",
            detail: String::new(),
            language,
        };
        assert!(piece("p", vec![evidence(Language::C), evidence(Language::C)]).is_ok());
        assert!(piece("p", vec![evidence(Language::C), evidence(Language::Rust)]).is_err());
        assert!(piece("p", vec![]).is_err());
    }
}
