//! Which occasions of a schedule are due, and which of the missed ones are made up for. Pure.

use lakehead_core::Micros;
use lakehead_plan::Catchup;

use crate::schedule::Schedule;

/// An occasion this much later than its time is missed, not merely late: a restart in between loses none.
pub(crate) const LATE_MAX: Micros = 30 * 1_000_000;

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Occasions to run, oldest first, and whether each was missed and is made up for.
    pub(crate) runs: Vec<(Micros, bool)>,
    /// The first and the last of the missed occasions that are left out.
    pub(crate) left_out: Option<(Micros, Micros)>,
    /// Everything up to here has been dealt with; `None` where nothing is due.
    pub(crate) last: Option<Micros>,
}

/// Where a schedule stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// The last occasion that was dealt with; nothing up to it is ever due again.
    pub(crate) last: Micros,
    /// The time, less the trigger's `delay`.
    pub(crate) now: Micros,
    /// Occasions that may wait; those beyond are due later.
    pub(crate) room: usize,
}

/// Returns what is due in `(last, now]`.
pub(crate) fn due(schedule: &Schedule, catchup: Catchup, standing: Standing) -> Due {
    let Standing { last, now, room } = standing;
    let Some(first) = schedule.next_after(last).filter(|fire| *fire <= now) else { return Due::default() };
    let missed_until = now.saturating_sub(LATE_MAX);
    if first >= missed_until || catchup == Catchup::All {
        let runs = fires(schedule, last, now, room, missed_until);
        return Due { last: runs.last().map(|(fire, _)| *fire), runs, left_out: None };
    }
    let last_missed = schedule.last_before(missed_until).unwrap_or(first);
    let mut runs = fires(schedule, last_missed, now, room, missed_until);
    let mut left_out = Some((first, last_missed));
    if runs.is_empty() && catchup == Catchup::Latest && room > 0 {
        runs.push((last_missed, true));
        left_out = (first < last_missed).then(|| (first, schedule.last_before(last_missed).unwrap_or(first)));
    }
    let newest = runs.last().map_or(last_missed, |(fire, _)| *fire);
    Due { runs, left_out, last: Some(newest) }
}

fn fires(schedule: &Schedule, after: Micros, now: Micros, room: usize, missed_until: Micros) -> Vec<(Micros, bool)> {
    let next = |fire: &Micros| schedule.next_after(*fire).filter(|fire| *fire <= now);
    let each = std::iter::successors(next(&after), next);
    each.take(room).map(|fire| (fire, fire < missed_until)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lakehead_plan::{Overlap, Trigger, When};

    use super::*;

    const MINUTE: Micros = 60_000_000;

    fn minutes() -> Schedule {
        let trigger = Trigger {
            when: When::Every(Duration::from_secs(60)),
            timezone: "UTC".into(),
            delay: Duration::ZERO,
            catchup: Catchup::None,
            overlap: Overlap::Skip,
            within: None,
            enabled: true,
        };
        Schedule::of(&trigger).unwrap().unwrap()
    }

    /// In minutes: last, now, catchup -> runs, left out, last.
    #[track_caller]
    fn check(last: Micros, now: f64, catchup: Catchup, runs: &[Micros], left_out: Option<(Micros, Micros)>) {
        #[allow(clippy::cast_possible_truncation, reason = "a few minutes")]
        let now = (now * MINUTE as f64) as Micros;
        let found = due(&minutes(), catchup, Standing { last: last * MINUTE, now, room: 1_000 });
        assert_eq!(found.runs.iter().map(|(fire, _)| fire / MINUTE).collect::<Vec<_>>(), runs);
        assert_eq!(found.left_out.map(|(first, last)| (first / MINUTE, last / MINUTE)), left_out);
        let newest = runs.last().copied().max(left_out.map(|(_, last)| last));
        assert_eq!(found.last.map(|last| last / MINUTE), newest);
    }

    #[test]
    fn an_occasion_is_due_at_its_time_and_never_again() {
        for catchup in [Catchup::All, Catchup::Latest, Catchup::None] {
            check(4, 4.99, catchup, &[], None);
            check(4, 5.0, catchup, &[5], None);
            check(4, 5.4, catchup, &[5], None);
            check(5, 5.4, catchup, &[], None);
            check(9, 5.4, catchup, &[], None);
        }
    }

    #[test]
    fn missed_occasions_are_made_up_for_as_the_trigger_says() {
        check(1, 5.8, Catchup::All, &[2, 3, 4, 5], None);
        check(1, 5.8, Catchup::Latest, &[5], Some((2, 4)));
        check(1, 5.8, Catchup::None, &[], Some((2, 5)));
        check(4, 5.8, Catchup::Latest, &[5], None);
        check(1, 5.1, Catchup::All, &[2, 3, 4, 5], None);
        check(1, 5.1, Catchup::Latest, &[5], Some((2, 4)));
        check(1, 5.1, Catchup::None, &[5], Some((2, 4)));
    }

    #[test]
    fn what_finds_no_room_is_due_later() {
        let standing = Standing { last: 0, now: 10 * MINUTE, room: 3 };
        let found = due(&minutes(), Catchup::All, standing);
        assert_eq!(found.last, Some(3 * MINUTE));
        assert!(found.runs.iter().all(|(_, missed)| *missed));
        let found = due(&minutes(), Catchup::All, Standing { room: 0, ..standing });
        assert_eq!(found, Due::default());
    }
}
