// SPDX-License-Identifier: GPL-2.0

//! Two registrations of one region would both own its memory.

//@ crate: kernel
//@ error: E0382 use of moved value: `regions`

use kernel::{
    mm::{
        memremap::{MemoryType, Operations, Options, Region, Registration},
        pfn::PhysRange,
    },
    prelude::*,
};

fn map<T: Operations<Data = ()>>(regions: KVec<Region>, range: PhysRange) -> Result {
    let options = Options::default();
    let first = Registration::<T>::new(MemoryType::Generic, regions, &[range], options, ())?;
    //@ wrong
    let second = Registration::<T>::new(MemoryType::Generic, regions, &[range], options, ())?;
    drop(second);
    //@ end
    drop(first);
    Ok(())
}
