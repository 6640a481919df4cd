//! One source in a task of its own, so that reading overlaps writing: a bounded queue of events one way, the durable
//! checkpoint the other.

use lakehead_core::{BatchBudget, Checkpoint, Error, Result, Source, SourceEvent};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const GONE: &str = "a source's task ended without an event";

/// Events that wait between a source and the engine: with batches of at most 16 MiB, 64 MiB for a source.
const QUEUE_EVENTS: usize = 4;

/// The engine's end of a source.
pub(crate) struct SourceTask {
    pub(crate) events: mpsc::Receiver<Result<SourceEvent>>,
    acknowledge: watch::Sender<Option<Checkpoint>>,
}

impl SourceTask {
    /// Moves an opened source into a task of `tasks`.
    pub(crate) fn start(source: Box<dyn Source>, tasks: &mut JoinSet<Result<()>>) -> Self {
        let (events_in, events) = mpsc::channel(QUEUE_EVENTS);
        let (acknowledge, acknowledged) = watch::channel(None);
        tasks.spawn(drive(source, events_in, acknowledged));
        Self { events, acknowledge }
    }

    /// Tells the source what is durable; it hears of the newest only.
    pub(crate) fn acknowledge(&self, durable: &Checkpoint) {
        self.acknowledge.send_replace(Some(durable.clone()));
    }
}

async fn drive(
    mut source: Box<dyn Source>,
    events: mpsc::Sender<Result<SourceEvent>>,
    mut acknowledged: watch::Receiver<Option<Checkpoint>>,
) -> Result<()> {
    let mut ended = false;
    loop {
        let waiting = async {
            if ended {
                // Only acknowledgements are still to come.
                std::future::pending::<()>().await;
            }
            let permit = events.reserve().await.map_err(|_| ())?;
            Ok::<_, ()>((permit, source.next(BatchBudget::default()).await))
        };
        let next = tokio::select! {
            biased;
            changed = acknowledged.changed() => match changed {
                Ok(()) => None,
                Err(_) => break,
            },
            next = waiting => Some(next),
            () = events.closed() => break,
        };
        match next {
            None => acknowledge(source.as_mut(), &mut acknowledged).await?,
            Some(Err(())) => break,
            Some(Ok((permit, event))) => {
                ended = matches!(event, Ok(SourceEvent::End) | Err(_));
                permit.send(event);
            }
        }
    }
    acknowledge(source.as_mut(), &mut acknowledged).await?;
    source.close().await
}

async fn acknowledge(source: &mut dyn Source, acknowledged: &mut watch::Receiver<Option<Checkpoint>>) -> Result<()> {
    let durable = acknowledged.borrow_and_update().clone();
    match durable {
        Some(durable) => source.acknowledge(&durable).await,
        None => Ok(()),
    }
}

/// What a task that ended without a word means.
pub(crate) fn gone() -> Error {
    Error::bug(GONE)
}

/// Returns whether an error only says that a source's task ended.
pub(crate) fn is_gone(error: &Error) -> bool {
    error.message() == GONE
}
