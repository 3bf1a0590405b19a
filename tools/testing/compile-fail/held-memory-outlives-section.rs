// SPDX-License-Identifier: GPL-2.0

//! After the section the driver may be unbound, and the memory is not mapped any more.

//@ within: samples/rust/rust_dax_holder.rs
//@ error: E0505 cannot move out of `live`

use kernel::{
    dax::{Held, HolderOperations, PageOffset},
    prelude::*,
};

fn read_first<T: HolderOperations>(held: &Held<T>, to: &mut [u8]) -> Result {
    let live = held.live()?;
    let memory = live.direct_access(PageOffset::new(0), 1)?;
    //@ wrong
    drop(live);
    memory.read(0, to)
    //@ right
    memory.read(0, to)?;
    drop(live);
    Ok(())
    //@ end
}
