//! Checksums: the low half of XXH3-128, tied to the file and the position they were made for.

use twox_hash::XxHash3_128;

/// Returns the checksum of some bytes that lie at `position` of file `number`: bytes that are whole but of another
/// file or another position do not pass.
pub(crate) fn checksum(bytes: &[u8], number: u64, position: u64) -> u64 {
    XxHash3_128::oneshot(bytes) as u64 ^ tie(number, position)
}

/// A checksum over bytes that come in pieces.
pub(crate) struct Checksum {
    hasher: XxHash3_128,
    tie: u64,
}

impl Checksum {
    pub(crate) fn new(number: u64, position: u64) -> Self {
        Self { hasher: XxHash3_128::new(), tie: tie(number, position) }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
    }

    pub(crate) fn finish(&self) -> u64 {
        self.hasher.finish_128() as u64 ^ self.tie
    }
}

/// Mixes two numbers (the finaliser of SplitMix64).
fn tie(number: u64, position: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(position).wrapping_add(1);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_the_checksum_of_the_whole_and_places_differ() {
        let bytes: Vec<u8> = (0..5000_u32).map(|i| (i * 7) as u8).collect();
        let mut pieces = Checksum::new(3, 4);
        bytes.chunks(333).for_each(|piece| pieces.add(piece));
        assert_eq!(pieces.finish(), checksum(&bytes, 3, 4));
        assert_ne!(checksum(&bytes, 3, 5), checksum(&bytes, 3, 4));
        assert_ne!(checksum(&bytes, 4, 4), checksum(&bytes, 3, 4));
    }
}
