//! Small numbers as Parquet packs them: one that repeats itself with its count, others bit behind bit, eight at a time.

/// Equal numbers behind one another that are written as one with its count: fewer take no more room bit behind bit.
const RUN_MIN: usize = 16;
/// Numbers of a packed group.
const GROUP: usize = 8;

/// Returns the bits that the numbers below `count` take.
pub(super) fn width_of(count: usize) -> u8 {
    u8::try_from(usize::BITS - count.saturating_sub(1).leading_zeros()).unwrap_or(u8::MAX)
}

/// Appends numbers of `width` bits each.
pub(super) fn pack(numbers: &[u32], width: u8, to: &mut Vec<u8>) {
    let (mut at, mut begin) = (0, 0);
    while let Some(first) = numbers.get(at) {
        let run = numbers[at..].iter().take_while(|number| *number == first).count();
        if run >= RUN_MIN {
            pack_groups(&numbers[begin..at], width, to);
            put_run(*first, run, width, to);
            at += run;
            begin = at;
        } else {
            at += GROUP;
        }
    }
    pack_groups(&numbers[begin..], width, to);
}

/// Appends one number and how often it is there.
fn put_run(number: u32, count: usize, width: u8, to: &mut Vec<u8>) {
    put_varint((count as u64) << 1, to);
    to.extend_from_slice(&number.to_le_bytes()[..usize::from(width).div_ceil(8)]);
}

/// Appends numbers bit behind bit, and zeros up to the end of the last group.
fn pack_groups(numbers: &[u32], width: u8, to: &mut Vec<u8>) {
    if numbers.is_empty() {
        return;
    }
    let groups = numbers.len().div_ceil(GROUP);
    put_varint((groups as u64) << 1 | 1, to);
    let end = to.len() + groups * usize::from(width);
    let (mut word, mut bits) = (0_u64, 0);
    for number in numbers {
        word |= u64::from(*number) << bits;
        bits += u32::from(width);
        if bits >= 32 {
            to.extend_from_slice(&(word as u32).to_le_bytes());
            word >>= 32;
            bits -= 32;
        }
    }
    to.extend_from_slice(&word.to_le_bytes()[..bits.div_ceil(8) as usize]);
    to.resize(end, 0);
}

/// Appends which of `rows` have a value, with the length of it: `present` has a bit for each, and is not looked at where all
/// have one or none has.
pub(super) fn put_levels(rows: usize, nulls: usize, present: &[u8], to: &mut Vec<u8>) {
    let begin = to.len();
    to.extend_from_slice(&[0; 4]);
    if nulls == 0 || nulls == rows {
        put_run(u32::from(nulls == 0), rows, 1, to);
    } else {
        put_bits(rows, present, to);
    }
    let length = u32::try_from(to.len() - begin - 4).unwrap_or(u32::MAX);
    to[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
}

/// Appends a bit for each row: many equal ones as one with its count, the others as they lie in memory.
fn put_bits(rows: usize, bits: &[u8], to: &mut Vec<u8>) {
    let put_groups = |groups: &[u8], to: &mut Vec<u8>| {
        if !groups.is_empty() {
            put_varint((groups.len() as u64) << 1 | 1, to);
            to.extend_from_slice(groups);
        }
    };
    let (mut at, mut begin, whole) = (0, 0, rows / GROUP);
    while at < whole {
        let first = bits[at];
        let run = bits[at..whole].iter().take_while(|group| **group == first).count();
        if run * GROUP >= 2 * RUN_MIN && matches!(first, 0 | 0xFF) {
            put_groups(&bits[begin..at], to);
            put_run(u32::from(first & 1), run * GROUP, 1, to);
            begin = at + run;
        }
        at += run;
    }
    put_groups(&bits[begin..rows.div_ceil(GROUP)], to);
}

fn put_varint(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(bytes: &[u8], at: &mut usize) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = bytes[*at];
            *at += 1;
            number |= u64::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }

    /// Reads numbers one bit after another, as the format describes them.
    fn unpacked(bytes: &[u8], width: u8, count: usize) -> Vec<u32> {
        let (mut numbers, mut at, width) = (Vec::new(), 0, usize::from(width));
        while numbers.len() < count {
            let header = varint(bytes, &mut at);
            let length = (header >> 1) as usize;
            if header & 1 == 0 {
                let mut number = [0; 4];
                number[..width.div_ceil(8)].copy_from_slice(&bytes[at..at + width.div_ceil(8)]);
                at += width.div_ceil(8);
                numbers.extend(std::iter::repeat_n(u32::from_le_bytes(number), length));
                continue;
            }
            let bit = |n: usize| u32::from(bytes[at + n / 8] >> (n % 8) & 1);
            let number = |n: usize| (0..width).fold(0, |number, k| number | bit(n * width + k) << k);
            numbers.extend((0..length * GROUP).map(number));
            at += length * width;
        }
        assert_eq!(at, bytes.len());
        numbers.truncate(count);
        numbers
    }

    #[test]
    fn packed_numbers_are_read_back_bit_by_bit() {
        for width in 0..=32_u8 {
            for seed in 0..40_u64 {
                let mut state = seed * 77 + 1;
                let mut dice = || {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    state >> 33
                };
                let mut numbers = Vec::new();
                while (numbers.len() as u64) < seed * 9 {
                    let number = if width == 0 { 0 } else { (dice() as u32) >> (31 - (width - 1).min(30)) };
                    let count = if dice() % 6 == 0 { dice() % 70 } else { 1 };
                    numbers.extend((0..count).map(|_| number));
                }
                let mut packed = Vec::new();
                pack(&numbers, width, &mut packed);
                assert_eq!(unpacked(&packed, width, numbers.len()), numbers, "{width} {seed}");
            }
        }
    }

    #[test]
    fn a_width_holds_all_numbers_below_a_count_and_no_more_bits() {
        for (count, width) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9)] {
            assert_eq!(width_of(count), width, "{count}");
        }
    }

    #[test]
    fn levels_say_which_rows_have_a_value() {
        for (rows, nulls, present, expected) in [
            (300, 0, &[][..], vec![1; 300]),
            (5, 5, &[][..], vec![0; 5]),
            (10, 3, &[0b0101_1111, 0b01][..], vec![1, 1, 1, 1, 1, 0, 1, 0, 1, 0]),
            (
                90,
                42,
                &[0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0][..],
                [vec![0; 40], vec![1; 48], vec![0; 2]].concat(),
            ),
            (40, 8, &[0xFF, 0, 0xFF, 0xFF, 0xFF][..], [vec![1; 8], vec![0; 8], vec![1; 24]].concat()),
        ] {
            let mut levels = vec![7];
            put_levels(rows, nulls, present, &mut levels);
            assert_eq!(levels[1..5], (levels.len() as u32 - 5).to_le_bytes());
            assert_eq!(unpacked(&levels[5..], 1, rows), expected);
        }
    }
}
