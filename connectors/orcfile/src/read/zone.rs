//! The clock of a file's writer. A TIMESTAMP is what a clock on a wall showed; other writers store it as an instant in
//! the zone that they ran in and name that zone, so a reader shows the instant on that zone's clock again.

use chrono::{DateTime, NaiveDate, Offset, TimeZone};
use chrono_tz::Tz;
use lakehead_core::Result;

use crate::fault::unread;
use crate::write::time::EPOCH_SECONDS;

/// A zone that is not UTC, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zone(Option<Tz>);

impl Zone {
    pub(super) const UTC: Self = Self(None);

    pub(super) fn of_name(name: &str) -> Result<Self> {
        if matches!(name, "" | "UTC" | "GMT" | "Etc/UTC" | "Etc/GMT" | "Z") {
            return Ok(Self::UTC);
        }
        let zone = name.parse().map_err(|_| unread("times of an unknown zone").with("zone", name))?;
        Ok(Self(Some(zone)))
    }

    /// Returns the instant that times are counted from, the beginning of 2015 on this clock, in seconds since 1970.
    pub(super) fn epoch(self) -> i64 {
        let year = NaiveDate::from_ymd_opt(2015, 1, 1).and_then(|day| day.and_hms_opt(0, 0, 0));
        let instant = self.0.zip(year).and_then(|(zone, year)| zone.from_local_datetime(&year).earliest());
        instant.map_or(EPOCH_SECONDS, |instant| instant.timestamp())
    }

    /// Returns what this clock shows at an instant, both in seconds since 1970.
    pub(super) fn shown(self, instant: i64) -> Option<i64> {
        let Some(zone) = self.0 else { return Some(instant) };
        let utc = DateTime::from_timestamp(instant, 0)?.naive_utc();
        instant.checked_add(i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_winter_and_summer() {
        let zone = Zone::of_name("America/New_York").unwrap();
        assert_eq!(zone.epoch(), EPOCH_SECONDS + 5 * 3600);
        assert_eq!(zone.shown(EPOCH_SECONDS), Some(EPOCH_SECONDS - 5 * 3600));
        let july = 1_435_708_800;
        assert_eq!(zone.shown(july), Some(july - 4 * 3600));
        assert_eq!(zone.shown(i64::MAX), None);
        assert_eq!(Zone::of_name("GMT").unwrap().shown(i64::MAX), Some(i64::MAX));
        assert!(Zone::of_name("Nowhere/At_All").is_err());
    }
}
