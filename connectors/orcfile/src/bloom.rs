//! Bloom filters in the manner of ORC's `BLOOM_FILTER_UTF8`: one for each row group, hashed as Hive hashes.

use crate::wire::Message;

/// Murmur3's 64-bit half as Hive cut it out, and its seed.
const SEED: u64 = 104_729;
const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// Hashes a text or bytes.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = SEED;
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        hash ^= mix(u64::from_le_bytes(*word));
        hash = hash.rotate_left(27).wrapping_mul(5).wrapping_add(0x52dc_e729);
    }
    if !tail.is_empty() {
        let word = tail.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        hash ^= mix(word);
    }
    hash ^= bytes.len() as u64;
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn mix(word: u64) -> u64 {
    word.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

/// Hashes a whole number, a date in days, a time in milliseconds or the bits of a double: Thomas Wang's mix, with the
/// sign-filling shifts that Java's `>>` has.
pub(crate) fn hash_number(number: i64) -> u64 {
    let mut key = (!number).wrapping_add(number << 21);
    key ^= key >> 24;
    key = key.wrapping_add(key << 3).wrapping_add(key << 8);
    key ^= key >> 14;
    key = key.wrapping_add(key << 2).wrapping_add(key << 4);
    key ^= key >> 28;
    key.wrapping_add(key << 31).cast_unsigned()
}

/// The filter of the row group being written.
pub(crate) struct Bloom {
    words: Vec<u64>,
    hashes: u32,
}

impl Bloom {
    /// Sizes a filter for `rows` values and a share `false_positives` of wrong answers, between 0 and 1.
    pub(crate) fn new(rows: usize, false_positives: f64) -> Self {
        let ln2 = std::f64::consts::LN_2;
        let bits = -(rows as f64) * false_positives.ln() / (ln2 * ln2);
        // A whole word more even when it divides: as Java and C++ round.
        let words = bits as usize / 64 + 1;
        let hashes = (words as f64 * 64.0 / rows as f64 * ln2).round().max(1.0) as u32;
        Self { words: vec![0; words], hashes }
    }

    pub(crate) fn insert(&mut self, hash: u64) {
        let (low, high) = (hash as i32, (hash >> 32) as i32);
        let bits = self.words.len() as u64 * 64;
        for round in 1..=self.hashes.cast_signed() {
            let mixed = low.wrapping_add(round.wrapping_mul(high));
            let place = (if mixed < 0 { !mixed } else { mixed }) as u64 % bits;
            if let Some(word) = self.words.get_mut(place as usize / 64) {
                *word |= 1 << (place % 64);
            }
        }
    }

    /// Returns the message of this filter and empties it.
    pub(crate) fn take(&mut self) -> Message {
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.words.fill(0);
        let mut message = Message::default();
        message.uint(1, u64::from(self.hashes)).bytes(3, &bytes);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        let mut bloom = Bloom::new(10_000, 0.01);
        assert_eq!((bloom.words.len(), bloom.hashes), (1498, 7));
        let set = |bloom: &Bloom| bloom.words.iter().map(|word| word.count_ones()).sum::<u32>();
        (0..10_000).for_each(|number| bloom.insert(hash_number(number)));
        let before = set(&bloom);
        (0..10_000).for_each(|number| bloom.insert(hash_number(number)));
        assert_eq!(set(&bloom), before);
        // About half of the bits: the sizes above are chosen for that.
        assert!((0.45..0.55).contains(&(f64::from(before) / (1498.0 * 64.0))), "{before}");
    }
}
