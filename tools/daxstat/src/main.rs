// SPDX-License-Identifier: GPL-2.0

//! The program `daxstat`. All of it is in the library, so that what writes its manual pages
//! (examples/share.rs) has the definition of the command line, and the program nothing of them.

use std::process::ExitCode;

fn main() -> ExitCode {
    daxstat::main()
}
