// SPDX-License-Identifier: GPL-2.0

//! The kernel's GUP test device, by its ioctls.
//!
//! The gup_test program hides the errno of a refused pin, and its pins end
//! inside one call; this module returns the errno and can keep a pin.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{bail, ensure, Context, Result};

use crate::mapping::{open_rw, Mapping, PAGE};
use crate::system;
use crate::vmstat::settled;

/// FOLL_WRITE of include/linux/mm_types.h.
const FOLL_WRITE: u32 = 0x1;

/// `struct gup_test` of mm/gup_test.h.
#[repr(C)]
#[derive(Default)]
struct GupTest {
    get_delta_usec: u64,
    put_delta_usec: u64,
    addr: u64,
    size: u64,
    nr_pages_per_call: u32,
    gup_flags: u32,
    test_flags: u32,
    which_pages: [u32; 8],
}

/// `struct pin_longterm_test` of mm/gup_test.h.
#[repr(C)]
struct PinLongterm {
    addr: u64,
    size: u64,
    flags: u32,
}

/// The function that takes the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    GupFast,
    PinFast,
    PinLongterm,
    Gup,
    Pin,
}

impl Method {
    pub const ALL: [Method; 5] = [
        Method::GupFast,
        Method::PinFast,
        Method::PinLongterm,
        Method::Gup,
        Method::Pin,
    ];

    /// Returns the index of GUP_FAST_BENCHMARK and the related commands.
    fn number(self) -> u32 {
        match self {
            Method::GupFast => 1,
            Method::PinFast => 2,
            Method::PinLongterm => 3,
            Method::Gup => 4,
            Method::Pin => 5,
        }
    }

    /// Returns whether FOLL_PIN is used, which the vmstat counters count.
    pub fn pins(self) -> bool {
        matches!(self, Method::PinFast | Method::PinLongterm | Method::Pin)
    }
}

/// Returns the request of one of the commands with a `struct gup_test`.
const fn request(number: u32) -> libc::c_ulong {
    nix::request_code_readwrite!(b'g', number, size_of::<GupTest>())
}

const DUMP_PAGES: libc::c_ulong = request(6);
const PIN_START: libc::c_ulong = nix::request_code_write!(b'g', 7, size_of::<PinLongterm>());
const PIN_STOP: libc::c_ulong = nix::request_code_none!(b'g', 8);
const PIN_READ: libc::c_ulong = nix::request_code_write!(b'g', 9, size_of::<u64>());

/// The result of one call of the device, and the time of its halves.
#[derive(Debug, Clone, Copy)]
pub struct Cycle {
    pub pages: u64,
    pub get_usec: u64,
    pub put_usec: u64,
}

/// The open test device. Closing it drops a held pin.
pub struct Device {
    file: File,
}

impl Device {
    pub fn open() -> Result<Self> {
        let path = system::debugfs()?.join("gup_test");
        let file = open_rw(&path, false).context("the kernel needs CONFIG_GUP_TEST")?;
        Ok(Self { file })
    }

    fn ioctl<T>(&self, command: libc::c_ulong, argument: *mut T) -> io::Result<()> {
        // SAFETY: Each caller passes the structure that belongs to the command,
        // or null if there is none, so the kernel accesses only valid memory.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), command, argument) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Takes and releases the pages of `len` bytes, `per_call` at a time.
    /// Returns the number of pages taken: fewer than requested if the kernel
    /// refused, because the device does not report the errno. A call that took
    /// some of its pages counts as complete.
    pub fn cycle(
        &self,
        method: Method,
        map: &Mapping,
        at: usize,
        len: usize,
        per_call: u32,
        write: bool,
    ) -> io::Result<u64> {
        self.timed_cycle(method, map, (at, len), per_call, write)
            .map(|cycle| cycle.pages)
    }

    /// Takes and releases pages as [`Device::cycle`] does, with the device's
    /// own timing.
    pub fn timed_cycle(
        &self,
        method: Method,
        map: &Mapping,
        (at, len): (usize, usize),
        per_call: u32,
        write: bool,
    ) -> io::Result<Cycle> {
        let mut test = GupTest {
            addr: (map.addr() + at) as u64,
            size: len as u64,
            nr_pages_per_call: per_call,
            gup_flags: if write { FOLL_WRITE } else { 0 },
            ..GupTest::default()
        };
        self.ioctl(request(method.number()), &mut test)?;
        Ok(Cycle {
            pages: test.size / 4096,
            get_usec: test.get_delta_usec,
            put_usec: test.put_delta_usec,
        })
    }

    /// Takes long-term pins, which last until [`Device::unpin`] or the close.
    /// The errno is the kernel's.
    pub fn pin_longterm(
        &self,
        map: &Mapping,
        len: usize,
        write: bool,
        fast: bool,
    ) -> io::Result<()> {
        self.pin_longterm_at(map.addr(), len, write, fast)
    }

    /// Takes long-term pins at an address, mapped or not.
    pub fn pin_longterm_at(
        &self,
        addr: usize,
        len: usize,
        write: bool,
        fast: bool,
    ) -> io::Result<()> {
        let mut test = PinLongterm {
            addr: addr as u64,
            size: len as u64,
            flags: u32::from(write) | (u32::from(fast) << 1),
        };
        self.ioctl(PIN_START, &mut test)
    }

    /// Copies the content of the pinned pages to `to`.
    pub fn read_pinned(&self, to: &Mapping) -> io::Result<()> {
        let mut addr = to.addr() as u64;
        self.ioctl(PIN_READ, &mut addr)
    }

    pub fn unpin(&self) -> io::Result<()> {
        self.ioctl(PIN_STOP, std::ptr::null_mut::<u8>())
    }

    /// Returns the counts of the folio of the page at `at`, as the kernel
    /// prints them while the device holds one plain reference.
    pub fn counts(&self, map: &Mapping, at: usize) -> Result<Counts> {
        let mut log = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .context("cannot open /dev/kmsg")?;
        log.seek(SeekFrom::End(0)).context("cannot seek the log")?;
        let mut test = GupTest {
            addr: (map.addr() + at) as u64,
            size: PAGE as u64,
            nr_pages_per_call: 1,
            ..GupTest::default()
        };
        test.which_pages[0] = 1;
        self.ioctl(DUMP_PAGES, &mut test)
            .context("dumping a page")?;
        let mut record = [0; 2048];
        let mut text = String::new();
        loop {
            match log.read(&mut record) {
                Ok(0) => break,
                Ok(n) => text += &String::from_utf8_lossy(&record[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e).context("cannot read the kernel's log"),
            }
        }
        Counts::parse(&text).with_context(|| format!("the kernel did not print a page: {text}"))
    }
}

/// The counts of a folio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub references: i64,
    /// Number of pins; zero for a folio of one page, which has no such count.
    pub pins: i64,
}

impl Counts {
    fn parse(log: &str) -> Option<Self> {
        let number = |name: &str| -> Option<i64> {
            let (_, behind) = log.split_once(name)?;
            let end = behind
                .find(|c: char| c != '-' && !c.is_ascii_digit())
                .unwrap_or(behind.len());
            behind[..end].parse().ok()
        };
        Some(Self {
            references: number("page: refcount:")?,
            pins: number(" pincount:").unwrap_or(0),
        })
    }
}

/// Takes and releases pages, and reads the vmstat counters: returns the
/// device's count of pages and the kernel's count of pins.
pub fn take_counted(
    device: &Device,
    method: Method,
    map: &Mapping,
    (at, len): (usize, usize),
    per_call: u32,
    write: bool,
) -> Result<(u64, u64)> {
    let before = settled()?;
    let got = device
        .cycle(method, map, at, len, per_call, write)
        .with_context(|| format!("{method:?} of {len:#x} bytes, {per_call} pages per call"))?;
    let after = settled()?;
    let (acquired, released) = (
        after.acquired - before.acquired,
        after.released - before.released,
    );
    ensure!(
        acquired == released,
        "{method:?} of {got} pages: nr_foll_pin_acquired grew by {acquired}, nr_foll_pin_released by {released}"
    );
    if !method.pins() && acquired != 0 {
        bail!("{method:?} of {got} pages: nr_foll_pin_acquired grew by {acquired}");
    }
    Ok((got, acquired))
}

/// Takes pages and compares the vmstat counters: each pinned page must be
/// counted.
pub fn take(
    device: &Device,
    method: Method,
    map: &Mapping,
    range: (usize, usize),
    per_call: u32,
    write: bool,
) -> Result<u64> {
    let (got, counted) = take_counted(device, method, map, range, per_call, write)?;
    ensure!(
        counted == if method.pins() { got } else { 0 },
        "{method:?}: {got} pages were taken, nr_foll_pin_acquired grew by {counted}"
    );
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_kernels() {
        // The values of the C macros on x86-64.
        assert_eq!(size_of::<GupTest>(), 80);
        assert_eq!(size_of::<PinLongterm>(), 24);
        assert_eq!(request(1), 0xc050_6701);
        assert_eq!(PIN_START, 0x4018_6707);
        assert_eq!(PIN_STOP, 0x6708);
    }

    #[test]
    fn counts_in_the_log() {
        let small = "4,88,7,-;page: refcount:1026 mapcount:1 mapping:0 index:0x1 pfn:0x2\n";
        let want = Counts {
            references: 1026,
            pins: 0,
        };
        assert_eq!(Counts::parse(small), Some(want));
        let large = format!("{small}4,89,7,-;head: order:9 mapcount:4 pincount:-3\n");
        assert_eq!(Counts::parse(&large), Some(Counts { pins: -3, ..want }));
        assert_eq!(Counts::parse("nothing"), None);
    }
}
