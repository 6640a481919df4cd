//! Intervals that have gained inputs since they were read, and are made again. Pure.

use std::collections::{BTreeMap, VecDeque};

use lakehead_core::{LateInterval, Micros, RunContext, format_micros};

use crate::pipeline::WAITING_MAX;

/// Intervals that wait to be made again, behind whatever the schedule asks for.
///
/// Every look at the inputs finds the same intervals again until they were made, so that nothing here is kept over a
/// restart. One that could not be made waits until its inputs are others.
#[derive(Debug, Default)]
pub(crate) struct Late {
    waiting: VecDeque<LateInterval>,
    tried: BTreeMap<(Micros, Micros), String>,
}

impl Late {
    /// Takes what a look found.
    pub(crate) fn seen(&mut self, found: Vec<LateInterval>) {
        let mut intervals: BTreeMap<(Micros, Micros), LateInterval> = BTreeMap::new();
        for late in found {
            let same = intervals.entry((late.start, late.end));
            same.and_modify(|other| other.fingerprint.push_str(&late.fingerprint)).or_insert(late);
        }
        let stands = |interval: &(Micros, Micros), tried: &String| {
            intervals.get(interval).is_some_and(|late| late.fingerprint == *tried)
        };
        self.tried.retain(|interval, tried| stands(interval, tried));
        let is_new = |(interval, _): &((Micros, Micros), LateInterval)| !self.tried.contains_key(interval);
        self.waiting = intervals.into_iter().filter(is_new).map(|(_, late)| late).take(WAITING_MAX).collect();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the oldest one as a run.
    pub(crate) fn take(&mut self, now: Micros) -> Option<RunContext> {
        let late = self.waiting.pop_front()?;
        self.tried.insert((late.start, late.end), late.fingerprint);
        let id = format!("{} again {}", format_micros(late.end), format_micros(now));
        Some(RunContext { id, start: late.start, end: late.end })
    }

    /// Forgets what was tried: it did not end well, and may the next time.
    pub(crate) fn forget(&mut self) {
        self.tried.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_made_again_once_for_each_change_of_its_inputs() {
        let late = |start, fingerprint: &str| LateInterval { start, end: start + 5, fingerprint: fingerprint.into() };
        let mut all = Late::default();
        let mut look = |found: Vec<LateInterval>, forget: bool| {
            all.seen(found);
            let taken: Vec<_> = std::iter::from_fn(|| all.take(99).map(|run| (run.start, run.end))).collect();
            if forget {
                all.forget();
            }
            taken
        };
        assert_eq!(look(vec![late(5, "a"), late(0, "a")], false), [(0, 5), (5, 10)]);
        assert_eq!(look(vec![late(5, "a")], false), [], "it could not be made");
        assert_eq!(look(vec![late(5, "b"), late(5, "c")], false), [(5, 10)], "two sources, one run");
        assert_eq!(look(vec![], false), []);
        assert_eq!(look(vec![late(5, "b")], true), [(5, 10)], "late once more");
        assert_eq!(look(vec![late(5, "b")], false), [(5, 10)], "what failed may pass");
    }
}
