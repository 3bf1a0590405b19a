// SPDX-License-Identifier: GPL-2.0

//! Reproducible data: a seeded generator and the digest that checks it.
//!
//! Both generators are ours, because what a seed means must not change: with `fastrand` it may with
//! any version, and the seed in a log would no longer repeat the failure.

use std::fmt::{Display, Write as _};

use anyhow::{bail, Result};
use sha2::{Digest, Sha256};

/// Fills `buf` from `seed` (xorshift64*). Equal seeds produce equal bytes on
/// every machine and every kernel.
pub fn fill(seed: u64, buf: &mut [u8]) {
    let mut x = spread(seed);
    for chunk in buf.chunks_mut(8) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        let word = x.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

/// Returns a generator state for a seed. It must not be zero; the constant is
/// 2^64 divided by the golden ratio, which spreads neighbouring seeds.
fn spread(seed: u64) -> u64 {
    seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// A generator of numbers that are the same in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(spread(seed))
    }

    /// Returns any number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number that is less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Returns `len` bytes from `seed`.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    fill(seed, &mut buf);
    buf
}

/// An incremental SHA-256.
#[derive(Default)]
pub struct Digester(Sha256);

impl Digester {
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// Returns the digest in lower-case hexadecimal.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Describes the first difference of two buffers, for messages.
pub fn first_difference(want: &[u8], got: &[u8]) -> Option<String> {
    if want.len() != got.len() {
        return Some(format!(
            "{} bytes expected, {} found",
            want.len(),
            got.len()
        ));
    }
    // Compares at the speed of memcmp() in the common case.
    if want == got {
        return None;
    }
    let at = want.iter().zip(got).position(|(a, b)| a != b)?;
    let wrong = want.iter().zip(got).filter(|(a, b)| a != b).count();
    Some(format!(
        "first difference at byte {at:#x} (page {}): {:#04x} expected, {:#04x} found; {wrong} bytes differ",
        at / 4096,
        want[at],
        got[at]
    ))
}

/// Returns an error unless `got` is `want`.
pub fn require_same(want: &[u8], got: &[u8], what: impl Display) -> Result<()> {
    match first_difference(want, got) {
        None => Ok(()),
        Some(diff) => bail!("{what}: {diff}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_equal_bytes() {
        assert_eq!(bytes(7, 1000), bytes(7, 1000));
        assert_ne!(bytes(7, 1000), bytes(8, 1000));
        assert_eq!(bytes(7, 13), bytes(7, 1000)[..13]);
    }

    #[test]
    fn digest_of_abc() {
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let mut pieces = Digester::default();
        pieces.update(b"a");
        pieces.update(b"bc");
        assert_eq!(pieces.finish(), want);
    }

    #[test]
    fn difference_is_located() {
        assert_eq!(first_difference(b"same", b"same"), None);
        let text = first_difference(b"abc", b"abd").unwrap_or_default();
        assert!(text.contains("byte 0x2"), "{text}");
    }
}
