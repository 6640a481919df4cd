//! Whether a pipeline lags, or sets too many rows aside: told when a bound is crossed, and when all is well again. Pure.

use std::time::Duration;

use lakehead_core::{Settings, Value};

/// How long rows of a pipeline that is always on are counted together.
const WINDOW: Duration = Duration::from_secs(5 * 60);

/// Rows that a window must hold before a share of them says anything.
const WINDOW_ROWS_MIN: u64 = 100;

/// How many rows may be set aside (`dead_letters_over`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tolerance {
    /// A share of the rows read.
    Share(f64),
    /// So many.
    Rows(u64),
}

impl Tolerance {
    /// Reads the setting; `None` where nobody wants to know.
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        match settings.get("dead_letters_over")? {
            Value::Percent(share) | Value::Number(share) => Some(Self::Share(*share)),
            Value::Int(rows) => Some(Self::Rows(u64::try_from(*rows).unwrap_or(0))),
            _ => None,
        }
    }

    /// Returns whether more rows are set aside than may be.
    #[allow(clippy::cast_precision_loss, reason = "a share of rows needs no more than 53 bits")]
    pub(crate) fn is_exceeded(self, rows: Rows) -> bool {
        match self {
            // An input that was set aside whole was never read as rows.
            Self::Share(share) => rows.rejected as f64 > share * rows.read.max(rows.rejected) as f64,
            Self::Rows(most) => rows.rejected > most,
        }
    }
}

/// Rows read and set aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) read: u64,
    pub(crate) rejected: u64,
}

/// What one pipeline's alerts remember.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    /// The bounds of `lag_over` that are crossed and were told.
    late: Vec<Duration>,
    /// When the open window began, and what was counted before it.
    window: Option<(Duration, Rows)>,
    /// Whether the open window was told of.
    told: bool,
}

/// What is to be told of a lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// The bound is crossed.
    Late,
    /// It is kept again.
    Back,
}

impl Freshness {
    /// Takes the lag as it is now; returns what is to be told of this bound, once each way.
    pub(crate) fn lag(&mut self, lag: Duration, bound: Duration) -> Option<Crossing> {
        let told = self.late.iter().position(|late| *late == bound);
        match (lag > bound, told) {
            (true, None) => {
                self.late.push(bound);
                Some(Crossing::Late)
            }
            (false, Some(place)) => {
                self.late.swap_remove(place);
                Some(Crossing::Back)
            }
            _ => None,
        }
    }

    /// Takes the counters as they are now; returns the rows of the open window while there are enough to judge it and
    /// it was not told of.
    pub(crate) fn window(&mut self, counted: Rows, now: Duration) -> Option<Rows> {
        let (began, before) = *self.window.get_or_insert((now, counted));
        let rows = Rows { read: counted.read - before.read, rejected: counted.rejected - before.rejected };
        if now.saturating_sub(began) >= WINDOW {
            self.window = Some((now, counted));
            if std::mem::take(&mut self.told) {
                return None;
            }
            // A slow stream is judged at the end of its window, however few its rows are.
            return Some(rows);
        }
        (!self.told && rows.read >= WINDOW_ROWS_MIN).then_some(rows)
    }

    /// Notes that the open window was told of.
    pub(crate) fn told(&mut self) {
        self.told = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(60);

    #[test]
    fn a_lag_is_told_once_each_way() {
        let mut freshness = Freshness::default();
        let mut at = |seconds| freshness.lag(Duration::from_secs(seconds), BOUND);
        assert_eq!(at(60), None);
        assert_eq!(at(61), Some(Crossing::Late));
        assert_eq!(at(300), None);
        assert_eq!(at(5), Some(Crossing::Back));
        assert_eq!(at(5), None);
        assert_eq!(at(61), Some(Crossing::Late));
    }

    #[test]
    fn a_share_is_judged_over_enough_rows_and_told_once_a_window() {
        let mut freshness = Freshness::default();
        let bound = Tolerance::Share(0.01);
        let mut judge = |seconds, read, rejected| {
            let rows = freshness.window(Rows { read, rejected }, Duration::from_secs(seconds));
            let over = rows.is_some_and(|rows| bound.is_exceeded(rows));
            if over {
                freshness.told();
            }
            over
        };
        assert!(!judge(0, 1000, 500), "what came before is no concern of this window");
        assert!(!judge(1, 1050, 550), "fifty rows");
        assert!(judge(2, 1100, 550));
        assert!(!judge(3, 1200, 650), "told");
        assert!(!judge(302, 1300, 750), "told, and a new window begins");
        assert!(judge(303, 1400, 752));
        assert!(!judge(604, 1500, 752));
        assert!(judge(905, 1503, 753), "three rows of a slow stream, one of them bad");
    }

    #[test]
    fn a_bound_is_a_share_or_a_number() {
        let of = |value| Tolerance::of(&Settings::new([("dead_letters_over".to_owned(), value)]));
        assert_eq!(of(Value::Percent(0.01)), Some(Tolerance::Share(0.01)));
        assert_eq!(of(Value::Int(5)), Some(Tolerance::Rows(5)));
        assert_eq!(of(Value::Bool(true)), None);
        assert!(!Tolerance::Share(0.5).is_exceeded(Rows { read: 4, rejected: 2 }));
        assert!(Tolerance::Share(0.5).is_exceeded(Rows { read: 0, rejected: 1 }), "a whole input was set aside");
        assert!(Tolerance::Rows(5).is_exceeded(Rows { read: 100, rejected: 6 }));
    }
}
