// SPDX-License-Identifier: GPL-2.0

//! Whether somebody listens at a tracepoint.
//!
//! C patches a jump for that. Here the count behind the jump is read, which takes a load and a
//! branch; what is traced then is left to C.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

/// Whether the tracepoint of that name is on. C: `trace_<name>_enabled()`. Any context.
#[doc(hidden)]
#[macro_export]
macro_rules! tracepoint_enabled {
    ($tracepoint:ident) => {{
        // SAFETY: The tracepoint is a static of C's; its count is a word that is changed as a whole.
        let enabled = unsafe {
            ::core::ptr::addr_of!($crate::bindings::$tracepoint.key.enabled.counter).read_volatile()
        };
        enabled > 0
    }};
}
