// SPDX-License-Identifier: GPL-2.0

//! The virtual machine: its devices and its start.
//!
//! Guest-physical memory, the same in every guest so that the addresses on the
//! kernel's command line are constants:
//!
//! ```text
//!   0      .. 2 GiB     RAM
//!   4 GiB  .. 7 GiB     e820 pmem (memmap=3G!4G)
//!   7 GiB  .. 8 GiB     e820 pmem (memmap=1G!7G)
//!   8 GiB  .. 8.5 GiB   reserved, for test_hmm's coherent memory
//!                       (spm_addr_dev0=0x200000000 spm_addr_dev1=0x210000000)
//!   8.5 GiB ..          RAM, what MEM asks for beyond 2 GiB
//!   above               two NVDIMMs with labels and a virtio-pmem, in sparse files
//!   above that          with CXL=1, 8 GiB of addresses for two CXL memory devices of 2 GiB
//! ```
//!
//! Works with QEMU 7.2 (Debian 12) and 10.0 (Debian 13).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use fs_err as fs;

use crate::label;
use host::command;
use host::files;

const GIB: u64 = 1024;

/// Memory of the machine beside the guest's RAM: 4 GiB of e820 pmem and the half
/// gigabyte for test_hmm.
const RESERVED_MIB: u64 = 4 * GIB + GIB / 2;

/// QEMU's own memory, most of it for translated code.
const QEMU_MIB: u64 = GIB;

/// RAM below the hole under 4 GiB; q35 places the rest above.
const LOW_MIB: u64 = 2 * GIB;

/// Size of the scratch disk.
const SCRATCH_MIB: u64 = 4 * GIB;

/// Size of the disk behind the NVMe controller.
const NVME_MIB: u64 = 3 * GIB;

/// Size of the NVMe controller's own memory, which other devices can reach.
const NVME_BUFFER_MIB: u64 = 64;

/// Size of the memory behind virtio-pmem.
const VIRTIO_PMEM_MIB: u64 = GIB / 2;

/// Size of each of the two CXL memory devices, a multiple of 256 MiB.
const CXL_MIB: u64 = 2 * GIB;

/// Size of the area for labels of the persistent one.
const CXL_LABELS_MIB: u64 = 1;

/// Kernel parameter that disables five-level page tables, which QEMU's CPU offers.
pub const FOUR_LEVELS: &str = "no5lvl";

/// The accelerator that executes the guest's instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accel {
    Kvm,
    /// TCG with a thread for each CPU.
    Tcg,
    /// TCG on one thread that the CPUs share.
    TcgInTurn,
    /// TCG on one thread; each instruction takes a nanosecond.
    Icount,
}

/// Destination of the command's output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Terminal {
    /// A port whose bytes appear on QEMU's standard output.
    Port,
    /// A console on QEMU's own terminal.
    Console,
}

/// A machine to start.
#[derive(Clone, Debug)]
pub struct Machine {
    pub kernel: PathBuf,
    pub image: PathBuf,
    /// Folder to mount at /lib/modules.
    pub modules: PathBuf,
    /// The same with nfit_test's replacements of the drivers.
    pub nfit_modules: PathBuf,
    /// Private folder: sockets, disks, the job folder.
    pub dir: PathBuf,
    pub accel: Accel,
    pub mem_mib: u64,
    pub cpus: u32,
    pub pmem_mib: u64,
    pub terminal: Terminal,
    /// An additional disk, of which the guest modifies a copy.
    pub suites: Option<PathBuf>,
    /// Folder of the NVDIMMs' files; existing files are kept.
    pub nvdimms: PathBuf,
    /// Whether there are two CXL memory devices, one persistent and one volatile.
    pub cxl: bool,
    pub extra_cmdline: Vec<String>,
    /// Additional arguments for QEMU.
    pub extra_arguments: Vec<OsString>,
}

impl Machine {
    pub fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    pub fn console_socket(&self) -> PathBuf {
        self.dir.join("console.sock")
    }

    pub fn monitor(&self) -> PathBuf {
        self.dir.join("qmp.sock")
    }

    pub fn job(&self) -> PathBuf {
        self.dir.join("job")
    }

    pub fn scratch(&self) -> PathBuf {
        self.dir.join("scratch.img")
    }

    fn nvme(&self) -> PathBuf {
        self.dir.join("nvme.img")
    }

    fn virtio_pmem(&self) -> PathBuf {
        self.dir.join("virtio-pmem.img")
    }

    fn cxl(&self, name: &str) -> PathBuf {
        self.dir.join(format!("cxl-{name}.img"))
    }

    fn pmem(&self, n: u32) -> PathBuf {
        self.nvdimms.join(format!("nvdimm{n}.img"))
    }

    /// Returns the size of an NVDIMM's file in MiB: the labels come after the memory,
    /// so that the next DIMM is aligned as this one is.
    fn dimm_mib(&self) -> u64 {
        self.pmem_mib + (label::AREA >> 20)
    }

    /// Returns the host memory in MiB that the guest can make its QEMU use, without
    /// the files.
    pub fn memory_mib(mem_mib: u64) -> u64 {
        mem_mib + RESERVED_MIB + QEMU_MIB
    }

    /// Rejects sizes with which no guest could boot.
    pub fn check(&self) -> Result<()> {
        if self.mem_mib < LOW_MIB {
            bail!("MEM must be at least 2G; the guest's memory layout needs that much");
        }
        if !(1..=16).contains(&self.cpus) {
            bail!("CPUS must be between 1 and 16, not {}", self.cpus);
        }
        if self.pmem_mib < GIB || self.pmem_mib % 128 != 0 {
            bail!("PMEM must be at least 1G and a multiple of 128M");
        }
        Ok(())
    }

    /// Creates the sparse files that back the NVDIMMs and the disks.
    pub fn make_disks(&self) -> Result<()> {
        for n in 0..2 {
            let size = self.dimm_mib();
            match fs::metadata(self.pmem(n)) {
                Ok(kept) if kept.len() == size << 20 => continue,
                Ok(kept) => bail!(
                    "{} has {} bytes and not the {} that PMEM={}M asks for; choose the PMEM that it \
                     was made with, or another folder",
                    self.pmem(n).display(),
                    kept.len(),
                    size << 20,
                    self.pmem_mib
                ),
                Err(_) => {}
            }
            files::make_sparse(&self.pmem(n), size)?;
            label::write_empty(&self.pmem(n), size << 20)?;
        }
        if self.cxl {
            files::make_sparse(&self.cxl("pmem"), CXL_MIB)?;
            files::make_sparse(&self.cxl("ram"), CXL_MIB)?;
            files::make_sparse(&self.cxl("labels"), CXL_LABELS_MIB)?;
        }
        files::make_sparse(&self.scratch(), SCRATCH_MIB)?;
        files::make_sparse(&self.nvme(), NVME_MIB)?;
        files::make_sparse(&self.virtio_pmem(), VIRTIO_PMEM_MIB)
    }

    /// Returns the kernel's command line.
    pub fn cmdline(&self) -> String {
        let mut words = vec![
            "console=ttyS0 root=/dev/vda rw init=/usr/local/sbin/guest-init nokaslr panic=-1",
            "memmap=3G!4G,1G!7G memmap=512M$8G",
            "rcupdate.rcu_cpu_stall_timeout=120 hung_task_panic=0",
        ];
        if self.accel == Accel::Icount {
            // The same addresses in every boot, so the same instructions. While the
            // guest waits for the host's disk its clock runs ahead by minutes, which
            // the watchdogs would report as a hang. A kernel that sees a single CPU
            // would patch away its own lock prefixes, but not those that LLVM emits.
            words.extend([
                "norandmaps noreplace-smp nowatchdog rcupdate.rcu_cpu_stall_suppress=1",
                "sysctl.kernel.hung_task_timeout_secs=0",
            ]);
        }
        words.extend(self.extra_cmdline.iter().map(String::as_str));
        words.join(" ")
    }

    /// Creates the command that starts QEMU. QEMU dies with the harness, however that
    /// dies.
    pub fn command(&self) -> Result<Command> {
        let mut cmd = command::clean("setpriv");
        cmd.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        cmd.args(self.arguments()?);
        // The changes to the root image go to an unlinked file in here.
        cmd.env("TMPDIR", &self.dir);
        cmd.current_dir(&self.dir);
        Ok(cmd)
    }

    fn arguments(&self) -> Result<Vec<OsString>> {
        let total = self.mem_mib + RESERVED_MIB;
        let dimm = self.dimm_mib();
        let max = total + 2 * dimm + VIRTIO_PMEM_MIB + 4 * GIB;
        let (accel, cpus) = match self.accel {
            Accel::Kvm => ("-accel kvm -cpu max", self.cpus),
            Accel::Tcg => ("-accel tcg,thread=multi -cpu max", self.cpus),
            Accel::TcgInTurn => ("-accel tcg,thread=single -cpu max", self.cpus),
            Accel::Icount => (
                "-accel tcg,thread=single -icount shift=0,sleep=off \
                 -cpu max,erms=off,fsrm=off -rtc base=2026-01-01,clock=vm",
                1,
            ),
        };
        let mut a = Args::default();
        a.words("-nodefaults -no-user-config -no-reboot -display none -vga none -M");
        a.words(if self.cxl {
            "q35,nvdimm=on,cxl=on,cxl-fmw.0.targets.0=cxl,cxl-fmw.0.size=8G"
        } else {
            "q35,nvdimm=on"
        });
        a.words(accel);
        if self.cxl {
            // A kernel that knows of a hypervisor makes no region: it does not trust the flush of the
            // caches.
            if let Some(cpu) = a.0.last_mut() {
                cpu.push(",hypervisor=off");
            }
        }
        a.words(&format!(
            "-smp {cpus} -m {total}M,slots=4,maxmem={max}M -kernel"
        ));
        a.0.push(self.kernel.clone().into());
        a.words("-append").0.push(self.cmdline().into());

        const DISK: &str = "format=raw,cache=writeback,discard=unmap";
        a.drive("root", &self.image, "format=raw,snapshot=on")?;
        a.words("-device virtio-blk-pci,drive=root");
        a.drive("scratch", &self.scratch(), DISK)?;
        a.words("-device virtio-blk-pci,drive=scratch");
        a.drive("nvme", &self.nvme(), DISK)?;
        a.words(&format!(
            "-device nvme,drive=nvme,serial=rust-dax,cmb_size_mb={NVME_BUFFER_MIB}"
        ));
        if let Some(suites) = &self.suites {
            a.drive("suites", suites, "format=raw,snapshot=on")?;
            a.words("-device virtio-blk-pci,drive=suites");
        }
        for n in 0..2 {
            a.memory(&format!("pmem{n}"), dimm, &self.pmem(n))?;
            a.words(&format!(
                "-device nvdimm,id=nvdimm{n},memdev=pmem{n},label-size={}",
                label::AREA
            ));
        }
        // After the NVDIMMs, so that their addresses stay the same. The guest loads
        // its driver when a test asks for it.
        a.memory("vpmem", VIRTIO_PMEM_MIB, &self.virtio_pmem())?;
        a.words("-device virtio-pmem-pci,memdev=vpmem,id=virtio-pmem");
        a.share("job", &self.job(), "")?;
        a.share("modules", &self.modules, "readonly=on,")?;
        a.share("nfit-modules", &self.nfit_modules, "readonly=on,")?;

        // The log gets all output, whether or not a client is connected to the
        // socket.
        let log = checked(&self.console())?.to_owned();
        a.option(
            "-chardev socket,id=console,server=on,wait=off,path=",
            &self.console_socket(),
            &format!(",logappend=off,logfile={log}"),
        )?;
        a.words("-serial chardev:console -chardev stdio,id=terminal,signal=off,mux=off");
        a.words("-device virtio-serial-pci -device");
        a.words(match self.terminal {
            Terminal::Port => "virtserialport,chardev=terminal,name=rust-dax",
            Terminal::Console => "virtconsole,chardev=terminal",
        });
        a.words("-device virtio-rng-pci");
        a.option("-qmp unix:", &self.monitor(), ",server=on,wait=off")?;
        if self.cxl {
            self.cxl_devices(&mut a)?;
        }
        a.0.extend(self.extra_arguments.iter().cloned());
        Ok(a.0)
    }
}

impl Machine {
    /// Adds a host bridge of CXL with two memory devices. They come last: the other devices have the
    /// same addresses without them, and QEMU would place devices that name no bus behind the bridge.
    fn cxl_devices(&self, a: &mut Args) -> Result<()> {
        a.memory("cxl-pmem", CXL_MIB, &self.cxl("pmem"))?;
        a.memory("cxl-labels", CXL_LABELS_MIB, &self.cxl("labels"))?;
        a.memory("cxl-ram", CXL_MIB, &self.cxl("ram"))?;
        a.words(
            "-device pxb-cxl,bus_nr=64,bus=pcie.0,id=cxl \
             -device cxl-rp,port=0,bus=cxl,id=cxl-port0,chassis=0,slot=2 \
             -device cxl-rp,port=1,bus=cxl,id=cxl-port1,chassis=0,slot=3 \
             -device cxl-type3,bus=cxl-port0,persistent-memdev=cxl-pmem,lsa=cxl-labels,\
             id=cxl-persistent,sn=0x1 \
             -device cxl-type3,bus=cxl-port1,volatile-memdev=cxl-ram,id=cxl-volatile,sn=0x2",
        );
        Ok(())
    }
}

#[derive(Default)]
struct Args(Vec<OsString>);

impl Args {
    /// Adds words that blanks divide.
    fn words(&mut self, words: &str) -> &mut Args {
        self.0.extend(words.split_whitespace().map(OsString::from));
        self
    }

    fn drive(&mut self, id: &str, path: &Path, how: &str) -> Result<()> {
        self.option("-drive file=", path, &format!(",if=none,id={id},{how}"))
    }

    fn memory(&mut self, id: &str, mib: u64, path: &Path) -> Result<()> {
        let how = format!("id={id},share=on,size={mib}M,align=2M");
        self.option(
            &format!("-object memory-backend-file,{how},mem-path="),
            path,
            "",
        )
    }

    /// Adds a folder that the guest can mount over 9p.
    fn share(&mut self, tag: &str, path: &Path, how: &str) -> Result<()> {
        let how = format!("id={tag},security_model=none,multidevs=remap,{how}");
        self.option(&format!("-fsdev local,{how}path="), path, "")?;
        self.words(&format!(
            "-device virtio-9p-pci,fsdev={tag},mount_tag={tag}"
        ));
        Ok(())
    }

    /// Adds words, the last of which goes on with a path and what is behind it.
    fn option(&mut self, before: &str, path: &Path, behind: &str) -> Result<()> {
        let path = checked(path)?;
        self.words(before);
        if let Some(last) = self.0.last_mut() {
            last.push(format!("{path}{behind}"));
        }
        Ok(())
    }
}

/// Checks a path: QEMU separates its options by commas, and a socket's path has a
/// limit.
fn checked(path: &Path) -> Result<&str> {
    let text = path.to_str().filter(|text| !text.contains(','));
    let text = text.with_context(|| {
        format!(
            "QEMU cannot use a path with a comma or an unknown character: {}; set RUST_DAX_CACHE \
             to another folder",
            path.display()
        )
    })?;
    if text.len() > 100 && text.ends_with(".sock") {
        bail!(
            "the path of a socket may have 107 bytes at most: {text}; set RUST_DAX_CACHE to a \
             folder with a shorter name"
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(accel: Accel) -> Machine {
        Machine {
            kernel: "/k/bzImage".into(),
            image: "/i/guest.ext4".into(),
            modules: "/m".into(),
            nfit_modules: "/n".into(),
            dir: "/run/x".into(),
            accel,
            mem_mib: 4096,
            cpus: 2,
            pmem_mib: 5120,
            terminal: Terminal::Port,
            suites: None,
            nvdimms: "/run/x".into(),
            cxl: false,
            extra_cmdline: vec!["kunit.enable=1".into()],
            extra_arguments: vec!["-plugin".into(), "libx.so".into()],
        }
    }

    fn text(m: &Machine) -> String {
        let words: Vec<_> = m.arguments().unwrap();
        words.join(&OsString::from(" ")).into_string().unwrap()
    }

    #[test]
    fn memory_is_mem_and_reserved_memory() {
        let t = text(&machine(Accel::Tcg));
        assert!(t.contains("-m 8704M,slots=4,maxmem=23556M"), "{t}");
        assert!(t.contains("memmap=512M$8G"));
    }

    #[test]
    fn counting_instructions_takes_one_cpu() {
        let t = text(&machine(Accel::Icount));
        assert!(t.contains("-smp 1 "), "{t}");
        assert!(t.contains("-icount shift=0,sleep=off -cpu max,erms=off,fsrm=off"));
        assert!(machine(Accel::Icount).cmdline().contains(" norandmaps "));
        assert!(!machine(Accel::Tcg).cmdline().contains("norandmaps"));
    }

    #[test]
    fn cxl_devices_change_nothing_else() {
        let mut machine = machine(Accel::Tcg);
        let without = text(&machine);
        machine.cxl = true;
        let with = text(&machine);
        assert!(!without.contains("cxl"), "{without}");
        assert!(with.contains("-cpu max,hypervisor=off "), "{with}");
        assert!(with.contains("lsa=cxl-labels,id=cxl-persistent"), "{with}");
        let devices = |text: &str| {
            let words = text.split(" -").filter(|words| !words.contains("cxl"));
            words
                .map(|words| words.replace(",hypervisor=off", ""))
                .collect::<Vec<_>>()
        };
        let machine = |words: &String| !words.starts_with("M ");
        let without: Vec<_> = devices(&without).into_iter().filter(machine).collect();
        assert_eq!(devices(&with), without);
    }

    #[test]
    fn additional_arguments_come_last() {
        assert!(machine(Accel::Kvm).cmdline().ends_with(" kunit.enable=1"));
        assert!(text(&machine(Accel::Kvm)).ends_with(" -plugin libx.so"));
    }

    #[test]
    fn bad_sizes_and_paths_are_refused() {
        assert!(machine(Accel::Tcg).check().is_ok());
        let with = |change: fn(&mut Machine)| {
            let mut machine = machine(Accel::Tcg);
            change(&mut machine);
            machine
        };
        assert!(with(|m| m.mem_mib = 1024).check().is_err());
        assert!(with(|m| m.cpus = 0).check().is_err());
        assert!(with(|m| m.pmem_mib = 1000).check().is_err());
        assert!(with(|m| m.dir = "/run/a,b".into()).arguments().is_err());
        let long = with(|m| m.dir = format!("/run/{}", "x".repeat(100)).into());
        assert!(long.arguments().is_err());
    }
}
