// SPDX-License-Identifier: GPL-2.0

//! A device whose holder has gone may get another, and another driver.

//@ within: samples/rust/rust_dax_holder.rs
//@ error: E0505 cannot move out of `held`

use kernel::{
    dax::{Held, HolderOperations, PageOffset},
    prelude::*,
};

fn zero_first<T: HolderOperations>(held: Held<T>) -> Result {
    let live = held.live()?;
    //@ wrong
    drop(held);
    live.zero_page(PageOffset::new(0))
    //@ right
    live.zero_page(PageOffset::new(0))?;
    drop(live);
    drop(held);
    Ok(())
    //@ end
}
