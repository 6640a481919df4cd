//! Runs: they start, end, are made again, and start others.

use std::sync::Arc;
use std::time::Duration;

use lakehead_core::{Error, Micros, Result, Retry, RunContext, format_micros};
use lakehead_engine::{Observer, Summary};
use lakehead_plan::RetryPlan;
use lakehead_state::{RunRecord, RunState};
use tokio::sync::watch;
use tokio::task::{Id, JoinError};

use super::{Daemon, sentence};
use crate::attempt::Attempt;
use crate::board::Counting;
use crate::freshness::Rows;
use crate::host::Notice;
use crate::pipeline::{ParentEnd, Phase, Run};

impl Daemon {
    /// Starts what is ready: continuous pipelines at once, others as far as there are places, the oldest first.
    pub(super) fn start_ready(&mut self, now: Micros, ticks: Duration) {
        let mut batch = Vec::new();
        for name in self.names() {
            let Some(pipeline) = self.pipelines.get_mut(&name) else { continue };
            let continuous = pipeline.is_continuous();
            match &pipeline.phase {
                Phase::Idle if continuous && pipeline.plan.trigger.enabled => {
                    let context = RunContext { id: format_micros(now), start: now, end: now };
                    self.start(&name, Run::new(context, now, now));
                }
                Phase::Retrying { until, .. } if *until <= ticks && continuous => self.start_again(&name),
                Phase::Retrying { run, until } if *until <= ticks => batch.push((run.fire, name)),
                Phase::Idle => {
                    let ready = pipeline.waiting.front().filter(|waiting| waiting.ready <= now);
                    let ready = ready.map(|waiting| waiting.ready).or((!pipeline.late.is_empty()).then_some(now));
                    batch.extend(ready.map(|ready| (ready, name)));
                }
                _ => {}
            }
        }
        batch.sort();
        for (_, name) in batch {
            let running = self.pipelines.values().filter(|other| other.is_running() && !other.is_continuous()).count();
            if running >= self.limits.batch_runs_max {
                return;
            }
            let Some(pipeline) = self.pipelines.get_mut(&name) else { continue };
            if matches!(pipeline.phase, Phase::Retrying { .. }) {
                self.start_again(&name);
            } else if let Some((context, fire)) = pipeline.take_ready(now) {
                self.note_fired(&name, fire);
                self.start(&name, Run::new(context, fire, now));
            } else if let Some(context) = pipeline.late.take(now) {
                self.start(&name, Run { again: true, ..Run::new(context, now, now) });
            }
        }
    }

    fn start_again(&mut self, name: &str) {
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        match std::mem::replace(&mut pipeline.phase, Phase::Idle) {
            Phase::Retrying { run, .. } => self.start(name, run),
            phase => pipeline.phase = phase,
        }
    }

    fn start(&mut self, name: &str, run: Run) {
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        let (stop, stopped) = watch::channel(false);
        let counters = Arc::clone(&pipeline.counters);
        let counting = Arc::new(Counting::new(&pipeline.plan, counters, Arc::clone(&self.clock)));
        let attempt = Attempt {
            host: Arc::clone(&self.host),
            clock: Arc::clone(&self.clock),
            plan: Arc::clone(&pipeline.plan),
            run: run.context.clone(),
            // A continuous pipeline has no end that could be late.
            timeout: pipeline.plan.retry.timeout.filter(|_| !pipeline.is_continuous()),
            observer: Arc::clone(&counting) as Arc<dyn Observer>,
        };
        let task = self.runs.spawn(Box::pin(attempt.run(stopped)));
        self.running.insert(task.id(), name.to_owned());
        self.host.notice(&Notice::RunStarted {
            pipeline: name.to_owned(),
            run: run.context.id.clone(),
            retries: run.retries,
        });
        let record = record(name, &run, RunState::Running, None, None);
        pipeline.phase = Phase::Running { run, stop, counting };
        self.write_down(&record);
    }

    pub(super) fn run_joined(&mut self, joined: std::result::Result<(Id, Result<Summary>), JoinError>) {
        let (id, outcome) = match joined {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Err(Error::bug("a run panicked").caused_by(error))),
        };
        if let Some(name) = self.running.remove(&id) {
            self.attempt_ended(&name, outcome);
        }
    }

    fn attempt_ended(&mut self, name: &str, outcome: Result<Summary>) {
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        let Phase::Running { mut run, stop, counting } = std::mem::replace(&mut pipeline.phase, Phase::Idle) else {
            return;
        };
        let rows = match &outcome {
            Ok(summary) => [summary.rows_read, summary.rows_written, summary.rows_rejected],
            Err(_) => counting.rows(),
        };
        for (sum, rows) in run.rows.iter_mut().zip(rows) {
            *sum = sum.saturating_add(rows);
        }
        let asked = *stop.borrow();
        match outcome {
            Ok(summary) if summary.stopped => self.run_ended(name, run, RunState::Stopped, None),
            Ok(_) => self.run_ended(name, run, RunState::Succeeded, None),
            Err(error) if asked => self.run_ended(name, run, RunState::Stopped, Some(&error)),
            Err(error) => self.attempt_failed(name, run, counting.committed(), &error),
        }
        self.replace(name);
    }

    fn attempt_failed(&mut self, name: &str, mut run: Run, committed: bool, error: &Error) {
        let ticks = self.clock.monotonic();
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        let (continuous, plan) = (pipeline.is_continuous(), &pipeline.plan.retry);
        if continuous && committed {
            // It got somewhere: this failure is the first in a row.
            (run.retries, pipeline.failures) = (0, 0);
        }
        // A continuous pipeline never gives up on what may pass; `max` bounds the attempts of one batch run.
        let again = error.retry() == Retry::Backoff && (continuous || run.retries < plan.max);
        if !again {
            return self.run_ended(name, run, RunState::Failed, Some(error));
        }
        let pause = pause(plan, run.retries);
        run.retries = run.retries.saturating_add(1);
        pipeline.last_error = Some((error.code().to_owned(), error.message().to_owned()));
        let id = run.context.id.clone();
        pipeline.phase = Phase::Retrying { run, until: ticks + pause };
        if continuous {
            pipeline.counters.note_pending(ticks);
            self.failed_once_more(name, error);
        }
        self.host.notice(&Notice::RunRetried {
            pipeline: name.to_owned(),
            run: id,
            error: sentence(error),
            pause_seconds: pause.as_secs_f64(),
        });
    }

    /// A run is over: written down, told, and others start after it.
    fn run_ended(&mut self, name: &str, run: Run, state: RunState, error: Option<&Error>) {
        let (now, ticks) = (self.clock.now(), self.clock.monotonic());
        let text = error.map(sentence);
        let record = record(name, &run, state, Some(now), text.clone());
        self.write_down(&record);
        let [rows_read, rows_written, rows_rejected] = run.rows;
        self.host.notice(&Notice::RunEnded {
            pipeline: name.to_owned(),
            run: run.context.id.clone(),
            state,
            rows_read,
            rows_written,
            rows_rejected,
            error: text,
        });
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        pipeline.last_run = Some(record);
        pipeline.counters.count_run(state);
        let continuous = pipeline.is_continuous();
        match state {
            RunState::Succeeded => {
                (pipeline.failures, pipeline.last_error) = (0, None);
                pipeline.fresh_at = ticks;
                pipeline.counters.note_done();
                if continuous {
                    pipeline.phase = Phase::Ended;
                }
            }
            RunState::Failed => {
                if continuous {
                    pipeline.phase = Phase::Failed;
                    pipeline.counters.note_pending(ticks);
                }
                if error.is_some_and(|error| error.retry() == Retry::Backoff) {
                    pipeline.arrivals.forget();
                    pipeline.late.forget();
                }
            }
            RunState::Stopped if pipeline.replacement.is_some() => pipeline.wait_again(&run),
            RunState::Stopped | RunState::Running => {}
        }
        if let Some(error) = error.filter(|_| state == RunState::Failed) {
            self.failed_once_more(name, error);
        }
        if !continuous {
            self.judge_run(name, &run.context.id, Rows { read: rows_read, rejected: rows_rejected });
        }
        if !continuous && state != RunState::Stopped {
            self.start_children(name, state, &run.context, now);
        }
    }

    /// Counts a failure, and tells when as many came in a row as somebody asked for.
    fn failed_once_more(&mut self, name: &str, error: &Error) {
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        pipeline.failures = pipeline.failures.saturating_add(1);
        pipeline.last_error = Some((error.code().to_owned(), error.message().to_owned()));
        let failures = i64::from(pipeline.failures);
        let last = matches!(pipeline.phase, Phase::Failed);
        let times = if failures == 1 { "failed".to_owned() } else { format!("failed {failures} times in a row") };
        let rest = if last { "; it is not started again until its text changes" } else { "" };
        let text = format!("pipeline `{name}` {times}: {}{rest}", sentence(error));
        // What is not started again fails once: waiting for `after` failures would be silence.
        self.alert(name, &text, |settings| {
            settings.bool_or("failed", false) && (last || settings.int_or("after", 1).max(1) == failures)
        });
    }

    fn start_children(&mut self, parent: &str, state: RunState, run: &RunContext, now: Micros) {
        let end = ParentEnd { ended: now, start: run.start, end: run.end };
        for name in self.names() {
            let Some(child) = self.pipelines.get_mut(&name) else { continue };
            let Some(interval) = child.parent_ended(parent, state, end) else { continue };
            if let Some(why) = child.take_occasion(now, Some(interval)) {
                self.left_out(&name, now, now, why);
            }
        }
    }

    /// Writes a run into the ledger. The lake, not the ledger, says what is committed, so a failure is only told.
    fn write_down(&self, record: &RunRecord) {
        if let Err(error) = self.ledger.record_run(record) {
            tracing::error!(pipeline = record.pipeline, run = record.run, %error, "a run could not be written down");
        }
    }
}

fn record(name: &str, run: &Run, state: RunState, ended: Option<Micros>, error: Option<String>) -> RunRecord {
    let [rows_read, rows_written, rows_rejected] = run.rows;
    RunRecord {
        pipeline: name.to_owned(),
        run: run.context.id.clone(),
        state,
        started: run.started,
        ended,
        interval_start: run.context.start,
        interval_end: run.context.end,
        rows_read,
        rows_written,
        rows_rejected,
        error,
    }
}

/// The pause before the next attempt: twice the one before, up to the longest.
fn pause(plan: &RetryPlan, retries: u32) -> Duration {
    let doubled = plan.backoff.checked_mul(2_u32.saturating_pow(retries));
    doubled.unwrap_or(plan.backoff_max).min(plan.backoff_max)
}
