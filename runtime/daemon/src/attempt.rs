//! One attempt of a run: it ends by itself, when it is asked to stop, or when its time is up.

use std::sync::Arc;
use std::time::Duration;

use lakehead_core::{Clock, Error, Result, RunContext};
use lakehead_engine::{Observer, Stop, Summary};
use lakehead_plan::Plan;
use tokio::sync::watch;

use crate::host::Host;

/// How long an attempt whose time is up may take to reach a consistent point before it is dropped.
const GRACE: Duration = Duration::from_secs(30);

/// Everything an attempt is given.
pub(crate) struct Attempt {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) run: RunContext,
    pub(crate) timeout: Option<Duration>,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Attempt {
    /// Runs the attempt. One that is dropped leaves the lake at a complete round, as a crash does.
    pub(crate) async fn run(self, mut stop: Stop) -> Result<Summary> {
        let (inner_stop, inner) = watch::channel(*stop.borrow());
        let mut run = self.host.run(&self.plan, self.run.clone(), inner, Arc::clone(&self.observer));
        let mut time_is_up = false;
        let mut heard = *stop.borrow();
        loop {
            let limit = match self.timeout {
                Some(_) if time_is_up => Some(GRACE),
                timeout => timeout,
            };
            let patience = async {
                match limit {
                    Some(limit) => self.clock.sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                outcome = &mut run => return match outcome {
                    Ok(summary) if time_is_up && summary.stopped => Err(self.late()),
                    outcome => outcome,
                },
                changed = stop.changed(), if !heard => {
                    heard = true;
                    inner_stop.send_replace(changed.is_err() || *stop.borrow());
                }
                () = patience => {
                    if time_is_up {
                        return Err(self.late());
                    }
                    time_is_up = true;
                    inner_stop.send_replace(true);
                }
            }
        }
    }

    fn late(&self) -> Error {
        Error::external("R1005", "an attempt took longer than it may")
            .with("pipeline", &self.plan.name)
            .with("run", &self.run.id)
            .with("timeout_seconds", self.timeout.unwrap_or_default().as_secs())
            .help("retry { timeout = 2h }   in the pipeline gives it longer")
    }
}
