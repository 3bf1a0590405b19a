// SPDX-License-Identifier: GPL-2.0

//! Protection keys: the rights of the thread apply too, not only those of the mapping.

use crate::gup::{take, Device, Method};
use crate::memory::{Kind, Memory};
use crate::tests::prelude::*;

const LEN: usize = 2 * HUGE;
const DISABLE_ACCESS: u32 = 1;
const DISABLE_WRITE: u32 = 2;

/// A protection key, which is freed when dropped.
struct Key(libc::c_long);

impl Key {
    fn new() -> Result<Self> {
        // SAFETY: pkey_alloc() takes no pointers, so no argument can be invalid memory.
        match unsafe { libc::syscall(libc::SYS_pkey_alloc, 0, 0) } {
            key if key > 0 => Ok(Self(key)),
            _ => Err(Skip(format!(
                "the processor has no protection keys: {}",
                io::Error::last_os_error()
            ))
            .into()),
        }
    }

    /// Assigns the key to a mapping.
    fn put_on(&self, map: &Mapping) -> Result<()> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: The range belongs to the mapping, to which no reference exists.
        let rc =
            unsafe { libc::syscall(libc::SYS_pkey_mprotect, map.addr(), map.len(), prot, self.0) };
        ensure!(rc == 0, "pkey_mprotect: {}", io::Error::last_os_error());
        Ok(())
    }

    /// Sets the rights that this thread lacks.
    fn deny(&self, rights: u32) {
        let mut all: u32;
        let shift = 2 * self.0 as u32;
        // SAFETY: A key exists, so the processor has the register and the kernel has enabled it;
        // both instructions require zeros in the other registers.
        unsafe {
            std::arch::asm!("rdpkru", in("ecx") 0, out("eax") all, out("edx") _,
                options(nomem, nostack, preserves_flags));
            all = (all & !(3 << shift)) | (rights << shift);
            std::arch::asm!("wrpkru", in("eax") all, in("ecx") 0, in("edx") 0,
                options(nostack, preserves_flags));
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.deny(0);
        // SAFETY: pkey_free() takes no pointers. Every mapping with this key is unmapped by now.
        unsafe { libc::syscall(libc::SYS_pkey_free, self.0) };
    }
}

declare! {
    /// GUP takes pages with a protection key that denies the thread the access, or refuses those with
    /// a key that permits it
    "gup::pkey", 120 s => run
}
fn run() -> Result<String> {
    let device = Device::open()?;
    let key = Key::new()?;
    for kind in [Kind::Anon, Kind::Thp, Kind::Shmem] {
        let memory = Memory::create(kind, LEN, 1)?;
        let map = &memory.map;
        memory.touch()?;
        key.put_on(map)?;
        for (rights, read, write) in [
            (0, true, true),
            (DISABLE_WRITE, true, false),
            (DISABLE_ACCESS, false, false),
            (DISABLE_ACCESS | DISABLE_WRITE, false, false),
            (0, true, true),
        ] {
            for method in Method::ALL {
                for (for_writing, granted) in [(false, read), (true, write)] {
                    key.deny(rights);
                    let got = take(&device, method, map, (0, LEN), 512, for_writing);
                    key.deny(0);
                    let (got, want) = (got?, if granted { (LEN / PAGE) as u64 } else { 0 });
                    ensure!(
                        got == want,
                        "{method:?} (write: {for_writing}) of {} with rights {rights} denied took {got} pages instead of {want}",
                        kind.name()
                    );
                }
            }
        }
    }
    require_unpinned("all requests")?;
    Ok(format!("key {}", key.0))
}
