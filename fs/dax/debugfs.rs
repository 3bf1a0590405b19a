// SPDX-License-Identifier: GPL-2.0-only

//! What happened, in debugfs: `fs_dax/faults`, a line per filesystem: device, type, faults of a
//! page, faults of 2 MiB, and for each reason how often that was why there was no huge page; and
//! `fs_dax/implementation`, which says `rust`.

use crate::counts::{lines, COLUMNS};
use kernel::{
    c_str,
    debugfs::{Dir, Show},
    fs::inode::device_numbers,
    seq_file::SeqFile,
    seq_print,
};

pub(crate) fn init() {
    // SAFETY: This is built into the kernel.
    let dir = unsafe { Dir::new(c_str!("fs_dax")) };
    dir.file::<Implementation>(c_str!("implementation"));
    dir.file::<Faults>(c_str!("faults"));
}

struct Implementation;

impl Show for Implementation {
    fn show(file: &SeqFile) {
        seq_print!(file, "rust\n");
    }
}

struct Faults;

impl Show for Faults {
    fn show(file: &SeqFile) {
        seq_print!(file, "# device fstype");
        for column in COLUMNS {
            seq_print!(file, " {column}");
        }
        seq_print!(file, "\n");
        for line in lines() {
            let (major, minor) = device_numbers(line.device);
            seq_print!(file, "{major}:{minor} {}", line.name());
            for count in line.counts {
                seq_print!(file, " {count}");
            }
            seq_print!(file, "\n");
        }
    }
}
