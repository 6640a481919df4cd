//! What a step of a lifecycle saves or costs in S3, by published prices: an order of magnitude for a person who decides.

use lakehead_core::StorageClass;

use crate::s3::OBJECT_BYTES_OVER;

/// Prices of one class, in US dollars.
struct Price {
    /// A GB for a month.
    month: f64,
    /// A thousand moves into the class.
    moves: f64,
}

/// When and where the prices were published: <https://aws.amazon.com/s3/pricing/>, the first 50 TB.
pub const PRICES_OF: &str = "list prices of S3 in us-east-1 as of 2025";
/// S3 Standard, a GB for a month.
const STANDARD_MONTH: f64 = 0.023;
const MONTH_DAYS: f64 = 30.0;
/// Months that a file is taken to stay where nothing ends its stay.
const STAY_MONTHS: f64 = 12.0;
/// What Glacier keeps beside each object, billed at its own price and at that of Standard (its pricing page).
const ARCHIVED_BESIDE: [f64; 2] = [32.0 * 1024.0, 8.0 * 1024.0];
const GB: f64 = 1024.0 * 1024.0 * 1024.0;

fn price(class: StorageClass) -> Price {
    match class {
        StorageClass::Infrequent => Price { month: 0.0125, moves: 0.01 },
        StorageClass::ArchiveInstant => Price { month: 0.004, moves: 0.02 },
        StorageClass::Archive => Price { month: 0.0036, moves: 0.03 },
    }
}

/// Files of a table that one step of its lifecycle holds at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Files that move.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files of [`OBJECT_BYTES_OVER`] bytes or fewer, which stay where they are.
    pub small_files: u64,
}

impl Held {
    /// Counts a file.
    pub fn add(&mut self, bytes: u64) {
        if bytes > OBJECT_BYTES_OVER {
            (self.files, self.bytes) = (self.files + 1, self.bytes + bytes);
        } else {
            self.small_files += 1;
        }
    }
}

/// What a step comes to, in US dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Saved each month, against S3 Standard; negative where the class costs more.
    pub month: f64,
    /// Paid once for the moves.
    pub once: f64,
    /// Paid for days that the class bills and nobody uses, where the stay is shorter.
    pub early: f64,
    /// Saved over the whole stay, everything taken off; negative is a loss.
    pub stay: f64,
}

/// Returns what it comes to that these files are in `class` for `stay_days`; without an end a year is counted.
pub fn cost(class: StorageClass, held: Held, stay_days: Option<u64>) -> Cost {
    let price = price(class);
    let (files, gb) = (held.files as f64, held.bytes as f64 / GB);
    let beside = match class {
        StorageClass::Archive => files * (ARCHIVED_BESIDE[0] * price.month + ARCHIVED_BESIDE[1] * STANDARD_MONTH) / GB,
        StorageClass::Infrequent | StorageClass::ArchiveInstant => 0.0,
    };
    let month = gb * (STANDARD_MONTH - price.month) - beside;
    let once = files * price.moves / 1000.0;
    let unused = stay_days.map_or(0, |days| class.billed_days_min().saturating_sub(days));
    let early = gb * price.month * unused as f64 / MONTH_DAYS;
    let months = stay_days.map_or(STAY_MONTHS, |days| days as f64 / MONTH_DAYS);
    Cost { month, once, early, stay: month * months - once - early }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn held(files: u64, bytes: u64) -> Held {
        let mut held = Held::default();
        (0..files).for_each(|_| held.add(bytes));
        held
    }

    #[test]
    fn large_files_save_and_small_ones_lose() {
        // A terabyte in files of 128 MB, for two months: 1,024 GB at 0.0105 $ less.
        let large = cost(StorageClass::Infrequent, held(8192, 128 * MB), Some(60));
        assert!((large.month - 10.752).abs() < 1e-9 && (large.once - 0.08192).abs() < 1e-9, "{large:?}");
        assert!((large.stay - (2.0 * 10.752 - 0.08192)).abs() < 1e-9 && large.early == 0.0, "{large:?}");
        // Ten thousand files of 200 KB: the moves cost more than two months save.
        let small = cost(StorageClass::Infrequent, held(10_000, 200 * 1024), Some(60));
        assert!(small.month > 0.0 && small.stay < 0.0, "{small:?}");
        let beside = cost(StorageClass::Archive, held(10_000, 130 * 1024), None);
        assert!(beside.stay < 0.0, "what Glacier keeps beside each object: {beside:?}");
    }

    #[test]
    fn days_that_are_billed_and_not_used_are_taken_off() {
        let short = cost(StorageClass::ArchiveInstant, held(8, 128 * MB), Some(30));
        assert!((short.early - 0.004 * 2.0).abs() < 1e-9, "60 of 90 days of one GB: {short:?}");
        assert!(cost(StorageClass::ArchiveInstant, held(8, 128 * MB), Some(90)).early == 0.0);
    }

    #[test]
    fn the_smallest_files_do_not_move() {
        let held = held(3, OBJECT_BYTES_OVER);
        assert_eq!((held.files, held.small_files), (0, 3));
        assert_eq!(cost(StorageClass::Archive, held, None), Cost { month: 0.0, once: 0.0, early: 0.0, stay: 0.0 });
    }
}
