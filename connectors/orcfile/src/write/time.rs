//! Times as seconds since 2015 and nanoseconds, with the format's trap before 1970.
//!
//! The readers of Java and C++ agree (ORC-763): a second before 1970 with more than 999,999 nanoseconds is read one
//! second earlier than it is stored, because Java's writer once rounded towards zero. Such a second is therefore stored
//! one later. That leaves the last second before 1970 without a place, for it would be stored as the first after
//! (ORC-645). There the nanoseconds are stored negative instead, as Arrow's C++ writer does: readers of C++ (pyarrow,
//! ClickHouse) then give the exact time, and Spark refuses the value by an exception; none of the three gives a wrong
//! time. Trino has a rule of its own for fractions below a millisecond before 1970 and reads those of every writer but
//! its own a second early.

/// 2015-01-01 00:00:00 UTC, from which the format counts, in seconds since 1970.
pub(crate) const EPOCH_SECONDS: i64 = 1_420_070_400;
const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// The most nanoseconds that readers leave alone before 1970: less than one millisecond.
const NANOS_UNTOUCHED_MAX: i64 = 999_999;

/// A time as the two streams hold it.
#[derive(Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) seconds: i64,
    pub(crate) nanos: i64,
}

/// Returns how a time is stored, or none when it is farther than 64-bit milliseconds, which readers compute with.
pub(crate) fn store(seconds: i64, nanos: i64) -> Option<Stored> {
    seconds.checked_mul(1000)?.checked_add(1000)?;
    let (seconds, nanos) = match seconds {
        -1 if nanos > NANOS_UNTOUCHED_MAX => (0, nanos - NANOS_PER_SECOND),
        ..0 if nanos > NANOS_UNTOUCHED_MAX => (seconds + 1, nanos),
        _ => (seconds, nanos),
    };
    Some(Stored { seconds: seconds.checked_sub(EPOCH_SECONDS)?, nanos: without_zeros(nanos) })
}

/// Drops two to eight decimal zeros and says how many, less one, in the lowest three bits.
fn without_zeros(nanos: i64) -> i64 {
    if nanos == 0 || nanos % 100 != 0 {
        return nanos << 3;
    }
    let (mut nanos, mut zeros) = (nanos / 100, 1);
    while zeros < 7 && nanos % 10 == 0 {
        nanos /= 10;
        zeros += 1;
    }
    nanos << 3 | zeros
}

/// Undoes [`store`] as the readers of Java and C++ do. Returns seconds and nanoseconds since 1970, the latter in
/// `0..1_000_000_000`; none when a damaged file goes beyond 64 bits.
pub(crate) fn restore(seconds: i64, nanos: i64, epoch: i64) -> Option<(i64, i64)> {
    let zeros = nanos & 7;
    let scale = if zeros == 0 { 1 } else { 10i64.pow(zeros as u32 + 1) };
    let nanos = (nanos >> 3).checked_mul(scale)?;
    let mut seconds = seconds.checked_add(epoch)?;
    if seconds < 0 && nanos > NANOS_UNTOUCHED_MAX {
        seconds = seconds.checked_sub(1)?;
    }
    Some((seconds.checked_add(nanos.div_euclid(NANOS_PER_SECOND))?, nanos.rem_euclid(NANOS_PER_SECOND)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn check(seconds: i64, nanos: i64) {
        let stored = store(seconds, nanos).unwrap();
        assert_eq!(restore(stored.seconds, stored.nanos, EPOCH_SECONDS), Some((seconds, nanos)), "{seconds} {nanos}");
    }

    #[test]
    fn times_come_back_on_both_sides_of_every_border() {
        for seconds in [-2_208_988_800, -3, -2, -1, 0, 1, 1_388_534_400, EPOCH_SECONDS - 1, EPOCH_SECONDS, 1 << 40] {
            for nanos in [0, 1, 10, 100, 999_000, 999_999, 1_000_000, 123_456_789, 999_999_000, 999_999_999] {
                check(seconds, nanos);
            }
        }
        let mut dice = Dice::new(7);
        for _ in 0..20_000 {
            check((dice.below(200) as i64 - 100) * (1 << dice.below(30)), dice.below(1_000_000_000) as i64);
        }
    }

    #[test]
    fn a_time_beyond_milliseconds_is_refused() {
        assert_eq!(store(i64::MAX, 0), None);
        assert_eq!(store(i64::MIN, 0), None);
        assert_eq!(restore(i64::MAX, 0, EPOCH_SECONDS), None);
    }

    #[test]
    fn zeros_are_dropped_as_the_specification_says() {
        for (nanos, stored) in [(0, 0), (1000, 0x0a), (100_000, 0x0c), (10, 80), (100, 9)] {
            assert_eq!(without_zeros(nanos), stored);
        }
    }
}
