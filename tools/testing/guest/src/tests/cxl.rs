// SPDX-License-Identifier: GPL-2.0

//! CXL memory, which a guest with `CXL=1` has: a persistent device, whose regions are those of ndctl, and
//! a volatile one, whose regions are devices of the dax bus that daxctl divides.
//!
//! QEMU decodes each access to such memory, so little of it is touched. A virtio disk cannot reach it:
//! pins are those of pipes here.

use std::io::Read;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde::Deserialize;

use super::fsdev::{self, Device, Holder, FSDEV};
use crate::filesystem::Kind;
use crate::tests::prelude::*;

const LEN: usize = 4 << 20;

/// A memory device, as `cxl list -M` prints it.
#[derive(Deserialize)]
struct Memdev {
    memdev: String,
    pmem_size: Option<u64>,
    ram_size: Option<u64>,
}

/// The modules, in the order in which they are loaded.
const MODULES: &[&str] = &[
    "cxl_acpi", "cxl_pci", "cxl_port", "cxl_mem", "cxl_pmem", "dax_cxl",
];

/// Loads the modules. They have to go afterwards, as other tests unload libnvdimm, which one of them
/// uses.
fn load() -> Result<Modules> {
    // The root of CXL in ACPI.
    if !Path::new("/sys/bus/acpi/devices/ACPI0017:00").exists() {
        skip!("the guest has no CXL memory");
    }
    Modules::load(MODULES)
}

/// A region; dropping it removes it.
struct Region(String);

impl Region {
    /// Makes a region of this type of all memory of a device that has such memory.
    fn create(kind: &str, _loaded: &Modules) -> Result<Self> {
        // The devices appear when their ports have been found.
        let end = Instant::now() + Duration::from_secs(20);
        let memdevs: Vec<Memdev> = loop {
            let memdevs = ndctl::parse_list(&Cmd::new("cxl list -M").ok()?.stdout)?;
            if memdevs.len() == 2 {
                break memdevs;
            }
            ensure!(
                Instant::now() < end,
                "{} memory devices appear, not 2",
                memdevs.len()
            );
            thread::sleep(Duration::from_millis(200));
        };
        let wanted = memdevs.iter().find(|device| match kind {
            "pmem" => device.pmem_size.is_some(),
            _ => device.ram_size.is_some(),
        });
        let memdev = &wanted
            .with_context(|| format!("no device has {kind}"))?
            .memdev;
        let before = regions()?;
        Cmd::new("cxl create-region -d decoder0.0 -t")
            .arg_words(kind)
            .arg_words("-m")
            .arg(memdev)
            .ok()?;
        let mut after = regions()?;
        after.retain(|region| !before.contains(region));
        match after.as_slice() {
            [region] => Ok(Self(region.clone())),
            other => bail!("cxl create-region has made {other:?}"),
        }
    }

    /// Removes the region.
    fn destroy(self) -> Result<()> {
        Cmd::new("cxl disable-region").arg(&self.0).ok()?;
        Cmd::new("cxl destroy-region").arg(&self.0).ok()?;
        ensure!(!regions()?.contains(&self.0), "{} is still there", self.0);
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        clean_up(Cmd::new("cxl destroy-region -f").arg(&self.0).ok());
    }
}

/// Returns the names of the regions.
fn regions() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/bus/cxl/devices").context("/sys/bus/cxl/devices")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("region") {
            names.push(name);
        }
    }
    Ok(names)
}

/// A namespace in a region, and a filesystem with DAX on it.
struct Mounted {
    info: ndctl::Info,
    node: PathBuf,
    mount: DaxMount,
}

impl Mounted {
    fn create(region: &Region) -> Result<Self> {
        let info = ndctl::create(&format!("-r {} -m fsdax -M mem -s 256M", region.0))?;
        let disk = info.blockdev.as_deref().context("there is no disk")?;
        system::allow_io_errors(disk)?;
        let node = Path::new("/dev").join(disk);
        system::wait_for_node(&node)?;
        let mount = DaxMount::create(Kind::Ext4, &node, &mount_point())?;
        Ok(Self { info, node, mount })
    }

    /// Makes a file of random bytes, durable, and maps it.
    fn map(&self, seed: u64) -> Result<(Mapping, Vec<u8>)> {
        let bytes = data::bytes(seed, LEN);
        let map = Mapping::shared(&self.mount.file("data", LEN as u64)?, 0, LEN, HUGE)?;
        map.write(0, &bytes);
        map.sync(0, LEN)?;
        Ok((map, bytes))
    }
}

/// Pages that a pipe has pinned.
struct Pinned {
    reader: File,
    _writer: File,
}

impl Pinned {
    fn new(map: &Mapping, at: usize, len: usize) -> Result<Self> {
        let (reader, writer) = pipe()?;
        vmsplice(map, at, len, &writer)?;
        Ok(Self {
            reader,
            _writer: writer,
        })
    }

    /// Requires these bytes in the pages, and unpins them.
    fn require(mut self, wanted: &[u8]) -> Result<()> {
        let mut found = vec![0; wanted.len()];
        self.reader.read_exact(&mut found)?;
        ensure!(found == wanted, "the pinned pages have other bytes");
        Ok(())
    }
}

declare! {
    /// a namespace in persistent CXL memory cannot hold a filesystem with DAX, maps other bytes than the
    /// file has, cannot be pinned, or cannot be removed with its region
    "cxl::fsdax", 240 s => fsdax
}
fn fsdax() -> Result<()> {
    let loaded = load()?;
    let region = Region::create("pmem", &loaded)?;
    let mounted = Mounted::create(&region)?;
    let (map, bytes) = mounted.map(81)?;
    let mut found = vec![0; PAGE];
    open_rw(&mounted.mount.path("data"), true)?.read_exact_at(&mut found, HUGE as u64)?;
    ensure!(found == bytes[HUGE..][..PAGE], "read() has other bytes");
    Pinned::new(&map, HUGE - PAGE, 2 * PAGE)?.require(&bytes[HUGE - PAGE..][..2 * PAGE])?;
    drop(map);
    require_unpinned("the pipe")?;
    remove(mounted, region)
}

/// Removes a namespace and its region.
fn remove(mounted: Mounted, region: Region) -> Result<()> {
    let Mounted { info, mount, .. } = mounted;
    drop(mount);
    Cmd::new("ndctl destroy-namespace -f").arg(&info.dev).ok()?;
    region.destroy()
}

/// Skips a test that leaves the C registry with pages of a removed device.
fn need_rust() -> Result<()> {
    if live::ask()?.registry.implementation == Language::C {
        skip!("6.12 in C oopses when a filesystem, or a pin, outlives the driver below it");
    }
    Ok(())
}

declare! {
    /// a region of persistent CXL memory is removed under a page that is pinned, a pin holds it up for
    /// longer than it lasts, or the region cannot be made again with the same bytes
    "cxl::unbind-in-use", 240 s => unbind_in_use
}
fn unbind_in_use() -> Result<()> {
    let loaded = load()?;
    need_rust()?;
    let region = Region::create("pmem", &loaded)?;
    let mut mounted = Mounted::create(&region)?;
    let (map, bytes) = mounted.map(82)?;
    let pinned = Pinned::new(&map, 0, PAGE)?;
    let name = region.0.clone();
    let removal =
        Background::start(move || Cmd::new("cxl disable-region -f").arg(&name).ok().map(drop));
    removal.must_wait("the removal of a region with a pinned page")?;
    pinned.require(&bytes[..PAGE])?;
    removal.must_end("the removal of the region")?;
    drop((map, mounted.mount));
    // The same memory again, with the namespace that its labels describe.
    Cmd::new("cxl enable-region").arg(&region.0).ok()?;
    system::wait_for_node(&mounted.node)?;
    mounted.mount = DaxMount::mount(Kind::Ext4, &mounted.node, &mount_point())?;
    let mut found = vec![0; LEN];
    open_rw(&mounted.mount.path("data"), false)?.read_exact_at(&mut found, 0)?;
    ensure!(found == bytes, "the file has other bytes than before");
    remove(mounted, region)
}

declare! {
    /// a task that resets the decoders of a region, and is killed while it waits for a pinned page, takes
    /// the memory from under the page, hangs, or leaves a region that cannot be reset later
    "cxl::killed-reset", 240 s => killed_reset
}
fn killed_reset() -> Result<()> {
    let loaded = load()?;
    need_rust()?;
    let region = Region::create("pmem", &loaded)?;
    let mounted = Mounted::create(&region)?;
    let (map, bytes) = mounted.map(85)?;
    let pinned = Pinned::new(&map, 0, PAGE)?;
    let commit = Path::new("/sys/bus/cxl/devices")
        .join(&region.0)
        .join("commit");
    let mut child = spawn(|| Ok(fs::write(&commit, "0")?))?;
    thread::sleep(Duration::from_secs(2));
    ensure!(
        child.is_running("the reset")?,
        "the region was reset under a pinned page"
    );
    kill(Pid::from_raw(child.pid()), Signal::SIGKILL)?;
    child.wait_signal(30, "the killed reset")?;
    let state = system::read(&commit)?;
    ensure!(
        state.trim() == "1",
        "the region is not committed any more: {state}"
    );
    pinned.require(&bytes[..PAGE])?;
    let Mounted { info, node, mount } = mounted;
    drop((map, mount));
    // The worker that has taken over ends, and the region can be used and reset.
    let end = Instant::now() + timeout(Duration::from_secs(20));
    while !Cmd::new("cxl enable-region")
        .arg(&region.0)
        .run()?
        .status
        .success()
    {
        ensure!(Instant::now() < end, "{} cannot be enabled again", region.0);
        thread::sleep(Duration::from_millis(200));
    }
    system::wait_for_node(&node)?;
    Cmd::new("ndctl destroy-namespace -f").arg(&info.dev).ok()?;
    region.destroy()
}

/// A device that daxctl has made; dropping it removes it.
struct Made(String);

impl Made {
    /// Makes a device of this many MiB in the region with this number.
    fn create(region: &str, mib: u64) -> Result<Self> {
        #[derive(Deserialize)]
        struct Device {
            chardev: String,
        }
        let json = Cmd::new("daxctl create-device -r")
            .arg(region)
            .arg_words(&format!("-s {mib}M"))
            .ok()?
            .stdout;
        let made: Vec<Device> = ndctl::parse_list(&json)?;
        Ok(Self(
            made.into_iter()
                .next()
                .context("daxctl prints no device")?
                .chardev,
        ))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        clean_up(Cmd::new("daxctl destroy-device -f").arg(&self.0).ok());
    }
}

declare! {
    /// volatile CXL memory cannot be mapped as device-dax; or a device of it that is in two parts shows a
    /// filesystem that holds it other bytes, no end of the first part, or names a failure in the second
    /// part by another offset
    "cxl::parts", 300 s => parts
}
fn parts() -> Result<()> {
    const PART: u64 = 256 << 20;
    let loaded = load()?;
    let region = Region::create("ram", &loaded)?;
    let number = region.0.trim_start_matches("region").to_owned();
    // The device that the region begins with takes all of it.
    let all = format!("dax{number}.0");
    let end = Instant::now() + Duration::from_secs(10);
    while !Path::new("/sys/bus/dax/devices").join(&all).exists() {
        ensure!(Instant::now() < end, "{all} does not appear");
        thread::sleep(Duration::from_millis(100));
    }
    Cmd::new("daxctl reconfigure-device -m devdax -f")
        .arg(&all)
        .ok()?;
    let node = Path::new("/dev").join(&all);
    system::wait_for_node(&node)?;
    let map = Mapping::shared(&open_rw(&node, false)?, 0, LEN, HUGE)?;
    let bytes = data::bytes(83, 2 * PAGE);
    map.write(HUGE - PAGE, &bytes);
    Pinned::new(&map, HUGE - PAGE, 2 * PAGE)?.require(&bytes)?;
    drop(map);
    Cmd::new("daxctl disable-device").arg(&all).ok()?;
    Cmd::new("daxctl destroy-device -f").arg(&all).ok()?;

    let first = Made::create(&number, 256)?;
    let hole = Made::create(&number, 256)?;
    let last = Made::create(&number, 256)?;
    drop(hole);
    let split = Made::create(&number, 768)?;
    let dir = Path::new("/sys/bus/dax/devices").join(&split.0);
    ensure!(dir.join("mapping1").exists(), "{} is in one part", split.0);

    let _modules = fsdev::load()?;
    let mut device = Device::of(&split.0)?;
    device.rebind(FSDEV)?;
    let holder = Holder::open()?;
    holder.hold(&device.node)?;
    let (pages, pfn) = holder.look(0)?;
    ensure!(
        pages == PART / PAGE as u64,
        "the first part has {pages} pages"
    );
    let (rest, second) = holder.look(pages)?;
    ensure!(rest == 2 * pages, "the second part has {rest} pages");
    ensure!(
        second != pfn + pages,
        "the parts are one: {pfn:#x}, {second:#x}"
    );
    let across = data::bytes(84, 3 * PAGE);
    holder.write(PART as usize - PAGE - 7, &across)?;
    holder.require(PART as usize - PAGE - 7, &across, "across the parts")?;
    let answer = holder.look(3 * pages);
    require_errno(answer, libc::ERANGE, "the page behind the second part")?;

    Cmd::new("modprobe hwpoison_inject").ok()?;
    let file = system::debugfs()?.join("hwpoison/corrupt-pfn");
    fs::write(&file, format!("{:#x}", second + 3)).with_context(|| file.display().to_string())?;
    let [failed, offset, ..] = holder.failures()?;
    ensure!(
        (failed, offset) == (1, PART + 3 * PAGE as u64),
        "the holder has heard of {failed} failures, the last at {offset:#x}"
    );
    drop(holder);
    device.unbind()?;
    drop((split, last, first));
    region.destroy()
}
