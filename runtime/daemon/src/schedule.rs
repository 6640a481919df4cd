//! When a trigger fires, and for which interval. Pure: it reads no clock and never waits.
//!
//! # Summer time (the rule of Vixie cron)
//!
//! A job with a `*` in its hour or minute goes by instants: it fires at every instant whose wall clock matches, so it
//! leaves out the hour that is skipped and fires in both of the hour that is repeated. Any other job goes by the day:
//! a time that is skipped fires once, right behind the gap, and a time that is repeated fires once, at the first.
//!
//! `croner` applies the second rule only where minute and hour are one value each, so `0 2,14 * * *` would skip a day
//! with it. It is therefore asked for wall clock times alone, and the zone is applied here.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use croner::Cron;
use lakehead_core::{Error, Micros, Result, RunContext, format_micros};
use lakehead_plan::{Trigger, When};

#[cfg(test)]
mod tests;

/// Intervals of one backfill: more is a mistake of a date, or of a unit.
pub const INTERVALS_MAX: usize = 1_000_000;

const SECOND: Micros = 1_000_000;
const DAY: Micros = 86_400 * SECOND;

/// Minutes of the longest gap of any zone: islands at the date line have skipped whole days.
const GAP_MINUTES_MAX: u32 = 48 * 60;

/// Wall clock times tried for one fire: a repeated day of seconds, twice.
const TRIES_MAX: u32 = 2 * 86_400;

/// The times of a trigger.
#[derive(Clone, Debug)]
pub struct Schedule(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// At equal distances from the epoch.
    Every(Micros),
    /// By the instants at which the wall clock matches.
    ByInstant(Box<Cron>, Tz),
    /// By the times of the days that match.
    ByDay(Box<Cron>, Tz),
}

impl Schedule {
    /// Returns the times of a trigger; `None` where it has none.
    ///
    /// # Errors
    /// A cron text or time zone that `check` would have refused.
    pub fn of(trigger: &Trigger) -> Result<Option<Self>> {
        let text = match &trigger.when {
            When::Every(length) => return Ok(Some(Self(Kind::Every(micros(*length).max(1))))),
            When::Cron(text) => text,
            _ => return Ok(None),
        };
        let cron = Cron::from_str(text).map_err(|error| {
            Error::user("R1001", "the trigger's cron text cannot be read").with("cron", text).caused_by(error)
        })?;
        let zone = Tz::from_str(&trigger.timezone).map_err(|error| {
            let unknown = Error::user("R1002", "the trigger's time zone is not known");
            unknown.with("timezone", &trigger.timezone).caused_by(error)
        })?;
        let pattern = &cron.pattern;
        let by_instant = [&pattern.seconds, &pattern.minutes, &pattern.hours].iter().any(|part| part.from_wildcard);
        let cron = Box::new(cron);
        Ok(Some(Self(if by_instant { Kind::ByInstant(cron, zone) } else { Kind::ByDay(cron, zone) })))
    }

    /// Returns the first fire later than `after`; `None` where there is none any more.
    pub fn next_after(&self, after: Micros) -> Option<Micros> {
        match &self.0 {
            Kind::Every(length) => after.div_euclid(*length).checked_add(1)?.checked_mul(*length),
            Kind::ByInstant(cron, zone) => {
                let origin = instant(after)?.with_timezone(zone);
                Some(cron.find_next_occurrence(&origin, false).ok()?.timestamp_micros())
            }
            Kind::ByDay(cron, zone) => next_by_day(cron, *zone, after),
        }
    }

    /// Returns the last fire earlier than `before`; `None` where there is none since 1970.
    pub fn last_before(&self, before: Micros) -> Option<Micros> {
        if let Kind::Every(length) = &self.0 {
            return before.checked_sub(1)?.div_euclid(*length).checked_mul(*length);
        }
        let fires_behind = |start: Micros| self.next_after(start).is_some_and(|fire| fire < before);
        let mut length = SECOND;
        while !fires_behind(before.checked_sub(length)?) {
            if before - length < 0 {
                return None;
            }
            length = length.checked_mul(2)?;
        }
        // There is a fire in (early, before) and none in (late, before): the two close in on it, second by second.
        let (mut early, mut late) = (before - length, before);
        while late - early > SECOND {
            let middle = early + (late - early) / 2;
            if fires_behind(middle) { early = middle } else { late = middle }
        }
        self.next_after(early)
    }

    /// Returns the half-open interval that ends at a fire: from the one before it.
    pub fn interval_of(&self, fire: Micros) -> (Micros, Micros) {
        (self.last_before(fire).unwrap_or(fire), fire)
    }
}

/// Returns the first fire of a trigger later than `after`, before any `delay`.
pub fn next_after(trigger: &Trigger, after: Micros) -> Option<Micros> {
    Schedule::of(trigger).ok()??.next_after(after)
}

/// Returns the half-open interval that ends at a fire; empty where the trigger has no times.
pub fn interval_of(trigger: &Trigger, fire: Micros) -> (Micros, Micros) {
    match Schedule::of(trigger) {
        Ok(Some(schedule)) => schedule.interval_of(fire),
        _ => (fire, fire),
    }
}

/// Returns the newest whole interval at `now`: the two last fires.
///
/// # Errors
/// `R1003` where the trigger has not fired twice.
pub fn latest_interval(trigger: &Trigger, now: Micros) -> Result<(Micros, Micros)> {
    let schedule = Schedule::of(trigger)?;
    let fires = schedule.and_then(|schedule| {
        let end = schedule.last_before(now.checked_add(1)?)?;
        Some((schedule.last_before(end)?, end))
    });
    fires.ok_or_else(|| {
        Error::user("R1003", "the trigger has no whole interval yet")
            .with("now", format_micros(now))
            .help("a cron text with a year in the future fires then")
    })
}

/// Returns the run of a fire: its id is the instant, its interval the time since the fire before.
pub fn run_of(trigger: &Trigger, fire: Micros) -> RunContext {
    let (start, end) = interval_of(trigger, fire);
    RunContext { id: format_micros(fire), start, end }
}

/// Returns the intervals of a backfill, in order: those that begin in `from..to`, so that two spans that touch share
/// none and leave none out; the last may end behind `to`. A trigger without times has one for each UTC day, cut at
/// `from` and `to`.
///
/// # Errors
/// `R1004` where there are more than [`INTERVALS_MAX`].
pub fn intervals(trigger: &Trigger, from: Micros, to: Micros) -> Result<Vec<(Micros, Micros)>> {
    let Some(schedule) = Schedule::of(trigger)? else { return days(from, to) };
    let mut found = Vec::new();
    let mut next = from.checked_sub(1).and_then(|before| schedule.next_after(before));
    while let Some(start) = next.filter(|start| *start < to) {
        let Some(end) = schedule.next_after(start) else { break };
        push(&mut found, (start, end))?;
        next = Some(end);
    }
    Ok(found)
}

fn days(from: Micros, to: Micros) -> Result<Vec<(Micros, Micros)>> {
    let mut found = Vec::new();
    let mut start = from;
    while start < to {
        let end = start.div_euclid(DAY).saturating_add(1).saturating_mul(DAY).min(to);
        push(&mut found, (start, end))?;
        start = end;
    }
    Ok(found)
}

fn push(found: &mut Vec<(Micros, Micros)>, interval: (Micros, Micros)) -> Result<()> {
    if found.len() == INTERVALS_MAX {
        return Err(Error::user("R1004", "the span holds more intervals than one backfill may have")
            .with("limit", INTERVALS_MAX)
            .help("run it in parts: a year at a time, say"));
    }
    found.push(interval);
    Ok(())
}

/// Both maps are in order (wall clock to instant never goes back under the rule of the day), so the first wall clock
/// time whose instant is later is the answer.
fn next_by_day(cron: &Cron, zone: Tz, after: Micros) -> Option<Micros> {
    let mut wall = instant(after)?.with_timezone(&zone).naive_local();
    for _ in 0..TRIES_MAX {
        wall = cron.find_next_occurrence(&wall, false).ok()?;
        let fire = first_instant(zone, wall)?.timestamp_micros();
        if fire > after {
            return Some(fire);
        }
    }
    None
}

/// The instant of a wall clock time: the first of two, and right behind the gap where there is none.
fn first_instant(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
    if let MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) = zone.from_local_datetime(&wall) {
        return Some(at);
    }
    // Every gap since 1972 ends on a whole minute.
    let minute = wall.with_second(0)?.with_nanosecond(0)?;
    (1..=GAP_MINUTES_MAX).find_map(|minutes| {
        let later = minute.checked_add_signed(TimeDelta::minutes(i64::from(minutes)))?;
        zone.from_local_datetime(&later).earliest()
    })
}

/// The instant without its fraction of a second, which no cron text can name.
fn instant(at: Micros) -> Option<DateTime<chrono::Utc>> {
    DateTime::from_timestamp(at.div_euclid(SECOND), 0)
}

pub(crate) fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}
