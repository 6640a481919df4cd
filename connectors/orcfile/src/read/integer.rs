//! Whole numbers from their runs, both versions: files of before 2014 have the first.

use lakehead_core::Result;

use super::stream::{Plain, Position};
use crate::fault::damaged;
use crate::run::bits::{closest_width, packed_len, unpack, width_of_code};
use crate::run::integer::{RUN_MAX, Sign};
use crate::wire::unzigzag;

/// Which coder wrote a stream; the column's encoding says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// Numbers of a stream.
pub(crate) struct IntegerRuns {
    plain: Plain,
    sign: Sign,
    version: Version,
    /// The run at hand, and how many of its numbers are gone.
    run: Vec<i64>,
    gone: usize,
    packed: Vec<u8>,
    words: Vec<u64>,
}

impl IntegerRuns {
    pub(crate) fn new(plain: Plain, sign: Sign, version: Version) -> Self {
        Self { plain, sign, version, run: Vec::new(), gone: 0, packed: Vec::new(), words: Vec::new() }
    }

    pub(crate) fn position_numbers(&self) -> usize {
        self.plain.position_numbers() + 1
    }

    pub(crate) fn seek(&mut self, position: &mut Position<'_>) -> Result<()> {
        self.plain.seek(position)?;
        self.run.clear();
        self.gone = 0;
        self.take(position.part_of_run(RUN_MAX)?).map(drop)
    }

    /// Returns the next `count` numbers.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<i64>> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            if self.gone == self.run.len() {
                self.run.clear();
                self.gone = 0;
                match self.version {
                    Version::One => self.run_of_one()?,
                    Version::Two => self.run_of_two()?,
                }
            }
            let left = self.run.get(self.gone..).unwrap_or_default();
            let part = left.get(..left.len().min(count - numbers.len())).unwrap_or_default();
            numbers.extend_from_slice(part);
            self.gone += part.len();
        }
        Ok(numbers)
    }

    fn value(&self, word: u64) -> i64 {
        match self.sign {
            Sign::Signed => unzigzag(word),
            Sign::Unsigned => word.cast_signed(),
        }
    }

    fn run_of_one(&mut self) -> Result<()> {
        let control = self.plain.byte()?.cast_signed();
        if control < 0 {
            for _ in 0..control.unsigned_abs() {
                let word = self.plain.varint()?;
                self.run.push(self.value(word));
            }
            return Ok(());
        }
        let step = i64::from(self.plain.byte()?.cast_signed());
        let word = self.plain.varint()?;
        let mut value = self.value(word);
        for _ in 0..usize::from(control.unsigned_abs()) + 3 {
            self.run.push(value);
            value = value.wrapping_add(step);
        }
        Ok(())
    }

    fn run_of_two(&mut self) -> Result<()> {
        let first = self.plain.byte()?;
        if first >> 6 == 0 {
            let word = self.big_endian(usize::from(first >> 3 & 7) + 1)?;
            let value = self.value(word);
            self.run.resize(usize::from(first & 7) + 3, value);
            return Ok(());
        }
        let code = first >> 1 & 31;
        let count = (usize::from(first & 1) << 8 | usize::from(self.plain.byte()?)) + 1;
        match first >> 6 {
            1 => {
                self.unpack(count, width_of_code(code))?;
                let sign = self.sign;
                self.run.extend(self.words.iter().map(|word| match sign {
                    Sign::Signed => unzigzag(*word),
                    Sign::Unsigned => word.cast_signed(),
                }));
                Ok(())
            }
            2 => self.patched(count, width_of_code(code)),
            // No bits, not one: all steps are the same.
            _ => self.delta(count, if code == 0 { 0 } else { width_of_code(code) }),
        }
    }

    fn big_endian(&mut self, bytes: usize) -> Result<u64> {
        let mut word = 0;
        for _ in 0..bytes {
            word = word << 8 | u64::from(self.plain.byte()?);
        }
        Ok(word)
    }

    fn unpack(&mut self, count: usize, width: u32) -> Result<()> {
        self.packed.clear();
        self.words.clear();
        self.plain.take(packed_len(count, width), &mut self.packed)?;
        unpack(&self.packed, count, width, &mut self.words)
    }

    fn delta(&mut self, count: usize, width: u32) -> Result<()> {
        let word = self.plain.varint()?;
        let mut value = self.value(word);
        let step = unzigzag(self.plain.varint()?);
        self.run.push(value);
        if width == 0 {
            for _ in 1..count {
                value = value.wrapping_add(step);
                self.run.push(value);
            }
            return Ok(());
        }
        if count < 2 {
            return Err(damaged("a run of steps with one number"));
        }
        value = value.wrapping_add(step);
        self.run.push(value);
        self.unpack(count - 2, width)?;
        for size in &self.words {
            let size = size.cast_signed();
            value = if step < 0 { value.wrapping_sub(size) } else { value.wrapping_add(size) };
            self.run.push(value);
        }
        Ok(())
    }

    fn patched(&mut self, count: usize, width: u32) -> Result<()> {
        let (third, fourth) = (self.plain.byte()?, self.plain.byte()?);
        let base_bytes = usize::from(third >> 5) + 1;
        let patch_width = width_of_code(third & 31);
        let gap_width = u32::from(fourth >> 5) + 1;
        let patches = usize::from(fourth & 31);
        if patch_width + gap_width > 64 {
            return Err(damaged("patches wider than 64 bits"));
        }
        let word = self.big_endian(base_bytes)?;
        let sign = 1u64 << (base_bytes * 8 - 1);
        let size = (word & !sign).cast_signed();
        let base = if word & sign == 0 { size } else { size.wrapping_neg() };
        self.unpack(count, width)?;
        let mut values = std::mem::take(&mut self.words);
        self.unpack(patches, closest_width(patch_width + gap_width))?;
        let mut at = 0;
        for entry in &self.words {
            at += (entry >> patch_width) as usize;
            let high = entry & ((1 << patch_width) - 1);
            let value = values.get_mut(at).ok_or_else(|| damaged("a patch beyond its run"))?;
            *value |= high.checked_shl(width).unwrap_or(0);
        }
        self.run.extend(values.iter().map(|value| base.wrapping_add(value.cast_signed())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Kind;
    use crate::dice::Dice;
    use crate::run::integer::encode;

    fn back(bytes: &[u8], count: usize, sign: Sign, version: Version) -> Result<Vec<i64>> {
        let plain = Plain::new(Kind::Plain, 0, bytes.to_vec().into());
        IntegerRuns::new(plain, sign, version).take(count)
    }

    fn check(values: &[i64]) {
        for sign in [Sign::Signed, Sign::Unsigned] {
            let mut bytes = Vec::new();
            encode(values, sign, &mut bytes);
            assert_eq!(back(&bytes, values.len(), sign, Version::Two).unwrap(), values, "{sign:?}");
            // Nothing is left over either.
            assert!(back(&bytes, values.len() + 1, sign, Version::Two).is_err());
        }
    }

    #[test]
    fn the_ends_of_the_numbers_come_back() {
        for value in [0, 1, -1, i64::MIN, i64::MAX, i64::MIN + 1] {
            for count in [1, 2, 3, 4, 10, 11, 511, 512, 513] {
                check(&vec![value; count]);
            }
        }
        check(&[i64::MIN, i64::MAX, i64::MIN, 0]);
        check(&[i64::MIN, -1, i64::MAX]);
        check(&[i64::MAX, 0, i64::MIN]);
        check(&[]);
    }

    #[test]
    fn steps_come_back() {
        let mut dice = Dice::new(21);
        for _ in 0..500 {
            let (mut value, bound) = (dice.next() as i64 >> dice.below(60), 1 << dice.below(50));
            let falls = dice.below(2) == 0;
            let mut values = Vec::new();
            for _ in 0..1 + dice.below(1200) {
                values.push(value);
                let step = dice.below(bound) as i64;
                value = if falls { value.saturating_sub(step) } else { value.saturating_add(step) };
            }
            check(&values);
        }
    }

    #[test]
    fn outliers_come_back() {
        let mut dice = Dice::new(22);
        for _ in 0..2000 {
            let base = dice.next() as i64 >> (1 + dice.below(63));
            let (small, large) = (dice.below(40), dice.below(63));
            let share = 10 + dice.below(400);
            let values: Vec<i64> = (0..1 + dice.below(700))
                .map(|_| {
                    let width = if dice.below(share) == 0 { large } else { small };
                    base.wrapping_add((dice.next() & ((1 << width) - 1)) as i64)
                })
                .collect();
            check(&values);
        }
    }

    #[test]
    fn repeats_among_others_come_back() {
        let mut dice = Dice::new(23);
        for _ in 0..500 {
            let mut values = Vec::new();
            for _ in 0..dice.below(30) {
                let value = dice.next() as i64 >> dice.below(64);
                let count = if dice.below(3) == 0 { dice.below(30) } else { 1 };
                values.resize(values.len() + count as usize, value);
            }
            check(&values);
        }
    }

    #[test]
    fn outliers_cost_less_than_their_width_for_all() {
        let mut values: Vec<i64> = (0..512).map(|at| (at * 7919) % 251).collect();
        values[300] = 1 << 50;
        let mut bytes = Vec::new();
        encode(&values, Sign::Signed, &mut bytes);
        assert!(bytes.len() < 600, "{} bytes", bytes.len());
    }

    #[test]
    fn the_examples_of_the_specification() {
        for (bytes, values) in [
            (&[0x61, 0x00, 0x07][..], vec![7; 100]),
            (&[0x61, 0xff, 0x64], (1..=100).rev().collect()),
            (&[0xfb, 0x02, 0x03, 0x06, 0x07, 0x0b], vec![2, 3, 6, 7, 11]),
        ] {
            assert_eq!(back(bytes, values.len(), Sign::Unsigned, Version::One).unwrap(), values);
        }
        let steps = [0xc6, 0x09, 0x02, 0x02, 0x22, 0x42, 0x42, 0x46];
        let primes = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29];
        assert_eq!(back(&steps, 10, Sign::Unsigned, Version::Two).unwrap(), primes);
    }

    #[test]
    fn any_bytes_are_numbers_or_an_error() {
        let mut dice = Dice::new(24);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..dice.below(40)).map(|_| dice.next() as u8).collect();
            for version in [Version::One, Version::Two] {
                let _ = back(&bytes, 1000, Sign::Signed, version);
            }
        }
    }
}
