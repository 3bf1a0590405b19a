// SPDX-License-Identifier: GPL-2.0

//! The rows of `make configs`.

use kbuild::debian::Flavour;

/// The architectures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arch {
    X86,
    Arm64,
    Riscv,
    Loongarch,
    Um,
}

impl Arch {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86 => "x86",
            Arch::Arm64 => "arm64",
            Arch::Riscv => "riscv",
            Arch::Loongarch => "loongarch",
            Arch::Um => "um",
        }
    }

    /// Returns the arguments of make.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Arch::X86 => &[],
            Arch::Arm64 => &["ARCH=arm64"],
            Arch::Riscv => &["ARCH=riscv"],
            Arch::Loongarch => &["ARCH=loongarch"],
            Arch::Um => &["ARCH=um", "SUBARCH=x86"],
        }
    }

    /// Returns the target of the C compiler.
    pub fn triple(self) -> &'static str {
        match self {
            Arch::X86 | Arch::Um => "x86_64-linux-gnu",
            Arch::Arm64 => "aarch64-linux-gnu",
            Arch::Riscv => "riscv64-linux-gnu",
            Arch::Loongarch => "loongarch64-linux-gnusf",
        }
    }
}

/// The configuration that a row differs from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// The Rust kernel's.
    Rust,
    /// Debian's.
    Debian(Flavour),
    /// A tiny one with Rust.
    Tiny,
}

/// A difference from a configuration.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub arch: Arch,
    pub base: Base,
    /// Symbols with their values.
    pub on: &'static [&'static str],
    /// Symbols that are not set.
    pub off: &'static [&'static str],
}

impl Row {
    /// Returns the name of the output directory, which rows with much in common share.
    pub fn directory(&self) -> String {
        match self.base {
            Base::Debian(flavour) => format!("{}-{}", self.arch.name(), flavour.name()),
            Base::Rust | Base::Tiny => self.arch.name().to_owned(),
        }
    }
}

const fn row(name: &'static str, on: &'static [&'static str], off: &'static [&'static str]) -> Row {
    Row {
        name,
        arch: Arch::X86,
        base: Base::Rust,
        on,
        off,
    }
}

const fn small(name: &'static str, arch: Arch, on: &'static [&'static str]) -> Row {
    Row {
        name,
        arch,
        base: Base::Tiny,
        on,
        off: &[],
    }
}

/// Debian's configuration with Rust and all pieces. Symbol versions exclude Rust.
const fn debian(name: &'static str, flavour: Flavour) -> Row {
    Row {
        name,
        arch: Arch::X86,
        base: Base::Debian(flavour),
        on: &[
            "RUST=y",
            "RUST_DEV_PAGEMAP=y",
            "RUST_BLK_DEV_PMEM=y",
            "RUST_FS_DAX=y",
            "RUST_X86_GUP=y",
            "PARAVIRT_XXL=y",
            "DEBUG_INFO_BTF=y",
        ],
        off: &["MODVERSIONS"],
    }
}

/// All rows. Neighbours have much in common.
pub const ROWS: &[Row] = &[
    row("no-debugfs", &[], &["DEBUG_FS"]),
    row("no-ftrace", &[], &["FTRACE", "TRACEPOINTS"]),
    row(
        "no-sysfs",
        &["EXPERT=y"],
        &["SYSFS", "CONFIGFS_FS", "BLK_DEV_NULL_BLK"],
    ),
    row("no-bug", &["EXPERT=y"], &["BUG"]),
    row("no-btt", &[], &["BTT"]),
    row("no-nvdimm-pfn", &[], &["NVDIMM_PFN", "NVDIMM_DAX"]),
    row("no-dev-dax", &[], &["DEV_DAX"]),
    row("no-p2pdma", &[], &["PCI_P2PDMA"]),
    row("no-device-private", &[], &["DEVICE_PRIVATE"]),
    row("no-secretmem", &["EXPERT=y"], &["SECRETMEM"]),
    row("no-memory-failure", &[], &["MEMORY_FAILURE"]),
    row("no-hugetlb", &[], &["HUGETLBFS"]),
    row("no-memcg", &[], &["MEMCG"]),
    row("no-5level", &[], &["X86_5LEVEL"]),
    row("no-fs-dax", &[], &["FS_DAX"]),
    row(
        "registry",
        &["RUST_DEV_PAGEMAP=y"],
        &["RUST_BLK_DEV_PMEM", "RUST_FS_DAX", "RUST_X86_GUP"],
    ),
    row(
        "pmem",
        &["RUST_BLK_DEV_PMEM=y"],
        &["RUST_DEV_PAGEMAP", "RUST_FS_DAX", "RUST_X86_GUP"],
    ),
    row(
        "fs-dax",
        &["RUST_FS_DAX=y"],
        &["RUST_DEV_PAGEMAP", "RUST_BLK_DEV_PMEM", "RUST_X86_GUP"],
    ),
    row(
        "gup",
        &["RUST_X86_GUP=y"],
        &["RUST_DEV_PAGEMAP", "RUST_BLK_DEV_PMEM", "RUST_FS_DAX"],
    ),
    row(
        "c",
        &["RUST=y"],
        &[
            "RUST_DEV_PAGEMAP",
            "RUST_BLK_DEV_PMEM",
            "RUST_FS_DAX",
            "RUST_X86_GUP",
        ],
    ),
    row(
        "no-libnvdimm",
        &[],
        &["LIBNVDIMM", "ACPI_NFIT", "X86_PMEM_LEGACY", "VIRTIO_PMEM"],
    ),
    row("no-zone-device", &["RUST=y"], &["ZONE_DEVICE"]),
    row("no-block", &["EXPERT=y", "RUST=y"], &["BLOCK"]),
    row("no-thp", &[], &["TRANSPARENT_HUGEPAGE"]),
    row("no-numa", &[], &["NUMA"]),
    row("no-smp", &[], &["SMP"]),
    row(
        "preempt-dynamic",
        &["PREEMPT=y", "PREEMPT_DYNAMIC=y"],
        &["PREEMPT_VOLUNTARY"],
    ),
    row(
        "preempt-rt",
        &["EXPERT=y", "PREEMPT_RT=y"],
        &["RUST_FS_DAX", "TRANSPARENT_HUGEPAGE", "PREEMPT_VOLUNTARY"],
    ),
    row(
        "debug-vm",
        &[
            "DEBUG_VM=y",
            "DEBUG_VM_PGFLAGS=y",
            "PAGE_TABLE_CHECK=y",
            "PROVE_LOCKING=y",
            "RUST_DEBUG_ASSERTIONS=y",
            "RUST_X86_GUP_CHECK=y",
            "RUST_DEV_PAGEMAP_RECORDER=y",
        ],
        &[],
    ),
    row(
        "paravirt-xxl",
        &[
            "XEN=y",
            "XEN_PV=y",
            "PARAVIRT_XXL=y",
            "RUST_DEV_PAGEMAP=y",
            "RUST_BLK_DEV_PMEM=y",
            "RUST_FS_DAX=y",
            "RUST_X86_GUP=y",
        ],
        &[],
    ),
    row(
        "paravirt-xxl-debug",
        &[
            "XEN=y",
            "XEN_PV=y",
            "PARAVIRT_XXL=y",
            "RUST_FS_DAX=y",
            "RUST_X86_GUP=y",
            "RUST_X86_GUP_CHECK=y",
            "DEBUG_VM=y",
            "PAGE_TABLE_CHECK=y",
        ],
        &["X86_5LEVEL"],
    ),
    debian("debian-cloud", Flavour::Cloud),
    debian("debian-amd64", Flavour::Amd64),
    small("um", Arch::Um, &[]),
    small("arm64", Arch::Arm64, &[]),
    small("riscv", Arch::Riscv, &["MMU=y"]),
    small("loongarch", Arch::Loongarch, &[]),
];
