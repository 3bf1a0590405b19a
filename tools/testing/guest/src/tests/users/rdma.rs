// SPDX-License-Identifier: GPL-2.0

//! Memory registered with an RDMA device: a long-term pin for as long as it is registered. The
//! device is the kernel's software RoCE on the loopback interface, driven by the calls that
//! libibverbs writes to its file.

use std::os::fd::{FromRawFd, OwnedFd};

use super::long_term;
use crate::system::wait_for_node;
use crate::tests::prelude::*;

const LEN: usize = 16 << 20;
/// Not all of it, and not a multiple of huge pages.
const REGISTERED: usize = (4 << 20) + (3 << 12);

/// The numbers of the calls: `enum ib_uverbs_write_cmds`.
const GET_CONTEXT: u32 = 0;
const ALLOC_PD: u32 = 3;
const REG_MR: u32 = 9;
const DEREG_MR: u32 = 13;

/// An open device with a protection domain.
pub struct Rdma {
    file: File,
    /// The file of events, which keeps the device.
    _events: OwnedFd,
    domain: u32,
}

impl Rdma {
    pub fn open(node: &Path) -> Result<Self> {
        let file = open_rw(node, false)?;
        let [events, _] = call(&file, GET_CONTEXT, &[]).context("GET_CONTEXT")?;
        // SAFETY: The descriptor is new and owned here, so nothing else closes it.
        let events = unsafe { OwnedFd::from_raw_fd(events.try_into()?) };
        let [domain] = call(&file, ALLOC_PD, &[]).context("ALLOC_PD")?;
        Ok(Self {
            file,
            _events: events,
            domain,
        })
    }

    /// Registers the start of a mapping; returns its handle.
    pub fn register(&self, map: &Mapping, len: usize) -> io::Result<u32> {
        const LOCAL_WRITE: u32 = 1;
        let start = halves(map.addr() as u64);
        let mut words = Vec::new();
        for field in [start, halves(len as u64), start] {
            words.extend(field);
        }
        words.extend([self.domain, LOCAL_WRITE]);
        let [handle, _, _] = call(&self.file, REG_MR, &words)?;
        Ok(handle)
    }

    fn deregister(&self, handle: u32) -> io::Result<()> {
        call(&self.file, DEREG_MR, &[handle]).map(|[]| ())
    }
}

/// Writes a call whose response has `N` words: a header, the address of the response, and the
/// arguments.
fn call<const N: usize>(file: &File, command: u32, words: &[u32]) -> io::Result<[u32; N]> {
    let mut reply = [0; N];
    let mut message = vec![command, 0];
    if N > 0 {
        message.extend(halves(reply.as_mut_ptr() as u64));
    }
    message.extend(words);
    // A header is two words: the command, and the lengths of call and response.
    message[1] = message.len() as u32 | ((N as u32) << 16);
    // SAFETY: The kernel reads the message, and writes `N` words to the response; both outlive
    // the call.
    let n = unsafe { libc::write(file.as_raw_fd(), message.as_ptr().cast(), 4 * message.len()) };
    match n {
        // SAFETY: The response is our initialised array; the volatile read is needed because the
        // compiler has not seen the kernel's write.
        0.. => Ok(unsafe { std::ptr::read_volatile(&reply) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// The device, which exists until this is dropped.
pub struct Link;

impl Link {
    pub const NODE: &'static str = "/dev/infiniband/uverbs0";

    pub fn add() -> Result<Self> {
        for module in ["rdma_rxe", "ib_uverbs"] {
            if !Cmd::new("modprobe").arg(module).run()?.status.success() {
                skip!("this kernel has no module {module} (CONFIG_RDMA_RXE)");
            }
        }
        Cmd::new("rdma link add rust-dax type rxe netdev lo").ok()?;
        wait_for_node(Path::new(Self::NODE))?;
        Ok(Self)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        clean_up(Cmd::new("rdma link delete rust-dax").ok());
    }
}

declare! {
    /// an RDMA device registers memory of fsdax (not EOPNOTSUPP), refuses that of device-dax, or
    /// keeps its pins
    "users::rdma" for MAPPED_KINDS, 60 s, essential "fsdax-2M-dev-acpi" "devdax-2M-dev-acpi"
        => registered
}
fn registered(want: &Want) -> Result<String> {
    let _link = Link::add()?;
    let target = Target::create(want, LEN as u64)?;
    let before = settled()?;
    let map = target.map(LEN)?;
    map.prefault_write(4096);
    for deregister in [true, false] {
        let rdma = Rdma::open(Path::new(Link::NODE))?;
        let handle = rdma.register(&map, REGISTERED);
        match long_term("registering memory", &target, &before, handle)? {
            Some(handle) if deregister => rdma.deregister(handle).context("DEREG_MR")?,
            _ => {}
        }
        // Closing releases the rest.
        drop(rdma);
        require_unpinned("registered memory")?;
    }
    drop(map);
    let detail = if target.is_fsdax() {
        "refused"
    } else {
        "registered"
    };
    target.finish()?;
    Ok(detail.to_owned())
}
