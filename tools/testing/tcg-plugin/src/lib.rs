// SPDX-License-Identifier: GPL-2.0

//! A plugin for QEMU's TCG that counts what a guest program executes between
//! two marks.
//!
//! Under `-icount` a guest reads instructions off its clock, but a locked
//! instruction costs as much there as a move. So `make bench` boots once more
//! with this plugin, which counts what the clock does not show:
//!
//! ```text
//!   guest:   ... start  timed operation  stop ...  start  ...
//!                  |                       |
//!   plugin:     window 0 opens          closes        window 1 opens
//! ```
//!
//! The marks are two no-ops that no compiler emits (`decode`). QEMU passes
//! every block of guest code once, when it translates it, and each instruction
//! gets its counters then (`api`). The marks use callbacks: a window is the
//! difference of two readings (`windows`). The counters run during the whole
//! boot, because a block is translated once and executed inside and outside
//! windows.
//!
//! At the end of QEMU the plugin writes one line of JSON per window to the file
//! that `-plugin …,out=FILE` names:
//!
//! ```text
//! {"window":17,"instructions":8123,"locked":512,"loads":2077,"stores":1040}
//! ```
//!
//! The guest must have one virtual CPU then, because otherwise the counts could not
//! be attributed to the timed program.
//!
//! With `-plugin …,executed=FILE` it counts nothing, and writes which
//! instructions of the kernel ran (`executed`), for `make coverage`.

mod api;
mod decode;
mod executed;
mod windows;

use std::ffi::{c_char, c_int, c_void, CStr};
use std::fs;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use api::{Counter, Info, Insn, Qemu, Tb};
use decode::Mark;
use executed::Executed;
use windows::{Counts, Windows};

/// The version of QEMU's plugin interface that the plugin uses. QEMU reads it
/// before it calls any function, so it is set when the library is loaded.
#[export_name = "qemu_plugin_version"]
pub static VERSION: AtomicI32 = AtomicI32::new(api::OLD);

#[used]
#[link_section = ".init_array"]
static ON_LOAD: extern "C" fn() = set_version;

extern "C" fn set_version() {
    VERSION.store(api::spoken_here(), Ordering::Relaxed);
}

/// The state that the callbacks need.
struct Plugin {
    qemu: Qemu,
    record: Record,
    out: PathBuf,
}

/// What is recorded.
enum Record {
    Windows(Mutex<Windows>),
    Executed(Mutex<Executed>),
}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();

/// Initialises the plugin after QEMU has loaded it. QEMU stops if the result is
/// not 0.
///
/// # Safety
///
/// Only QEMU may call this: `info` and the `argc` strings of `argv` must be
/// valid.
#[no_mangle]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    info: *const Info,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    let words = (0..usize::try_from(argc).unwrap_or(0)).map(|i| {
        // SAFETY: QEMU passes `argc` pointers to NUL-terminated strings.
        unsafe { CStr::from_ptr(*argv.add(i)) }.to_string_lossy()
    });
    // SAFETY: QEMU passes a description that is valid during this call.
    let info = unsafe { &*info };
    match install(id, info, words.map(|w| w.into_owned()).collect()) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("tcg-plugin: {why}");
            1
        }
    }
}

fn install(id: u64, info: &Info, words: Vec<String>) -> Result<(), String> {
    let mut chosen = None;
    for word in &words {
        chosen = match word.split_once('=') {
            Some(("out", path)) => Some((path, Record::Windows(Mutex::default()))),
            Some(("executed", path)) => Some((path, Record::Executed(Mutex::default()))),
            _ => {
                return Err(format!(
                    "there is no option {word}; there are out=FILE and executed=FILE"
                ))
            }
        };
    }
    let (out, record) =
        chosen.ok_or("the output file is missing: -plugin …,out=FILE or executed=FILE")?;
    if matches!(record, Record::Windows(_)) && info.vcpus() != Some(1) {
        return Err("the guest must be a machine with one virtual CPU: -smp 1".into());
    }
    let qemu = Qemu::find(info)?;
    let plugin = PLUGIN.get_or_init(|| Plugin {
        qemu,
        record,
        out: PathBuf::from(out),
    });
    plugin.qemu.on_translation(id, translated);
    plugin.qemu.on_exit(id, exits);
    Ok(())
}

/// Returns what a lock protects; a thread that panicked leaves it usable.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds counters to a block of guest code before it runs for the first time.
extern "C" fn translated(_id: u64, tb: *mut Tb) {
    let Some(plugin) = PLUGIN.get() else { return };
    let qemu = &plugin.qemu;
    if let Record::Executed(executed) = &plugin.record {
        let mut executed = locked(executed);
        return qemu.each_instruction(tb, |insn, _| executed.add(qemu.address_of(insn)));
    }
    qemu.each_instruction(tb, |insn: Insn, bytes: &[u8]| {
        match decode::mark(bytes) {
            Some(Mark::Start) => return qemu.call_on_execution(insn, starts),
            Some(Mark::Stop) => return qemu.call_on_execution(insn, stops),
            None => (),
        }
        qemu.count_execution(insn, Counter::Instructions);
        if decode::is_locked(bytes) {
            qemu.count_execution(insn, Counter::Locked);
        }
        qemu.call_on_access(insn, accesses);
    });
}

/// Memory accesses since the guest started.
static LOADS: AtomicU64 = AtomicU64::new(0);
static STORES: AtomicU64 = AtomicU64::new(0);

extern "C" fn accesses(_vcpu: u32, info: u32, _address: u64, _data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    let counter = match plugin.qemu.is_store(info) {
        true => &STORES,
        false => &LOADS,
    };
    // There is one virtual CPU, so there is one writer.
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

extern "C" fn starts(_vcpu: u32, _data: *mut c_void) {
    mark(Windows::start);
}

extern "C" fn stops(_vcpu: u32, _data: *mut c_void) {
    mark(Windows::stop);
}

fn mark(what: fn(&mut Windows, Counts)) {
    let Some(plugin) = PLUGIN.get() else { return };
    if let Record::Windows(windows) = &plugin.record {
        let now = Counts {
            instructions: plugin.qemu.read(Counter::Instructions),
            locked: plugin.qemu.read(Counter::Locked),
            loads: LOADS.load(Ordering::Relaxed),
            stores: STORES.load(Ordering::Relaxed),
        };
        what(&mut locked(windows), now);
    }
}

/// Writes what was recorded when QEMU ends.
extern "C" fn exits(_id: u64, _data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    let text = match &plugin.record {
        Record::Windows(windows) => {
            let windows = locked(windows);
            if let Some(complaint) = windows.complaint() {
                eprintln!("tcg-plugin: {complaint}");
            }
            windows.lines()
        }
        Record::Executed(executed) => locked(executed).lines(),
    };
    if let Err(e) = fs::write(&plugin.out, text) {
        eprintln!("tcg-plugin: cannot write {}: {e}", plugin.out.display());
    }
}

/// The data of callbacks that need none.
const NOTHING: *mut c_void = ptr::null_mut();
