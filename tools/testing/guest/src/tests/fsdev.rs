// SPDX-License-Identifier: GPL-2.0

//! fsdev_dax, which serves device-dax memory to a filesystem, and the sample rust_dax_holder, which
//! holds it as one would.

use std::os::linux::fs::MetadataExt;

use super::ranges::touching;
use crate::system::{iomem, line_diff, LogMark};
use crate::tests::prelude::*;

const BUS: &str = "/sys/bus/dax/drivers";
pub const FSDEV: &str = "fsdev_dax";
const DEVICE_DAX: &str = "device_dax";
const HOLDER: &str = "rust_dax_holder";
const LEN: usize = 4 << 20;
/// The number of pages that are looked at.
const PAGES: u64 = (LEN / PAGE) as u64;

/// The namespaces: the memmap is in RAM or in the memory itself, the pages of device_dax were single or
/// compound.
const DEVICES: [Want; 3] = [
    want(Mode::Devdax, 4 * KIB, Map::Mem, Bus::Acpi),
    want(Mode::Devdax, 2 * MIB, Map::Mem, Bus::Acpi),
    want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi),
];

nix::ioctl_readwrite!(hold, b'H', 1, [u64; 4]);
nix::ioctl_readwrite!(read, b'H', 2, [u64; 4]);
nix::ioctl_readwrite!(write, b'H', 3, [u64; 4]);
nix::ioctl_readwrite!(zero, b'H', 4, [u64; 4]);
nix::ioctl_readwrite!(failures, b'H', 5, [u64; 4]);
nix::ioctl_readwrite!(flush, b'H', 6, [u64; 4]);
nix::ioctl_readwrite!(look, b'H', 7, [u64; 4]);

/// An ioctl of the sample.
type Command = unsafe fn(i32, *mut [u64; 4]) -> nix::Result<i32>;

/// Loads the driver and the sample.
pub fn load() -> Result<Modules> {
    let modules = Modules::load(&[FSDEV, HOLDER])?;
    system::wait_for_node(&Path::new("/dev").join(HOLDER))?;
    Ok(modules)
}

/// A holder: an open file of the sample.
pub struct Holder(File);

impl Holder {
    pub fn open() -> Result<Self> {
        Ok(Self(open_rw(&Path::new("/dev").join(HOLDER), false)?))
    }

    /// Runs a command, and returns its numbers.
    fn ask(&self, command: Command, mut request: [u64; 4]) -> io::Result<[u64; 4]> {
        // SAFETY: The request is valid for the call. Its addresses are checked by the kernel.
        unsafe { command(self.0.as_raw_fd(), &mut request) }?;
        Ok(request)
    }

    /// Becomes the holder of the device with this node.
    pub fn hold(&self, node: &Path) -> io::Result<()> {
        let number = node.metadata()?.st_rdev();
        let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
        self.ask(hold, [major, minor, 0, 0]).map(drop)
    }

    fn read(&self, at: usize, bytes: &mut [u8]) -> io::Result<()> {
        let (page, in_page) = (at / PAGE, at % PAGE);
        let to = bytes.as_mut_ptr() as u64;
        self.ask(read, [page as u64, in_page as u64, bytes.len() as u64, to])
            .map(drop)
    }

    pub fn write(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let (page, in_page) = (at / PAGE, at % PAGE);
        let from = bytes.as_ptr() as u64;
        self.ask(
            write,
            [page as u64, in_page as u64, bytes.len() as u64, from],
        )
        .map(drop)
    }

    pub fn require(&self, at: usize, wanted: &[u8], what: &str) -> Result<()> {
        let mut found = vec![0; wanted.len()];
        self.read(at, &mut found)?;
        ensure!(found == wanted, "{what}: other bytes at {at:#x}");
        Ok(())
    }

    /// Returns the number of contiguous pages from a page on, and the PFN of the first.
    pub fn look(&self, page: u64) -> io::Result<(u64, u64)> {
        let [_, pages, pfn, _] = self.ask(look, [page, u64::from(u32::MAX), 0, 0])?;
        Ok((pages, pfn))
    }

    /// Returns the number of failures, the bytes of the last one, and the number of removals.
    pub fn failures(&self) -> Result<[u64; 4]> {
        Ok(self.ask(failures, [0; 4])?)
    }
}

/// A device of the dax bus, bound to one of the drivers.
pub struct Device {
    name: String,
    pub node: PathBuf,
    driver: &'static str,
}

impl Device {
    /// Returns the device with this name, to which device_dax is bound.
    pub fn of(name: &str) -> Result<Self> {
        let node = Path::new("/dev").join(name);
        system::wait_for_node(&node)?;
        Ok(Self {
            name: name.to_owned(),
            node,
            driver: DEVICE_DAX,
        })
    }

    pub fn unbind(&mut self) -> io::Result<()> {
        fs::write(Path::new(BUS).join(self.driver).join("unbind"), &self.name)
    }

    /// Binds the device, which has no driver, to a driver.
    fn bind(&mut self, driver: &'static str) -> io::Result<()> {
        let dir = Path::new(BUS).join(driver);
        if driver == FSDEV {
            fs::write(dir.join("new_id"), &self.name)?;
            let bound = dir.join(&self.name).exists();
            // The next driver is not to be this one, so the name is taken away again.
            fs::write(dir.join("remove_id"), &self.name)?;
            if !bound {
                // The bus reports no error of the probe.
                return Err(io::ErrorKind::ResourceBusy.into());
            }
        } else {
            fs::write(dir.join("bind"), &self.name)?;
        }
        self.driver = driver;
        Ok(())
    }

    pub fn rebind(&mut self, driver: &'static str) -> Result<()> {
        self.unbind()
            .with_context(|| format!("unbind {} from {}", self.name, self.driver))?;
        self.bind(driver)
            .with_context(|| format!("bind {} to {driver}", self.name))?;
        system::wait_for_node(&self.node)
    }

    fn map(&self) -> Result<Mapping> {
        Mapping::shared(&open_rw(&self.node, false)?, 0, LEN, HUGE)
    }
}

/// A namespace in mode devdax with its device.
struct Made {
    namespace: Namespace,
    device: Device,
    /// `/proc/iomem` while device_dax was bound.
    iomem: String,
}

impl Made {
    fn create(want: &Want) -> Result<Self> {
        let namespace = Namespace::create(want)?;
        let node = namespace.node()?;
        let name = node.file_name().context("the node has no name")?;
        Ok(Self {
            device: Device::of(&name.to_string_lossy())?,
            namespace,
            iomem: iomem()?,
        })
    }

    /// Gives the device back to device_dax, requires that nothing is left, and removes the namespace.
    fn finish(mut self) -> Result<()> {
        if self.device.driver != DEVICE_DAX {
            self.device.rebind(DEVICE_DAX)?;
        }
        if let Some(diff) = line_diff(&self.iomem, &iomem()?) {
            bail!("/proc/iomem differs from before: {diff}");
        }
        require_unpinned("fsdev_dax")?;
        self.namespace.destroy()
    }
}

impl std::ops::Deref for Made {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.device
    }
}

impl std::ops::DerefMut for Made {
    fn deref_mut(&mut self) -> &mut Device {
        &mut self.device
    }
}

declare! {
    /// a device cannot be given to fsdev_dax and back, a holder reads or writes other memory than programs
    /// map by device_dax, programs can map what a filesystem has, the pages are not single ones of
    /// filesystem DAX, or resources are left behind
    "fsdev::bytes" for DEVICES, 60 s, essential "devdax-2M-dev-acpi" => bytes
}
fn bytes(want: &Want) -> Result<()> {
    let _modules = load()?;
    let mut device = Made::create(want)?;
    let before = data::bytes(71, LEN);
    device.map()?.write(0, &before);

    device.rebind(FSDEV)?;
    let holder = Holder::open()?;
    let answer = holder.read(0, &mut [0; 8]);
    require_errno(answer, libc::ENODEV, "a read without a device")?;
    holder.hold(&device.node).context("hold the device")?;
    holder.require(0, &before, "stored through device_dax")?;
    holder.require(
        3 * PAGE - 5,
        &before[3 * PAGE - 5..][..PAGE + 10],
        "unaligned",
    )?;
    let (start, size) = device.namespace.resource()?;
    let ranges = touching(start, size)?;
    ensure!(
        !ranges.is_empty()
            && ranges
                .iter()
                .all(|range| (range.kind.as_str(), range.shift) == ("fs_dax", 0)),
        "the pages are not single ones of filesystem DAX: {ranges:x?}"
    );

    // Contiguous memory up to the end; nothing behind it.
    let (pages, pfn) = holder.look(0)?;
    ensure!(pages >= PAGES, "only {pages} pages");
    let (rest, later) = holder.look(5)?;
    ensure!(
        (rest, later) == (pages - 5, pfn + 5),
        "from page 5 on: {rest} pages at {later:#x}, {pages} at {pfn:#x} in all"
    );
    let answer = holder.look(pages);
    require_errno(answer, libc::ERANGE, "the page behind the last")?;
    let answer = holder.look(u64::MAX);
    require_errno(answer, libc::ERANGE, "the last page number")?;

    let after = data::bytes(72, PAGE + 100);
    holder.write(7 * PAGE - 50, &after)?;
    holder.require(7 * PAGE - 50, &after, "written by the holder")?;
    holder.ask(zero, [9, 0, 0, 0])?;
    holder.require(9 * PAGE, &[0; PAGE], "a page of zeroes")?;
    holder.ask(flush, [7, 0, 3 * PAGE as u64, 0])?;

    let file = open_rw(&device.node, false)?;
    let map = Mapping::with(&file, 0, LEN, HUGE, libc::PROT_READ, libc::MAP_SHARED);
    ensure!(map.is_err(), "a program can map what a filesystem has");
    drop((file, holder));

    device.rebind(DEVICE_DAX)?;
    let map = device.map()?;
    map.require(7 * PAGE - 50, &after, "written by the holder, mapped")?;
    map.require(9 * PAGE, &[0; PAGE], "zeroed by the holder, mapped")?;
    map.require(11 * PAGE, &before[11 * PAGE..], "untouched, mapped")?;
    drop(map);
    device.finish()
}

declare! {
    /// a device gets two holders, or none after the first has gone; or a device that no filesystem can
    /// use, or that does not exist, gets one
    "fsdev::one-holder", 60 s, essential => one_holder
}
fn one_holder() -> Result<()> {
    let _modules = load()?;
    let mut device = Made::create(&DEVICES[1])?;
    let (first, second) = (Holder::open()?, Holder::open()?);
    let answer = first.hold(&device.node);
    require_errno(answer, libc::EOPNOTSUPP, "a device of device_dax")?;
    device.unbind()?;
    let answer = first.hold(&device.node);
    require_errno(answer, libc::ENODEV, "a device without a driver")?;
    device.bind(FSDEV)?;
    let answer = first.hold(Path::new("/dev/null"));
    require_errno(answer, libc::ENODEV, "a number that is no DAX device")?;
    first.hold(&device.node)?;
    let answer = second.hold(&device.node);
    require_errno(answer, libc::EBUSY, "a second holder")?;
    drop(first);
    second
        .hold(&device.node)
        .context("after the first has gone")?;
    second.write(0, b"second")?;
    drop(second);
    device.finish()
}

declare! {
    /// a holder is not told that its device goes away, reaches memory after that (also when another driver
    /// or the same one is bound again), keeps others from holding it, or unbinding waits for it
    "fsdev::unbound-under-holder", 60 s, essential => unbound_under_holder
}
fn unbound_under_holder() -> Result<()> {
    let _modules = load()?;
    let mut device = Made::create(&DEVICES[2])?;
    device.rebind(FSDEV)?;
    let (old, new) = (Holder::open()?, Holder::open()?);
    old.hold(&device.node)?;
    old.write(0, b"old")?;
    device.unbind()?;
    let [failed, _, _, removed] = old.failures()?;
    ensure!(
        (failed, removed) == (0, 1),
        "the holder has heard of {failed} failures and {removed} removals"
    );
    let gone = |when: &str| -> Result<()> {
        let answer = old.read(0, &mut [0; 3]);
        require_errno(answer, libc::ENXIO, format!("a read {when}"))?;
        let answer = old.ask(zero, [0; 4]);
        require_errno(answer, libc::ENXIO, format!("zeroing {when}"))
    };
    gone("after the device went")?;
    device.bind(DEVICE_DAX)?;
    gone("from a device of device_dax")?;
    device.rebind(FSDEV)?;
    gone("from a device that was bound again")?;
    new.hold(&device.node)?;
    gone("from a device of another")?;
    drop(old);
    new.require(0, b"old", "the bytes of the first holder")?;
    // Unloading the driver unbinds as well; the holder keeps nothing of it.
    Cmd::new("rmmod").arg(FSDEV).ok()?;
    let answer = new.read(0, &mut [0; 3]);
    require_errno(answer, libc::ENXIO, "a read after the driver was unloaded")?;
    Cmd::new("modprobe").arg(FSDEV).ok()?;
    drop(new);
    device.bind(DEVICE_DAX)?;
    device.finish()
}

declare! {
    /// a memory error in a filesystem's device-dax memory reaches no holder, or with another offset than
    /// that of its page in the device
    "fsdev::memory-failure" for DEVICES, 60 s, essential "devdax-2M-dev-acpi" => memory_failure
}
fn memory_failure(want: &Want) -> Result<()> {
    const BAD: u64 = 515;
    let _modules = load()?;
    let inject = Cmd::new("modprobe hwpoison_inject").run()?;
    if !inject.status.success() {
        skip!("this kernel has no CONFIG_HWPOISON_INJECT");
    }
    let mut device = Made::create(want)?;
    device.rebind(FSDEV)?;
    let holder = Holder::open()?;
    holder.hold(&device.node)?;
    let (_, pfn) = holder.look(BAD)?;
    let file = system::debugfs()?.join("hwpoison/corrupt-pfn");
    fs::write(&file, format!("{pfn:#x}")).with_context(|| file.display().to_string())?;
    let [failed, offset, len, removed] = holder.failures()?;
    ensure!(
        (failed, offset, len, removed) == (1, BAD * PAGE as u64, PAGE as u64, 0),
        "the holder has heard of {failed} failures, of {len} bytes from {offset:#x} on, and {removed} \
         removals, not of one of page {BAD}"
    );
    drop(holder);
    // The new memmap knows nothing of it: the error was simulated.
    device.finish()
}

declare! {
    /// a program that has had /dev/daxX.Y open since before fsdev_dax was bound can map the memory of the
    /// filesystem, or such a program makes binding fail without a reason in the log
    "fsdev::open-file", 60 s, essential => open_file
}
fn open_file() -> Result<()> {
    let _modules = load()?;
    let mut device = Made::create(&DEVICES[1])?;
    let file = open_rw(&device.node, false)?;
    device.unbind()?;
    let log = LogMark::new("bind under an open file")?;
    let bound = device.bind(FSDEV);
    ensure!(bound.is_err(), "the device was bound under an open file");
    let said = log.since()?;
    ensure!(
        said.contains(&format!("{}: a program has it open", device.name)),
        "no reason in the log: {said}"
    );
    drop(file);
    device.bind(FSDEV)?;
    system::wait_for_node(&device.node)?;
    // The other way round: device_dax is bound while a file of fsdev_dax is open.
    let file = open_rw(&device.node, false)?;
    device.rebind(DEVICE_DAX)?;
    let map = Mapping::with(&file, 0, LEN, HUGE, libc::PROT_READ, libc::MAP_SHARED);
    ensure!(map.is_err(), "a file that cannot be mapped can be now");
    drop(file);
    drop(device.map().context("map by device_dax")?);
    device.finish()
}
