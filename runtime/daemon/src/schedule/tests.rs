use lakehead_core::parse_micros;
use lakehead_plan::{Catchup, Overlap};

use super::*;

fn trigger(when: When, timezone: &str) -> Trigger {
    Trigger {
        when,
        timezone: timezone.into(),
        delay: Duration::ZERO,
        catchup: Catchup::None,
        overlap: Overlap::Skip,
        within: None,
        enabled: true,
    }
}

fn cron(text: &str, timezone: &str) -> Trigger {
    trigger(When::Cron(text.into()), timezone)
}

fn at(text: &str) -> Micros {
    parse_micros(text).unwrap_or_else(|| panic!("{text} is not a time"))
}

/// Every fire in (from, to], and that each is found from behind as well.
fn fires(trigger: &Trigger, from: &str, to: &str) -> Vec<String> {
    let schedule = Schedule::of(trigger).unwrap().unwrap();
    let mut found = Vec::new();
    let mut last = at(from);
    while let Some(fire) = schedule.next_after(last).filter(|fire| *fire <= at(to)) {
        assert!(fire > last, "{} follows {}", format_micros(fire), format_micros(last));
        assert_eq!(schedule.next_after(fire - 1), Some(fire), "found from just before");
        assert_eq!(schedule.last_before(fire + 1), Some(fire), "found from just behind");
        if !found.is_empty() {
            assert_eq!(schedule.interval_of(fire), (last, fire), "the interval begins at the fire before");
        }
        found.push(format_micros(fire));
        last = fire;
    }
    found
}

#[track_caller]
fn check(trigger: &Trigger, from: &str, to: &str, expected: &[&str]) {
    assert_eq!(fires(trigger, from, to), expected, "{:?} in {}", trigger.when, trigger.timezone);
}

#[test]
fn a_daily_job_in_the_skipped_hour_runs_once_right_behind_the_gap() {
    // Paris: 2026-03-29 02:00 +01:00 becomes 03:00 +02:00 at 01:00 UTC.
    let expected = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
    check(&cron("30 2 * * *", "Europe/Paris"), "2026-03-27T12:00:00Z", "2026-03-30T12:00:00Z", &expected);
    // New York: 2026-03-08 02:00 -05:00 becomes 03:00 -04:00 at 07:00 UTC.
    let expected = ["2026-03-07T07:30:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"];
    check(&cron("30 2 * * *", "America/New_York"), "2026-03-06T12:00:00Z", "2026-03-09T12:00:00Z", &expected);
}

#[test]
fn a_daily_job_in_the_repeated_hour_runs_once_at_the_first() {
    // Paris: 2026-10-25 03:00 +02:00 becomes 02:00 +01:00 at 01:00 UTC.
    let expected = ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
    check(&cron("30 2 * * *", "Europe/Paris"), "2026-10-23T12:00:00Z", "2026-10-26T12:00:00Z", &expected);
    // New York: 2026-11-01 02:00 -04:00 becomes 01:00 -05:00 at 06:00 UTC.
    let expected = ["2026-10-31T05:30:00Z", "2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"];
    check(&cron("30 1 * * *", "America/New_York"), "2026-10-30T12:00:00Z", "2026-11-02T12:00:00Z", &expected);
}

#[test]
fn a_job_with_several_times_a_day_is_a_daily_job_too() {
    // The case that croner alone gets wrong: the 02:00 of that day would be skipped.
    let expected = ["2026-03-29T01:00:00Z", "2026-03-29T12:00:00Z", "2026-03-30T00:00:00Z"];
    check(&cron("0 2,14 * * *", "Europe/Paris"), "2026-03-28T14:00:00Z", "2026-03-30T00:00:00Z", &expected);
    // Two times in the gap run once.
    let expected = ["2026-03-29T01:00:00Z", "2026-03-30T00:15:00Z"];
    check(&cron("15,45 2 * * *", "Europe/Paris"), "2026-03-28T12:00:00Z", "2026-03-30T00:15:00Z", &expected);
    // And both times of the repeated hour once each.
    let expected = ["2026-10-25T00:15:00Z", "2026-10-25T00:45:00Z", "2026-10-26T01:15:00Z"];
    check(&cron("15,45 2 * * *", "Europe/Paris"), "2026-10-24T12:00:00Z", "2026-10-26T01:15:00Z", &expected);
}

#[test]
fn an_interval_job_goes_by_instants_in_order_through_both_changes() {
    let expected = [
        "2026-10-25T00:00:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:00:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T02:00:00Z",
        "2026-10-25T02:30:00Z",
    ];
    check(&cron("*/30 * * * *", "Europe/Paris"), "2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z", &expected);
    let expected = ["2026-11-01T05:30:00Z", "2026-11-01T06:00:00Z", "2026-11-01T06:30:00Z", "2026-11-01T07:00:00Z"];
    check(&cron("*/30 * * * *", "America/New_York"), "2026-11-01T05:00:00Z", "2026-11-01T07:00:00Z", &expected);
    let expected = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:00:00Z"];
    check(&cron("*/30 * * * *", "Europe/Paris"), "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z", &expected);
    let expected = ["2026-03-08T06:30:00Z", "2026-03-08T07:00:00Z", "2026-03-08T07:30:00Z"];
    check(&cron("*/30 * * * *", "America/New_York"), "2026-03-08T06:00:00Z", "2026-03-08T07:30:00Z", &expected);
    let expected = ["2026-10-25T00:05:00Z", "2026-10-25T01:05:00Z", "2026-10-25T02:05:00Z"];
    check(&cron("5 * * * *", "Europe/Paris"), "2026-10-24T23:10:00Z", "2026-10-25T02:10:00Z", &expected);
    let expected = ["2026-03-28T23:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T04:00:00Z"];
    check(&cron("0 */2 * * *", "Europe/Paris"), "2026-03-28T22:00:00Z", "2026-03-29T04:00:00Z", &expected);
}

#[test]
fn a_leap_day_comes_every_fourth_year_but_not_in_2100() {
    let expected = ["2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"];
    check(&cron("0 0 29 2 *", "UTC"), "2024-01-01T00:00:00Z", "2028-12-31T00:00:00Z", &expected);
    check(&cron("0 0 29 2 *", "UTC"), "2096-03-01T00:00:00Z", "2104-12-31T00:00:00Z", &["2104-02-29T00:00:00Z"]);
    let expected = ["2024-02-29T00:00:00Z", "2024-03-31T00:00:00Z"];
    check(&cron("0 0 L * *", "UTC"), "2024-02-01T00:00:00Z", "2024-04-01T00:00:00Z", &expected);
}

#[test]
fn a_time_that_never_comes_never_fires() {
    assert_eq!(next_after(&cron("0 0 30 2 *", "UTC"), at("2026-01-01T00:00:00Z")), None);
    assert_eq!(next_after(&trigger(When::Manual, "UTC"), 0), None);
    assert_eq!(Schedule::of(&trigger(When::Continuous, "UTC")).unwrap().map(|_| ()), None);
    assert_eq!(Schedule::of(&cron("never", "UTC")).unwrap_err().code(), "R1001");
    assert_eq!(Schedule::of(&cron("0 0 * * *", "Mars/Olympus")).unwrap_err().code(), "R1002");
}

#[test]
fn equal_distances_are_counted_from_the_epoch() {
    let every = trigger(When::Every(Duration::from_secs(300)), "UTC");
    check(&every, "2026-05-01T10:01:02.5Z", "2026-05-01T10:10:00Z", &["2026-05-01T10:05:00Z", "2026-05-01T10:10:00Z"]);
    check(&every, "1969-12-31T23:54:00Z", "1970-01-01T00:00:00Z", &["1969-12-31T23:55:00Z", "1970-01-01T00:00:00Z"]);
    let run = run_of(&every, at("2026-05-01T10:05:00Z"));
    assert_eq!(run.id, "2026-05-01T10:05:00Z");
    assert_eq!((run.start, run.end), (at("2026-05-01T10:00:00Z"), at("2026-05-01T10:05:00Z")));
}

#[test]
fn the_newest_whole_interval_ends_at_the_last_fire() {
    let daily = cron("30 2 * * *", "UTC");
    let expected = (at("2026-05-01T02:30:00Z"), at("2026-05-02T02:30:00Z"));
    assert_eq!(latest_interval(&daily, at("2026-05-02T02:30:00Z")).unwrap(), expected);
    assert_eq!(latest_interval(&daily, at("2026-05-03T02:29:59Z")).unwrap(), expected);
    let never = cron("0 0 0 1 1 * 2999", "UTC");
    assert_eq!(latest_interval(&never, at("2026-05-03T00:00:00Z")).unwrap_err().code(), "R1003");
}

#[test]
fn a_backfill_has_the_intervals_that_begin_in_its_span() {
    let five = cron("*/5 * * * *", "UTC");
    let week = intervals(&five, at("2026-11-01"), at("2026-11-08")).unwrap();
    assert_eq!(week.len(), 2_016);
    assert!(week.windows(2).all(|pair| pair[0].1 == pair[1].0), "without gaps");
    let daily = cron("30 2 * * *", "Europe/Paris");
    let (all, middle) = ((at("2026-10-20"), at("2026-10-30")), at("2026-10-25T12:34:56Z"));
    let whole = intervals(&daily, all.0, all.1).unwrap();
    let parts = [intervals(&daily, all.0, middle).unwrap(), intervals(&daily, middle, all.1).unwrap()].concat();
    assert_eq!((whole.len(), &whole), (10, &parts), "spans that touch share none and leave none out");
}

#[test]
fn a_backfill_without_times_goes_by_utc_days() {
    let manual = trigger(When::Manual, "Europe/Paris");
    let found = intervals(&manual, at("2026-11-01T06:00:00Z"), at("2026-11-03T01:00:00Z")).unwrap();
    let expected = [
        (at("2026-11-01T06:00:00Z"), at("2026-11-02")),
        (at("2026-11-02"), at("2026-11-03")),
        (at("2026-11-03"), at("2026-11-03T01:00:00Z")),
    ];
    assert_eq!(found, expected);
    assert!(intervals(&manual, at("2026-11-03"), at("2026-11-01")).unwrap().is_empty());
    let seconds = trigger(When::Every(Duration::from_secs(1)), "UTC");
    assert_eq!(intervals(&seconds, at("2026-01-01"), at("2026-01-13")).unwrap_err().code(), "R1004");
}
