//! A sink on a store that fails: whatever the store does, every round is in the table once, whole and in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lakehead_core::{Blame, Clock, Error, Mark, Micros, Outcome, Patience, Prepared, Retry, Sink, SystemClock};

use crate::faults::{Dice, FaultStore, Faults};
use crate::sink::{SinkUnderTest, rows};

/// Attempts at one thing before a schedule is called stuck: the store fails often, never always.
const ATTEMPTS_MAX: u32 = 200;

/// The machine's clock, put forward by every wait.
#[derive(Debug, Default)]
pub struct FaultClock {
    system: SystemClock,
    ahead: AtomicI64,
}

impl FaultClock {
    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.ahead.fetch_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for FaultClock {
    fn now(&self) -> Micros {
        self.system.now() + self.ahead.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic() + Duration::from_micros(self.ahead.load(Ordering::SeqCst).unsigned_abs())
    }

    async fn sleep(&self, duration: Duration) {
        self.pass(duration);
        tokio::task::yield_now().await;
    }
}

/// One schedule.
#[derive(Clone, Copy, Debug)]
pub struct Survival {
    /// What the dice begin with.
    pub seed: u64,
    /// Rounds that are to be committed.
    pub rounds: u64,
    /// Whether the table keeps the newest row of a key, instead of every row.
    pub upserts: bool,
    /// Bytes that a row's text has at least: what a sink that packs nothing uploads in parts.
    pub body_bytes: usize,
    /// What goes wrong, and how often.
    pub faults: Faults,
}

/// A round as its source holds it until it is told to forget.
#[derive(Clone)]
struct Round {
    changes: Vec<(&'static str, i64, Option<String>, Option<&'static str>)>,
    truncate: bool,
    /// What was prepared, where the record of it was written.
    prepared: Option<Prepared>,
}

type Rows = Vec<(i64, Option<String>)>;

struct Run<'a> {
    survival: Survival,
    table: &'a dyn SinkUnderTest,
    store: &'a FaultStore,
    clock: &'a FaultClock,
    dice: Dice,
    fence: u64,
    /// The last round that is known to be in the table.
    seq: u64,
    rows: Rows,
    next_id: i64,
    sink: Option<Box<dyn Sink>>,
    survived: Survived,
}

/// What a schedule came through.
#[derive(Clone, Debug, Default)]
pub struct Survived {
    /// Codes that stopped something, and how often.
    pub stops: BTreeMap<&'static str, u64>,
    /// Bytes that merging files wrote.
    pub merged_bytes: u64,
}

/// Drives one schedule to its end and checks the table against a model, also in between. `beside` makes a sink of another
/// pipeline that merges the table's files.
pub async fn survives(
    survival: Survival,
    table: &dyn SinkUnderTest,
    store: &FaultStore,
    clock: &FaultClock,
    beside: &(dyn Fn() -> Box<dyn Sink> + Sync),
) -> Survived {
    let dice = Dice::new(survival.seed ^ 0xA5A5);
    let (sink, survived) = (None, Survived::default());
    let mut run =
        Run { survival, table, store, clock, dice, fence: 0, seq: 0, rows: Vec::new(), next_id: 0, sink, survived };
    for number in 1..=survival.rounds {
        run.store.fail(survival.faults);
        run.round(number).await;
        run.look_after().await;
        if run.dice.hits(60) {
            run.merge_beside(beside(), number).await;
        }
        if run.dice.hits(150) {
            run.zombie().await;
        }
        if run.dice.hits(250) {
            run.check(number).await;
        }
    }
    store.calm(run.dice.hits(500)).await;
    run.sink = None;
    run.open().await;
    for _ in 0..4 {
        // Sweeps believe two listings that are hours apart.
        run.clock.pass(Duration::from_secs(40 * 3600));
        run.look_after().await;
    }
    run.check(survival.rounds).await;
    run.survived
}

impl Run<'_> {
    /// Brings one round into the table, over as many processes as it takes.
    async fn round(&mut self, number: u64) {
        let mut round = self.changes();
        let expected = self.after(&round);
        for _ in 0..ATTEMPTS_MAX {
            if self.sink.is_none() || self.dice.hits(40) {
                self.open().await;
                if self.seq == number {
                    self.rows = expected;
                    return;
                }
            }
            match self.attempt(number, &mut round).await {
                Ok(()) => {
                    self.seq = number;
                    self.rows = expected;
                    return;
                }
                Err(error) => self.stopped(&error),
            }
        }
        panic!("seed {}: round {number} does not come to an end: {:?}", self.survival.seed, self.survived.stops);
    }

    async fn attempt(&mut self, number: u64, round: &mut Round) -> Result<(), Error> {
        let Some(sink) = self.sink.as_mut() else { return Err(Error::bug("no sink is open")) };
        let rolls_forward = round.prepared.is_some() && self.dice.hits(500);
        if !rolls_forward {
            // Rows that the source delivers again; what an earlier attempt staged is nobody's.
            round.prepared = None;
            sink.abort().await?;
            if round.truncate {
                sink.truncate().await?;
            }
            let changes: Vec<_> =
                round.changes.iter().map(|(op, id, body, unsent)| (*op, *id, body.as_deref(), *unsent)).collect();
            for part in changes.chunks(7) {
                sink.stage(rows(part)).await?;
            }
            round.prepared = sink.prepare().await?;
        }
        let Some(prepared) = &round.prepared else { return Err(Error::bug("a round of rows prepares to nothing")) };
        let mark = Mark { seq: number, fence: self.fence, document: Some(number * 10), record: None };
        match sink.commit(prepared, mark).await? {
            Outcome::Committed(_) | Outcome::AlreadyCommitted => Ok(()),
            Outcome::Fenced(by) => panic!("seed {}: round {number} is fenced by {by}", self.survival.seed),
        }
    }

    /// Opens the table as a process does that starts.
    async fn open(&mut self) {
        for _ in 0..ATTEMPTS_MAX {
            self.fence += 1;
            let mut sink = self.table.sink();
            match sink.open(self.fence).await {
                Ok(position) => {
                    let found = position.mark.seq;
                    let seed = self.survival.seed;
                    assert!(found == self.seq || found == self.seq + 1, "seed {seed}: {found} behind {}", self.seq);
                    assert_eq!(
                        position.mark.document.unwrap_or(0),
                        found * 10,
                        "seed {seed}: position and rows differ"
                    );
                    self.seq = found;
                    self.sink = Some(sink);
                    return;
                }
                Err(error) => self.stopped(&error),
            }
        }
        panic!("seed {}: the table does not open: {:?}", self.survival.seed, self.survived.stops);
    }

    /// Every fault here passes, so that every stop must say so: nobody is called, nothing is given up.
    fn stopped(&mut self, error: &Error) {
        let clear = error.blame() == Blame::External && error.retry() == Retry::Backoff;
        assert!(clear, "seed {}: {error:?}", self.survival.seed);
        *self.survived.stops.entry(error.code()).or_default() += 1;
        // A run ends at its first error; the next one takes the pipeline over.
        self.sink = None;
    }

    async fn look_after(&mut self) {
        if self.dice.hits(200) {
            self.clock.pass(Duration::from_secs(60 * self.dice.below(30 * 60)));
        }
        let patience = if self.dice.hits(300) { Patience::ToEnd } else { Patience::Between };
        if let Some(sink) = self.sink.as_mut() {
            let before = sink.figures();
            sink.tend(patience).await;
            // What could not be read tells nothing of itself.
            if let (Some(before), Some(after)) = (before, sink.figures()) {
                self.survived.merged_bytes += after.merged_bytes - before.merged_bytes;
            }
        }
    }

    /// Another pipeline merges the table's files.
    async fn merge_beside(&mut self, mut sink: Box<dyn Sink>, fence: u64) {
        let merged = match sink.open(fence).await {
            Ok(_) => sink.prepare().await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = merged {
            self.stopped(&error);
        }
    }

    /// A process that was taken over wakes up and goes on with a round of its own.
    async fn zombie(&mut self) {
        let Some(mut zombie) = self.sink.take() else { return };
        let fence = self.fence;
        self.open().await;
        let late = async {
            zombie.abort().await?;
            zombie.stage(rows(&[("c", -1, Some("late"), None)])).await?;
            let Some(prepared) = zombie.prepare().await? else { return Ok(None) };
            zombie.commit(&prepared, Mark { seq: self.seq + 1, fence, ..Mark::default() }).await.map(Some)
        };
        match late.await {
            Ok(Some(outcome)) => {
                assert!(matches!(outcome, Outcome::Fenced(_)), "seed {}: a zombie was {outcome:?}", self.survival.seed);
            }
            Ok(None) => {}
            Err(error) => self.stopped(&error),
        }
        zombie.tend(Patience::ToEnd).await;
    }

    /// Reads the table as others do, the store being calm.
    async fn check(&mut self, number: u64) {
        let faults = self.survival.faults;
        self.store.fail(Faults::default());
        // Days pass here in moments: what is removed for its age would be removed while it is read.
        if let Some(sink) = self.sink.as_mut() {
            sink.tend(Patience::ToEnd).await;
        }
        let mut found = self.table.read().await;
        found.sort();
        let mut expected = self.rows.clone();
        expected.sort();
        let first = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert!(
            found.len() == expected.len() && first.is_none(),
            "seed {}, round {number}: {} rows, but {} expected; the first to differ: {first:?}",
            self.survival.seed,
            found.len(),
            expected.len()
        );
        self.store.fail(faults);
    }

    /// Makes up a round.
    fn changes(&mut self) -> Round {
        let mut changes = Vec::new();
        let mut live: BTreeMap<i64, ()> = self.rows.iter().map(|(id, _)| (*id, ())).collect();
        for _ in 0..=self.dice.below(12) {
            let body = self.body();
            if !self.survival.upserts {
                self.next_id += 1;
                changes.push(("c", self.next_id, Some(body), None));
                continue;
            }
            let id = i64::try_from(self.dice.below(60)).unwrap_or(0);
            let change = match (live.contains_key(&id), self.dice.below(10)) {
                (false, _) => ("c", id, Some(body), None),
                (true, 0..3) => ("d", id, None, None),
                (true, 3) => ("u", id, None, Some("body")),
                (true, _) => ("u", id, Some(body), None),
            };
            if change.0 == "d" {
                live.remove(&id)
            } else {
                live.insert(id, ())
            };
            changes.push(change);
        }
        let truncate = self.survival.upserts && self.dice.hits(30);
        if truncate {
            // Behind it no row is left whose value could be kept.
            changes = changes.into_iter().map(|(_, id, _, _)| ("c", id, Some(self.body()), None)).collect();
        }
        Round { changes, truncate, prepared: None }
    }

    fn body(&mut self) -> String {
        let mut body = format!("body {} ", self.dice.below(1_000_000));
        body.push_str(&"x".repeat(self.survival.body_bytes));
        body
    }

    /// Returns the rows behind a round.
    fn after(&self, round: &Round) -> Rows {
        if !self.survival.upserts {
            let added = round.changes.iter().map(|(_, id, body, _)| (*id, body.clone()));
            return self.rows.iter().cloned().chain(added).collect();
        }
        let mut rows: BTreeMap<i64, Option<String>> =
            if round.truncate { BTreeMap::new() } else { self.rows.iter().cloned().collect() };
        for (op, id, body, unsent) in &round.changes {
            match (*op, unsent) {
                ("d", _) => drop(rows.remove(id)),
                (_, Some(_)) => {}
                _ => drop(rows.insert(*id, body.clone())),
            }
        }
        rows.into_iter().collect()
    }
}
