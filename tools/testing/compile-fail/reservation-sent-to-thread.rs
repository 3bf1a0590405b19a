// SPDX-License-Identifier: GPL-2.0

//! A reservation is part of the list of a device, whose lock only this thread holds.

//@ crate: kernel
//@ error: E0277 `*mut ()` cannot be sent between threads safely

use kernel::mm::device_memory::{DeviceMemory, Reservation};

fn send<T: Send>(_value: T) {}

fn pass_on(reservation: Reservation) -> kernel::error::Result {
    //@ wrong
    send(reservation);
    //@ right
    send(DeviceMemory::<()>::map(reservation)?);
    //@ end
    Ok(())
}
