// SPDX-License-Identifier: GPL-2.0

//! The part of x86-64's encoding that is needed to recognise a mark and a
//! locked instruction: the prefixes, the opcode and the mode field of ModRM.

/// `nopl 0x…584144(%rax,%rax,8)`: a no-op with "DAX" in its displacement. Its
/// last byte distinguishes the two marks. `tools/testing/guest` executes them.
const MARK: [u8; 7] = [0x0f, 0x1f, 0x84, 0xc0, 0x44, 0x41, 0x58];

/// The meaning of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The timed operation begins.
    Start,
    /// The timed operation has ended.
    Stop,
}

/// Returns the mark that these bytes of one instruction are, if any.
pub fn mark(bytes: &[u8]) -> Option<Mark> {
    match bytes.strip_prefix(&MARK)? {
        [1] => Some(Mark::Start),
        [2] => Some(Mark::Stop),
        _ => None,
    }
}

/// Returns whether the instruction locks the bus: it has a LOCK prefix, or it
/// is an `xchg` with memory, which is locked without one.
pub fn is_locked(bytes: &[u8]) -> bool {
    const LOCK: u8 = 0xf0;
    let mut lock = false;
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        match byte {
            &LOCK => lock = true,
            // Operand and address size, rep, segments, REX.
            0x66 | 0x67 | 0xf2 | 0xf3 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x40..=0x4f => (),
            _ => break,
        }
        rest = tail;
    }
    match rest {
        [0x86 | 0x87, modrm, ..] => lock || modrm >> 6 != 0b11,
        [_, ..] => lock,
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks() {
        let start = [0x0f, 0x1f, 0x84, 0xc0, 0x44, 0x41, 0x58, 0x01];
        let mut stop = start;
        stop[7] = 2;
        assert_eq!(mark(&start), Some(Mark::Start));
        assert_eq!(mark(&stop), Some(Mark::Stop));
        // The no-op that assemblers pad with.
        assert_eq!(mark(&[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]), None);
        assert_eq!(mark(&start[..7]), None);
        stop[7] = 3;
        assert_eq!(mark(&stop), None);
        assert!(!is_locked(&start));
    }

    #[test]
    fn locked_instructions() {
        let locked: &[&[u8]] = &[
            &[0xf0, 0xff, 0x47, 0x34],             // lock incl 0x34(%rdi)
            &[0xf0, 0x0f, 0xb1, 0x17],             // lock cmpxchg %edx,(%rdi)
            &[0xf0, 0x48, 0x0f, 0xc1, 0x07],       // lock xadd %rax,(%rdi)
            &[0xf0, 0x83, 0x44, 0x24, 0xfc, 0x00], // lock addl $0,-4(%rsp)
            &[0x65, 0xf0, 0x48, 0xff, 0x00],       // a segment before it
            &[0xf2, 0xf0, 0xff, 0x08],             // xacquire lock decl (%rax)
            &[0x87, 0x07],                         // xchg %eax,(%rdi)
            &[0x48, 0x87, 0x04, 0x24],             // xchg %rax,(%rsp)
            &[0x66, 0x87, 0x07],                   // xchg %ax,(%rdi)
            &[0x86, 0x07],                         // xchg %al,(%rdi)
        ];
        for bytes in locked {
            assert!(is_locked(bytes), "{bytes:x?}");
        }
    }

    #[test]
    fn others() {
        let others: &[&[u8]] = &[
            &[],
            &[0x90],
            &[0x66, 0x90],                         // xchg %ax,%ax
            &[0x48, 0x87, 0xd8],                   // xchg %rbx,%rax
            &[0x3e, 0xff, 0x47, 0x34],             // the lock patched away for one CPU
            &[0x65, 0x48, 0xff, 0x05, 0, 0, 0, 0], // incq %gs:…
            &[0x0f, 0xb1, 0x17],                   // cmpxchg without lock
            &[0x0f, 0xae, 0xf0],                   // mfence: f0 as ModRM
            &[0xb8, 0xf0, 0x87, 0x07, 0x00],       // mov $0x787f0,%eax
            &[0xc5, 0xf8, 0x77],                   // vzeroupper
        ];
        for bytes in others {
            assert!(!is_locked(bytes), "{bytes:x?}");
        }
    }
}
