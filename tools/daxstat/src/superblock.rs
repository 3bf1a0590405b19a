// SPDX-License-Identifier: GPL-2.0

//! The content of a block device: a filesystem, a partition table, nothing.
//!
//! blkid(8) tells the type, because it knows them all and notices remains of an older one. The
//! properties that matter for DAX are not in its output; they are read from the superblock of the
//! filesystems that have DAX, at the offsets of the format on the medium.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Empty,
    /// A partition table of this type.
    Partitions(String),
    /// A filesystem, or another type that is no partition table.
    Filesystem(Filesystem),
    /// It cannot be told; the reason.
    Unknown(String),
}

/// A filesystem. What the superblock does not say, or what is not known of the type, is `None` or
/// false.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filesystem {
    pub fstype: String,
    /// In bytes.
    pub block_size: Option<u64>,
    /// The unit in bytes to which the allocator aligns large files; 0 without one.
    pub stripe: Option<u64>,
    /// ext4: small files may lie in their inodes.
    pub inline_data: bool,
    /// ext4: data=journal is the default.
    pub journal_data: bool,
    /// Features by which single files are not DAX.
    pub excluding: Vec<&'static str>,
    /// XFS: files may share blocks.
    pub reflink: bool,
    /// XFS: the files of a block can be found.
    pub rmapbt: bool,
}

/// A prefix of the device, which has the superblock.
struct Head(Vec<u8>);

impl Head {
    /// Size of what is read: all superblocks are in the first 4 KiB.
    const SIZE: usize = 4096;

    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn le32(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn be32(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_be_bytes)
    }
}

impl Filesystem {
    fn read(fstype: &str, head: &Head) -> Self {
        let read = match fstype {
            "ext2" | "ext3" | "ext4" => Self::ext(head),
            "xfs" => Self::xfs(head),
            "erofs" => Self::erofs(head),
            _ => None,
        };
        Self {
            fstype: fstype.to_string(),
            ..read.unwrap_or_default()
        }
    }

    /// struct ext4_super_block, at 1 KiB.
    fn ext(head: &Head) -> Option<Self> {
        const AT: usize = 1024;
        const INLINE_DATA: u32 = 0x8000;
        const ENCRYPT: u32 = 0x1_0000;
        const VERITY: u32 = 0x8000;
        const JOURNAL_MODE: u32 = 0x60;
        const JOURNAL_DATA: u32 = 0x20;
        if head.bytes(AT + 0x38)? != [0x53, 0xef] {
            return None;
        }
        let block_size = 1024u64.checked_shl(head.le32(AT + 0x18)?)?;
        let incompat = head.le32(AT + 0x60)?;
        let ro_compat = head.le32(AT + 0x64)?;
        let stripe = u64::from(head.le32(AT + 0x170)?);
        let mut excluding = Vec::new();
        if incompat & ENCRYPT != 0 {
            excluding.push("encrypt");
        }
        if ro_compat & VERITY != 0 {
            excluding.push("verity");
        }
        Some(Self {
            block_size: Some(block_size),
            stripe: Some(stripe.saturating_mul(block_size)),
            inline_data: incompat & INLINE_DATA != 0,
            journal_data: head.le32(AT + 0x100)? & JOURNAL_MODE == JOURNAL_DATA,
            excluding,
            ..Self::default()
        })
    }

    /// struct xfs_dsb.
    fn xfs(head: &Head) -> Option<Self> {
        const VERSION_5: u16 = 5;
        const RMAPBT: u32 = 1 << 1;
        const REFLINK: u32 = 1 << 2;
        if head.bytes(0)? != *b"XFSB" {
            return None;
        }
        let block_size = u64::from(head.be32(4)?);
        // Older versions have other bytes there.
        let five = u16::from_be_bytes(head.bytes(100)?) & 0xf == VERSION_5;
        Some(Self {
            block_size: Some(block_size),
            stripe: Some(u64::from(head.be32(184)?).saturating_mul(block_size)),
            reflink: five && head.be32(212)? & REFLINK != 0,
            rmapbt: five && head.be32(212)? & RMAPBT != 0,
            ..Self::default()
        })
    }

    /// struct erofs_super_block, at 1 KiB.
    fn erofs(head: &Head) -> Option<Self> {
        const AT: usize = 1024;
        const MAGIC: u32 = 0xe0f5_e1e2;
        /// LZ4_0PADDING and COMPR_CFGS.
        const COMPRESSED: u32 = 3;
        if head.le32(AT)? != MAGIC {
            return None;
        }
        let [bits] = head.bytes(AT + 12)?;
        let compressed = head.le32(AT + 80)? & COMPRESSED != 0;
        Some(Self {
            block_size: 1u64.checked_shl(bits.into()),
            excluding: compressed.then_some("compression").into_iter().collect(),
            ..Self::default()
        })
    }
}

impl Content {
    /// Probes a device that is open for reading.
    pub fn probe(path: &Path, device: &File) -> Self {
        let mut head = vec![0; Head::SIZE];
        if let Err(e) = device.read_exact_at(&mut head, 0) {
            return Content::Unknown(format!("cannot read the superblock: {e}"));
        }
        // An ordinary user's PATH lacks the folders of programs for root.
        let dirs = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let out = Command::new("blkid")
            .args(["-p", "-o", "export"])
            .arg(path)
            .env("PATH", dirs)
            .stdin(Stdio::null())
            .output();
        match out {
            Ok(out) => {
                let stdout = String::from_utf8_lossy(&out.stdout);
                Self::of(out.status.code(), &stdout, &Head(head))
            }
            Err(e) => Content::Unknown(format!("cannot run blkid: {e}")),
        }
    }

    /// Interprets the exit status and the output of `blkid -p -o export`.
    fn of(status: Option<i32>, output: &str, head: &Head) -> Self {
        const NOTHING: i32 = 2;
        const AMBIVALENT: i32 = 8;
        let value = |name: &str| {
            output
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        match (status, value("TYPE"), value("PTTYPE")) {
            (Some(0), Some(fstype), _) => Content::Filesystem(Filesystem::read(fstype, head)),
            (Some(0), None, Some(table)) => Content::Partitions(table.to_string()),
            (Some(0 | NOTHING), ..) => Content::Empty,
            (Some(AMBIVALENT), ..) => Content::Unknown(
                "blkid finds the signatures of several filesystems: see `wipefs`".into(),
            ),
            _ => Content::Unknown("blkid fails".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(bytes: &[(usize, &[u8])]) -> Head {
        let mut head = vec![0; Head::SIZE];
        for (at, bytes) in bytes {
            head[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        Head(head)
    }

    #[test]
    fn ext4() {
        let head = head(&[
            (1024 + 0x38, &[0x53, 0xef]),
            (1024 + 0x18, &[2]),
            (1024 + 0x61, &[0x80, 1]),
            (1024 + 0x65, &[0x80]),
            (1024 + 0x100, &[0x2c]),
            (1024 + 0x171, &[2]),
        ]);
        let ext4 = Filesystem::read("ext4", &head);
        assert_eq!(ext4.block_size, Some(4096));
        assert_eq!(ext4.stripe, Some(2 << 20));
        assert!(ext4.inline_data && ext4.journal_data);
        assert_eq!(ext4.excluding, ["encrypt", "verity"]);
        // The magic number is not there.
        assert_eq!(Filesystem::read("xfs", &head).block_size, None);
    }

    #[test]
    fn xfs() {
        let head = head(&[
            (0, b"XFSB"),
            (4, &[0, 0, 4, 0]),
            (100, &[0xb4, 0xa5]),
            (184, &[0, 0, 8, 0]),
            (215, &[4]),
        ]);
        let xfs = Filesystem::read("xfs", &head);
        assert_eq!((xfs.block_size, xfs.stripe), (Some(1024), Some(2 << 20)));
        assert!(xfs.reflink && !xfs.rmapbt);
    }

    #[test]
    fn erofs() {
        let head = head(&[
            (1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
            (1024 + 12, &[9]),
            (1024 + 80, &[1]),
        ]);
        let erofs = Filesystem::read("erofs", &head);
        assert_eq!(erofs.block_size, Some(512));
        assert_eq!(erofs.excluding, ["compression"]);
    }

    #[test]
    fn damaged_ones() {
        let none = Head(Vec::new());
        assert_eq!(Filesystem::read("ext4", &none).block_size, None);
        let wild = head(&[(1024 + 0x38, &[0x53, 0xef]), (1024 + 0x18, &[0xff; 4])]);
        assert_eq!(Filesystem::read("ext4", &wild).block_size, None);
    }

    #[test]
    fn what_blkid_says() {
        let head = head(&[]);
        let of = |status, text: &str| Content::of(Some(status), text, &head);
        assert_eq!(of(2, ""), Content::Empty);
        assert_eq!(of(0, "DEVNAME=/dev/x\n"), Content::Empty);
        assert!(matches!(of(8, ""), Content::Unknown(why) if why.contains("wipefs")));
        assert!(matches!(of(0, "PTUUID=1\nPTTYPE=gpt\n"), Content::Partitions(t) if t == "gpt"));
        let text = "DEVNAME=/dev/x\nTYPE=btrfs\n";
        assert!(matches!(of(0, text), Content::Filesystem(f) if f.fstype == "btrfs"));
    }
}
