// SPDX-License-Identifier: GPL-2.0

//! A device whose driver is taken away and comes back, whatever uses it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::command::Cmd;
use crate::ndctl::{self, Namespace};
use crate::system;
use crate::tests::pmem::{bind, device_of, DRIVER};
use crate::tests::truncate::Background;

/// A device that has a driver, or has had one: dropping it binds it again, so
/// that what is done to its filesystem or its pages later finds memory there.
pub struct Bound {
    /// The namespace, and what ndctl must not be asked about: it refuses what
    /// is mounted. There the device of nd_pmem.
    dev: String,
    disk: Option<String>,
    gone: bool,
}

impl Bound {
    pub fn of(namespace: &Namespace) -> Result<Self> {
        Ok(Self {
            dev: namespace.dev().to_owned(),
            disk: namespace
                .info
                .blockdev
                .as_deref()
                .map(device_of)
                .transpose()?,
            gone: false,
        })
    }

    /// Begins to unbind the driver.
    pub fn unbind(&mut self) -> Background {
        self.gone = true;
        let (dev, disk) = (self.dev.clone(), self.disk.clone());
        Background::start(move || match disk {
            Some(device) => bind("unbind", &device),
            None => disable(&dev),
        })
    }

    /// The same by a process of its own, which can be killed.
    pub fn unbind_in_process(&mut self) -> Result<Child> {
        self.gone = true;
        let mut command = match &self.disk {
            Some(device) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "printf %s \"$1\" >\"$2\"", "sh", device]);
                shell.arg(Path::new(DRIVER).join("unbind"));
                shell
            }
            None => {
                let mut ndctl = Command::new("ndctl");
                ndctl.args(["disable-namespace", &self.dev]);
                ndctl
            }
        };
        command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))
    }

    /// Ends a namespace of device-dax that was bound without its device.
    pub fn disable(&mut self) -> Result<()> {
        self.gone = true;
        disable(&self.dev)
    }

    /// Binds it again; the node that it has now.
    pub fn bind(&mut self) -> Result<PathBuf> {
        match &self.disk {
            Some(device) => bind("bind", device)?,
            None => {
                Cmd::new("ndctl enable-namespace").arg(&self.dev).ok()?;
            }
        }
        self.gone = false;
        let node = ndctl::namespace(&self.dev)?
            .context("the namespace is gone")?
            .node()?;
        system::wait_for_node(&node)?;
        Ok(node)
    }
}

fn disable(dev: &str) -> Result<()> {
    let command = Cmd::new("ndctl disable-namespace").arg(dev);
    command.limit_secs(120).ok().map(drop)
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.gone {
            if let Err(e) = self.bind() {
                eprintln!("clean-up: {e:#}");
            }
        }
    }
}
