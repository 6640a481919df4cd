//! Values read where they stand in a line, byte by byte; whoever asks looks at what ends them. Everything less usual is
//! for [`crate::cell`].

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
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
    /// Whether it begins with a zero that another digit follows.
    pub(crate) padded: bool,
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
        let others = (word.wrapping_add(ONES * 0x76) | word) & HIGHS;
        let count = others.trailing_zeros() / 8;
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
    let padded = before > 1 && bytes[from] == b'0';
    Some((Number { digits: if negative { -found } else { found }, negative, behind, padded }, end))
}

fn pair(bytes: &[u8; 19], at: usize) -> Option<i64> {
    let (tens, ones) = (bytes[at].wrapping_sub(b'0'), bytes[at + 1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// Reads the usual form of a time of UTC, `2026-01-31T23:59:59[.999999]Z`, and returns its microseconds since 1970 and where
/// it ends.
#[inline]
pub(crate) fn timestamp(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let fixed: &[u8; 19] = bytes.get(at..)?.first_chunk()?;
    if (fixed[4], fixed[7], fixed[10], fixed[13], fixed[16]) != (b'-', b'-', b'T', b':', b':') {
        return None;
    }
    let (year, month, day) = (pair(fixed, 0)? * 100 + pair(fixed, 2)?, pair(fixed, 5)?, pair(fixed, 8)?);
    let (hour, minute, second) = (pair(fixed, 11)?, pair(fixed, 14)?, pair(fixed, 17)?);
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
    let (era, of_era) = (y / 400, y % 400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day - 1 - 719_468;
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
        assert_eq!((found.digits, found.behind, found.padded, end), (123_456_780_123_456, 7, true, 18));
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
