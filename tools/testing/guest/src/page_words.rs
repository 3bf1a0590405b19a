// SPDX-License-Identifier: GPL-2.0

//! The words of a `struct page` that say which file it belongs to.
//!
//! Nothing in the kernel shows them for device memory. So a probe of a system
//! call is defined that fetches them from the memmap, and the call is made.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{bail, ensure, Context, Result};

use crate::mapping::{Mapping, PAGE};
use crate::system;

/// `page->mapping` of a page that files share.
pub const SHARED: u64 = 1;

/// What a page says of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// `page->mapping`: 0, [`SHARED`], or the address of a mapping.
    pub mapping: u64,
    /// `page->index`, or the number of entries that share the page.
    pub index: u64,
}

/// The size of a `struct page`, and the offsets of the two words.
const SIZE: u64 = 64;
const MAPPING: u64 = 24;
const INDEX: u64 = 32;
/// The number of pages that one probe fetches: a definition is shorter than 4 KiB.
const BATCH: usize = 48;

/// Returns the owner of each page that is mapped at `map`.
pub fn owners(map: &Mapping) -> Result<Vec<Owner>> {
    let pfns = pfns(map)?;
    let base = fetch(&["@vmemmap_base".into()])?[0];
    let mut owners = Vec::new();
    for pfns in pfns.chunks(BATCH) {
        let words: Vec<String> = pfns
            .iter()
            .map(|pfn| base + pfn * SIZE)
            .flat_map(|page| [page + MAPPING, page + INDEX])
            .map(|at| format!("@{at:#x}"))
            .collect();
        owners.extend(fetch(&words)?.chunks(2).map(|words| Owner {
            mapping: words[0],
            index: words[1],
        }));
    }
    Ok(owners)
}

/// Returns the PFN of each page that is mapped at `map`.
fn pfns(map: &Mapping) -> Result<Vec<u64>> {
    const PRESENT: u64 = 1 << 63;
    let mut words = vec![0; map.len() / PAGE * 8];
    File::open("/proc/self/pagemap")
        .and_then(|file| file.read_exact_at(&mut words, (map.addr() / PAGE * 8) as u64))
        .context("/proc/self/pagemap")?;
    let pfn = |(n, word): (usize, &[u8])| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        let word = u64::from_le_bytes(bytes);
        ensure!(word & PRESENT != 0, "page {n} is not mapped");
        Ok(word & ((1 << 55) - 1))
    };
    words.chunks(8).enumerate().map(pfn).collect()
}

/// A defined probe, which is removed when dropped.
struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        let name = "-:guest_test/words\n";
        let removed = fs::write(self.0.join("events/guest_test/words/enable"), "0")
            .and_then(|()| append(&self.0.join("kprobe_events"), name));
        if let Err(e) = removed {
            eprintln!("clean-up: {name}: {e}");
        }
    }
}

fn append(path: &PathBuf, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().append(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// Returns words of the kernel's memory, given in the language of kprobe events.
fn fetch(words: &[String]) -> Result<Vec<u64>> {
    let root = system::tracefs()?;
    let words: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(n, word)| format!("w{n}={word}:x64"))
        .collect();
    let definition = format!("p:guest_test/words __x64_sys_getpgid {}\n", words.join(" "));
    append(&root.join("kprobe_events"), &definition)
        .with_context(|| format!("cannot define the probe {definition:.60}.."))?;
    let probe = Probe(root);
    let trace = probe.0.join("trace");
    fs::write(&trace, "").context("emptying the trace")?;
    fs::write(probe.0.join("events/guest_test/words/enable"), "1").context("enabling the probe")?;
    nix::unistd::getpgid(None).context("getpgid")?;
    let text = fs::read_to_string(&trace).context("the trace")?;
    let Some(line) = text.lines().find(|line| line.contains(" words: ")) else {
        bail!("the probe of getpgid() was not hit: {text}");
    };
    let values: Option<Vec<u64>> = line
        .split_whitespace()
        .filter_map(|word| word.split_once("=0x"))
        .map(|(_, value)| u64::from_str_radix(value, 16).ok())
        .collect();
    values
        .filter(|values| values.len() == words.len())
        .with_context(|| format!("the probe shows {line}"))
}
