// SPDX-License-Identifier: GPL-2.0

//! The number of page table levels that the other tests walk.

use crate::tests::prelude::*;

declare! {
    /// a kernel that was booted to use four levels of page tables uses five, so that the walk of four
    /// is not tested
    "gup::levels", 10 s, essential => levels
}
fn levels() -> Result<String> {
    let five = has_word(&system::read("/proc/cpuinfo")?, "la57");
    let requested = has_word(&system::read("/proc/cmdline")?, "no5lvl");
    ensure!(
        !(five && requested),
        "no5lvl does not keep this kernel from using five levels"
    );
    Ok(format!("{} levels", if five { 5 } else { 4 }))
}

fn has_word(text: &str, wanted: &str) -> bool {
    text.split_whitespace().any(|word| word == wanted)
}
