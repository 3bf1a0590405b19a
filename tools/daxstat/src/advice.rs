// SPDX-License-Identifier: GPL-2.0

//! The meaning of each reason, and the remedy.

/// Returns one line of advice on a reason that the kernel counts.
pub fn of(reason: &str) -> &'static str {
    match reason {
        "cow" => "a store to a MAP_PRIVATE mapping copies 4 KiB: map MAP_SHARED if it is meant for the file",
        "vma-start" => {
            "the mapping begins inside a 2 MiB range: map whole ranges, from a multiple of 2 MiB on"
        }
        "vma-end" => "the mapping ends inside a 2 MiB range: map a multiple of 2 MiB",
        "offset" => {
            "address and file offset differ modulo 2 MiB: give mmap() an address hint that matches the offset"
        }
        "eof" => "the file ends inside the range: make its length a multiple of 2 MiB",
        "thp-off" => {
            "huge pages are off for the mapping or the process: drop MADV_NOHUGEPAGE, or prctl(PR_SET_THP_DISABLE), which Redis sets"
        }
        "short" => {
            "the range has holes or several extents: fallocate() the file before use; see daxstat --file"
        }
        "device" => {
            "the blocks are not aligned to 2 MiB: align by mkfs, partition, ndctl -a 2M; daxstat --file shows which"
        }
        "no-memmap" => {
            "the device has no struct pages: ndctl create-namespace -m fsdax, with -M dev or -M mem"
        }
        "conflict" => {
            "4 KiB pages of the range are in use already, and stay until the file is truncated or unmounted: touch it through a huge mapping first; to start again, copy the file, or umount and mount"
        }
        "no-zero-page" => {
            "the huge zero page could not be allocated: free memory, or fill the hole by fallocate()"
        }
        "no-memory" => "no memory for page tables: free some, or raise the limit of the cgroup",
        "other" => "none of the other reasons: the tracepoint fs_dax:dax_fault_fallback has file and address",
        _ => "this daxstat does not know the reason: see Documentation/filesystems of the kernel",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither the end of the mapping nor drop_caches removes an entry of fs/dax.
    #[test]
    fn what_removes_small_pages() {
        let advice = of("conflict");
        assert!(["truncated", "copy", "mount"]
            .iter()
            .all(|w| advice.contains(w)));
        assert!(!advice.contains("drop"));
    }

    #[test]
    fn each_reason_has_its_own() {
        let reasons = [
            "cow",
            "vma-start",
            "vma-end",
            "offset",
            "eof",
            "thp-off",
            "short",
            "device",
            "no-memmap",
            "conflict",
            "no-zero-page",
            "no-memory",
            "other",
            "new",
        ];
        let all: std::collections::HashSet<_> = reasons.map(of).into();
        assert_eq!(all.len(), reasons.len());
    }
}
