//! Booleans as bits, the highest first, whose bytes are run-length coded.

/// Bits on their way to bytes. Whole bytes wait for the byte coder; up to seven bits wait for their byte.
#[derive(Default)]
pub(crate) struct Bits {
    pub(crate) bytes: Vec<u8>,
    byte: u8,
    used: u8,
}

impl Bits {
    pub(crate) fn push(&mut self, bit: bool) {
        self.byte = (self.byte << 1) | u8::from(bit);
        self.used += 1;
        if self.used == 8 {
            self.bytes.push(self.byte);
            self.byte = 0;
            self.used = 0;
        }
    }

    /// Appends `count` set bits, bytes at a time: a column without nulls is the usual one.
    pub(crate) fn push_set(&mut self, mut count: usize) {
        while count > 0 && self.used != 0 {
            self.push(true);
            count -= 1;
        }
        self.bytes.resize(self.bytes.len() + count / 8, 0xff);
        (0..count % 8).for_each(|_| self.push(true));
    }

    /// Returns how many bits wait: where in the next byte the next bit lies.
    pub(crate) fn waiting(&self) -> u8 {
        self.used
    }

    /// Fills the last byte with zeros.
    pub(crate) fn pad(&mut self) {
        if self.used > 0 {
            self.bytes.push(self.byte << (8 - self.used));
            self.byte = 0;
            self.used = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_bits_are_the_same_one_by_one_and_at_once() {
        for before in 0..9 {
            for count in 0..40 {
                let (mut slow, mut fast) = (Bits::default(), Bits::default());
                (0..before).for_each(|_| slow.push(false));
                (0..before).for_each(|_| fast.push(false));
                (0..count).for_each(|_| slow.push(true));
                fast.push_set(count);
                slow.pad();
                fast.pad();
                assert_eq!(slow.bytes, fast.bytes, "{before} {count}");
            }
        }
    }
}
