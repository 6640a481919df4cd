//! NUMERIC in the binary format, digits of base 10000, straight to a scaled integer.

/// Why a NUMERIC is no decimal of the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumericFault {
    /// `NaN`.
    NotANumber,
    /// `Infinity` or `-Infinity`.
    Infinite,
    /// More digits than the column's type has room for.
    TooWide,
    /// The bytes are no NUMERIC.
    Malformed,
}

/// Returns `value * 10^scale` of a binary NUMERIC, which must have at most `precision` digits then.
pub(crate) fn decode(bytes: &[u8], precision: u8, scale: i8) -> Result<i128, NumericFault> {
    let (head, digits) = bytes.split_at_checked(8).ok_or(NumericFault::Malformed)?;
    let count = usize::from(u16::from_be_bytes([head[0], head[1]]));
    let weight = i32::from(i16::from_be_bytes([head[2], head[3]]));
    let negative = match u16::from_be_bytes([head[4], head[5]]) {
        0x0000 => false,
        0x4000 => true,
        0xc000 => return Err(NumericFault::NotANumber),
        0xd000 | 0xf000 => return Err(NumericFault::Infinite),
        _ => return Err(NumericFault::Malformed),
    };
    if digits.len() != count * 2 {
        return Err(NumericFault::Malformed);
    }
    let mut sum: i128 = 0;
    // The power of ten by which the digit at hand counts in the result.
    let mut exponent = i32::from(scale) + 4 * weight;
    for digit in digits.chunks_exact(2) {
        let digit = i128::from(u16::from_be_bytes([digit[0], digit[1]]));
        if digit > 9999 {
            return Err(NumericFault::Malformed);
        }
        // A digit that straddles the scale counts in part; what lies below must be zero, as the server has rounded.
        let kept = (exponent + 4).clamp(0, 4).unsigned_abs();
        let cut = 10_i128.pow(4 - kept);
        if digit % cut != 0 {
            return Err(NumericFault::TooWide);
        }
        sum = sum
            .checked_mul(10_i128.pow(kept))
            .and_then(|sum| sum.checked_add(digit / cut))
            .ok_or(NumericFault::TooWide)?;
        exponent -= 4;
    }
    // `exponent + 4` is the power of the last digit: what is left to multiply by.
    let rest = (exponent + 4).max(0).unsigned_abs();
    if sum != 0 && rest > 0 {
        let factor = 10_i128.checked_pow(rest).ok_or(NumericFault::TooWide)?;
        sum = sum.checked_mul(factor).ok_or(NumericFault::TooWide)?;
    }
    if sum >= 10_i128.pow(u32::from(precision)) {
        return Err(NumericFault::TooWide);
    }
    Ok(if negative { -sum } else { sum })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(digits: &[u16], weight: i16, sign: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u16::try_from(digits.len()).unwrap().to_be_bytes());
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend([0, 0]);
        for digit in digits {
            bytes.extend(digit.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn digits_of_base_ten_thousand_become_a_scaled_integer() {
        let check = |digits: &[u16], weight, precision, scale, expected| {
            assert_eq!(decode(&binary(digits, weight, 0), precision, scale), Ok(expected), "{digits:?}");
        };
        check(&[], 0, 12, 2, 0);
        check(&[2500], -1, 12, 2, 25);
        check(&[1, 2345, 6700], 1, 12, 2, 1_234_567);
        check(&[1], 1, 12, 2, 1_000_000);
        check(&[1], -2, 12, 8, 1);
        check(&[99, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999], 9, 38, 0, 10_i128.pow(38) - 1);
        check(&[9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9900], -1, 38, 38, 10_i128.pow(38) - 1);
        assert_eq!(decode(&binary(&[5], 0, 0x4000), 3, 2), Ok(-500));
    }

    #[test]
    fn what_is_no_decimal_of_the_column_is_refused() {
        assert_eq!(decode(&binary(&[], 0, 0xc000), 12, 2), Err(NumericFault::NotANumber));
        assert_eq!(decode(&binary(&[], 0, 0xd000), 12, 2), Err(NumericFault::Infinite));
        assert_eq!(decode(&binary(&[], 0, 0xf000), 12, 2), Err(NumericFault::Infinite));
        assert_eq!(decode(&binary(&[100], 0, 0), 2, 0), Err(NumericFault::TooWide));
        assert_eq!(decode(&binary(&[2501], -1, 0), 12, 2), Err(NumericFault::TooWide));
        assert_eq!(decode(&binary(&[1], 9999, 0), 38, 0), Err(NumericFault::TooWide));
        assert_eq!(decode(&[0, 1, 0, 0, 0, 0, 0, 0], 38, 0), Err(NumericFault::Malformed));
    }
}
