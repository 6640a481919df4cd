//! Whether new objects have arrived and settled. Pure.

use std::time::Duration;

/// How long arrivals settle where the trigger does not say.
const SETTLE: Duration = Duration::from_secs(10);

/// What has been seen of the objects that an `arrival` pipeline reads.
///
/// The fingerprint is a level, not an edge: what arrives while a run is on differs from what that run began with, so it
/// starts the next one. Nothing is known after a restart, so the first objects seen count as new; the run reads none
/// twice.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// What the last run began with.
    run: Option<String>,
    /// What differs from it, and since when it has stayed as it is.
    settling: Option<(String, Duration)>,
}

impl Arrivals {
    /// Takes a fingerprint at a monotonic time; returns whether a run is to start.
    pub(crate) fn seen(&mut self, fingerprint: Option<String>, settle: Option<Duration>, now: Duration) -> bool {
        let Some(fingerprint) = fingerprint else { return false };
        if self.run.as_ref() == Some(&fingerprint) {
            self.settling = None;
            return false;
        }
        match &self.settling {
            Some((settling, since)) if *settling == fingerprint => {
                if now.saturating_sub(*since) < settle.unwrap_or(SETTLE) {
                    return false;
                }
                self.settling = None;
                self.run = Some(fingerprint);
                true
            }
            _ => {
                self.settling = Some((fingerprint, now));
                false
            }
        }
    }

    /// Forgets what the last run began with: it did not end well, and what it saw is new again.
    pub(crate) fn forget(&mut self) {
        self.run = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_starts_when_arrivals_have_settled_and_once() {
        let mut arrivals = Arrivals::default();
        let settle = Some(Duration::from_secs(5));
        let mut seen = |second, name: &str| {
            arrivals.seen((!name.is_empty()).then(|| name.to_owned()), settle, Duration::from_secs(second))
        };
        assert!(!seen(0, ""), "nothing there");
        assert!(!seen(1, "a"));
        assert!(!seen(5, "a"), "four seconds");
        assert!(!seen(6, "ab"), "another arrives");
        assert!(!seen(10, "ab"));
        assert!(seen(11, "ab"));
        assert!(!seen(12, "ab"), "once");
        assert!(!seen(13, "abc"), "while the run is on");
        assert!(seen(18, "abc"));
    }

    #[test]
    fn a_failed_run_is_not_forgotten() {
        let mut arrivals = Arrivals::default();
        let mut see = |second, forget: bool| {
            if forget {
                arrivals.forget();
            }
            arrivals.seen(Some("a".into()), None, Duration::from_secs(second))
        };
        assert!(!see(0, false) && see(10, false) && !see(30, false));
        assert!(!see(31, true) && see(41, false));
    }
}
