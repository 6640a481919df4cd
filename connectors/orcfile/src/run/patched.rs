//! The patched-base encoding: most numbers lie near the smallest and few stick out.

use super::bits::{bits_of, closest_width, pack, packed_len, width_code};
use super::integer::header;

/// A number in this many of a run may stick out. More patches cost more than they save, and a run holds at most 31.
const OUTLIER_SHARE: usize = 20;
/// The header has five bits for the patches.
const PATCHES_MAX: usize = 31;
/// A gap has at most eight bits; a longer one takes an empty patch on the way.
const GAP_MAX: usize = 255;
/// Seven bytes and a sign: the reader of Java refuses a wider base.
const BASE_BITS_MAX: u32 = 55;

/// How a part is written as base, small differences and patches.
pub(super) struct Patched {
    base: i64,
    width: u32,
    patch_width: u32,
    gap_width: u32,
    /// The places passed since the patch before, and the high bits to add.
    patches: Vec<(usize, u64)>,
}

impl Patched {
    /// Returns a plan that costs less than `best` bytes, if there is one.
    pub(super) fn plan(part: &[i64], best: usize) -> Option<Self> {
        let base = *part.iter().min()?;
        let top = part.iter().max()?.checked_sub(base)?.cast_unsigned();
        if bits_of(base.unsigned_abs()) > BASE_BITS_MAX {
            return None;
        }
        let width = closest_width(width_of_most(part, base));
        if width >= closest_width(bits_of(top)) {
            return None;
        }
        let patch_width = closest_width(bits_of(top >> width));
        let patches = gaps(part, base, width)?;
        let gap_width = bits_of(patches.iter().map(|&(gap, _)| gap as u64).max()?).max(1);
        if patch_width + gap_width > 64 {
            return None;
        }
        let plan = Self { base, width, patch_width, gap_width, patches };
        (plan.cost(part.len()) < best).then_some(plan)
    }

    fn base_bytes(&self) -> u32 {
        (bits_of(self.base.unsigned_abs()) + 1).div_ceil(8)
    }

    fn entry_width(&self) -> u32 {
        closest_width(self.patch_width + self.gap_width)
    }

    fn cost(&self, count: usize) -> usize {
        4 + self.base_bytes() as usize
            + packed_len(count, self.width)
            + packed_len(self.patches.len(), self.entry_width())
    }

    pub(super) fn write(&self, part: &[i64], out: &mut Vec<u8>) {
        header(2, width_code(self.width), part.len(), out);
        let bytes = self.base_bytes();
        out.push(((bytes - 1) << 5) as u8 | width_code(self.patch_width));
        out.push(((self.gap_width - 1) << 5) as u8 | self.patches.len() as u8);
        // The sign is the highest bit of the base's own bytes, not of a 64-bit number.
        let sign = if self.base < 0 { 1 << (bytes * 8 - 1) } else { 0 };
        let base = self.base.unsigned_abs() | sign;
        out.extend(base.to_be_bytes().iter().skip(8 - bytes as usize));
        let mask = (1 << self.width) - 1;
        pack(part.iter().map(|&value| value.wrapping_sub(self.base).cast_unsigned() & mask), self.width, out);
        let entries = self.patches.iter().map(|&(gap, high)| (gap as u64) << self.patch_width | high);
        pack(entries, self.entry_width(), out);
    }
}

/// Returns the bits that hold all but the outliers.
fn width_of_most(part: &[i64], base: i64) -> u32 {
    let mut counts = [0usize; 65];
    for value in part {
        if let Some(count) = counts.get_mut(bits_of(value.wrapping_sub(base).cast_unsigned()) as usize) {
            *count += 1;
        }
    }
    let mut outliers = (part.len() / OUTLIER_SHARE).min(PATCHES_MAX);
    let mut most = 0;
    for (bits, &count) in counts.iter().enumerate().rev() {
        if count > outliers {
            most = bits as u32;
            break;
        }
        outliers -= count;
    }
    most
}

/// Returns the patches, or none when they and the empty ones on long ways are too many.
fn gaps(part: &[i64], base: i64, width: u32) -> Option<Vec<(usize, u64)>> {
    let mut patches = Vec::new();
    let mut last = 0;
    for (at, value) in part.iter().enumerate() {
        let high = value.wrapping_sub(base).cast_unsigned() >> width;
        if high == 0 {
            continue;
        }
        let mut gap = at - last;
        while gap > GAP_MAX {
            patches.push((GAP_MAX, 0));
            gap -= GAP_MAX;
        }
        patches.push((gap, high));
        last = at;
    }
    (patches.len() <= PATCHES_MAX).then_some(patches)
}
