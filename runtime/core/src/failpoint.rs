//! Named places where a test makes the process die, fail or wait.
//!
//! A failpoint costs one atomic load while none is armed. The command line arms them from the hidden variable
//! `LAKEHEAD_FAILPOINTS` (`name=abort`, `name=error`, `name=delay(50)`, each with an optional count of hits to let pass:
//! `name=2*abort`; several joined by `;`), so that the binary under test is the binary that ships.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::{Clock, Error, Result, SystemClock};

static ARMED: AtomicBool = AtomicBool::new(false);
static POINTS: Mutex<Option<HashMap<String, Point>>> = Mutex::new(None);

#[derive(Clone, Debug)]
struct Point {
    passes: u32,
    action: Action,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Abort,
    Error,
    Delay(Duration),
}

/// Arms the failpoints of `text`; an empty text disarms all. Returns the part that could not be read.
pub fn configure(text: &str) -> std::result::Result<(), String> {
    let mut points = HashMap::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, action) = part.split_once('=').ok_or_else(|| part.to_owned())?;
        let (passes, action) = match action.split_once('*') {
            Some((count, action)) => (count.parse().map_err(|_| part.to_owned())?, action),
            None => (0, action),
        };
        let action = parse_action(action).ok_or_else(|| part.to_owned())?;
        points.insert(name.trim().to_owned(), Point { passes, action });
    }
    ARMED.store(!points.is_empty(), Ordering::SeqCst);
    *POINTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(points);
    Ok(())
}

fn parse_action(text: &str) -> Option<Action> {
    match text.trim() {
        "abort" => Some(Action::Abort),
        "error" => Some(Action::Error),
        other => {
            let millis = other.strip_prefix("delay(")?.strip_suffix(')')?;
            Some(Action::Delay(Duration::from_millis(millis.parse().ok()?)))
        }
    }
}

/// Passes the failpoint `name`: returns at once unless a test armed it.
pub async fn hit(name: &str) -> Result<()> {
    if !ARMED.load(Ordering::Relaxed) {
        return Ok(());
    }
    match take(name) {
        None => Ok(()),
        Some(Action::Abort) => std::process::abort(),
        Some(Action::Error) => Err(Error::external("R0003", "a failpoint failed").with("failpoint", name)),
        Some(Action::Delay(duration)) => {
            SystemClock::default().sleep(duration).await;
            Ok(())
        }
    }
}

fn take(name: &str) -> Option<Action> {
    let mut points = POINTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let point = points.as_mut()?.get_mut(name)?;
    if point.passes > 0 {
        point.passes -= 1;
        return None;
    }
    let action = point.action;
    if matches!(action, Action::Error) {
        points.as_mut()?.remove(name);
    }
    Some(action)
}
