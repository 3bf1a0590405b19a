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
//! ```
//!
//! Works with QEMU 7.2 (Debian 12) and 10.0 (Debian 13).

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::label;
use host::command;

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
            sparse(&self.pmem(n), size)?;
            label::write_empty(&self.pmem(n), size << 20)?;
        }
        sparse(&self.scratch(), SCRATCH_MIB)?;
        sparse(&self.nvme(), NVME_MIB)?;
        sparse(&self.virtio_pmem(), VIRTIO_PMEM_MIB)
    }

    /// Returns the kernel's command line.
    pub fn cmdline(&self) -> String {
        let mut words = vec![
            "console=ttyS0",
            "root=/dev/vda",
            "rw",
            "init=/usr/local/sbin/guest-init",
            "nokaslr",
            "panic=-1",
            "memmap=3G!4G,1G!7G",
            "memmap=512M$8G",
            "rcupdate.rcu_cpu_stall_timeout=120",
            "hung_task_panic=0",
        ];
        if self.accel == Accel::Icount {
            // The same addresses in every boot, so the same instructions. While the
            // guest waits for the host's disk its clock runs ahead by minutes, which
            // the watchdogs would report as a hang. A kernel that sees a single CPU
            // would patch away its own lock prefixes, but not those that LLVM emits.
            words.extend([
                "norandmaps",
                "noreplace-smp",
                "nowatchdog",
                "rcupdate.rcu_cpu_stall_suppress=1",
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
        let max = total + 2 * self.dimm_mib() + VIRTIO_PMEM_MIB + 4 * GIB;
        let cpus = if self.accel == Accel::Icount {
            1
        } else {
            self.cpus
        };
        let mut a = Args::default();
        for word in ["-nodefaults", "-no-user-config", "-no-reboot"] {
            a.words(&[word]);
        }
        a.words(&["-display", "none", "-vga", "none"]);
        a.words(&["-M", "q35,nvdimm=on"]);
        a.words(match self.accel {
            Accel::Kvm => &["-accel", "kvm", "-cpu", "max"],
            Accel::Tcg => &["-accel", "tcg,thread=multi", "-cpu", "max"],
            Accel::TcgInTurn => &["-accel", "tcg,thread=single", "-cpu", "max"],
            Accel::Icount => &[
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
                "-cpu",
                "max,erms=off,fsrm=off",
                "-rtc",
                "base=2026-01-01,clock=vm",
            ],
        });
        a.words(&["-smp", &cpus.to_string()]);
        a.words(&["-m", &format!("{total}M,slots=4,maxmem={max}M")]);
        a.words(&["-kernel"]).path(&self.kernel);
        a.words(&["-append", &self.cmdline()]);

        a.words(&["-drive"]).option(
            "file=",
            &self.image,
            ",if=none,id=root,format=raw,snapshot=on",
        )?;
        a.words(&["-device", "virtio-blk-pci,drive=root"]);
        a.words(&["-drive"]).option(
            "file=",
            &self.scratch(),
            ",if=none,id=scratch,format=raw,cache=writeback,discard=unmap",
        )?;
        a.words(&["-device", "virtio-blk-pci,drive=scratch"]);
        a.words(&["-drive"]).option(
            "file=",
            &self.nvme(),
            ",if=none,id=nvme,format=raw,cache=writeback,discard=unmap",
        )?;
        let buffer = format!("cmb_size_mb={NVME_BUFFER_MIB}");
        let nvme = format!("nvme,drive=nvme,serial=rust-dax,{buffer}");
        a.words(&["-device", &nvme]);
        if let Some(suites) = &self.suites {
            a.words(&["-drive"]).option(
                "file=",
                suites,
                ",if=none,id=suites,format=raw,snapshot=on",
            )?;
            a.words(&["-device", "virtio-blk-pci,drive=suites"]);
        }

        for n in 0..2 {
            let size = self.dimm_mib();
            a.words(&["-object"]).option(
                &format!("memory-backend-file,id=pmem{n},share=on,size={size}M,align=2M,mem-path="),
                &self.pmem(n),
                "",
            )?;
            a.words(&[
                "-device",
                &format!(
                    "nvdimm,id=nvdimm{n},memdev=pmem{n},label-size={}",
                    label::AREA
                ),
            ]);
        }

        // After the NVDIMMs, so that their addresses stay the same. The guest loads
        // its driver when a test asks for it.
        a.words(&["-object"]).option(
            &format!(
                "memory-backend-file,id=vpmem,share=on,size={VIRTIO_PMEM_MIB}M,align=2M,mem-path="
            ),
            &self.virtio_pmem(),
            "",
        )?;
        a.words(&["-device", "virtio-pmem-pci,memdev=vpmem,id=virtio-pmem"]);

        a.share("job", &self.job(), "")?;
        a.share("modules", &self.modules, "readonly=on,")?;
        a.share("nfit-modules", &self.nfit_modules, "readonly=on,")?;

        // The log gets all output, whether or not a client is connected to the
        // socket.
        a.words(&["-chardev"]).option(
            "socket,id=console,server=on,wait=off,path=",
            &self.console_socket(),
            "",
        )?;
        let last = a.0.len() - 1;
        a.0[last].push(",logappend=off,logfile=");
        a.0[last].push(checked(&self.console())?);
        a.words(&["-serial", "chardev:console"]);
        a.words(&["-chardev", "stdio,id=terminal,signal=off,mux=off"]);
        a.words(&["-device", "virtio-serial-pci"]);
        a.words(match self.terminal {
            Terminal::Port => &["-device", "virtserialport,chardev=terminal,name=rust-dax"],
            Terminal::Console => &["-device", "virtconsole,chardev=terminal"],
        });
        a.words(&["-device", "virtio-rng-pci"]);
        a.words(&["-qmp"])
            .option("unix:", &self.monitor(), ",server=on,wait=off")?;
        a.0.extend(self.extra_arguments.iter().cloned());
        Ok(a.0)
    }
}

#[derive(Default)]
struct Args(Vec<OsString>);

impl Args {
    fn words(&mut self, words: &[&str]) -> &mut Args {
        self.0.extend(words.iter().map(OsString::from));
        self
    }

    fn path(&mut self, path: &Path) -> &mut Args {
        self.0.push(path.into());
        self
    }

    /// Adds a folder that the guest can mount over 9p.
    fn share(&mut self, tag: &str, path: &Path, how: &str) -> Result<&mut Args> {
        let option = format!("local,id={tag},security_model=none,multidevs=remap,{how}path=");
        self.words(&["-fsdev"]).option(&option, path, "")?;
        let device = format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}");
        Ok(self.words(&["-device", &device]))
    }

    /// Adds an option value that contains a path.
    fn option(&mut self, before: &str, path: &Path, behind: &str) -> Result<&mut Args> {
        let mut word = OsString::from(before);
        word.push(checked(path)?);
        word.push(behind);
        self.0.push(word);
        Ok(self)
    }
}

/// Checks a path: QEMU separates its options by commas, and a socket's path has a
/// limit.
fn checked(path: &Path) -> Result<&Path> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.contains(&b',') {
        bail!(
            "QEMU cannot use a path with a comma: {}; set RUST_DAX_CACHE to another folder",
            path.display()
        );
    }
    if bytes.len() > 100 && path.extension().is_some_and(|e| e == "sock") {
        bail!(
            "the path of a socket may have 107 bytes at most: {}; set RUST_DAX_CACHE to a \
             folder with a shorter name",
            path.display()
        );
    }
    Ok(path)
}

fn sparse(path: &Path, mib: u64) -> Result<()> {
    File::create(path)
        .and_then(|f| f.set_len(mib << 20))
        .with_context(|| format!("cannot make {}", path.display()))
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
    fn additional_arguments_come_last() {
        assert!(machine(Accel::Kvm).cmdline().ends_with(" kunit.enable=1"));
        assert!(text(&machine(Accel::Kvm)).ends_with(" -plugin libx.so"));
    }

    #[test]
    fn bad_sizes_and_paths_are_refused() {
        let ok = machine(Accel::Tcg);
        assert!(ok.check().is_ok());
        assert!(Machine {
            mem_mib: 1024,
            ..ok.clone()
        }
        .check()
        .is_err());
        assert!(Machine {
            cpus: 0,
            ..ok.clone()
        }
        .check()
        .is_err());
        assert!(Machine {
            pmem_mib: 1000,
            ..ok.clone()
        }
        .check()
        .is_err());
        assert!(Machine {
            dir: "/run/a,b".into(),
            ..ok.clone()
        }
        .arguments()
        .is_err());
        let long = PathBuf::from(format!("/run/{}", "x".repeat(100)));
        assert!(Machine { dir: long, ..ok }.arguments().is_err());
    }
}
