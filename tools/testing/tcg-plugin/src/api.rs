// SPDX-License-Identifier: GPL-2.0

//! The part of QEMU's plugin interface that is used here.
//!
//! The functions are in the QEMU that loads the plugin, and two of them
//! changed:
//!
//! ```text
//!            QEMU 7.2 (Debian 12): version 1    10.0 (Debian 13): version 4
//! counters   any address of ours                a "scoreboard" of QEMU's, one
//!                                               element per virtual CPU
//! bytes of   insn_data() returns a pointer      insn_data() copies them
//! an insn
//! ```
//!
//! Debian ships no header for either, and one library must support both, so the
//! functions are looked up by name when the plugin is loaded; the available
//! counters determine the version.
//!
//! Memory accesses use callbacks instead of counters: QEMU 7.2 confuses
//! loads and stores when it decides which counters to advance.

use std::ffi::{c_char, c_int, c_void, CStr};
use std::marker::PhantomData;
use std::mem;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::NOTHING;

/// The version with counters at any address.
pub const OLD: c_int = 1;
/// The version with scoreboards.
const NEW: c_int = 4;
/// The first version whose `insn_data` copies.
const COPIES: c_int = 3;

/// Maximum number of bytes of an instruction.
const LONGEST: usize = 15;

/// The flag of a callback that does not access registers.
const NO_REGS: c_int = 0;
/// Loads and stores.
const READS_AND_WRITES: c_int = 3;
/// The operation of a counter.
const ADD: c_int = 0;

/// A block of translated code.
#[repr(C)]
pub struct Tb {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawInsn {
    _opaque: [u8; 0],
}

/// An instruction of the block that is being translated.
#[derive(Clone, Copy)]
pub struct Insn<'tb>(*mut RawInsn, PhantomData<&'tb Tb>);

/// QEMU's description of itself and the machine.
#[repr(C)]
pub struct Info {
    target_name: *const c_char,
    oldest_version: c_int,
    version: c_int,
    system_emulation: bool,
    smp_vcpus: c_int,
    max_vcpus: c_int,
}

impl Info {
    /// Returns the maximum number of virtual CPUs, or `None` if there is no
    /// machine.
    pub fn vcpus(&self) -> Option<c_int> {
        self.system_emulation.then_some(self.max_vcpus)
    }
}

/// A counter that needs no callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    Instructions,
    Locked,
}

const COUNTERS: usize = 2;

/// The counters of the old interface.
static DIRECT: [AtomicU64; COUNTERS] = [const { AtomicU64::new(0) }; COUNTERS];

/// A counter of the new interface: a field in every element of a scoreboard.
#[repr(C)]
#[derive(Clone, Copy)]
struct Field {
    scoreboard: *mut c_void,
    offset: usize,
}

type OnTranslation = extern "C" fn(u64, *mut Tb);
type OnExecution = extern "C" fn(u32, *mut c_void);
type OnAccess = extern "C" fn(u32, u32, u64, *mut c_void);
type OnExit = extern "C" fn(u64, *mut c_void);

type RegisterTranslation = unsafe extern "C" fn(u64, OnTranslation);
type RegisterExit = unsafe extern "C" fn(u64, OnExit, *mut c_void);
type Instructions = unsafe extern "C" fn(*const Tb) -> usize;
type GetInsn = unsafe extern "C" fn(*const Tb, usize) -> *mut RawInsn;
type InsnSize = unsafe extern "C" fn(*const RawInsn) -> usize;
type InsnAddress = unsafe extern "C" fn(*const RawInsn) -> u64;
type InsnPointer = unsafe extern "C" fn(*const RawInsn) -> *const u8;
type InsnCopy = unsafe extern "C" fn(*const RawInsn, *mut u8, usize) -> usize;
type RegisterExecution = unsafe extern "C" fn(*mut RawInsn, OnExecution, c_int, *mut c_void);
type RegisterAccess = unsafe extern "C" fn(*mut RawInsn, OnAccess, c_int, c_int, *mut c_void);
type IsStore = unsafe extern "C" fn(u32) -> bool;
type AddDirect = unsafe extern "C" fn(*mut RawInsn, c_int, *mut u64, u64);
type AddField = unsafe extern "C" fn(*mut RawInsn, c_int, Field, u64);
type NewScoreboard = unsafe extern "C" fn(usize) -> *mut c_void;
type ReadField = unsafe extern "C" fn(Field, u32) -> u64;

/// The function that returns the bytes of an instruction.
#[derive(Clone, Copy)]
enum Bytes {
    Pointer(InsnPointer),
    Copy(InsnCopy),
}

/// The functions that count.
#[derive(Clone, Copy)]
enum Counting {
    Direct(AddDirect),
    Fields {
        scoreboard: *mut c_void,
        add: AddField,
        read: ReadField,
    },
}

/// The functions of the QEMU that loaded us.
pub struct Qemu {
    register_translation: RegisterTranslation,
    register_exit: RegisterExit,
    instructions: Instructions,
    get_insn: GetInsn,
    insn_size: InsnSize,
    insn_address: InsnAddress,
    register_execution: RegisterExecution,
    register_access: RegisterAccess,
    is_store: IsStore,
    bytes: Bytes,
    counting: Counting,
}

// SAFETY: All fields are function addresses except the scoreboard, which QEMU
// keeps until its end and only QEMU's own functions access; those may be called
// by any thread.
unsafe impl Send for Qemu {}
// SAFETY: As for `Send`, QEMU's functions may be called by any thread, also
// concurrently.
unsafe impl Sync for Qemu {}

/// Returns the interface version of the QEMU around us, determined by its
/// functions.
pub fn spoken_here() -> c_int {
    match address(c"qemu_plugin_scoreboard_new") {
        Some(_) => NEW,
        None => OLD,
    }
}

impl Qemu {
    /// Looks up all functions.
    pub fn find(info: &Info) -> Result<Qemu, String> {
        // SAFETY: The types are those of the functions in QEMU's qemu-plugin.h,
        // of the version with or without scoreboards, and of the version in
        // `info` for `insn_data`. A scoreboard is created from a size, and is
        // never freed.
        unsafe {
            let counting = if spoken_here() == OLD {
                Counting::Direct(function(c"qemu_plugin_register_vcpu_insn_exec_inline")?)
            } else {
                let new: NewScoreboard = function(c"qemu_plugin_scoreboard_new")?;
                Counting::Fields {
                    scoreboard: new(COUNTERS * mem::size_of::<u64>()),
                    add: function(c"qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu")?,
                    read: function(c"qemu_plugin_u64_get")?,
                }
            };
            let data = c"qemu_plugin_insn_data";
            Ok(Qemu {
                register_translation: function(c"qemu_plugin_register_vcpu_tb_trans_cb")?,
                register_exit: function(c"qemu_plugin_register_atexit_cb")?,
                instructions: function(c"qemu_plugin_tb_n_insns")?,
                get_insn: function(c"qemu_plugin_tb_get_insn")?,
                insn_size: function(c"qemu_plugin_insn_size")?,
                insn_address: function(c"qemu_plugin_insn_vaddr")?,
                register_execution: function(c"qemu_plugin_register_vcpu_insn_exec_cb")?,
                register_access: function(c"qemu_plugin_register_vcpu_mem_cb")?,
                is_store: function(c"qemu_plugin_mem_is_store")?,
                bytes: if info.version < COPIES {
                    Bytes::Pointer(function(data)?)
                } else {
                    Bytes::Copy(function(data)?)
                },
                counting,
            })
        }
    }

    /// Registers `callback` for each block that QEMU translates.
    pub fn on_translation(&self, id: u64, callback: OnTranslation) {
        // SAFETY: `id` is ours, and the callback exists as long as QEMU does,
        // because plugins are never unloaded.
        unsafe { (self.register_translation)(id, callback) }
    }

    /// Registers `callback` for the end of QEMU.
    pub fn on_exit(&self, id: u64, callback: OnExit) {
        // SAFETY: As in `on_translation`, `id` is ours and the callback exists
        // as long as QEMU does.
        unsafe { (self.register_exit)(id, callback, NOTHING) }
    }

    /// Passes every instruction of a block, with its bytes, to `show`. `tb` is
    /// the block of the running translation callback.
    pub fn each_instruction(&self, tb: *mut Tb, mut show: impl FnMut(Insn<'_>, &[u8])) {
        let mut copy = [0; LONGEST];
        // SAFETY: QEMU passed `tb`, which is valid during its callback.
        let n = unsafe { (self.instructions)(tb) };
        for i in 0..n {
            // SAFETY: `tb` is valid during the callback, and `i` is below the
            // number of instructions.
            let insn = unsafe { (self.get_insn)(tb, i) };
            // SAFETY: The instruction lives as long as its block, so it is
            // valid here.
            let size = unsafe { (self.insn_size)(insn) }.min(LONGEST);
            let bytes = match self.bytes {
                Bytes::Pointer(data) => {
                    // SAFETY: QEMU keeps that many bytes there until its
                    // callback returns.
                    unsafe { slice::from_raw_parts(data(insn), size) }
                }
                Bytes::Copy(data) => {
                    // SAFETY: `copy` has room for `size` bytes.
                    let n = unsafe { data(insn, copy.as_mut_ptr(), size) };
                    &copy[..n.min(size)]
                }
            };
            show(Insn(insn, PhantomData), bytes);
        }
    }

    /// Returns the virtual address of the instruction in the guest.
    pub fn address_of(&self, insn: Insn<'_>) -> u64 {
        // SAFETY: An `Insn` exists only while its block is translated, so it is
        // valid here.
        unsafe { (self.insn_address)(insn.0) }
    }

    /// Registers `callback` for each execution of the instruction.
    pub fn call_on_execution(&self, insn: Insn<'_>, callback: OnExecution) {
        // SAFETY: An `Insn` exists only while its block is translated, so it is
        // valid here.
        unsafe { (self.register_execution)(insn.0, callback, NO_REGS, NOTHING) }
    }

    /// Registers `callback` for each memory access of the instruction.
    pub fn call_on_access(&self, insn: Insn<'_>, callback: OnAccess) {
        // SAFETY: An `Insn` exists only while its block is translated, so it is
        // valid here.
        unsafe { (self.register_access)(insn.0, callback, NO_REGS, READS_AND_WRITES, NOTHING) }
    }

    /// Returns whether an access is a store; `info` comes from the access
    /// callback.
    pub fn is_store(&self, info: u32) -> bool {
        // SAFETY: The function only evaluates the number.
        unsafe { (self.is_store)(info) }
    }

    /// Counts each execution of the instruction.
    pub fn count_execution(&self, insn: Insn<'_>, counter: Counter) {
        match self.counting {
            // SAFETY: An `Insn` exists only while its block is translated; the
            // counter is static, and one virtual CPU writes it.
            Counting::Direct(add) => unsafe { add(insn.0, ADD, direct(counter), 1) },
            Counting::Fields {
                scoreboard, add, ..
            } => {
                // SAFETY: The `Insn` is valid as in the other case, and the
                // scoreboard has all counters.
                unsafe { add(insn.0, ADD, field(scoreboard, counter), 1) }
            }
        }
    }

    /// Reads a counter.
    pub fn read(&self, counter: Counter) -> u64 {
        match self.counting {
            Counting::Direct(_) => DIRECT[counter as usize].load(Ordering::Relaxed),
            Counting::Fields {
                scoreboard, read, ..
            } => {
                // SAFETY: The scoreboard has all counters; the only virtual CPU
                // has number 0.
                unsafe { read(field(scoreboard, counter), 0) }
            }
        }
    }
}

fn direct(counter: Counter) -> *mut u64 {
    DIRECT[counter as usize].as_ptr()
}

fn field(scoreboard: *mut c_void, counter: Counter) -> Field {
    Field {
        scoreboard,
        offset: counter as usize * mem::size_of::<u64>(),
    }
}

fn address(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: The name is a NUL-terminated string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// Returns the function of QEMU with this name.
///
/// # Safety
///
/// `F` must be a pointer to a function of the type that this QEMU gives the
/// function.
unsafe fn function<F: Copy>(name: &CStr) -> Result<F, String> {
    const { assert!(mem::size_of::<F>() == mem::size_of::<*mut c_void>()) };
    let found = address(name).ok_or_else(|| {
        format!(
            "this QEMU has no {}; QEMU 7.2 and 10.0 are known to work",
            name.to_string_lossy()
        )
    })?;
    // SAFETY: Both types have the size of a pointer, and the caller guarantees
    // that `F` is the function's type.
    Ok(unsafe { mem::transmute_copy(&found) })
}
