//! What the directory holds: looked at now and then, taken over whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lakehead_core::{Micros, RunContext, parse_micros};
use lakehead_plan::{Plan, When};
use lakehead_state::{RunRecord, RunState};

use super::{CHORES_MAX, Chore, Daemon};
use crate::host::{Change, Notice};
use crate::pipeline::{ParentEnd, Phase, Pipeline, Replacement, Waiting, text_of};

/// Runs of the ledger that are looked through for one that was cut short.
const RUNS_SEEN: u32 = 50;

/// What one look found.
pub(super) struct Look {
    fingerprint: u64,
    loaded: Option<Result<Vec<Plan>, String>>,
}

/// What is known of the directory.
#[derive(Default)]
pub(super) struct Directory {
    /// What it was when it was last loaded.
    known: Option<u64>,
    /// What it was at the last look, where that differs: a change is loaded when two looks agree, so that a `git pull`
    /// is not taken half.
    seen: Option<u64>,
    /// When it is looked at next.
    next: Duration,
    busy: bool,
    at_once: bool,
    error: Option<String>,
}

impl Directory {
    pub(super) fn load_at_once(&mut self) {
        self.at_once = true;
    }

    pub(super) fn look_again(&mut self, next: Duration) {
        (self.busy, self.next) = (false, next);
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

impl Daemon {
    /// Loads the directory for the first time.
    ///
    /// # Errors
    /// The diagnostics as people read them, or why the ledger cannot be read: nothing starts then.
    pub fn load(&mut self) -> Result<(), String> {
        let fingerprint = self.host.fingerprint();
        let plans = self.host.load()?;
        self.directory.known = Some(fingerprint);
        self.directory.next = self.clock.monotonic() + self.limits.directory_poll;
        self.host.notice(&Notice::Loaded { pipelines: plans.len() });
        for plan in plans {
            self.adopt(plan).map_err(|error| error.to_string())?;
        }
        self.show();
        Ok(())
    }

    pub(super) fn look_at_directory(&mut self, ticks: Duration) {
        let directory = &mut self.directory;
        let due = directory.at_once || ticks >= directory.next;
        if directory.busy || !due || self.chores.len() >= CHORES_MAX {
            return;
        }
        let (host, known, seen) = (Arc::clone(&self.host), directory.known, directory.seen);
        let at_once = std::mem::take(&mut directory.at_once);
        directory.busy = true;
        self.chores.spawn_blocking(move || {
            let fingerprint = host.fingerprint();
            let settled = known != Some(fingerprint) && seen == Some(fingerprint);
            Chore::Looked(Look { fingerprint, loaded: (at_once || settled).then(|| host.load()) })
        });
    }

    pub(super) fn looked(&mut self, look: Look) {
        self.directory.look_again(self.clock.monotonic() + self.limits.directory_poll);
        let Some(loaded) = look.loaded else {
            self.directory.seen = Some(look.fingerprint).filter(|seen| self.directory.known != Some(*seen));
            return;
        };
        (self.directory.known, self.directory.seen) = (Some(look.fingerprint), None);
        match loaded {
            Err(diagnostics) => {
                self.directory.error = Some(diagnostics.clone());
                self.host.notice(&Notice::LoadFailed { diagnostics });
            }
            Ok(plans) if !self.stopping => {
                self.directory.error = None;
                self.host.notice(&Notice::Loaded { pipelines: plans.len() });
                self.swap(plans);
            }
            Ok(_) => {}
        }
    }

    /// Takes all plans over: what changed stops at a consistent point and starts anew, what did not goes on.
    fn swap(&mut self, plans: Vec<Plan>) {
        let mut plans: BTreeMap<String, Plan> = plans.into_iter().map(|plan| (plan.name.clone(), plan)).collect();
        for name in self.names() {
            let Some(pipeline) = self.pipelines.get_mut(&name) else { continue };
            let replacement = match plans.remove(&name) {
                Some(plan) if text_of(&plan) == pipeline.text && pipeline.replacement.is_none() => continue,
                Some(plan) => Replacement::Plan(Box::new(plan)),
                None => Replacement::Nothing,
            };
            pipeline.replacement = Some(replacement);
            match &pipeline.phase {
                Phase::Running { stop, .. } => {
                    stop.send_replace(true);
                }
                _ => self.replace(&name),
            }
        }
        for (name, plan) in plans {
            match self.adopt(plan) {
                Ok(()) => self.host.notice(&Notice::PipelineChanged { pipeline: name, change: Change::Added }),
                Err(error) => {
                    // It is taken for unknown, and tried again at the next look.
                    tracing::error!(pipeline = name, %error, "a new pipeline could not be taken over");
                    self.directory.known = None;
                }
            }
        }
    }

    /// Puts what waits in the place of a pipeline whose run has ended.
    pub(super) fn replace(&mut self, name: &str) {
        let now = self.clock.now();
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        let change = match pipeline.replacement.take() {
            None => return,
            Some(Replacement::Plan(plan)) => {
                pipeline.replace(*plan, now);
                let last = pipeline.last;
                self.note_fired(name, last);
                Change::Changed
            }
            Some(Replacement::Nothing) => {
                self.pipelines.remove(name);
                Change::Removed
            }
        };
        self.host.notice(&Notice::PipelineChanged { pipeline: name.to_owned(), change });
    }

    /// Takes a plan over that was not here before, with what the ledger knows of it.
    fn adopt(&mut self, plan: Plan) -> lakehead_core::Result<()> {
        let (now, name) = (self.clock.now(), plan.name.clone());
        let fired = self.ledger.fired(&name)?;
        if fired.is_none() && plan.trigger.when != When::Continuous {
            // What came before the pipeline did is not missed.
            self.ledger.set_fired(&name, now)?;
        }
        let runs = self.ledger.runs(&name, RUNS_SEEN)?;
        let mut pipeline =
            Pipeline::new(plan, fired.unwrap_or(now), self.board.counters(&name), self.clock.monotonic());
        pipeline.last_run = runs.iter().find(|run| run.ended.is_some()).cloned();
        if !matches!(pipeline.plan.trigger.when, When::Continuous | When::Manual) && pipeline.plan.trigger.enabled {
            pipeline
                .waiting
                .extend(runs.iter().find_map(|run| Some((run, parse_micros(&run.run)?))).and_then(cut_short));
        }
        if pipeline.is_continuous() {
            // The process that ran it died without a word; it goes on in a run of its own.
            let died = |run: &&RunRecord| run.state == RunState::Running && parse_micros(&run.run).is_some();
            for run in runs.iter().filter(died) {
                let record = RunRecord { state: RunState::Stopped, ended: Some(now), ..run.clone() };
                self.ledger.record_run(&record)?;
            }
        }
        if let When::After(parents, _) = pipeline.plan.trigger.when.clone() {
            self.remember_parents(&mut pipeline, &parents, now)?;
        }
        self.pipelines.insert(name, pipeline);
        Ok(())
    }

    /// Notes the parents that ended since the pipeline last fired: a restart loses no link of a chain.
    fn remember_parents(&self, pipeline: &mut Pipeline, parents: &[String], now: Micros) -> lakehead_core::Result<()> {
        for parent in parents {
            let runs = self.ledger.runs(parent, RUNS_SEEN)?;
            let ended = |run: &&RunRecord| matches!(run.state, RunState::Succeeded | RunState::Failed);
            let newest = runs.iter().filter(ended).find(|run| parse_micros(&run.run).is_some());
            let Some((run, ended)) = newest.and_then(|run| Some((run, run.ended?))) else { continue };
            let end = ParentEnd { ended, start: run.interval_start, end: run.interval_end };
            if ended > pipeline.last
                && let Some(interval) = pipeline.parent_ended(parent, run.state, end)
            {
                pipeline.take_occasion(now, Some(interval));
            }
        }
        Ok(())
    }
}

/// The newest run of a trigger, where it neither ended well nor failed: the process died, or was asked to stop.
fn cut_short((run, fire): (&RunRecord, Micros)) -> Option<Waiting> {
    let context = RunContext { id: run.run.clone(), start: run.interval_start, end: run.interval_end };
    let open = matches!(run.state, RunState::Running | RunState::Stopped);
    open.then_some(Waiting { fire, ready: fire, run: Some(context) })
}
