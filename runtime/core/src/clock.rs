//! Time, read in one place, so that a test can hold it still.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

/// The only way to read the time or to wait.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    /// Returns the wall clock in microseconds since the epoch, UTC. It may jump.
    fn now(&self) -> Micros;
    /// Returns a time that never goes back, for ages and timeouts.
    fn monotonic(&self) -> Duration;
    /// Returns when at least `duration` has passed. Cancel-safe.
    async fn sleep(&self, duration: Duration);
}

/// The clock of the machine.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    fn default() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Micros {
        chrono::Utc::now().timestamp_micros()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that waits on the machine's clock")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock that moves only when a test says so.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
    start: Micros,
    moved: Notify,
}

impl ManualClock {
    /// Creates a clock that stands at `now`.
    pub fn at(now: Micros) -> Self {
        Self { now: AtomicI64::new(now), start: now, moved: Notify::new() }
    }

    /// Moves the clock forward and wakes every sleeper whose time has come.
    pub fn advance(&self, duration: Duration) {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        self.now.fetch_add(micros, Ordering::SeqCst);
        self.moved.notify_waiters();
    }

    /// Sets the wall clock, also backwards.
    pub fn set(&self, now: Micros) {
        self.now.store(now, Ordering::SeqCst);
        self.moved.notify_waiters();
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Micros {
        self.now.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.now() - self.start).unwrap_or(0))
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.now().saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX));
        loop {
            let moved = self.moved.notified();
            if self.now() >= until {
                return;
            }
            moved.await;
        }
    }
}

/// Writes a time as `2026-05-01T10:00:00Z`, with a fraction only where there is one.
pub fn format_micros(at: Micros) -> String {
    chrono::DateTime::from_timestamp_micros(at)
        .map_or_else(|| format!("{at} us"), |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

/// Reads an RFC 3339 time, or a date, which begins at midnight UTC.
pub fn parse_micros(text: &str) -> Option<Micros> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    let spaced = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f");
    if let Ok(time) = spaced {
        return Some(time.and_utc().timestamp_micros());
    }
    let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_on_the_manual_clock_wakes_when_its_time_has_come() {
        let clock = std::sync::Arc::new(ManualClock::at(0));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(5)).await }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(4));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for text in ["2026-05-01T10:00:00Z", "2026-05-01T10:00:00.250Z", "1969-12-31T23:59:59.999999Z"] {
            assert_eq!(format_micros(parse_micros(text).unwrap()), text);
        }
        assert_eq!(parse_micros("2026-05-01").unwrap(), parse_micros("2026-05-01T00:00:00Z").unwrap());
        assert_eq!(parse_micros("yesterday"), None);
    }
}
