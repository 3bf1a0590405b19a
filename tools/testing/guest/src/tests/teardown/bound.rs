// SPDX-License-Identifier: GPL-2.0

//! A device whose driver is unbound and bound again, while it is in use.

use std::process::{Child, Command, Stdio};

use crate::tests::pmem::{device_of, DRIVER};
use crate::tests::prelude::*;

/// A device that is or was bound to its driver: dropping it binds it again, so
/// that later operations on its filesystem or its pages find memory there.
pub struct Bound {
    /// The namespace, if ndctl is used.
    dev: String,
    device: Option<Device>,
    gone: bool,
}

/// A device and its driver in sysfs.
#[derive(Clone)]
struct Device {
    driver: &'static str,
    name: String,
}

impl Device {
    /// Writes the name to a file of the driver: `bind`, `unbind`.
    fn write(&self, file: &str) -> Result<()> {
        let path = Path::new(self.driver).join(file);
        fs::write(path, &self.name).with_context(|| format!("{file} {}", self.name))
    }
}

impl Bound {
    /// Unbinds by ndctl, except for a disk, because ndctl refuses a mounted
    /// one. From now on the kernel may report that I/O to the disk has failed.
    pub fn of(namespace: &Namespace) -> Result<Self> {
        let disk = namespace.info.blockdev.as_deref();
        if let Some(disk) = disk {
            system::allow_io_errors(disk)?;
        }
        let disk = disk.map(device_of);
        Ok(Self {
            dev: namespace.dev().to_owned(),
            device: disk.transpose()?.map(|name| Device {
                driver: DRIVER,
                name,
            }),
            gone: false,
        })
    }

    /// Unbinds only the device-dax device: the nd_pmem state of the namespace
    /// remains, including its pgmap.
    pub fn device_dax(namespace: &Namespace) -> Result<Self> {
        let node = namespace.node()?;
        let name = node.file_name().context("the node has no name")?;
        Ok(Self {
            dev: namespace.dev().to_owned(),
            device: Some(Device {
                driver: "/sys/bus/dax/drivers/device_dax",
                name: name.to_string_lossy().into_owned(),
            }),
            gone: false,
        })
    }

    /// Starts to unbind the driver.
    pub fn unbind(&mut self) -> Background {
        self.gone = true;
        let (dev, device) = (self.dev.clone(), self.device.clone());
        Background::start(move || match device {
            Some(device) => device.write("unbind"),
            None => disable(&dev),
        })
    }

    /// Starts to unbind in a separate process, which can be killed.
    pub fn unbind_in_process(&mut self) -> Result<Child> {
        self.gone = true;
        let mut command = match &self.device {
            Some(device) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "printf %s \"$1\" >\"$2\"", "sh", &device.name]);
                shell.arg(Path::new(device.driver).join("unbind"));
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

    /// Starts to unbind in a forked child, which calls `prepare` before.
    pub fn unbind_in_child(
        &mut self,
        prepare: impl FnOnce() -> Result<()>,
    ) -> Result<crate::process::Child> {
        let device = self.device.clone().context("ndctl is used")?;
        self.gone = true;
        spawn(|| {
            prepare()?;
            device.write("unbind")
        })
    }

    /// Leaves the device unbound.
    pub fn leave(mut self) {
        self.gone = false;
    }

    /// Returns the name of the device.
    pub fn name(&self) -> Result<&str> {
        let device = self.device.as_ref().context("ndctl is used")?;
        Ok(&device.name)
    }

    /// Returns whether ndctl unbinds and binds the driver.
    pub fn by_ndctl(&self) -> bool {
        self.device.is_none()
    }

    /// Completes the work of an unbinding by ndctl that was killed.
    pub fn disable(&mut self) -> Result<()> {
        self.gone = true;
        disable(&self.dev)
    }

    /// Binds it again; returns its current node.
    pub fn bind(&mut self) -> Result<PathBuf> {
        match &self.device {
            Some(device) => device.write("bind")?,
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
            clean_up(self.bind());
        }
    }
}
