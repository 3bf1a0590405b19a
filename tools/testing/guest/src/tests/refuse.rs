// SPDX-License-Identifier: GPL-2.0

//! Requests that must be refused, with their errno, and without side effects.

use super::ranges;
use crate::tests::prelude::*;

const DEVICES: &str = "/sys/bus/nd/devices";

/// Calls write(2) once on a sysfs file.
fn store(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value)
}

/// Returns the registry's list of ranges, if there is one.
fn listing() -> Result<Option<Vec<ranges::Range>>> {
    match ranges::listed() {
        Ok(list) => Ok(Some(list)),
        Err(e) if e.is::<Skip>() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Runs `work`, whose requests are refused, and checks that both kinds of
/// namespace can be created and used afterwards and that nothing is left.
fn unharmed(work: impl FnOnce() -> Result<()>) -> Result<String> {
    let iomem = system::iomem()?;
    let list = listing()?;
    let before = ndctl::namespaces("")?;
    let result = work();
    // A refused creation may leave a namespace without a claim.
    ndctl::restore(&before)?;
    result?;
    for kind in ONE_OF_EACH {
        let target = Target::create(&kind, 4 * MIB)?;
        let bytes = data::bytes(101, 4 << 20);
        let map = target.map(4 << 20)?;
        map.write(0, &bytes);
        map.require(0, &bytes, "a namespace made after the refusals")?;
        drop(map);
        target.finish()?;
    }
    if let Some(diff) = system::line_diff(&iomem, &system::iomem()?) {
        bail!("/proc/iomem differs from before: {diff}");
    }
    ensure!(
        list == listing()?,
        "the registry's list differs from before"
    );
    Ok(String::new())
}

fn require_refused(arguments: &str) -> Result<()> {
    let out = ndctl::try_create(arguments)?;
    ensure!(
        !out.status.success(),
        "ndctl create-namespace {arguments} succeeded: {}",
        out.stdout.trim()
    );
    ensure!(
        !out.stderr.trim().is_empty(),
        "ndctl create-namespace {arguments} failed without a message"
    );
    Ok(())
}

/// Returns the region that tests use, and one of its seed devices.
fn seed(kind: &str) -> Result<std::path::PathBuf> {
    let regions = ndctl::regions(Bus::Acpi.provider())?;
    let region = regions.first().context("there is no ACPI NVDIMM region")?;
    let name = system::read(Path::new(DEVICES).join(&region.dev).join(kind))?;
    Ok(Path::new(DEVICES).join(name))
}

declare! {
    /// an alignment that the machine does not support is accepted, or refused with another errno than
    /// EINVAL, or a namespace cannot be made properly afterwards
    "refuse::align", 90 s, essential => align
}
fn align() -> Result<String> {
    unharmed(|| {
        for kind in ["pfn_seed", "dax_seed"] {
            let seed = seed(kind)?;
            for bad in [0, 3 * MIB, 12 * KIB, 1 << 40] {
                require_errno(
                    store(&seed.join("align"), &bad.to_string()),
                    libc::EINVAL,
                    format!("alignment {bad} of {}", seed.display()),
                )?;
            }
        }
        for mode in ["fsdax", "devdax"] {
            for bad in ["3M", "12K", "512"] {
                require_refused(&format!("-b ACPI.NFIT -m {mode} -s 128M -a {bad}"))?;
            }
        }
        Ok(())
    })
}

declare! {
    /// a size that is no multiple of the region's alignment (EINVAL), too large (ENOSPC) or of an
    /// active namespace (EBUSY) is accepted, or refused with another errno
    "refuse::size", 90 s => size
}
fn size() -> Result<String> {
    unharmed(|| {
        let regions = ndctl::regions(Bus::Acpi.provider())?;
        let region = regions.first().context("there is no ACPI NVDIMM region")?;
        let out = Cmd::new("ndctl create-namespace -m raw -s 128M -r")
            .arg(&region.dev)
            .ok()?;
        let made: ndctl::Info = ndctl::parse_list(&out.stdout)?
            .into_iter()
            .next()
            .context("ndctl printed nothing about the raw namespace")?;
        let dir = Path::new(DEVICES).join(&made.dev);
        let attribute = dir.join("size");
        require_errno(
            store(&attribute, &(256 * MIB).to_string()),
            libc::EBUSY,
            "resizing an active namespace",
        )?;
        Cmd::new("ndctl disable-namespace").arg(&made.dev).ok()?;
        for (bad, errno) in [
            (128 * MIB + 4 * KIB, libc::EINVAL),
            (128 * MIB + 1, libc::EINVAL),
            // A multiple of the alignment, because otherwise the errno would be
            // EINVAL.
            (region.size.next_multiple_of(GIB) + GIB, libc::ENOSPC),
        ] {
            require_errno(
                store(&attribute, &bad.to_string()),
                errno,
                format!("size {bad} of {}", made.dev),
            )?;
        }
        ensure!(
            system::read_u64(&attribute)? == 128 * MIB,
            "a refused size changed the namespace"
        );
        Cmd::new("ndctl destroy-namespace -f").arg(&made.dev).ok()?;
        require_refused(&format!(
            "-r {} -m fsdax -s {}",
            region.dev,
            region.size + GIB
        ))?;
        require_refused(&format!("-r {} -m devdax -a 2M -s 134217729", region.dev))
    })
}

declare! {
    /// a namespace without room for data after its 1 GiB alignment is created anyway, or its failed
    /// creation leaves a range, a resource or a broken registry behind
    "refuse::too-small", 90 s, essential => too_small
}
fn too_small() -> Result<String> {
    unharmed(|| {
        for mode in ["fsdax", "devdax"] {
            require_refused(&format!("-b ACPI.NFIT -m {mode} -M dev -a 1G -s 1G"))?;
        }
        Ok(())
    })
}

declare! {
    /// a namespace whose filesystem is mounted can be reconfigured, or an active one without force
    "refuse::in-use", 90 s => in_use
}
fn in_use() -> Result<String> {
    const FSDAX: Want = want(Mode::Fsdax, 2 * MIB, Map::Dev, Bus::Acpi);
    unharmed(|| {
        let target = Target::create(&FSDAX, 4 * MIB)?;
        let dev = target.namespace.dev().to_string();
        require_refused(&format!("-e {dev} -m devdax"))?;
        require_refused(&format!("-f -e {dev} -m devdax"))?;
        let out = Cmd::new("ndctl destroy-namespace").arg(&dev).run()?;
        ensure!(
            ndctl::namespace(&dev)?.is_some_and(|n| n.enabled() && n.mode == "fsdax"),
            "an active namespace was destroyed without force: {}",
            out.all().trim()
        );
        // The namespace still works.
        let map = target.map(4 << 20)?;
        map.poke(0, 1);
        ensure!(map.peek(0) == 1, "the mapping lost its byte");
        drop(map);
        target.finish()?;
        let plain = Namespace::create(&FSDAX)?;
        require_refused(&format!("-e {} -m devdax", plain.dev()))?;
        plain.destroy()
    })
}
