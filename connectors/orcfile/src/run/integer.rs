//! Integer run-length coding, version 2: short repeats, direct, delta and patched base (ORC v1, "Run Length Encoding").
//!
//! A block of at most 512 numbers is cut at its long repeats; each part takes the cheapest of the encodings that fit
//! it. The cost of each is known before a byte is written, so there is no threshold to tune.

use super::bits::{bits_of, closest_width, pack, packed_len, width_code};
use super::patched::Patched;
use crate::wire::{put_varint, zigzag};

/// The most numbers of one run: its header has nine bits for the length.
pub(crate) const RUN_MAX: usize = 512;
/// The fewest and the most numbers of a short repeat: its header has three bits for the length.
const REPEAT_MIN: usize = 3;
const SHORT_REPEAT_MAX: usize = 10;
/// A repeat inside a part saves less than a new header and a second part cost when it is shorter than this.
const REPEAT_INSIDE_MIN: usize = 8;

/// Whether the numbers of a stream are zigzagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Values: both signs are usual.
    Signed,
    /// Lengths, indexes and nanoseconds: 64 bits as they are.
    Unsigned,
}

impl Sign {
    const fn map(self, value: i64) -> u64 {
        match self {
            Self::Signed => zigzag(value),
            Self::Unsigned => value.cast_unsigned(),
        }
    }
}

/// Appends the runs of `values`, whole: nothing waits for the next call.
pub(crate) fn encode(values: &[i64], sign: Sign, out: &mut Vec<u8>) {
    values.chunks(RUN_MAX).for_each(|block| encode_block(block, sign, out));
}

fn encode_block(block: &[i64], sign: Sign, out: &mut Vec<u8>) {
    let (mut part, mut length) = (block, 0);
    while let Some((head, rest)) = part.split_at_checked(length) {
        let Some(&first) = rest.first() else { break };
        let run = rest.iter().take_while(|&&value| value == first).count();
        if run >= if length == 0 { REPEAT_MIN } else { REPEAT_INSIDE_MIN } {
            encode_part(head, sign, out);
            encode_repeat(first, run, sign, out);
            part = rest.split_at(run).1;
            length = 0;
        } else {
            length += run;
        }
    }
    encode_part(part, sign, out);
}

fn encode_repeat(value: i64, count: usize, sign: Sign, out: &mut Vec<u8>) {
    if count > SHORT_REPEAT_MAX {
        header(3, 0, count, out);
        put_varint(sign.map(value), out);
        put_varint(0, out);
        return;
    }
    let mapped = sign.map(value);
    let width = bits_of(mapped).div_ceil(8).max(1);
    out.push(((width - 1) << 3) as u8 | (count - REPEAT_MIN) as u8);
    out.extend(mapped.to_be_bytes().iter().skip(8 - width as usize));
}

/// Two bytes: two bits of kind, five of width, nine of length less one.
pub(super) fn header(kind: u8, code: u8, count: usize, out: &mut Vec<u8>) {
    let length = count - 1;
    out.push(kind << 6 | code << 1 | (length >> 8) as u8 & 1);
    out.push(length as u8);
}

fn encode_part(part: &[i64], sign: Sign, out: &mut Vec<u8>) {
    if part.is_empty() {
        return;
    }
    let all = part.iter().fold(0, |all, &value| all | sign.map(value));
    let width = closest_width(bits_of(all));
    let direct = 2 + packed_len(part.len(), width);
    let delta = Delta::plan(part, sign).filter(|delta| delta.cost < direct);
    let best = delta.as_ref().map_or(direct, |delta| delta.cost);
    if let Some(patched) = Patched::plan(part, best) {
        patched.write(part, out);
    } else if let Some(delta) = delta {
        delta.write(part, sign, out);
    } else {
        header(1, width_code(width), part.len(), out);
        pack(part.iter().map(|&value| sign.map(value)), width, out);
    }
}

/// Numbers that only rise or only fall: the first, the first step, and the sizes of the other steps.
struct Delta {
    step: i64,
    /// Bits of a step's size; none when all steps are the same.
    width: u32,
    cost: usize,
}

impl Delta {
    fn plan(part: &[i64], sign: Sign) -> Option<Self> {
        let (&first, &second) = part.first().zip(part.get(1))?;
        let step = second.checked_sub(first)?;
        let (mut same, mut sizes) = (true, 0);
        for pair in part.windows(2).skip(1) {
            let &[before, after] = pair else { return None };
            let next = after.checked_sub(before)?;
            same &= next == step;
            // The first step says the direction of all; none of its own says "up" to a reader, so it may not lead.
            if !same && (step == 0 || (next != 0 && (next < 0) != (step < 0))) {
                return None;
            }
            sizes |= next.unsigned_abs();
        }
        // One bit has no code of its own here: its code says that there are no steps.
        let width = if same { 0 } else { closest_width(bits_of(sizes)).max(2) };
        let cost = 2 + varint_len(sign.map(first)) + varint_len(zigzag(step)) + packed_len(part.len() - 2, width);
        Some(Self { step, width, cost })
    }

    fn write(&self, part: &[i64], sign: Sign, out: &mut Vec<u8>) {
        header(3, if self.width == 0 { 0 } else { width_code(self.width) }, part.len(), out);
        put_varint(sign.map(part.first().copied().unwrap_or_default()), out);
        put_varint(zigzag(self.step), out);
        if self.width > 0 {
            let steps = part.windows(2).skip(1).filter_map(|pair| <&[i64; 2]>::try_from(pair).ok());
            pack(steps.map(|[before, after]| after.abs_diff(*before)), self.width, out);
        }
    }
}

const fn varint_len(value: u64) -> usize {
    let bits = bits_of(value);
    if bits == 0 { 1 } else { bits.div_ceil(7) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(values: &[i64], sign: Sign) -> Vec<u8> {
        let mut out = Vec::new();
        encode(values, sign, &mut out);
        out
    }

    #[test]
    fn the_examples_of_the_specification() {
        assert_eq!(coded(&[10_000; 5], Sign::Unsigned), [0x0a, 0x27, 0x10]);
        assert_eq!(
            coded(&[23713, 43806, 57005, 48879], Sign::Unsigned),
            [0x5e, 0x03, 0x5c, 0xa1, 0xab, 0x1e, 0xde, 0xad, 0xbe, 0xef]
        );
        // The specification's writer rounds the steps' three bits up to four; ours keeps three.
        assert_eq!(
            coded(&[2, 3, 5, 7, 11, 13, 17, 19, 23, 29], Sign::Unsigned),
            [0xc4, 0x09, 0x02, 0x02, 0x4a, 0x28, 0xa6]
        );
        let patched = [
            2030, 2000, 2020, 1_000_000, 2040, 2050, 2060, 2070, 2080, 2090, 2100, 2110, 2120, 2130, 2140, 2150, 2160,
            2170, 2180, 2190,
        ];
        assert_eq!(
            coded(&patched, Sign::Unsigned),
            [
                0x8e, 0x13, 0x2b, 0x21, 0x07, 0xd0, 0x1e, 0x00, 0x14, 0x70, 0x28, 0x32, 0x3c, 0x46, 0x50, 0x5a, 0x64,
                0x6e, 0x78, 0x82, 0x8c, 0x96, 0xa0, 0xaa, 0xb4, 0xbe, 0xfc, 0xe8
            ]
        );
    }

    #[test]
    fn a_constant_column_costs_next_to_nothing() {
        assert!(coded(&[i64::MAX; 10_000], Sign::Signed).len() < 300);
        let steps: Vec<i64> = (0..10_000).map(|at| i64::MIN + at * 7).collect();
        assert!(coded(&steps, Sign::Signed).len() < 300);
    }
}
