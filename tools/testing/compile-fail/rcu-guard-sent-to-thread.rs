// SPDX-License-Identifier: GPL-2.0

//! A section is of the task that opened it, and only that task can close it.

//@ crate: kernel
//@ error: E0277 `*mut ()` cannot be sent between threads safely

use kernel::sync::rcu;

fn send<T: Send>(_value: T) {}

fn pass_on() {
    // SAFETY: Nothing sleeps until the guard is dropped.
    let guard = unsafe { rcu::read_lock() };
    //@ wrong
    send(guard);
    //@ right
    drop(guard);
    //@ end
}
