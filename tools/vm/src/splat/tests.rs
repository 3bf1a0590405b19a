// SPDX-License-Identifier: GPL-2.0

//! Samples of what kernels print, and of what only looks like it.

use super::*;

fn scan(text: &str) -> Scanner {
    let mut s = Scanner::new();
    for line in text.lines() {
        s.line(line.trim_start_matches("        "));
    }
    s.finish();
    s
}

fn titles(s: &Scanner) -> Vec<&str> {
    s.unannounced().map(|s| s.title.as_str()).collect()
}

const WARN: &str = "\
[   12.345678] ------------[ cut here ]------------
[   12.345679] Pgmap count is off
[   12.345680] WARNING: CPU: 1 PID: 77 at mm/memremap.c:97 memunmap_pages+0x1f/0x30
[   12.345681] Modules linked in: nd_pmem
[   12.345682] CPU: 1 UID: 0 PID: 77 Comm: modprobe Not tainted 6.12.117 #1
[   12.345683] RIP: 0010:memunmap_pages+0x1f/0x30
[   12.345684] Call Trace:
[   12.345685]  <TASK>
[   12.345686]  ? __warn+0x1/0x2
[   12.345687]  </TASK>
[   12.345688] ---[ end trace 0000000000000000 ]---
";

const OOPS: &str = "\
[    3.000000] BUG: unable to handle page fault for address: ffffea0004000034
[    3.000001] #PF: supervisor read access in kernel mode
[    3.000002] #PF: error_code(0x0000) - not-present page
[    3.000003] PGD 1 P4D 2 PUD 0
[    3.000004] Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI
[    3.000005] CPU: 0 UID: 0 PID: 99 Comm: umount Tainted: G        W  6.12.117 #1
[    3.000006] RIP: 0010:__dax_invalidate_entry+0x8a/0x120
[    3.000007] Call Trace:
[    3.000008]  <TASK>
[    3.000009]  </TASK>
[    3.000010] CR2: ffffea0004000034
[    3.000011] ---[ end trace 0000000000000000 ]---
";

const KASAN: &str = "\
[    4.000000][  T123] ==================================================================
[    4.000001][  T123] BUG: KASAN: slab-use-after-free in dev_pagemap_percpu_release+0x20/0x40
[    4.000002][  T123] Read of size 8 at addr ffff888100000000 by task kworker/0:1/123
[    4.000003][  T123]
[    4.000004][  T123] CPU: 0 UID: 0 PID: 123 Comm: kworker/0:1 Not tainted 6.12.117 #1
[    4.000005][  T123] Call Trace:
[    4.000006][  T123]  <TASK>
[    4.000007][  T123]  </TASK>
[    4.000008][  T123] Memory state around the buggy address:
[    4.000009][  T123] ==================================================================
[    4.000010][  T123] Disabling lock debugging due to kernel taint
";

const LOCKDEP: &str = "\
[    5.000000] ======================================================
[    5.000001] WARNING: possible circular locking dependency detected
[    5.000002] 6.12.117 #1 Not tainted
[    5.000003] ------------------------------------------------------
[    5.000004] modprobe/88 is trying to acquire lock:
[    5.000005] ffffffff82a00000 (cpu_hotplug_lock){++++}-{0:0}, at: static_key_slow_inc+0x9/0x20
[    5.000006] stack backtrace:
[    5.000007] Call Trace:
[    5.000008]  <TASK>
[    5.000009]  dump_stack_lvl+0x1/0x2
[    5.000010]  </TASK>
";

#[test]
fn a_warn_is_one_report_named_by_its_message() {
    let s = scan(WARN);
    assert_eq!(titles(&s), ["Pgmap count is off (mm/memremap.c:97)"]);
    assert_eq!(s.splats()[0].lines[0], "Pgmap count is off");
    assert!(s.splats()[0].lines.last().unwrap().starts_with("---[ end"));
}

#[test]
fn a_warn_without_message_is_named_by_its_place() {
    let text = WARN.replace("[   12.345679] Pgmap count is off\n", "");
    let s = scan(&text);
    assert_eq!(s.unannounced().count(), 1);
    assert!(titles(&s)[0].starts_with("WARNING: CPU: 1 PID: 77 at mm/memremap.c:97"));
}

#[test]
fn an_oops_is_one_report_though_it_has_two_titles() {
    let s = scan(OOPS);
    assert_eq!(
        titles(&s),
        ["BUG: unable to handle page fault for address: ffffea0004000034"]
    );
}

#[test]
fn kasan_with_callers_printed() {
    let s = scan(KASAN);
    assert_eq!(
        titles(&s),
        ["BUG: KASAN: slab-use-after-free in dev_pagemap_percpu_release+0x20/0x40"]
    );
}

#[test]
fn lockdep() {
    let s = scan(LOCKDEP);
    assert_eq!(
        titles(&s),
        ["WARNING: possible circular locking dependency detected"]
    );
}

#[test]
fn reports_in_a_row_are_counted_apart() {
    let s = scan(&format!("{WARN}{OOPS}{KASAN}{LOCKDEP}{WARN}"));
    assert_eq!(s.unannounced().count(), 5);
}

#[test]
fn watchdogs_and_single_lines() {
    for line in [
        "INFO: task umount:321 blocked for more than 120 seconds.",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [kworker/1:2:40]",
        "NMI watchdog: Watchdog detected hard LOCKUP on cpu 0",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 1-... }",
        "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "mm/pgtable-generic.c:54: bad pmd 00000000c1c1faa3(82000003000000e7)",
        "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
        "list_del corruption. prev->next should be ffff8881, but was dead000000000100.",
        "list_add corruption. next->prev should be prev (0), but was 1. (next=2).",
        "BUG: Bad page state in process ndctl  pfn:140000",
        "BUG: sleeping function called from invalid context at mm/page_alloc.c:4712",
        "BUG: scheduling while atomic: bash/1/0x00000002",
        "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!",
        "BUG kmalloc-64 (Not tainted): Poison overwritten",
        "kernel BUG at mm/memremap.c:120!",
        "Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
        "refcount_t: underflow; use-after-free.",
        "jump label: negative count!",
        "UBSAN: array-index-out-of-bounds in drivers/nvdimm/label.c:10:2",
        "WARNING: suspicious RCU usage",
        "WARNING: possible recursive locking detected",
        "WARNING: inconsistent lock state",
        "WARNING: bad unlock balance detected!",
        "WARNING: held lock freed!",
    ] {
        let s = scan(&format!("[    1.000000] {line}\n"));
        assert_eq!(titles(&s), [line], "not recognised");
    }
}

#[test]
fn what_only_looks_like_one() {
    for line in [
        "Warning: unable to open an initial console.",
        "debug: BUG: is what this option finds",
        "    # Subtest: BUG_ON_is_not_called",
        "    ok 3 WARNING: in_a_test_name",
        "ok 4 kasan",
        "traps: dax-pmd[77] general protection fault ip:401000 sp:7ffc error:0",
        "kmemleak: Kernel memory leak detector initialized (mem pool available: 31000)",
        "mm/pgtable-generic.c:42: bad pud 00000000c1c1faa3(82000003000000e7)",
        "rcu: \tRCU debug extended QS entry/exit.",
        "rcu: INFO: nothing of the kind",
        "watchdog: Delayed init of the lockup detector failed: -19",
        "INFO: lockdep is turned off.",
        "Memory failure: 0x140000: recovery action for dax page: Recovered",
        "guest-init: command ended: 0",
        "x86/cpu: SGX disabled or unsupported by BIOS.",
        "Kernel command line: panic=-1 hung_task_panic=0",
        "lockdep: fixing up alternatives.",
    ] {
        let s = scan(&format!("[    1.000000] {line}\n{line}\n"));
        assert_eq!(s.splats(), [], "{line}");
    }
}

#[test]
fn an_announced_one_is_allowed_once() {
    let say = "[   12.000000] rust-dax-expect: Pgmap count is off\n";
    let end = "[   12.900000] rust-dax-expect-end: Pgmap count is off\n";
    let s = scan(&format!("{say}{WARN}{end}"));
    assert_eq!(titles(&s), [""; 0]);
    assert_eq!(s.splats().len(), 1);
    assert_eq!(s.missing(), [""; 0]);

    let s = scan(&format!("{say}{WARN}{WARN}{end}"));
    assert_eq!(s.unannounced().count(), 1);

    let s = scan(&format!("{say}{say}{WARN}{WARN}{end}{end}"));
    assert_eq!(s.unannounced().count(), 0);
    assert_eq!(s.missing(), [""; 0]);
}

#[test]
fn announcing_one_does_not_allow_another() {
    let s = scan(&format!("rust-dax-expect: Pgmap count is off\n{OOPS}"));
    assert_eq!(s.unannounced().count(), 1);
}

#[test]
fn the_announcement_itself_is_not_a_first_line() {
    let s = scan(&format!("rust-dax-expect: something else\n{WARN}"));
    assert_eq!(s.unannounced().count(), 1);
}

#[test]
fn only_the_first_lines_count() {
    let s = scan(&format!("rust-dax-expect: ? __warn\n{WARN}"));
    assert_eq!(s.unannounced().count(), 1);
    let s = scan(&format!("rust-dax-expect: Comm: modprobe\n{WARN}"));
    assert_eq!(s.unannounced().count(), 0);
}

#[test]
fn one_that_does_not_come_is_missed_at_its_end() {
    let s = scan("    # t: rust-dax-expect: never\n    # t: rust-dax-expect-end: never\n");
    assert_eq!(s.missing(), ["never"]);
    // The end marker may follow right after the report, before its window is
    // full.
    let s = scan("rust-dax-expect: negative count\njump label: negative count!\nrust-dax-expect-end: negative count\n");
    assert_eq!(s.missing(), [""; 0]);
    assert_eq!(s.unannounced().count(), 0);
}

#[test]
fn an_end_without_beginning_is_an_error() {
    let s = scan("rust-dax-expect-end: x\n");
    assert_eq!(s.missing().len(), 1);
}

#[test]
fn a_list_corruption_and_its_warn_are_one() {
    let s = scan(&format!(
        "[    1.000000] list_del corruption. prev->next should be a, but was b.\n{WARN}"
    ));
    assert_eq!(s.splats().len(), 1);
}

#[test]
fn a_panic_behind_an_announced_oops_is_its_own() {
    let s = scan(&format!(
        "rust-dax-expect: unable to handle page fault\n{OOPS}[    3.1] Kernel panic - not syncing: Fatal exception\n"
    ));
    assert_eq!(titles(&s), ["Kernel panic - not syncing: Fatal exception"]);
}

#[test]
fn a_block_whose_end_was_lost_does_not_swallow_the_rest() {
    let filler = "[    6.000000] something harmless\n".repeat(LONGEST + 5);
    let head: String = OOPS.split_inclusive('\n').take(8).collect();
    let s = scan(&format!(
        "rust-dax-expect: unable to handle\n{head}{filler}{WARN}"
    ));
    assert_eq!(s.unannounced().count(), 1);
}

#[test]
fn carriage_returns_do_not_hide_anything() {
    let s = scan(&WARN.replace('\n', "\r\n"));
    assert_eq!(s.unannounced().count(), 1);
}
