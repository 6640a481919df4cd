//! One pipeline as the daemon sees it: its plan, its occasions that wait, and the run that is on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lakehead_core::{Micros, RECORDED, RunContext, format_micros};
use lakehead_plan::{Catchup, NodeKind, Outcome, Overlap, Plan, When};
use lakehead_state::{RunRecord, RunState};
use serde_json::Value;
use tokio::sync::watch;

use crate::arrival::Arrivals;
use crate::board::{Counters, Counting, PipelineState, PipelineStatus};
use crate::freshness::Freshness;
use crate::host::LeftOut;
use crate::late::Late;
use crate::occasion::{Due, Standing, due};
use crate::schedule::{Schedule, micros};

/// Occasions of one pipeline that may wait: days of a job that runs each few minutes, and little memory.
pub(crate) const WAITING_MAX: usize = 1_000;

/// An occasion that waits for its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// The occasion.
    pub(crate) fire: Micros,
    /// When its run may start: the occasion and the trigger's `delay`.
    pub(crate) ready: Micros,
    /// Its run, where the schedule does not say it.
    pub(crate) run: Option<RunContext>,
}

/// A run, over all its attempts.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) context: RunContext,
    pub(crate) fire: Micros,
    pub(crate) started: Micros,
    /// Whether it makes an interval again that has gained inputs: it is no occasion of the trigger.
    pub(crate) again: bool,
    /// Attempts that failed.
    pub(crate) retries: u32,
    /// Rows read, written and set aside by the attempts that failed.
    pub(crate) rows: [u64; 3],
}

impl Run {
    pub(crate) fn new(context: RunContext, fire: Micros, started: Micros) -> Self {
        Self { context, fire, started, again: false, retries: 0, rows: [0; 3] }
    }
}

/// What is on.
pub(crate) enum Phase {
    /// Nothing.
    Idle,
    /// An attempt.
    Running { run: Run, stop: watch::Sender<bool>, counting: Arc<Counting> },
    /// A pause before the next attempt, until this monotonic time.
    Retrying { run: Run, until: Duration },
    /// Nothing, until its text changes.
    Failed,
    /// Nothing: it was always on, and its sources ended.
    Ended,
}

/// What takes a pipeline's place when its run has stopped.
pub(crate) enum Replacement {
    Plan(Box<Plan>),
    Nothing,
}

/// How a parent ended last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParentEnd {
    pub(crate) ended: Micros,
    pub(crate) start: Micros,
    pub(crate) end: Micros,
}

/// One pipeline.
pub(crate) struct Pipeline {
    pub(crate) plan: Arc<Plan>,
    pub(crate) text: String,
    pub(crate) schedule: Option<Schedule>,
    /// The last occasion that was dealt with.
    pub(crate) last: Micros,
    pub(crate) waiting: VecDeque<Waiting>,
    pub(crate) phase: Phase,
    pub(crate) replacement: Option<Replacement>,
    pub(crate) failures: u32,
    pub(crate) last_run: Option<RunRecord>,
    /// Code and sentence.
    pub(crate) last_error: Option<(String, String)>,
    pub(crate) parents: BTreeMap<String, ParentEnd>,
    pub(crate) arrivals: Arrivals,
    /// Intervals that have gained inputs.
    pub(crate) late: Late,
    /// When its arrivals are looked at next; `None` while somebody looks.
    pub(crate) look: Option<Duration>,
    pub(crate) counters: Arc<Counters>,
    /// Whether `last` moved without a run, and is to be written down.
    pub(crate) moved: bool,
    pub(crate) freshness: Freshness,
    /// When it last succeeded, or began to be looked after, monotonic.
    pub(crate) fresh_at: Duration,
}

impl Pipeline {
    /// Creates a pipeline that has dealt with everything up to `last`, at a monotonic time.
    pub(crate) fn new(plan: Plan, last: Micros, counters: Arc<Counters>, fresh_at: Duration) -> Self {
        let mut pipeline = Self {
            text: text_of(&plan),
            plan: Arc::new(plan),
            schedule: None,
            last,
            waiting: VecDeque::new(),
            phase: Phase::Idle,
            replacement: None,
            failures: 0,
            last_run: None,
            last_error: None,
            parents: BTreeMap::new(),
            arrivals: Arrivals::default(),
            late: Late::default(),
            look: Some(Duration::ZERO),
            counters,
            moved: false,
            freshness: Freshness::default(),
            fresh_at,
        };
        pipeline.settle_plan();
        pipeline
    }

    /// Puts a new plan in place of an idle one. A run that was cut short waits to be made again.
    pub(crate) fn replace(&mut self, plan: Plan, now: Micros) {
        let (old, new) = (&self.plan.trigger, &plan.trigger);
        let same_times = old.when == new.when && old.timezone == new.timezone;
        let same_kind = std::mem::discriminant(&old.when) == std::mem::discriminant(&new.when);
        if let Phase::Retrying { run, .. } = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.wait_again(&run);
        }
        if let Some(schedule) = self.schedule.as_ref().filter(|_| !same_times) {
            for waiting in &mut self.waiting {
                waiting.run.get_or_insert_with(|| run_of(schedule, waiting.fire));
            }
            self.last = self.last.max(now);
        }
        if !same_kind || new.when == When::Continuous || !new.enabled {
            self.waiting.clear();
        }
        if let When::After(names, _) = &new.when {
            self.parents.retain(|parent, _| names.contains(parent));
        }
        (self.failures, self.last_error) = (0, None);
        self.counters.note_done();
        self.text = text_of(&plan);
        self.plan = Arc::new(plan);
        self.settle_plan();
    }

    /// Lets a run that was cut short be the next one.
    pub(crate) fn wait_again(&mut self, run: &Run) {
        if run.again {
            self.late.forget();
        } else if !self.is_continuous() {
            self.waiting.push_front(Waiting { fire: run.fire, ready: run.fire, run: Some(run.context.clone()) });
        }
    }

    fn settle_plan(&mut self) {
        match Schedule::of(&self.plan.trigger) {
            Ok(schedule) => self.schedule = schedule,
            Err(error) => self.refuse(error.code(), error.message()),
        }
        let refused = self.plan.not_yet.first().filter(|_| self.plan.trigger.when != When::Manual).cloned();
        if let Some((setting, place)) = refused {
            self.refuse("R0971", &format!("this version checks `{setting}` at {place} and does not carry it out yet"));
        }
    }

    fn refuse(&mut self, code: &str, sentence: &str) {
        self.schedule = None;
        self.last_error = Some((code.to_owned(), sentence.to_owned()));
        self.phase = Phase::Failed;
    }

    pub(crate) fn is_continuous(&self) -> bool {
        self.plan.trigger.when == When::Continuous
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// Returns whether its runs replace what they wrote, and read again what they read.
    pub(crate) fn records_inputs(&self) -> bool {
        self.plan
            .nodes
            .iter()
            .any(|node| matches!(&node.kind, NodeKind::Source(source) if source.settings.bool_or(RECORDED, false)))
    }

    fn is_busy(&self) -> bool {
        let occasion = matches!(&self.phase, Phase::Running { run, .. } | Phase::Retrying { run, .. } if !run.again);
        occasion || !self.waiting.is_empty()
    }

    /// Takes the occasions of its schedule that are due; returns those that are left out, first and last, and why.
    pub(crate) fn take_due(&mut self, now: Micros) -> Vec<(Micros, Micros, LeftOut)> {
        let trigger = &self.plan.trigger;
        let Some(schedule) = &self.schedule else { return Vec::new() };
        if !trigger.enabled {
            if schedule.next_after(self.last).is_some_and(|fire| fire <= now) {
                self.last = now;
                self.moved = true;
            }
            return Vec::new();
        }
        let (delay, catchup, overlap) = (micros(trigger.delay), trigger.catchup, trigger.overlap);
        let room = WAITING_MAX.saturating_sub(self.waiting.len());
        let standing = Standing { last: self.last, now: now.saturating_sub(delay), room };
        let Due { runs, left_out, last } = due(schedule, catchup, standing);
        self.last = last.unwrap_or(self.last);
        let why = if room == 0 { LeftOut::QueueFull } else { LeftOut::Missed };
        let mut out: Vec<_> = left_out.map(|(first, last)| (first, last, why)).into_iter().collect();
        for (fire, missed) in runs {
            // What is made up for waits whatever `overlap` says, and so do the occasions that come meanwhile.
            let joins = missed || overlap == Overlap::Queue || (catchup == Catchup::All && !self.waiting.is_empty());
            if joins || !self.is_busy() {
                self.waiting.push_back(Waiting { fire, ready: fire.saturating_add(delay), run: None });
            } else {
                out.push((fire, fire, LeftOut::Overlap));
            }
        }
        out
    }

    /// Takes an occasion without a schedule: arrivals, or the end of its parents. Returns why it is left out, if so.
    pub(crate) fn take_occasion(&mut self, now: Micros, interval: Option<(Micros, Micros)>) -> Option<LeftOut> {
        if self.plan.trigger.overlap == Overlap::Skip && self.is_busy() {
            return Some(LeftOut::Overlap);
        }
        if self.waiting.len() >= WAITING_MAX {
            return Some(LeftOut::QueueFull);
        }
        // Names of runs are unique, also where the clock has not moved or went back.
        let fire = now.max(self.last.saturating_add(1));
        self.last = fire;
        let (start, end) = interval.unwrap_or((fire, fire));
        let run = RunContext { id: format_micros(fire), start, end };
        let ready = fire.saturating_add(micros(self.plan.trigger.delay));
        self.waiting.push_back(Waiting { fire, ready, run: Some(run) });
        None
    }

    /// Notes how a parent ended; returns the interval of the run that this starts.
    pub(crate) fn parent_ended(&mut self, parent: &str, state: RunState, end: ParentEnd) -> Option<(Micros, Micros)> {
        let When::After(names, wanted) = &self.plan.trigger.when else { return None };
        if !self.plan.trigger.enabled || !names.iter().any(|name| name == parent) {
            return None;
        }
        let fits = match wanted {
            Outcome::Succeeded => state == RunState::Succeeded,
            Outcome::Failed => state == RunState::Failed,
            Outcome::Finished => matches!(state, RunState::Succeeded | RunState::Failed),
        };
        if !fits {
            self.parents.remove(parent);
            return None;
        }
        self.parents.insert(parent.to_owned(), end);
        if let Some(within) = self.plan.trigger.within {
            let oldest = end.ended.saturating_sub(micros(within));
            self.parents.retain(|_, other| other.ended >= oldest);
        }
        if !names.iter().all(|name| self.parents.contains_key(name)) {
            return None;
        }
        let ended = std::mem::take(&mut self.parents);
        let start = ended.values().map(|parent| parent.start).min()?;
        Some((start, ended.values().map(|parent| parent.end).max()?))
    }

    /// Takes the occasion whose run may start now.
    pub(crate) fn take_ready(&mut self, now: Micros) -> Option<(RunContext, Micros)> {
        let waiting = self.waiting.pop_front_if(|waiting| waiting.ready <= now)?;
        let run = waiting.run.or_else(|| Some(run_of(self.schedule.as_ref()?, waiting.fire)))?;
        Some((run, waiting.fire))
    }

    /// Returns when its next occasion is, `delay` included.
    pub(crate) fn next_occasion(&self) -> Option<Micros> {
        let trigger = &self.plan.trigger;
        let next = || self.schedule.as_ref()?.next_after(self.last)?.checked_add(micros(trigger.delay));
        self.waiting.front().map(|waiting| waiting.ready).or_else(|| next().filter(|_| trigger.enabled))
    }

    /// Returns what `/status` says.
    pub(crate) fn status(&self) -> PipelineStatus {
        let (state, run) = match &self.phase {
            Phase::Running { run, stop, .. } if *stop.borrow() => (PipelineState::Stopping, Some(run)),
            Phase::Running { run, .. } => (PipelineState::Running, Some(run)),
            Phase::Retrying { run, .. } => (PipelineState::Retrying, Some(run)),
            Phase::Failed => (PipelineState::Failed, None),
            Phase::Ended => (PipelineState::Ended, None),
            Phase::Idle if !self.plan.trigger.enabled => (PipelineState::Disabled, None),
            Phase::Idle if !self.waiting.is_empty() => (PipelineState::Queued, None),
            Phase::Idle => (PipelineState::Waiting, None),
        };
        let (code, sentence) = self.last_error.clone().unzip();
        PipelineStatus {
            name: self.plan.name.clone(),
            state,
            continuous: self.is_continuous(),
            run: run.map(|run| run.context.id.clone()),
            waiting: self.waiting.len(),
            failures: self.failures,
            last_run: self.last_run.clone(),
            next_run: self.next_occasion().map(format_micros),
            last_error_code: code,
            last_error: sentence,
        }
    }
}

fn run_of(schedule: &Schedule, fire: Micros) -> RunContext {
    let (start, end) = schedule.interval_of(fire);
    RunContext { id: format_micros(fire), start, end }
}

/// Returns what makes a plan another one: everything but its places in the files, so that a comment above a pipeline
/// does not restart it.
pub(crate) fn text_of(plan: &Plan) -> String {
    let mut value = serde_json::to_value(plan).unwrap_or_default();
    without_places(&mut value);
    let ages: Vec<_> = plan
        .nodes
        .iter()
        .filter_map(|node| match &node.kind {
            NodeKind::Sink(sink) => Some(sink.commit_every),
            _ => None,
        })
        .collect();
    format!("{value} {ages:?} {:?}", plan.streams)
}

fn without_places(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("text") && fields.contains_key("span") {
                fields.retain(|name, _| name == "text");
            }
            fields.values_mut().for_each(without_places);
        }
        Value::Array(items) => items.iter_mut().for_each(without_places),
        _ => {}
    }
}
