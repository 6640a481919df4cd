//! Randomness that is a pure function of where it is asked for.

/// The odd constant of SplitMix64, which its increments are multiples of.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Random numbers of one cell. SplitMix64, written out: a library's stream may change with its version, and then a
/// resumed run would go on with other rows.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Returns the numbers of the cell at `ordinal` in the column whose name hashes to `column`.
    pub(crate) fn new(seed: u64, ordinal: u64, column: u64) -> Self {
        Self(mix(mix(mix(seed ^ STEP) ^ column) ^ ordinal.wrapping_mul(STEP)))
    }

    /// Returns 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// Returns a number below `bound`; 0 where the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The multiply-shift of Lemire; its bias is below 2^-40 for every bound used here.
        let wide = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Returns a number of `least..=greatest`.
    pub(crate) fn within(&mut self, least: i64, greatest: i64) -> i64 {
        let span = greatest.wrapping_sub(least).cast_unsigned();
        let offset = if span == u64::MAX { self.bits() } else { self.below(span + 1) };
        least.wrapping_add(offset.cast_signed())
    }

    /// Returns a number of `0.0..1.0`.
    pub(crate) fn share(&mut self) -> f64 {
        // 53 bits are what the mantissa holds, so the conversion is exact.
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns one of `items`, which is not empty.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        let at = self.below(items.len() as u64);
        items[usize::try_from(at).unwrap_or(0)]
    }
}

/// Returns the hash of a column's name (FNV-1a), which stays when columns change their order.
pub(crate) fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_both() {
        let mut seen = [false; 4];
        for ordinal in 0..200 {
            let found = Dice::new(1, ordinal, 7).within(-1, 2);
            seen[usize::try_from(found + 1).unwrap()] = true;
        }
        assert_eq!(seen, [true; 4]);
        Dice::new(1, 0, 0).within(i64::MIN, i64::MAX);
    }

    #[test]
    fn a_cell_rolls_the_same_numbers_every_time_and_its_neighbours_others() {
        let roll = |seed, ordinal, column| Dice::new(seed, ordinal, name_hash(column)).bits();
        assert_eq!(roll(1, 5, "a"), roll(1, 5, "a"));
        assert_ne!(roll(1, 5, "a"), roll(1, 6, "a"));
        assert_ne!(roll(1, 5, "a"), roll(1, 5, "b"));
        assert_ne!(roll(1, 5, "a"), roll(2, 5, "a"));
    }
}
