//! Alerts on lag (`lag_over`) and on rows set aside (`dead_letters_over`).

use std::time::Duration;

use super::Daemon;
use crate::freshness::{Crossing, Rows, Tolerance};
use lakehead_plan::When;

impl Daemon {
    /// Tells of pipelines that crossed a bound since the last turn.
    pub(super) fn look_after_freshness(&mut self, ticks: Duration) {
        for name in self.names() {
            self.look_after_lag(&name, ticks);
            self.look_after_rows(&name, ticks);
        }
    }

    fn look_after_lag(&mut self, name: &str, ticks: Duration) {
        let Some(pipeline) = self.pipelines.get_mut(name) else { return };
        let trigger = &pipeline.plan.trigger;
        if !trigger.enabled || trigger.when == When::Manual {
            return;
        }
        // Tables that runs fill are as fresh as the last run that succeeded.
        let lag = match trigger.when {
            When::Continuous => pipeline.counters.lag(ticks),
            _ => ticks.saturating_sub(pipeline.fresh_at),
        };
        let mut bounds: Vec<Duration> =
            pipeline.plan.alerts.iter().filter_map(|alert| alert.settings.duration("lag_over")).collect();
        bounds.sort();
        bounds.dedup();
        for bound in bounds {
            let Some(pipeline) = self.pipelines.get_mut(name) else { return };
            let text = match pipeline.freshness.lag(lag, bound) {
                None => continue,
                Some(Crossing::Late) => format!(
                    "pipeline `{name}` lags: its tables are {} s behind, more than {} s",
                    lag.as_secs(),
                    bound.as_secs()
                ),
                Some(Crossing::Back) => format!("pipeline `{name}` no longer lags by more than {} s", bound.as_secs()),
            };
            self.alert(name, &text, |settings| settings.duration("lag_over") == Some(bound));
        }
    }

    fn look_after_rows(&mut self, name: &str, ticks: Duration) {
        let Some(pipeline) = self.pipelines.get_mut(name).filter(|pipeline| pipeline.is_continuous()) else { return };
        let Some(rows) = pipeline.freshness.window(pipeline.counters.rows(), ticks) else { return };
        if self.too_many_rejected(name, "in the last minutes", rows)
            && let Some(pipeline) = self.pipelines.get_mut(name)
        {
            pipeline.freshness.told();
        }
    }

    /// Judges the rows of a run that ended.
    pub(super) fn judge_run(&mut self, name: &str, run: &str, rows: Rows) {
        self.too_many_rejected(name, &format!("in run {run}"), rows);
    }

    /// Tells those whose bound is crossed; returns whether there were any.
    fn too_many_rejected(&mut self, name: &str, when: &str, rows: Rows) -> bool {
        let exceeded = |tolerance: Tolerance| tolerance.is_exceeded(rows);
        let Some(pipeline) = self.pipelines.get(name) else { return false };
        if !pipeline.plan.alerts.iter().any(|alert| Tolerance::of(&alert.settings).is_some_and(exceeded)) {
            return false;
        }
        let text = format!("pipeline `{name}` set {} of {} rows aside {when}", rows.rejected, rows.read);
        self.alert(name, &text, |settings| Tolerance::of(settings).is_some_and(exceeded));
        true
    }
}
