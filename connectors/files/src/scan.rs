//! Values read where they stand in a line, byte by byte; whoever asks looks at what ends them. Everything less usual is
//! for [`crate::cell`].

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const ZEROS: u128 = 0x3030_3030_3030_3030_3030_3030_3030_3030;
/// Digits that a number of 64 bits always holds.
const DIGITS_MAX: usize = 18;
/// Whole numbers that a double holds exactly.
const EXACT_MAX: i64 = 1 << 53;

/// Powers of ten that a number of 64 bits holds.
pub(crate) const POWERS: [i64; DIGITS_MAX + 1] = {
    let mut powers = [1; DIGITS_MAX + 1];
    let mut n = 1;
    while n <= DIGITS_MAX {
        powers[n] = powers[n - 1] * 10;
        n += 1;
    }
    powers
};

/// A number of few digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    /// All its digits, the sign counted.
    pub(crate) digits: i64,
    pub(crate) negative: bool,
    /// Digits behind the point.
    pub(crate) behind: usize,
}

impl Number {
    /// Returns the nearest double, where one division finds it.
    pub(crate) fn double(self) -> Option<f64> {
        if self.digits.abs() > EXACT_MAX {
            return None;
        }
        // Both numbers are exact (10^18 is 5^18 times a power of two, and 5^18 has 42 bits), so that the division rounds once.
        let double = self.digits.abs() as f64 / POWERS[self.behind] as f64;
        Some(if self.negative { -double } else { double })
    }
}

/// Reads digits from `at` on; returns `number` with them behind it, and where they end.
#[inline]
fn digits(bytes: &[u8], mut at: usize, mut number: i64) -> (i64, usize) {
    // Eight at once: where a number ends is then no branch that is guessed wrong.
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*chunk) ^ (ONES * u64::from(b'0'));
        let count = others(word).trailing_zeros() / 8;
        if count == 0 {
            return (number, at);
        }
        number = number.wrapping_mul(POWERS[count as usize]).wrapping_add(eight_digits(word << (64 - 8 * count)));
        at += count as usize;
        if count < 8 {
            return (number, at);
        }
    }
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        number = number.wrapping_mul(10).wrapping_add(i64::from(digit));
        at += 1;
    }
    (number, at)
}

/// Returns the number of eight digits, the first in the lowest byte: pairs are joined to pairs.
fn eight_digits(word: u64) -> i64 {
    let pairs = word.wrapping_mul(2561) >> 8;
    let fours = (pairs & 0x00FF_00FF_00FF_00FF).wrapping_mul(6_553_601) >> 16;
    ((fours & 0x0000_FFFF_0000_FFFF).wrapping_mul(42_949_672_960_001) >> 32).cast_signed()
}

/// Reads `-12.50`: digits, before the point and behind it; returns where they end. `None` where there are too many.
#[inline]
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<(Number, usize)> {
    let negative = bytes.get(at) == Some(&b'-');
    let from = at + usize::from(negative);
    let (mut found, mut end) = digits(bytes, from, 0);
    let (before, mut behind) = (end - from, 0);
    if before == 0 {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        let point = end + 1;
        (found, end) = digits(bytes, point, found);
        behind = end - point;
        if behind == 0 {
            return None;
        }
    }
    if before + behind > DIGITS_MAX {
        return None;
    }
    Some((Number { digits: if negative { -found } else { found }, negative, behind }, end))
}

/// Reads the digits between two places, as many as a number always holds, at once; `None` where it is not these alone, or
/// the text begins right before them.
#[inline]
fn digits_between(bytes: &[u8], from: usize, mut to: usize) -> Option<i64> {
    let (mut number, mut left, mut place) = (0_i64, to.checked_sub(from)?, 1);
    if left == 0 || left > DIGITS_MAX {
        return None;
    }
    loop {
        let word = u64::from_le_bytes(*bytes.get(..to)?.last_chunk()?) ^ (ONES * u64::from(b'0'));
        // What stands before the digits is made zeros.
        let word = if left < 8 { word & (u64::MAX << (64 - 8 * left)) } else { word };
        if others(word) != 0 {
            return None;
        }
        number += eight_digits(word) * place;
        if left <= 8 {
            return Some(number);
        }
        (left, to, place) = (left - 8, to - 8, place * POWERS[8]);
    }
}

/// Returns whether the number at a place has zeros before its first digit.
#[inline]
pub(crate) fn has_zeros(bytes: &[u8], at: usize) -> bool {
    let from = at + usize::from(bytes.get(at) == Some(&b'-'));
    bytes.get(from) == Some(&b'0') && bytes.get(from + 1).is_some_and(u8::is_ascii_digit)
}

/// Reads a truth value, all the bytes between two places; `None` where it is written in another way.
#[inline]
pub(crate) fn bool_between(bytes: &[u8], from: usize, to: usize) -> Option<bool> {
    match bytes.get(from..to)? {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// Reads a whole number, all the bytes between two places; `None` where it is written in another way.
#[inline]
pub(crate) fn whole_between(bytes: &[u8], from: usize, to: usize) -> Option<i64> {
    if bytes.get(from) == Some(&b'-') {
        return digits_between(bytes, from + 1, to).map(|number| -number);
    }
    digits_between(bytes, from, to)
}

/// Reads a number, all the bytes between two places, as [`number`] does; `None` where it is written in another way.
#[inline]
pub(crate) fn number_between(bytes: &[u8], from: usize, to: usize) -> Option<Number> {
    let negative = bytes.get(from) == Some(&b'-');
    let begin = from + usize::from(negative);
    let length = to.checked_sub(begin)?;
    let Some(chunk) =
        bytes.get(..to).and_then(|before| before.last_chunk::<16>()).filter(|_| (1..=16).contains(&length))
    else {
        return number(bytes, from).filter(|(_, end)| *end == to).map(|(number, _)| number);
    };
    let kept = u128::MAX << (128 - 8 * length);
    let text = (u128::from_le_bytes(*chunk) ^ ZEROS) & kept;
    let (digits, behind) = match points(text) & kept {
        0 => (text, 0),
        found => {
            let point = found.trailing_zeros() / 8;
            // A point at an end is for whoever knows everything.
            if point == 15 || point as usize == 16 - length {
                return None;
            }
            let before = text & ((1 << (8 * point)) - 1);
            ((text >> (8 * point + 8) << (8 * point + 8)) | (before << 8), 15 - point as usize)
        }
    };
    let (high, low) = (digits as u64, (digits >> 64) as u64);
    if others(high) | others(low) != 0 {
        return None;
    }
    let digits = eight_digits(high) * POWERS[8] + eight_digits(low);
    Some(Number { digits: if negative { -digits } else { digits }, negative, behind })
}

/// Marks a point in digits whose `0` was taken away; marks above the lowest one may be wrong.
fn points(digits: u128) -> u128 {
    const EACH: u128 = ZEROS / b'0' as u128;
    let found = digits ^ (EACH * (b'.' ^ b'0') as u128);
    found.wrapping_sub(EACH) & !found & (EACH * 0x80)
}

/// Marks the bytes of a word that are no digits of which `0` was taken away; marks above the lowest one may be wrong.
#[inline]
fn others(word: u64) -> u64 {
    (word.wrapping_add(ONES * 0x76) | word) & HIGHS
}

/// Reads the usual form of a time of UTC, `2026-01-31T23:59:59[.999999]Z`, and returns its microseconds since 1970 and where
/// it ends.
#[inline]
pub(crate) fn timestamp(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let fixed: &[u8; 19] = bytes.get(at..)?.first_chunk()?;
    let word = |from: usize, form: &[u8; 8]| -> Option<u64> {
        Some(u64::from_le_bytes(*fixed.get(from..)?.first_chunk()?) ^ u64::from_le_bytes(*form))
    };
    let (date, day, clock) = (word(0, b"0000-00-")?, word(8, b"00T00:00")?, word(11, b"00:00:00")?);
    // Digits alone, and nothing of what parts them.
    let parts = (date & 0xFF00_00FF_0000_0000) | (day & 0xFF_0000) | (clock & 0x0000_FF00_00FF_0000);
    if others(date) | others(day) | others(clock) | parts != 0 {
        return None;
    }
    // Each byte, as the tens of the byte behind it.
    let pairs = |word: u64| (word * 10 + (word >> 8)).to_le_bytes().map(i64::from);
    let (date, clock, day) = (pairs(date), pairs(clock), pairs(day)[0]);
    let (year, month) = (date[0] * 100 + date[2], date[5]);
    let (hour, minute, second) = (clock[0], clock[3], clock[6]);
    if !(1..=12).contains(&month) || year < 1 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = if month == 2 { 28 + i64::from(leap) } else { 30 + ((month + (month >> 3)) & 1) };
    if !(1..=last).contains(&day) {
        return None;
    }
    let (mut micros, mut end) = (0, at + 19);
    if bytes.get(end) == Some(&b'.') {
        (micros, end) = digits(bytes, end + 1, 0);
        let places = end - at - 20;
        if !(1..=6).contains(&places) {
            return None;
        }
        micros *= POWERS[6 - places];
    }
    if bytes.get(end) != Some(&b'Z') {
        return None;
    }
    // Days since 1970-01-01 of the Gregorian calendar, years taken to begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros, end + 1))
}

/// Marks the bytes of a word that are `byte`; marks above the lowest one may be wrong.
fn marks(word: u64, byte: u8) -> u64 {
    let found = word ^ (ONES * u64::from(byte));
    found.wrapping_sub(ONES) & !found & HIGHS
}

/// Returns the first place from `at` on where `of_word` marks a byte, which is `of_byte`; the end where there is none.
#[inline]
fn find(bytes: &[u8], mut at: usize, of_word: impl Fn(u64) -> u64, of_byte: impl Fn(u8) -> bool) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let found = of_word(u64::from_le_bytes(*chunk));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while at < bytes.len() && !of_byte(bytes[at]) {
        at += 1;
    }
    at
}

/// Returns where the text of a JSON string ends, or its first escape or control character; the end where neither comes.
#[inline]
pub(crate) fn string_end(bytes: &[u8], at: usize) -> usize {
    let of_word = |word: u64| {
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        marks(word, b'"') | marks(word, b'\\') | controls
    };
    find(bytes, at, of_word, |byte| matches!(byte, b'"' | b'\\' | 0..0x20))
}

/// Returns where a cell without quotes ends: at the next delimiter or line end, or with the text.
#[inline]
pub(crate) fn cell_end(bytes: &[u8], at: usize, delimiter: u8) -> usize {
    let of_word = |word: u64| marks(word, delimiter) | marks(word, b'\n') | marks(word, b'\r');
    find(bytes, at, of_word, |byte| byte == delimiter || byte == b'\n' || byte == b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_cells_end_where_a_look_at_every_byte_says() {
        let text: Vec<u8> = (0..4000_u32)
            .map(|n| [b'a', b'!', 0xC3, 0xA9, 0xFF, b'"', b',', 0x1F, b'\\', b'\n'][(n * n / 7 % 97) as usize % 10])
            .collect();
        for from in 0..text.len() {
            let string = text[from..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            assert_eq!(string_end(&text, from), string.map_or(text.len(), |n| from + n));
            let cell = text[from..].iter().position(|byte| matches!(byte, b',' | b'\n' | b'\r'));
            assert_eq!(cell_end(&text, from, b','), cell.map_or(text.len(), |n| from + n));
        }
    }

    #[test]
    fn digits_are_read_as_one_by_one() {
        for digits in 1..=20 {
            for (sign, behind) in
                [("", ""), ("-", ","), ("", "/23456789"), ("-", ":"), ("", "\u{e9}1234567"), ("", " 1")]
            {
                let text = format!("{sign}{}{behind}", &"98765432101234567890"[..digits]);
                let end = text.len() - behind.len();
                let expected = (digits <= DIGITS_MAX).then(|| (text[..end].parse::<i64>().unwrap(), end));
                assert_eq!(number(text.as_bytes(), 0).map(|(found, end)| (found.digits, end)), expected, "{text}");
            }
        }
        let (found, end) = number(b"0012345678.0123456,", 0).unwrap();
        assert_eq!((found.digits, found.behind, end), (123_456_780_123_456, 7, 18));
    }

    #[test]
    fn a_number_with_a_known_end_is_the_one_that_is_looked_through() {
        let mut found = 0;
        for before in ["", "0", "7", "007", "12345678", "123456789", "123456789012345", "12345678901234567"] {
            for behind in
                ["", ".", ".0", ".5", ".25", ".1234567", ".12345678", ".123456789", ".1.", "x", ".-", "\u{ae}"]
            {
                for sign in ["", "-", "--", "+"] {
                    let text = format!("12345678,9.9{sign}{before}{behind},1");
                    let (from, to) = (12, text.len() - 2);
                    let slow = number(text.as_bytes(), from).filter(|(_, end)| *end == to).map(|(number, _)| number);
                    assert_eq!(number_between(text.as_bytes(), from, to), slow, "{text}");
                    let whole = whole_between(text.as_bytes(), from, to);
                    let slow = slow.filter(|number| number.behind == 0).map(|number| number.digits);
                    assert_eq!(whole, slow, "{text}");
                    found += usize::from(slow.is_some());
                }
            }
        }
        assert_eq!(found, 14);
    }

    #[test]
    fn a_number_divided_once_is_the_double_that_its_text_is() {
        for text in
            ["0", "-0", "0.1", "123.456789", "0.00000000000000001", "9007199254740992", "-1.5", "90071992547.40993"]
        {
            let (number, end) = number(text.as_bytes(), 0).unwrap();
            assert_eq!(end, text.len());
            if let Some(double) = number.double() {
                assert_eq!(double.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
            }
        }
        for text in ["", "-", ".5", "5.", "x", "1234567890123456789", "0.1234567890123456789"] {
            assert_eq!(number(text.as_bytes(), 0), None, "{text}");
        }
    }
}
