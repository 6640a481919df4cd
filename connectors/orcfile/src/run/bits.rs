//! Numbers packed at a fixed width, the highest bit first, and the widths that a header of run-length version 2 can
//! say.

use lakehead_core::Result;

use crate::fault::damaged;

/// How many bits hold `value`; none for zero.
pub(crate) const fn bits_of(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// Returns the smallest width of the format's table that holds `bits` bits, at least one.
pub(crate) const fn closest_width(bits: u32) -> u32 {
    match bits {
        0 => 1,
        1..=24 => bits,
        25..=32 => bits.div_ceil(2) * 2,
        33..=40 => 40,
        41..=48 => 48,
        49..=56 => 56,
        _ => 64,
    }
}

/// Returns the five-bit code of a width from [`closest_width`].
pub(crate) const fn width_code(width: u32) -> u8 {
    let code = match width {
        0..=24 => width.saturating_sub(1),
        25..=32 => 23 + (width - 24) / 2,
        _ => 27 + (width - 32) / 8,
    };
    code as u8
}

/// Undoes [`width_code`].
pub(crate) const fn width_of_code(code: u8) -> u32 {
    let code = (code & 31) as u32;
    match code {
        0..=23 => code + 1,
        24..=27 => 24 + (code - 23) * 2,
        _ => 32 + (code - 27) * 8,
    }
}

/// Returns the bytes that `count` numbers of `width` bits fill.
pub(crate) const fn packed_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends numbers of `width` bits each; a number must not be wider.
pub(crate) fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    if width == 64 {
        values.for_each(|value| out.extend_from_slice(&value.to_be_bytes()));
        return;
    }
    let (mut word, mut used) = (0u64, 0u32);
    for value in values {
        if used + width <= 64 {
            word = (word << width) | value;
            used += width;
        } else {
            let low = used + width - 64;
            word = (word << (width - low)) | (value >> low);
            out.extend_from_slice(&word.to_be_bytes());
            word = value & ((1 << low) - 1);
            used = low;
        }
    }
    if used > 0 {
        let bytes = (word << (64 - used)).to_be_bytes();
        out.extend(bytes.iter().take(used.div_ceil(8) as usize));
    }
}

/// Appends `count` numbers of `width` bits from `bytes`, which must hold them all.
pub(crate) fn unpack(bytes: &[u8], count: usize, width: u32, out: &mut Vec<u64>) -> Result<()> {
    if bytes.len() < packed_len(count, width) {
        return Err(damaged("packed numbers are cut short"));
    }
    let mask = if width >= 64 { u64::MAX } else { (1 << width) - 1 };
    let (mut word, mut have) = (0u128, 0u32);
    let mut rest = bytes.iter();
    for _ in 0..count {
        while have < width {
            word = (word << 8) | u128::from(*rest.next().unwrap_or(&0));
            have += 8;
        }
        have -= width;
        out.push((word >> have) as u64 & mask);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn widths_have_codes_that_come_back() {
        for bits in 0..=64 {
            let width = closest_width(bits);
            assert!(width >= bits.max(1), "{bits}");
            assert_eq!(width_of_code(width_code(width)), width, "{bits}");
        }
        for code in 0..32 {
            assert_eq!(width_code(width_of_code(code)), code);
        }
    }

    #[test]
    fn packed_numbers_come_back_at_every_width() {
        let mut dice = Dice::new(1);
        for width in 1..=64 {
            for count in [0, 1, 2, 7, 8, 9, 64, 511] {
                let values: Vec<u64> = (0..count).map(|_| dice.next() >> (64 - width)).collect();
                let mut bytes = Vec::new();
                pack(values.iter().copied(), width, &mut bytes);
                assert_eq!(bytes.len(), packed_len(count, width));
                let mut back = Vec::new();
                unpack(&bytes, count, width, &mut back).unwrap();
                assert_eq!(back, values, "{width} bits, {count} numbers");
            }
        }
    }
}
