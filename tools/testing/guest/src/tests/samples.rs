// SPDX-License-Identifier: GPL-2.0

//! The sample drivers that use the safe API for memory of programs. (That for namespaces is in
//! `pmem/second.rs`.)

mod migrate;

use crate::tests::prelude::*;

const MODULE: &str = "rust_pin_sum";
const LEN: usize = 4 << 20;

/// The request of rust_pin_sum: `flags` 1 asks for a long-term pin.
#[repr(C)]
#[derive(Default)]
struct Request {
    address: u64,
    len: u64,
    flags: u64,
    sum: u64,
}

nix::ioctl_readwrite!(pin_sum, b'P', 1, Request);

/// The device and its module. Fields are dropped in this order.
struct PinSum {
    device: File,
    _module: Modules,
}

impl PinSum {
    fn load() -> Result<Self> {
        let _module = Modules::load(&[MODULE])?;
        let node = Path::new("/dev").join(MODULE);
        system::wait_for_node(&node)?;
        Ok(Self {
            device: open_rw(&node, false)?,
            _module,
        })
    }

    /// Asks for the sum of a range of addresses.
    fn ask(&self, address: usize, len: usize, flags: u64) -> io::Result<u64> {
        let mut request = Request {
            address: address as u64,
            len: len as u64,
            flags,
            ..Request::default()
        };
        // SAFETY: The request is valid for the call. Its addresses are checked by the kernel.
        let answer = unsafe { pin_sum(self.device.as_raw_fd(), &mut request) };
        answer?;
        Ok(request.sum)
    }

    /// Requires the sums of parts of a mapping that has these bytes.
    fn require(&self, map: &Mapping, bytes: &[u8], flags: u64) -> Result<()> {
        let parts = [
            (0, 1),
            (0, LEN),
            (PAGE - 1, 2),
            (HUGE - 3, PAGE + 6),
            (HUGE - PAGE - 1, HUGE),
            (LEN - 1, 1),
        ];
        for (at, len) in parts {
            let wanted: u64 = bytes[at..at + len]
                .iter()
                .map(|byte| u64::from(*byte))
                .sum();
            let sum = self.ask(map.addr() + at, len, flags).context("the ioctl")?;
            ensure!(
                sum == wanted,
                "the sum of {len:#x} bytes at {at:#x} is {sum}, not {wanted}"
            );
        }
        Ok(())
    }
}

declare! {
    /// a driver that pins user memory by the safe API sees other bytes than the program has, gets a
    /// long-term pin of a file with DAX or none of device-dax, accepts what is no memory, or leaves pages
    /// pinned
    "samples::pin-sum" for ONE_OF_EACH, 60 s, essential "fsdax-2M-dev-acpi" => sums
}
fn sums(want: &Want) -> Result<()> {
    let device = PinSum::load()?;
    let target = Target::create(want, LEN as u64)?;
    let map = target.map(LEN)?;
    let bytes = data::bytes(61, LEN);
    map.write(0, &bytes);
    device.require(&map, &bytes, 0)?;
    if target.is_fsdax() {
        let answer = device.ask(map.addr(), PAGE, 1);
        require_errno(
            answer,
            libc::EOPNOTSUPP,
            "a long-term pin of a file with DAX",
        )?;
    } else {
        device.require(&map, &bytes, 1)?;
    }
    let anonymous = Mapping::anonymous(LEN)?;
    anonymous.write(0, &bytes);
    device.require(&anonymous, &bytes, 1)?;

    // A range that ends behind the mapping: what was pinned is unpinned.
    let hole = Mapping::reserve(LEN, HUGE)?;
    for (address, len, errno) in [
        (hole.addr(), PAGE, libc::EFAULT),
        (map.addr(), 0, libc::EINVAL),
        (usize::MAX - PAGE, 2 * PAGE, libc::EINVAL),
    ] {
        let answer = device.ask(address, len, 0);
        require_errno(answer, errno, format!("{len:#x} bytes at {address:#x}"))?;
    }
    drop(hole);
    require_unpinned("the sums")?;
    drop((map, device));
    target.finish()
}
