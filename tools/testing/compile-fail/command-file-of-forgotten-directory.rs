// SPDX-License-Identifier: GPL-2.0

//! A directory that a module forgets stays, with a file whose operations are gone when the module is
//! unloaded.

//@ crate: kernel
//@ error: E0133 call to unsafe function `Dir::command_file`

use kernel::{
    c_str,
    debugfs::{CommandFile, Dir},
};

fn create<T: CommandFile>() -> Dir {
    let dir = Dir::new(c_str!("case"));
    //@ wrong
    dir.command_file::<T>(c_str!("command"));
    core::mem::forget(dir);
    Dir::new(c_str!("other"))
    //@ right
    // SAFETY: This stands for code that is built in.
    unsafe { dir.command_file::<T>(c_str!("command")) };
    dir
    //@ end
}
