// SPDX-License-Identifier: GPL-2.0

//! The words of a `struct page` that say which file and which folio it belongs to.
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

/// The size of a `struct page`, and the offsets of words in it.
const SIZE: u64 = 64;
const FLAGS: u64 = 0;
const COMPOUND_HEAD: u64 = 8;
const MAPPING: u64 = 24;
const INDEX: u64 = 32;
const PRIVATE: u64 = 40;
const COUNTS: u64 = 48;
/// The flag of the first page of a folio of several.
const PG_HEAD: u64 = 1 << 6;
/// The number of words that one probe fetches: a definition is shorter than 4 KiB.
const BATCH: usize = 96;
/// The number of pages of a folio of FS DAX, if it has several.
pub const FOLIO: u64 = 512;

/// Returns words of the pages with these PFNs: for each page those at these offsets.
fn words(pfns: &[u64], offsets: &[u64]) -> Result<Vec<u64>> {
    let base = fetch(&["@vmemmap_base".into()])?[0];
    let mut words = Vec::new();
    for pfns in pfns.chunks(BATCH / offsets.len()) {
        let places: Vec<String> = pfns
            .iter()
            .map(|pfn| base + pfn * SIZE)
            .flat_map(|page| offsets.iter().map(move |offset| page + offset))
            .map(|at| format!("@{at:#x}"))
            .collect();
        words.extend(fetch(&places)?);
    }
    Ok(words)
}

/// Returns the owner of each page that is mapped at `map`.
pub fn owners(map: &Mapping) -> Result<Vec<Owner>> {
    let pfns = pfns(map)?;
    let mut owners = Vec::new();
    let mut rest = &pfns[..];
    while let [first, ..] = *rest {
        let head = first - first % FOLIO;
        let here = rest.iter().take_while(|pfn| **pfn - **pfn % FOLIO == head);
        let (these, behind) = rest.split_at(here.count());
        rest = behind;
        let of_head = words(&[head], &[FLAGS, MAPPING, INDEX])?;
        if of_head[0] & PG_HEAD != 0 {
            let (mapping, index) = (of_head[1], of_head[2]);
            owners.extend(these.iter().map(|pfn| Owner {
                mapping,
                index: match mapping {
                    0 | SHARED => index,
                    _ => index.wrapping_add(pfn - head),
                },
            }));
            continue;
        }
        let words = words(these, &[MAPPING, INDEX])?;
        owners.extend(words.chunks(2).map(|words| Owner {
            mapping: words[0],
            index: words[1],
        }));
    }
    Ok(owners)
}

/// What 2 MiB of pages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A folio of all pages, and the number of entries that name parts of it.
    Folio { count: u32, parts: u64 },
    /// Folios of one page each, none of them pinned.
    Single,
}

/// Returns what the 2 MiB that are mapped at `map` are, and requires that the memmap is right for that.
pub fn shape(map: &Mapping) -> Result<Shape> {
    let pfns = pfns(map)?;
    ensure!(
        pfns.len() as u64 == FOLIO && pfns[0] % FOLIO == 0,
        "the mapping is not one of 2 MiB"
    );
    shape_of(pfns[0])
}

/// Returns the first PFN of what is mapped at `map`.
pub fn first_pfn(map: &Mapping) -> Result<u64> {
    Ok(pfns(map)?[0])
}

/// Returns what the 2 MiB from this PFN on are, as [`shape`] does.
pub fn shape_of(first: u64) -> Result<Shape> {
    let pfns: Vec<u64> = (first..first + FOLIO).collect();
    let base = fetch(&["@vmemmap_base".into()])?[0];
    let head = words(&pfns[..1], &[FLAGS, COMPOUND_HEAD, PRIVATE, COUNTS])?;
    let is_folio = head[0] & PG_HEAD != 0;
    let pgmap = head[1];
    ensure!(pgmap & 1 == 0, "the first page is a tail");
    let tails = words(&pfns[1..], &[COMPOUND_HEAD, PRIVATE, COUNTS])?;
    for (n, tail) in tails.chunks(3).enumerate() {
        let count = (tail[2] >> 32) as u32;
        let (word, want) = match is_folio {
            true => ((base + first * SIZE) | 1, 0),
            false => (pgmap, 1),
        };
        ensure!(
            tail[0] == word && count == want && tail[1] == 0,
            "page {} of {} has the words {tail:x?}, not {word:x}, private 0 and a count of {want}",
            n + 1,
            if is_folio { "a folio" } else { "single pages" },
        );
    }
    let second = words(&pfns[1..2], &[FLAGS, 16, MAPPING, INDEX])?;
    let right = match is_folio {
        // The order; map counts of -1; no pages mapped one by one; the number of pages.
        true => {
            second[0] & 0xff == 9
                && second[1] == u64::MAX
                && second[2] & 0xffff_ffff == 0
                && second[3] & 0xffff_ffff == FOLIO
        }
        false => second[0] & 0x40 == 0 && second[1] == 0,
    };
    ensure!(right, "the second page has the words {second:x?}");
    let count = (head[3] >> 32) as u32;
    if is_folio {
        let parts = head[2];
        return Ok(Shape::Folio { count, parts });
    }
    ensure!(
        head[2] == 0 && count == 1,
        "the first of single pages has the words {head:x?}"
    );
    Ok(Shape::Single)
}

/// Returns whether the memory of a page has failed, by its flag.
pub fn is_poisoned(pfn: u64) -> Result<bool> {
    /// With the options of the kernels here.
    const PG_HWPOISON: u64 = 1 << 20;
    Ok(words(&[pfn], &[FLAGS])?[0] & PG_HWPOISON != 0)
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
