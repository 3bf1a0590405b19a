// SPDX-License-Identifier: GPL-2.0

//! The columns: the ways to take memory away, and to give it back.

use std::sync::mpsc::{Receiver, RecvTimeoutError};

use super::lane::Lane;
use super::place::Ground;
use crate::command::Output;
use crate::tests::pmem::{device_of, DRIVER};
use crate::tests::prelude::*;

/// The driver of device-dax.
const DEVICE_DAX: &str = "/sys/bus/dax/drivers/device_dax";

/// A way to take memory away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Through the driver's file in sysfs.
    Unbind,
    Disable,
    Destroy,
    Reconfigure,
    Region,
    Rmmod,
    /// An unbinding, and a page of the memory becomes bad meanwhile.
    Failure,
}

impl Removal {
    pub const ALL: [Self; 7] = [
        Self::Unbind,
        Self::Disable,
        Self::Destroy,
        Self::Reconfigure,
        Self::Region,
        Self::Rmmod,
        Self::Failure,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Unbind => "unbind",
            Self::Disable => "disable",
            Self::Destroy => "destroy",
            Self::Reconfigure => "reconfigure",
            Self::Region => "disable-region",
            Self::Rmmod => "rmmod",
            Self::Failure => "failure",
        }
    }

    /// Returns whether ndctl looks first whether the disk is in use.
    pub fn checks_use(self) -> bool {
        matches!(
            self,
            Self::Disable | Self::Destroy | Self::Reconfigure | Self::Region
        )
    }

    /// Returns whether a lane may do it: a module has the devices of all lanes.
    pub fn is_in(self, lane: &Lane) -> bool {
        self != Self::Rmmod || !lane.is_beside_others()
    }

    /// Returns whether the bytes are lost.
    pub fn loses(self) -> bool {
        matches!(self, Self::Destroy | Self::Reconfigure)
    }
}

/// A removal of the memory of a ground. Dropping it gives the memory back, so that what is above the
/// memory can be taken down.
pub struct Removed {
    removal: Removal,
    /// The command of the removal, and the one that undoes it; the latter is none if the namespace has
    /// to be made anew.
    commands: (Vec<String>, Option<Vec<String>>),
    done: Option<Receiver<Result<Output>>>,
    gone: bool,
}

impl Removed {
    pub fn prepare(ground: &Ground<'_>, removal: Removal) -> Result<Self> {
        let info = &ground.memory.info;
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (driver, module) = match ground.place.is_devdax() {
            true => (DEVICE_DAX, "device_dax"),
            false => (DRIVER, "nd_pmem"),
        };
        let device = match info.blockdev.as_deref() {
            Some(disk) => device_of(disk)?,
            None => {
                let node = info.node()?;
                let name = node.file_name().context("the node has no name")?;
                name.to_string_lossy().into_owned()
            }
        };
        let sysfs = |file: &str| -> Vec<String> {
            let script = format!("printf %s {device} >{driver}/{file}");
            vec!["sh".to_owned(), "-c".to_owned(), script]
        };
        let dev = &info.dev;
        let other = match info.mode.as_str() {
            "fsdax" => "devdax",
            _ => "fsdax",
        };
        let region = &ground.memory.region;
        let commands = match removal {
            Removal::Unbind | Removal::Failure => (sysfs("unbind"), Some(sysfs("bind"))),
            Removal::Disable => (
                words(&format!("ndctl disable-namespace {dev}")),
                Some(words(&format!("ndctl enable-namespace {dev}"))),
            ),
            Removal::Destroy => (words(&format!("ndctl destroy-namespace -f {dev}")), None),
            Removal::Reconfigure => {
                let command = format!("ndctl create-namespace -f -e {dev} -m {other}");
                (words(&command), None)
            }
            Removal::Region => (
                words(&format!("ndctl disable-region {region}")),
                Some(words(&format!("ndctl enable-region {region}"))),
            ),
            Removal::Rmmod => (
                words(&format!("rmmod {module}")),
                Some(words(&format!("modprobe {module}"))),
            ),
        };
        Ok(Self {
            removal,
            commands,
            done: None,
            gone: false,
        })
    }

    /// Starts the removal.
    pub fn start(&mut self) {
        let (tx, done) = std::sync::mpsc::channel();
        let words = self.commands.0.clone();
        // Not joined: if it hangs, the process ends nevertheless.
        thread::spawn(move || tx.send(run(&words)));
        self.done = Some(done);
        self.gone = true;
    }

    /// Returns the output of the removal if it ends within this time.
    fn ended(&mut self, limit: Duration) -> Result<Option<Output>> {
        let done = self.done.as_ref().context("the removal was not started")?;
        match done.recv_timeout(limit) {
            Ok(output) => {
                self.done = None;
                output.map(Some)
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(e) => Err(e).context("the thread of the removal"),
        }
    }

    /// Requires that it waits, and says so in debugfs.
    pub fn must_wait(&mut self, lane: &Lane) -> Result<()> {
        const WATCH: Duration = Duration::from_millis(400);
        let limit = Instant::now() + timeout(Duration::from_secs(10));
        loop {
            if let Some(output) = self.ended(WATCH)? {
                bail!(
                    "it ended although pages are pinned, with exit status {}: {}",
                    output.code(),
                    output.all().trim()
                );
            }
            if lane.dying()?.is_some() {
                return Ok(());
            }
            ensure!(
                Instant::now() < limit,
                "it neither ends nor waits in the teardown of a pgmap"
            );
        }
    }

    /// Requires that it ends within this time, without an error.
    pub fn must_end(&mut self, lane: &Lane, secs: u64) -> Result<()> {
        let Some(output) = self.ended(timeout(Duration::from_secs(secs)))? else {
            bail!("it does not end within {secs} s: {:?}", lane.dying()?);
        };
        ensure!(
            !is_refusal(&output),
            "it failed with exit status {}: {}",
            output.code(),
            output.all().trim()
        );
        Ok(())
    }

    /// Requires that it is refused with a message.
    pub fn must_be_refused(&mut self, lane: &Lane) -> Result<()> {
        let Some(output) = self.ended(timeout(Duration::from_secs(15)))? else {
            bail!("it is not refused, but waits: {:?}", lane.dying()?);
        };
        ensure!(
            is_refusal(&output) && !output.stderr.trim().is_empty(),
            "it is not refused with a message, but ended with exit status {}: {}",
            output.code(),
            output.all().trim()
        );
        self.gone = false;
        Ok(())
    }

    /// Gives the memory back after a removal that has ended.
    pub fn undo(mut self, ground: &mut Ground<'_>) -> Result<()> {
        self.gone = false;
        match &self.commands.1 {
            Some(command) => {
                require(command)?;
                ground.restore()
            }
            None => ground.renew(),
        }
    }
}

/// Returns whether a command did nothing. ndctl has no exit status for a region that is in use.
fn is_refusal(output: &Output) -> bool {
    !output.status.success() || output.stderr.contains("disabled 0 regions")
}

fn run(words: &[String]) -> Result<Output> {
    let (program, arguments) = words.split_first().context("no command")?;
    let command = arguments.iter().fold(Cmd::new(program), Cmd::arg);
    command.run()
}

fn require(words: &[String]) -> Result<()> {
    let output = run(words)?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        words.join(" "),
        output.all().trim()
    );
    Ok(())
}

impl Drop for Removed {
    fn drop(&mut self) {
        if !self.gone {
            return;
        }
        if self.done.is_some() {
            match self.ended(timeout(Duration::from_secs(20))) {
                Ok(Some(_)) => {}
                Ok(None) => eprintln!("clean-up: {} still waits", self.removal.name()),
                Err(e) => eprintln!("clean-up: {e:#}"),
            }
        }
        if let Some(command) = &self.commands.1 {
            clean_up(require(command));
        }
    }
}
