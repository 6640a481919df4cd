//! The loop against a fake host and a clock that a test moves. Nothing here waits for time to pass: a turn is asked
//! for, and whatever it started is joined.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use lakehead_core::{LateInterval, ManualClock, RECORDED, RunContext, Settings, Value, parse_micros};
use lakehead_engine::{Event, Observer, Stop};
use lakehead_plan::{AlertPlan, Catchup, Outcome, Overlap, RetryPlan, Trigger};
use tokio::sync::watch;

use super::*;
use crate::board::PipelineState;

mod chains;
mod changes;
mod failures;
mod freshness;
mod late;
mod stopping;
mod triggers;

/// What the next run of a pipeline does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Succeed,
    /// Fails, and may pass.
    Falter,
    /// Commits a round, then fails, and may pass.
    CommitAndFalter,
    /// Fails for good.
    Break,
    /// Goes on until it is released or asked to stop.
    Hold,
    /// Goes on until it is asked to stop, and fails on the way.
    Stumble,
    /// Goes on whatever it is asked.
    Hang,
}

#[derive(Default)]
struct FakeHost {
    plans: Mutex<Option<Result<Vec<Plan>, String>>>,
    fingerprint: AtomicU64,
    acts: Mutex<HashMap<String, VecDeque<Act>>>,
    held: Mutex<HashMap<String, watch::Sender<bool>>>,
    runs: Mutex<Vec<(String, RunContext)>>,
    objects: Mutex<Option<String>>,
    late: Mutex<Vec<LateInterval>>,
    alerts: Mutex<Vec<String>>,
    notices: Mutex<Vec<Notice>>,
}

#[async_trait]
impl Host for FakeHost {
    fn load(&self) -> std::result::Result<Vec<Plan>, String> {
        self.plans.lock().unwrap().clone().unwrap()
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint.load(Ordering::SeqCst)
    }

    async fn run(&self, plan: &Plan, run: RunContext, mut stop: Stop, observer: Arc<dyn Observer>) -> Result<Summary> {
        self.runs.lock().unwrap().push((plan.name.clone(), run));
        let act = self.acts.lock().unwrap().get_mut(&plan.name).and_then(VecDeque::pop_front).unwrap_or(Act::Succeed);
        let done = Summary { rows_read: 3, rows_written: 2, rows_rejected: 1, ..Summary::default() };
        match act {
            Act::Succeed => Ok(done),
            Act::Falter => Err(Error::external("R0301", "the server went away")),
            Act::CommitAndFalter => {
                let table = "lake:t".to_owned();
                observer.event(Event::Committed { round: 1, table, version: 1, rows: 2, bytes: 20 });
                Err(Error::external("R0301", "the server went away"))
            }
            Act::Break => Err(Error::user("R0302", "the password is wrong")),
            Act::Hold => {
                let (release, mut released) = watch::channel(false);
                self.held.lock().unwrap().insert(plan.name.clone(), release);
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => Ok(Summary { stopped: true, ..done }),
                    _ = released.wait_for(|released| *released) => Ok(done),
                }
            }
            Act::Stumble => {
                let _ = stop.wait_for(|stop| *stop).await;
                Err(Error::external("R0301", "the server went away"))
            }
            Act::Hang => std::future::pending().await,
        }
    }

    async fn arrivals(&self, _plan: &Plan) -> Result<Arrived> {
        Ok(Arrived { fingerprint: self.objects.lock().unwrap().clone(), late: self.late.lock().unwrap().clone() })
    }

    async fn alert(&self, _plan: &Plan, _alert: &AlertPlan, text: &str) -> Result<()> {
        self.alerts.lock().unwrap().push(text.to_owned());
        Ok(())
    }

    fn notice(&self, notice: &Notice) {
        self.notices.lock().unwrap().push(notice.clone());
    }
}

/// A daemon that a test drives.
struct Bench {
    daemon: Daemon,
    host: Arc<FakeHost>,
    clock: Arc<ManualClock>,
    ledger: Arc<Ledger>,
}

impl Bench {
    fn new(at: &str, plans: &[Plan]) -> Self {
        let clock = Arc::new(ManualClock::at(parse_micros(at).unwrap()));
        Self::with(Arc::new(FakeHost::default()), clock, Arc::new(Ledger::in_memory().unwrap()), plans)
    }

    fn with(host: Arc<FakeHost>, clock: Arc<ManualClock>, ledger: Arc<Ledger>, plans: &[Plan]) -> Self {
        *host.plans.lock().unwrap() = Some(Ok(plans.to_vec()));
        let (shared, time) = (Arc::clone(&host) as Arc<dyn Host>, Arc::clone(&clock) as Arc<dyn Clock>);
        let mut daemon = Daemon::new(shared, time, Arc::clone(&ledger), Limits::default());
        daemon.load().unwrap();
        Self { daemon, host, clock, ledger }
    }

    /// Drops the daemon as a crash does, and starts another one later.
    fn restart(self, at: &str, plans: &[Plan]) -> Self {
        let Self { daemon, host, clock, ledger } = self;
        drop(daemon);
        clock.set(parse_micros(at).unwrap());
        Self::with(host, clock, ledger, plans)
    }

    fn act(&self, pipeline: &str, acts: &[Act]) {
        self.host.acts.lock().unwrap().entry(pipeline.into()).or_default().extend(acts);
    }

    fn release(&self, pipeline: &str) {
        self.host.held.lock().unwrap()[pipeline].send_replace(true);
    }

    /// Takes turns until nothing more happens at this moment.
    async fn settle(&mut self) {
        loop {
            self.daemon.turn();
            let mut joined = false;
            while let Some(chore) = self.daemon.chores.join_next().await {
                self.daemon.chore_joined(chore);
                joined = true;
            }
            // Every task that can go on does, each up to twice: a run that was asked to stop, and its attempt.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            while let Some(run) = self.daemon.runs.try_join_next_with_id() {
                self.daemon.run_joined(run);
                joined = true;
            }
            if !joined {
                self.daemon.show();
                return;
            }
        }
    }

    /// Moves the clock and settles.
    async fn at(&mut self, time: &str) {
        self.clock.set(parse_micros(time).unwrap());
        self.settle().await;
    }

    async fn after(&mut self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.settle().await;
    }

    /// Changes the directory and lets the daemon see it settle.
    async fn change(&mut self, plans: std::result::Result<Vec<Plan>, &str>) {
        *self.host.plans.lock().unwrap() = Some(plans.map_err(str::to_owned));
        self.host.fingerprint.fetch_add(1, Ordering::SeqCst);
        self.after(2).await;
        self.after(2).await;
    }

    /// Takes the runs since the last call: pipeline and id.
    fn runs(&self) -> Vec<String> {
        let runs = std::mem::take(&mut *self.host.runs.lock().unwrap());
        runs.into_iter().map(|(name, run)| format!("{name} {}", run.id)).collect()
    }

    /// Takes the intervals of the runs since the last call.
    fn intervals(&self) -> Vec<String> {
        let runs = std::mem::take(&mut *self.host.runs.lock().unwrap());
        let shown = |(name, run): (String, RunContext)| {
            format!("{name} {} .. {}", format_micros(run.start), format_micros(run.end))
        };
        runs.into_iter().map(shown).collect()
    }

    fn alerts(&self) -> Vec<String> {
        std::mem::take(&mut *self.host.alerts.lock().unwrap())
    }

    fn left_out(&self) -> Vec<String> {
        let notices = std::mem::take(&mut *self.host.notices.lock().unwrap());
        let shown = |notice| match notice {
            Notice::LeftOut { first, last, why, .. } => Some(format!("{first} .. {last} {why:?}")),
            _ => None,
        };
        notices.into_iter().filter_map(shown).collect()
    }

    #[track_caller]
    fn state(&self, pipeline: &str) -> PipelineState {
        self.daemon.pipelines[pipeline].status().state
    }
}

fn plan(name: &str, when: When) -> Plan {
    Plan {
        name: name.into(),
        id: format!("id of {name}"),
        doc: None,
        file: Default::default(),
        span: Default::default(),
        trigger: Trigger {
            when,
            timezone: "UTC".into(),
            delay: Duration::ZERO,
            catchup: Catchup::None,
            overlap: Overlap::Skip,
            within: None,
            enabled: true,
        },
        streams: Vec::new(),
        nodes: Vec::new(),
        dead_letter: None,
        retry: RetryPlan { max: 0, ..RetryPlan::default() },
        alerts: Vec::new(),
        parameters: BTreeMap::new(),
        not_yet: Vec::new(),
    }
}

fn cron(name: &str, text: &str) -> Plan {
    plan(name, When::Cron(text.into()))
}

fn hourly() -> Plan {
    cron("p", "0 * * * *")
}

fn alert(settings: &[(&str, Value)]) -> AlertPlan {
    AlertPlan {
        connector: "webhook".into(),
        connection_name: "ops".into(),
        connection: Settings::default(),
        settings: Settings::new(settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone()))),
    }
}
