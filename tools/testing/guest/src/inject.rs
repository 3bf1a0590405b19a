// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail on request. Needs the fault injection of a debug
//! kernel.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::system::{self, clean_up};

/// Sets attributes of a kind of failure, `failslab` or `fail_page_alloc`;
/// returns a [`Skip`](crate::skip::Skip) error on a kernel without it.
pub fn configure(kind: &str, attributes: &[(&str, &str)]) -> Result<()> {
    let folder = system::debugfs()?.join(kind);
    if !folder.exists() {
        skip!("this kernel cannot let allocations fail");
    }
    for (file, value) in attributes {
        fs::write(folder.join(file), value).with_context(|| format!("{kind}/{file}"))?;
    }
    Ok(())
}

/// Returns the attribute file of a slab cache whose allocations may fail.
fn cache(name: &str) -> PathBuf {
    PathBuf::from("/sys/kernel/slab")
        .join(name)
        .join("failslab")
}

/// A guard: this thread's allocations of one kind fail while it exists.
pub struct Failing {
    kind: &'static str,
    cache: Option<&'static str>,
}

impl Failing {
    /// Fails the next `times` allocations from a slab cache; waiting for memory
    /// does not help.
    pub fn objects(cache: &'static str, times: u32) -> Result<Self> {
        let attributes = [("cache-filter", "Y")];
        let failing = Self::begin("failslab", Some(cache), &attributes, &times.to_string())?;
        Ok(failing)
    }

    /// Fails all page allocations of this order and above.
    pub fn pages(order: u32) -> Result<Self> {
        let order = order.to_string();
        let attributes = [("min-order", order.as_str()), ("ignore-gfp-highmem", "N")];
        Self::begin("fail_page_alloc", None, &attributes, "-1")
    }

    fn begin(
        kind: &'static str,
        cache_name: Option<&'static str>,
        attributes: &[(&str, &str)],
        times: &str,
    ) -> Result<Self> {
        configure(kind, attributes)?;
        let failing = Self {
            kind,
            cache: cache_name,
        };
        if let Some(name) = cache_name {
            fs::write(cache(name), "1").with_context(|| format!("failslab of {name}"))?;
        }
        let common = [
            ("ignore-gfp-wait", "N"),
            ("task-filter", "Y"),
            ("interval", "1"),
            ("verbose", "0"),
            ("times", times),
            ("probability", "100"),
        ];
        configure(kind, &common)?;
        this_thread(true)?;
        Ok(failing)
    }

    fn end(&self) -> Result<()> {
        this_thread(false)?;
        let off = [("probability", "0"), ("task-filter", "N"), ("times", "1")];
        configure(self.kind, &off)?;
        match self.cache {
            Some(name) => {
                fs::write(cache(name), "0").with_context(|| format!("failslab of {name}"))?;
                configure(self.kind, &[("cache-filter", "N")])
            }
            None => Ok(()),
        }
    }
}

/// What [`nth`] counts.
#[derive(Debug, Clone, Copy)]
pub enum Counted {
    /// Allocations of pages.
    Pages,
    /// Allocations of pages, and those of objects from slab caches.
    All,
}

/// Runs `work`, in which the `n`th allocation of this thread fails, unless the caller of the
/// allocator demands that it does not. Returns its result, and whether there were so many.
pub fn nth<T>(counted: Counted, n: u32, work: impl FnOnce() -> T) -> Result<(T, bool)> {
    let quiet = [
        ("probability", "0"),
        ("verbose", "0"),
        ("ignore-gfp-wait", "N"),
    ];
    configure("fail_page_alloc", &quiet)?;
    configure(
        "fail_page_alloc",
        &[("min-order", "0"), ("ignore-gfp-highmem", "N")],
    )?;
    configure("failslab", &quiet)?;
    // No cache is marked, so with the filter none fails.
    let filter = match counted {
        Counted::Pages => "Y",
        Counted::All => "N",
    };
    configure("failslab", &[("cache-filter", filter)])?;
    // Opened before, and closed after: these allocate as well.
    let path = "/proc/thread-self/fail-nth";
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .context(path)?;
    file.write_at(n.to_string().as_bytes(), 0).context(path)?;
    let result = work();
    let mut left = [0; 16];
    let read = file.read_at(&mut left, 0);
    file.write_at(b"0", 0).context(path)?;
    let left = left.get(..read.context(path)?).unwrap_or_default();
    Ok((result, left.trim_ascii() == b"0"))
}

/// Sets whether this thread's allocations may fail.
fn this_thread(fail: bool) -> Result<()> {
    let path = "/proc/thread-self/make-it-fail";
    fs::write(path, if fail { "1" } else { "0" }).context(path)
}

impl Drop for Failing {
    fn drop(&mut self) {
        clean_up(self.end());
    }
}
