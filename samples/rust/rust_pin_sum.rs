// SPDX-License-Identifier: GPL-2.0

//! A device that computes the sum of a buffer of a program, DAX or not, by its pages.
//!
//! The program passes [`Request`] by an ioctl. The pages of the buffer are pinned for the time of the
//! call, copied piece by piece, and unpinned. With `flags` 1 the pin is a long-term one, as that of a
//! driver that keeps its buffers: files of filesystems with DAX refuse it (`EOPNOTSUPP`), device-dax
//! does not.
//!
//! ```text
//! modprobe rust_pin_sum
//! python3 -c 'import fcntl, mmap, struct, ctypes; ...   # see tools/testing/guest/src/tests/samples.rs
//! ```
//!
//! There is no `unsafe`: the types know that the pages are pinned, that they may only be read, and
//! that they have to be unpinned.

use kernel::{
    c_str,
    ffi::c_int,
    ioctl::_IOWR,
    miscdevice::{MiscDevice, Registration},
    mm::pin::{Duration, PinnedSource},
    page::PAGE_SIZE,
    prelude::*,
    uaccess::UserSlice,
};

module! {
    type: PinSumModule,
    name: "rust_pin_sum",
    author: "rust-dax developers",
    description: "Sums of pinned user memory",
    license: "GPL",
}

/// The module: the device while it is loaded.
struct PinSumModule {
    _device: Registration<PinSum>,
}

impl kernel::Module for PinSumModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _device: Registration::new()?,
        })
    }
}

/// What a program asks for: four numbers of 64 bits. The last is the answer.
///
/// ```text
/// struct { u64 address, length, flags, sum; };
/// ```
struct Request {
    address: usize,
    len: usize,
    duration: Duration,
}

/// The size of a request, in bytes.
type Bytes = [u8; 32];

/// The offset of the answer in a request, in bytes.
const SUM: usize = 24;

impl Request {
    fn parse(bytes: &Bytes) -> Result<Self> {
        let mut words = bytes.chunks_exact(8).map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            usize::from_ne_bytes(bytes)
        });
        let mut next = || words.next().ok_or(EINVAL);
        Ok(Self {
            address: next()?,
            len: next()?,
            duration: match next()? {
                0 => Duration::Short,
                1 => Duration::LongTerm,
                _ => return Err(EINVAL),
            },
        })
    }
}

/// The device.
struct PinSum;

kernel::misc_device!(PinSum);

impl PinSum {
    /// The only command.
    const COMMAND: u32 = _IOWR::<Bytes>(b'P' as u32, 1);
}

impl MiscDevice for PinSum {
    const NAME: &'static CStr = c_str!("rust_pin_sum");

    type File = ();

    fn open() -> Result {
        Ok(())
    }

    fn ioctl(_file: &(), command: u32, argument: usize) -> Result<c_int> {
        if command != Self::COMMAND {
            return Err(ENOTTY);
        }
        let mut bytes: Bytes = [0; 32];
        let (mut reader, mut writer) = UserSlice::new(argument, bytes.len()).reader_writer();
        reader.read_slice(&mut bytes)?;
        let answer = sum(&Request::parse(&bytes)?)?;
        if let Some(word) = bytes.get_mut(SUM..) {
            word.copy_from_slice(&answer.to_ne_bytes());
        }
        writer.write_slice(&bytes)?;
        Ok(0)
    }
}

/// Returns the sum of the bytes of a buffer, and logs how many pages and pieces it has.
fn sum(request: &Request) -> Result<u64> {
    let source = PinnedSource::new(request.address, request.len, request.duration)?;
    pr_debug!(
        "{} pages, {} pieces\n",
        source.pages(),
        source.segments().count()
    );
    let mut buffer = KVec::new();
    buffer.extend_with(PAGE_SIZE, 0_u8, GFP_KERNEL)?;
    let (mut total, mut at) = (0_u64, 0_usize);
    while at < source.len() {
        let len = source.len().saturating_sub(at).min(PAGE_SIZE);
        let part = buffer.get_mut(..len).ok_or(EINVAL)?;
        source.read(at, part)?;
        total = part
            .iter()
            .fold(total, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        at = at.saturating_add(len);
    }
    Ok(total)
}
