// SPDX-License-Identifier: GPL-2.0

//! The folder that a guest and the host share: what to run, and the results.
//! `tools/testing/guest-image/guest-init` is the other side and describes the
//! files.

use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use fs_err as fs;
use walkdir::WalkDir;

use host::files;

/// Drivers that the guest loads before the command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Modules {
    /// The drivers of all persistent memory in the machine.
    #[default]
    Auto,
    /// None: the command loads them.
    None,
}

/// A job for the guest.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Text of a bash script.
    pub command: String,
    pub modules: Modules,
    /// Whether to report leaks after the command; debug kernels only.
    pub kmemleak: bool,
    /// Files and folders that go to the guest's /root.
    pub copy: Vec<PathBuf>,
    /// Files of the job folder itself, by name.
    pub extra: Vec<(String, Vec<u8>)>,
    /// Rows and columns of an interactive shell that replaces the command.
    pub shell: Option<(u16, u16)>,
}

impl Job {
    /// Writes the folder.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let files = dir.join("files");
        files::make_dir(&files)?;
        put(dir, "cmd", self.command.as_bytes())?;
        put(dir, "job.env", self.environment().as_bytes())?;
        for (name, bytes) in &self.extra {
            put(dir, name, bytes)?;
        }
        self.copy.iter().try_for_each(|from| copy_in(from, &files))
    }

    fn environment(&self) -> String {
        let mut env = String::new();
        let mut set = |key: &str, value: &str| {
            env.push_str(&format!("{key}={}\n", shell_words::quote(value)));
        };
        if self.modules == Modules::None {
            set("JOB_MODULES", "none");
        }
        if self.kmemleak {
            set("JOB_KMEMLEAK", "1");
        }
        if let Some((rows, cols)) = self.shell {
            let term = std::env::var("TERM").unwrap_or_default();
            set("JOB_MODE", "shell");
            set("JOB_TERM", if term.is_empty() { "vt100" } else { &term });
            set("JOB_ROWS", &rows.to_string());
            set("JOB_COLS", &cols.to_string());
        }
        env
    }
}

/// Returns the exit status that the guest wrote, if it got that far.
pub fn status(dir: &Path) -> Option<i32> {
    fs::read_to_string(dir.join("status"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Returns a file that the guest may have written, without surrounding white
/// space.
pub fn text(dir: &Path, name: &str) -> Option<String> {
    let bytes = fs::read(dir.join(name)).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    Ok(fs::write(dir.join(name), bytes)?)
}

/// Copies a file or a folder into `to`, following links, with its modes.
fn copy_in(from: &Path, to: &Path) -> Result<()> {
    let Some(name) = from.file_name() else {
        bail!("COPY: {} has no name to copy it under", from.display());
    };
    if !from.exists() {
        bail!("COPY: there is no {}", from.display());
    }
    for entry in WalkDir::new(from).follow_links(true) {
        let entry = entry?;
        let rest = entry.path().strip_prefix(from).unwrap_or(Path::new(""));
        let mut target = to.join(name);
        if !rest.as_os_str().is_empty() {
            target.push(rest);
        }
        if entry.file_type().is_dir() {
            files::make_dir(&target)?;
        } else if entry.file_type().is_file() {
            fs::copy(entry.path(), &target).with_context(|| {
                format!("cannot copy {} into the guest", entry.path().display())
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_keep_their_modes_and_folders_their_shape() {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tool");
        fs::write(&tool, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        let data = dir.path().join("data/deep");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("x"), "1").unwrap();
        let job = Job {
            command: "./tool".into(),
            copy: vec![tool, dir.path().join("data")],
            extra: vec![("main.json".into(), b"{}".to_vec())],
            ..Job::default()
        };
        let out = dir.path().join("job");
        job.write(&out).unwrap();
        let mode = fs::metadata(out.join("files/tool"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(
            fs::read_to_string(out.join("files/data/deep/x")).unwrap(),
            "1"
        );
        assert_eq!(fs::read_to_string(out.join("cmd")).unwrap(), "./tool");
        assert!(out.join("main.json").exists());
        assert_eq!(fs::read_to_string(out.join("job.env")).unwrap(), "");
    }

    #[test]
    fn a_missing_file_cannot_be_copied() {
        let dir = tempfile::tempdir().unwrap();
        let job = Job {
            copy: vec!["/nonexistent/tool".into()],
            ..Job::default()
        };
        let err = job.write(dir.path()).unwrap_err().to_string();
        assert_eq!(err, "COPY: there is no /nonexistent/tool");
    }

    #[test]
    fn the_environment_is_quoted() {
        let job = Job {
            modules: Modules::None,
            kmemleak: true,
            ..Job::default()
        };
        assert_eq!(job.environment(), "JOB_MODULES=none\nJOB_KMEMLEAK=1\n");
    }

    #[test]
    fn a_status_is_a_number() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(status(dir.path()), None);
        fs::write(dir.path().join("status"), "7\n").unwrap();
        assert_eq!(status(dir.path()), Some(7));
    }
}
