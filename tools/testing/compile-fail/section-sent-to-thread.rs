// SPDX-License-Identifier: GPL-2.0

//! The task that opens a section of SRCU closes it.

//@ within: samples/rust/rust_dax_holder.rs
//@ error: E0277 cannot be sent between threads safely

use kernel::dax::Live;

fn run_elsewhere<T: Send>(_work: T) {}

fn hand_over(live: Live<'_>) {
    //@ wrong
    run_elsewhere(live);
    //@ right
    run_elsewhere(1);
    drop(live);
    //@ end
}
