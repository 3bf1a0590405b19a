// SPDX-License-Identifier: GPL-2.0

//! A test of the plugin in the installed QEMU, with a guest of a dozen
//! instructions whose counts are known.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Load address of the guest, and start of its code.
const LOADED: u32 = 0x10_0000;
const ENTRY: u32 = LOADED + 32;

const ROUNDS: u32 = 10;

/// 32-bit code: a loop between the marks, and another one outside them.
const CODE: &[&[u8]] = &[
    &[0xb9, ROUNDS as u8, 0, 0, 0],                    // mov $10,%ecx
    &[0xf0, 0xff, 0x05, 0, 0, 0x20, 0],                // lock incl 0x200000
    &[0xe2, 0xf7],                                     // loop to the one before
    &[0xb9, ROUNDS as u8, 0, 0, 0],                    // mov $10,%ecx
    &[0x0f, 0x1f, 0x84, 0xc0, 0x44, 0x41, 0x58, 0x01], // start
    &[0xf0, 0xff, 0x05, 0, 0, 0x20, 0],                // lock incl 0x200000
    &[0x87, 0x05, 4, 0, 0x20, 0],                      // xchg %eax,0x200004
    &[0xa1, 8, 0, 0x20, 0],                            // mov 0x200008,%eax
    &[0xff, 0x05, 12, 0, 0x20, 0],                     // incl 0x20000c
    &[0x49],                                           // dec %ecx
    &[0x75, 0xe5],                                     // jnz to lock incl
    &[0x0f, 0x1f, 0x84, 0xc0, 0x44, 0x41, 0x58, 0x02], // stop
    &[0xb0, 0x00, 0xe6, 0xf4],                         // outb $0 to isa-debug-exit
    &[0xf4, 0xeb, 0xfd],                               // hlt, for ever
];

/// Returns a flat image for QEMU's multiboot loader, which enters it in 32-bit
/// mode.
fn image() -> Vec<u8> {
    const MAGIC: u32 = 0x1bad_b002;
    const ADDRESSES: u32 = 1 << 16;
    let checksum = 0u32.wrapping_sub(MAGIC).wrapping_sub(ADDRESSES);
    let header = [MAGIC, ADDRESSES, checksum, LOADED, LOADED, 0, 0, ENTRY];
    let mut image: Vec<u8> = header.iter().flat_map(|w| w.to_le_bytes()).collect();
    image.extend(CODE.iter().flat_map(|i| i.iter()));
    image
}

#[test]
fn counts_of_a_known_loop() {
    let exe = env::current_exe().expect("the test knows where it is");
    let plugin = exe.with_file_name("libtcg_plugin.so");
    assert!(plugin.is_file(), "there is no {}", plugin.display());
    let dir = env::temp_dir().join(format!("tcg-plugin-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a folder for the test");
    fs::write(dir.join("guest"), image()).expect("the guest");
    let out = Command::new(env::var_os("QEMU").unwrap_or("qemu-system-x86_64".into()))
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-M", "pc", "-accel", "tcg,thread=single", "-smp", "1"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
        .args(["-kernel", "guest", "-plugin"])
        .arg(format!("{},out=windows", plugin.display()))
        .current_dir(&dir)
        .output()
        .expect("QEMU is installed; `make setup` does it");
    let windows = fs::read_to_string(Path::new(&dir).join("windows"));
    fs::remove_dir_all(&dir).expect("the folder goes");
    let errors = String::from_utf8_lossy(&out.stderr);
    // The status that isa-debug-exit makes of 0.
    assert_eq!(out.status.code(), Some(1), "{errors}");
    assert_eq!(
        windows.expect("the plugin wrote its windows"),
        format!(
            "{{\"window\":0,\"instructions\":{},\"locked\":{},\"loads\":{},\"stores\":{}}}\n",
            6 * ROUNDS,
            2 * ROUNDS,
            4 * ROUNDS,
            3 * ROUNDS
        ),
        "{errors}"
    );
}
