// SPDX-License-Identifier: GPL-2.0

//! A hole is punched while other threads use futexes in the same page. Each use takes a
//! reference and drops it, in C by `folio_put()`, which does not wake the waiter: a thread that
//! is preempted in between, while the hole is punched, leaves the waiter waiting forever.

use super::{free_blocks, FSDAX, KINDS};
use crate::filesystem::Kind;
use crate::tests::prelude::*;

const LEN: usize = 4 << 20;
/// More than there are CPUs, so that one of them is always preempted.
const THREADS: usize = 4;
const LONG: Duration = Duration::from_secs(10);

declare! {
    /// punching a hole waits forever, because the futex code put the page without a wake-up
    "truncate::futex" for KINDS, 120 s, essential "ext4" => |kind| storm(*kind)
}
fn storm(kind: Kind) -> Result<String> {
    if live::ask()?.registry.implementation == Language::C {
        skip!("C loses this wake-up, so the test may hang");
    }
    let target = Target::on(&FSDAX, kind, LEN as u64)?;
    let map = target.map(LEN)?;
    let stop = Arc::new(AtomicBool::new(false));
    let uses = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|n| {
            let word = map.addr() + n * PAGE / 2;
            let (stop, uses) = (stop.clone(), uses.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: The kernel checks the address; the mapping stays until the threads
                    // have ended. There are no waiters: the call only looks up the page.
                    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, 1) };
                    uses.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let start = Instant::now();
    let (mut holes, mut longest) = (0, Duration::ZERO);
    let mut result = Ok(());
    while start.elapsed() < timeout(LONG) && result.is_ok() {
        map.poke(0, 1);
        map.poke(PAGE, 1);
        let file = target.file.try_clone().context("dup")?;
        let punching = Background::start(move || free_blocks(&file, true));
        match punching.must_end("punching a hole during futex calls") {
            Ok(time) => (holes, longest) = (holes + 1, longest.max(time)),
            Err(e) => result = Err(e),
        }
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        ensure!(thread.join().is_ok(), "a thread with futexes panicked");
    }
    result?;
    drop(map);
    target.finish()?;
    Ok(format!(
        "{holes} holes, {} uses of futexes, the longest wait {} ms",
        uses.load(Ordering::Relaxed),
        longest.as_millis()
    ))
}
