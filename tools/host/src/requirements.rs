// SPDX-License-Identifier: GPL-2.0

//! The requirements on the host.

use std::path::Path;

use anyhow::{bail, Context, Result};
use fs_err as fs;

/// The Debian releases whose packages the harness knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Debian {
    Bookworm,
    Trixie,
}

/// Fails with one sentence on any host but Debian 12 or 13 on amd64.
pub fn require_host() -> Result<Debian> {
    let machine = nix::sys::utsname::uname().context("cannot determine the machine")?;
    if machine.machine() != "x86_64" {
        bail!(
            "rust-dax needs an amd64 (x86_64) machine; this one is {}",
            machine.machine().to_string_lossy()
        );
    }
    let text = fs::read_to_string("/etc/os-release")
        .context("cannot read /etc/os-release; rust-dax needs Debian 12 or 13")?;
    parse_os_release(&text)
}

fn parse_os_release(text: &str) -> Result<Debian> {
    let get = |key: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix('='))
            .map(|v| v.trim_matches(['"', '\'']))
            .unwrap_or("")
    };
    match (get("ID"), get("VERSION_CODENAME")) {
        ("debian", "bookworm") => Ok(Debian::Bookworm),
        ("debian", "trixie") => Ok(Debian::Trixie),
        (id, name) => {
            bail!("rust-dax needs Debian 12 (bookworm) or 13 (trixie); this is {id} {name}")
        }
    }
}

/// Fails when the filesystem of `path` has less than `gib` GiB left for `what`.
pub fn require_disk(path: &Path, gib: u64, what: &str) -> Result<()> {
    let left = free_gib(path)?;
    if left < gib {
        bail!(
            "{what} needs {gib} GiB in {}; {left} GiB are free: make room, or set \
             RUST_DAX_CACHE to a folder on a larger disk",
            path.display()
        );
    }
    Ok(())
}

fn free_gib(path: &Path) -> Result<u64> {
    let dir = path
        .ancestors()
        .find(|p| p.exists())
        .unwrap_or(Path::new("/"));
    let stat = nix::sys::statvfs::statvfs(dir)
        .with_context(|| format!("cannot determine the free space of {}", dir.display()))?;
    Ok((stat.blocks_available() * stat.fragment_size()) >> 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release() {
        let text =
            "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_CODENAME=trixie\nID=debian\n";
        assert_eq!(parse_os_release(text).unwrap(), Debian::Trixie);
        let err = parse_os_release("ID=ubuntu\nVERSION_CODENAME=noble\n").unwrap_err();
        assert!(err.to_string().ends_with("this is ubuntu noble"));
    }

    #[test]
    fn disk() {
        assert!(require_disk(Path::new("/nonexistent/x"), 0, "nothing").is_ok());
        let err = require_disk(Path::new("/"), 1 << 40, "everything").unwrap_err();
        assert!(err.to_string().contains("GiB are free"), "{err}");
    }
}
