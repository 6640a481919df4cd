//! How long a round may grow old: longer where what a commit writes beside its rows outweighs them, or where the requests
//! of commits would exceed what a sink may make in an hour (`requests_per_hour`).
//!
//! Each round rewrites the deletion vectors of the files it touches and names these in the log. Twice the rows in a round
//! cost nearly the same, so that longer rounds halve that share (measured: 38 bytes a change at 2,000 changes a round, 14
//! at 100,000).

use std::collections::HashMap;
use std::time::Duration;

use lakehead_core::TableFigures;

/// Log and vectors may weigh so many times the data of a round before rounds get longer.
const OVERHEAD_MAX: u64 = 3;
/// Below this a round's overhead is not worth a thought: the smallest commit is of this order.
const OVERHEAD_BYTES_MIN: u64 = 64 * 1024;
/// A round gets so many times as old at most.
const STRETCH_MAX: u32 = 8;

/// A round gets so old at most for the sake of requests: somebody waits for its rows.
const REQUESTS_AGE_MAX: Duration = Duration::from_secs(3600);

/// The age of rounds.
#[derive(Debug)]
pub(super) struct Pace {
    age: Duration,
    /// Whether the file says how old a round may get: then it says so for good.
    declared: bool,
    stretch: u32,
    /// Requests that each sink may make in an hour.
    budgets: HashMap<usize, u64>,
    /// The age that the last round's requests ask for.
    afforded: Duration,
    /// What each sink had written by the last round.
    written: HashMap<usize, TableFigures>,
}

impl Pace {
    pub(super) fn new(usual: Duration, declared: Option<Duration>) -> Self {
        let age = declared.unwrap_or(usual);
        let (budgets, written) = (HashMap::new(), HashMap::new());
        Self { age, declared: declared.is_some(), stretch: 1, budgets, afforded: Duration::ZERO, written }
    }

    /// Has the requests of sinks stay within so many an hour each.
    pub(super) fn within(mut self, budgets: impl Iterator<Item = (usize, u64)>) -> Self {
        self.budgets = budgets.collect();
        self
    }

    /// Returns how old a round may get.
    pub(super) fn age(&self) -> Duration {
        (self.age * self.stretch).max(self.afforded)
    }

    /// Learns what the sinks have written by now.
    pub(super) fn learn(&mut self, figures: impl Iterator<Item = (usize, TableFigures)>) {
        let mut outweighed = false;
        self.afforded = Duration::ZERO;
        for (sink, now) in figures {
            let before = self.written.insert(sink, now).unwrap_or_default();
            let payload = now.payload_bytes.saturating_sub(before.payload_bytes);
            let overhead = now.overhead_bytes.saturating_sub(before.overhead_bytes);
            let requests = now.requests.saturating_sub(before.requests);
            if let Some(budget) = self.budgets.get(&sink) {
                let afforded = Duration::from_secs(3600).mul_f64(requests as f64 / (*budget).max(1) as f64);
                self.afforded = self.afforded.max(afforded.min(REQUESTS_AGE_MAX));
            }
            outweighed |= overhead > OVERHEAD_BYTES_MIN && overhead > OVERHEAD_MAX.saturating_mul(payload);
        }
        if !self.declared {
            self.stretch = if outweighed { (self.stretch * 2).min(STRETCH_MAX) } else { (self.stretch / 2).max(1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(pace: &mut Pace, before: &mut TableFigures, payload: u64, overhead: u64) -> u64 {
        before.payload_bytes += payload;
        before.overhead_bytes += overhead;
        pace.learn([(0, *before)].into_iter());
        pace.age().as_secs()
    }

    #[test]
    fn rounds_get_older_while_their_overhead_outweighs_them() {
        let mut pace = Pace::new(Duration::from_secs(10), None);
        let mut figures = TableFigures::default();
        let heavy = |pace: &mut Pace, figures: &mut TableFigures| round(pace, figures, 50_000, 200_000);
        let ages = [(); 5].map(|()| heavy(&mut pace, &mut figures));
        assert_eq!(ages, [20, 40, 80, 80, 80]);
        let ages = [(); 4].map(|()| round(&mut pace, &mut figures, 100_000, 200_000));
        assert_eq!(ages, [40, 20, 10, 10]);
        assert_eq!(round(&mut pace, &mut figures, 10, 60_000), 10, "a small commit is a small commit");
    }

    #[test]
    fn rounds_get_as_old_as_their_requests_ask_for() {
        let mut pace = Pace::new(Duration::from_secs(1), Some(Duration::from_secs(1))).within([(0, 360)].into_iter());
        let mut figures = TableFigures::default();
        let mut after = |requests: u64| {
            figures.requests += requests;
            pace.learn([(0, figures), (1, TableFigures { requests: 1_000_000, ..figures })].into_iter());
            pace.age().as_secs()
        };
        assert_eq!([after(6), after(4), after(0)], [60, 40, 1], "even beyond what the file says of their age");
        assert_eq!(after(100_000), 3600, "an hour at most");
    }

    #[test]
    fn what_the_file_says_stays() {
        let mut pace = Pace::new(Duration::from_secs(10), Some(Duration::from_secs(3)));
        assert_eq!(round(&mut pace, &mut TableFigures::default(), 1, 10_000_000), 3);
    }
}
