//! Numbers that look random and are the same in every run.

/// A SplitMix64 generator.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}

/// Returns the uniform hash of a key.
pub(crate) fn hash(key: u64) -> u128 {
    let mut dice = Dice(key.wrapping_mul(0x2545_f491_4f6c_dd1d));
    (u128::from(dice.roll()) << 64) | u128::from(dice.roll())
}
