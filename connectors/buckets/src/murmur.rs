//! Murmur3, 32 bits, in the two forms of Hive and Spark. They share the rounds and differ in the tail.

/// Mixes one word of four bytes into a hash.
fn mix(hash: u32, word: u32) -> u32 {
    let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// Spreads the last bits; `length` in bytes, which wraps as Java's `int` does.
fn finish(hash: u32, length: usize) -> i32 {
    let mut hash = hash ^ (length & 0xffff_ffff) as u32;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    (hash ^ (hash >> 16)).cast_signed()
}

/// A byte as Java widens it: with its sign.
fn widen(byte: u8) -> u32 {
    i32::from(byte.cast_signed()).cast_unsigned()
}

/// Hashes bytes as Hive's `Murmur3.hash32` does: the tail's bytes carry their sign into the word, which the reference
/// implementation of Murmur3 does not.
pub(crate) fn hive(bytes: &[u8]) -> i32 {
    /// `Murmur3.DEFAULT_SEED` of Hive.
    const SEED: u32 = 104_729;
    let (words, tail) = bytes.as_chunks::<4>();
    let mut hash = words.iter().fold(SEED, |hash, word| mix(hash, u32::from_le_bytes(*word)));
    if !tail.is_empty() {
        let word = tail.iter().enumerate().fold(0, |word, (place, byte)| word ^ (widen(*byte) << (8 * place)));
        hash ^= word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    }
    finish(hash, bytes.len())
}

/// Hashes bytes as Spark's `Murmur3_x86_32.hashUnsafeBytes` does: each byte of the tail is a word of its own.
pub(crate) fn spark(bytes: &[u8], seed: i32) -> i32 {
    let (words, tail) = bytes.as_chunks::<4>();
    let hash = words.iter().fold(seed.cast_unsigned(), |hash, word| mix(hash, u32::from_le_bytes(*word)));
    let hash = tail.iter().fold(hash, |hash, byte| mix(hash, widen(*byte)));
    finish(hash, bytes.len())
}
