//! The running replication connection: a task of its own reads what the server sends and answers it.
//!
//! The task stands between the server, which wants to hear from us, and the pipeline, which may be busy for long: while
//! its queue is full it stops reading, yet goes on reporting the acknowledged position, so that neither a slow sink nor
//! a huge transaction costs the connection. It never reports more than was acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use lakehead_core::{Clock, Error, Result};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::column::EPOCH_MICROS;
use crate::endpoint::Endpoint;
use crate::fault::{self, ServerError};
use crate::lsn::Lsn;
use crate::wire::{Wire, message_head, server_error};

/// How often the server hears from us at least; its own default patience is 60 s.
pub(crate) const FEEDBACK_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// Chunks in the queue; one holds what a read of up to 256 KiB brought, or one larger message.
const CHUNKS_MAX: usize = 16;
/// How long a server may be silent that is asked with every report: a connection cut without a word is noticed by this,
/// and a server that decodes one huge transaction is not mistaken for it.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// How soon after a report the server gets the next one where nothing has changed. A server that shuts down asks again
/// after every answer, thousands of times a second.
const ANSWER_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Requests for a report in a row, with no change and no movement of the log between, that mean a shutdown: otherwise a
/// server asks only whom it has not heard for half of its patience, and it hears from us more often.
const REQUESTS_MAX: u32 = 20;
/// A request that comes later than this after the one before is a new one.
const REQUEST_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often to look, while the queue is full and nothing is read, whether the server is shutting down. A connection
/// refused for that reason is the only sign then.
const SHUTDOWN_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How long a server may take to let a closed connection go.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The SQLSTATE of a server that shuts down or starts up.
const CANNOT_CONNECT_NOW: &str = "57P03";

#[derive(Clone, Copy, Debug)]
struct Standing {
    flushed: Lsn,
    is_closing: bool,
}

/// A running stream of changes.
#[derive(Debug)]
pub(crate) struct Feed {
    chunks: mpsc::Receiver<Result<Bytes>>,
    standing: watch::Sender<Standing>,
    task: JoinHandle<()>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Feed {
    /// Takes over a connection on which START_REPLICATION has been answered.
    ///
    /// `confirmed` is what the slot has confirmed already: the position reported until one is acknowledged.
    pub(crate) fn start(wire: Wire, confirmed: Lsn, interval: Duration, clock: Arc<dyn Clock>) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let (standing, heard) = watch::channel(Standing { flushed: confirmed, is_closing: false });
        let requests = Requests::default();
        let pump = Pump { wire, standing: heard, received: confirmed, interval, clock, requests };
        Self { chunks, standing, task: tokio::spawn(pump.run(sender)) }
    }

    /// Returns what has come already.
    pub(crate) fn try_next(&mut self) -> Result<Option<Bytes>> {
        match self.chunks.try_recv() {
            Ok(chunk) => chunk.map(Some),
            Err(mpsc::error::TryRecvError::Empty) => Ok(None),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(ended()),
        }
    }

    /// Waits for what comes next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Bytes> {
        self.chunks.recv().await.unwrap_or_else(|| Err(ended()))
    }

    /// Reports `flushed` as durable, now and from now on; an older position than before is ignored.
    pub(crate) fn acknowledge(&self, flushed: Lsn) {
        self.standing.send_if_modified(|standing| {
            let is_newer = standing.flushed < flushed;
            standing.flushed = standing.flushed.max(flushed);
            is_newer
        });
    }

    /// Closes the connection and waits until the server has let the slot go.
    pub(crate) async fn close(mut self, clock: &dyn Clock) {
        self.standing.send_modify(|standing| standing.is_closing = true);
        self.chunks.close();
        tokio::select! {
            _ = &mut self.task => {}
            () = clock.sleep(CLOSE_TIMEOUT) => {}
        }
    }
}

fn ended() -> Error {
    Error::external(fault::CONNECTION_LOST, "the stream of changes has ended")
}

struct Pump {
    wire: Wire,
    standing: watch::Receiver<Standing>,
    received: Lsn,
    interval: Duration,
    clock: Arc<dyn Clock>,
    requests: Requests,
}

impl Pump {
    async fn run(mut self, chunks: mpsc::Sender<Result<Bytes>>) {
        let (endpoint, clock) = (self.wire.endpoint().clone(), Arc::clone(&self.clock));
        let ended = tokio::select! {
            ended = self.pump(&chunks) => ended,
            error = shutdown(&chunks, &endpoint, &*clock) => Err(error),
        };
        // The connection goes first: a server that waits for it is not kept waiting by a full queue.
        drop(self);
        if let Err(error) = ended {
            // Nobody listens any more where the queue is closed.
            let _ = chunks.send(Err(error)).await;
        }
    }

    async fn pump(&mut self, chunks: &mpsc::Sender<Result<Bytes>>) -> Result<()> {
        // The first report asks for an answer: it says how far the log goes, also where nothing is waiting for us.
        self.report(true).await?;
        let mut heard_at = self.clock.monotonic();
        let mut reported_at = heard_at;
        let mut report_at = heard_at + self.interval;
        loop {
            let pause = report_at.saturating_sub(self.clock.monotonic());
            let occasion = tokio::select! {
                biased;
                changed = self.standing.changed() => match changed {
                    Ok(()) if !self.standing.borrow().is_closing => Occasion::Acknowledged,
                    _ => Occasion::HangUp,
                },
                () = self.clock.sleep(pause) => Occasion::Due,
                chunk = next_chunk(chunks, &mut self.wire) => chunk?,
            };
            let ask = match occasion {
                Occasion::HangUp => return self.hang_up().await,
                Occasion::Acknowledged => false,
                Occasion::Due => {
                    let now = self.clock.monotonic();
                    if chunks.capacity() == 0 {
                        // It is us who do not listen.
                        heard_at = now;
                    } else if now.saturating_sub(heard_at) > SILENCE_MAX {
                        return Err(ended().with("silent_for", format!("{SILENCE_MAX:?}")));
                    }
                    true
                }
                Occasion::Chunk(permit, chunk) => {
                    heard_at = self.clock.monotonic();
                    let survey = survey(&chunk)?;
                    self.received = self.received.max(survey.end);
                    let is_repeated = self.requests.count(&survey, heard_at)?;
                    permit.send(Ok(chunk));
                    if !survey.is_asked {
                        continue;
                    }
                    if is_repeated && heard_at < reported_at + ANSWER_INTERVAL_MIN {
                        report_at = report_at.min(reported_at + ANSWER_INTERVAL_MIN);
                        continue;
                    }
                    false
                }
            };
            self.report(ask).await?;
            reported_at = self.clock.monotonic();
            report_at = reported_at + self.interval;
        }
    }

    /// Sends a standby status update: received, flushed, applied.
    async fn report(&mut self, ask: bool) -> Result<()> {
        let flushed = self.standing.borrow_and_update().flushed;
        let mut message = BytesMut::with_capacity(39);
        message.put_u8(b'd');
        message.put_u32(38);
        message.put_u8(b'r');
        message.put_u64(self.received.max(flushed).0);
        message.put_u64(flushed.0);
        message.put_u64(flushed.0);
        message.put_i64(self.clock.now().saturating_sub(EPOCH_MICROS));
        message.put_u8(u8::from(ask));
        self.wire.send(&message).await
    }

    async fn hang_up(&mut self) -> Result<()> {
        self.report(false).await?;
        let mut message = BytesMut::new();
        postgres_protocol::message::frontend::terminate(&mut message);
        self.wire.send(&message).await?;
        tokio::select! {
            () = self.wire.drain() => {}
            () = self.clock.sleep(CLOSE_TIMEOUT) => {}
        }
        Ok(())
    }
}

/// Counts how often the server asks for a report without anything having happened.
///
/// On its way down a server waits until everything is confirmed, and what the lake has not taken in is not: it would wait
/// for as long as we answer.
#[derive(Debug, Default)]
struct Requests {
    end: Lsn,
    count: u32,
    last_at: Duration,
}

impl Requests {
    /// Takes a chunk into account; returns whether it only repeats a request, and fails after too many of them.
    fn count(&mut self, survey: &Survey, now: Duration) -> Result<bool> {
        if survey.has_changes || survey.end > self.end {
            *self = Self { end: self.end.max(survey.end), count: 0, last_at: now };
        }
        if !survey.is_asked {
            return Ok(false);
        }
        if now.saturating_sub(self.last_at) > REQUEST_PAUSE_MAX {
            self.count = 0;
        }
        self.count += 1;
        self.last_at = now;
        if self.count > REQUESTS_MAX {
            return Err(shutting_down());
        }
        Ok(self.count > 1)
    }
}

fn shutting_down() -> Error {
    Error::external(fault::CONNECTION_LOST, "the server is shutting down, and waits for the stream of changes to end")
        .help("the stream goes on behind the last checkpoint once the server is back")
}

/// Returns once the queue is full and the server refuses connections because it shuts down.
async fn shutdown(chunks: &mpsc::Sender<Result<Bytes>>, endpoint: &Endpoint, clock: &dyn Clock) -> Error {
    loop {
        clock.sleep(SHUTDOWN_CHECK_INTERVAL).await;
        if chunks.capacity() > 0 {
            continue;
        }
        if let Err(error) = Wire::connect(endpoint, clock).await
            && error.context().iter().any(|(name, value)| *name == "sqlstate" && value == CANNOT_CONNECT_NOW)
        {
            return shutting_down().caused_by(error);
        }
    }
}

/// What the task turns to next.
enum Occasion<'a> {
    /// A position was acknowledged.
    Acknowledged,
    /// It is time to report again.
    Due,
    HangUp,
    Chunk(mpsc::Permit<'a, Result<Bytes>>, Bytes),
}

/// Waits for room in the queue, then for bytes. Cancel-safe.
async fn next_chunk<'a>(chunks: &'a mpsc::Sender<Result<Bytes>>, wire: &mut Wire) -> Result<Occasion<'a>> {
    let Ok(permit) = chunks.reserve().await else {
        return Ok(Occasion::HangUp);
    };
    let chunk = wire.messages("streaming changes").await?;
    Ok(Occasion::Chunk(permit, chunk))
}

/// What a chunk is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Survey {
    /// How far the log is known to go.
    end: Lsn,
    /// Whether the server asks for a report.
    is_asked: bool,
    /// Whether there is anything but keepalives in it.
    has_changes: bool,
}

/// Looks through whole messages. Everything else about them is understood, or refused, in its place in the stream.
fn survey(chunk: &[u8]) -> Result<Survey> {
    let (mut survey, mut rest) = (Survey::default(), chunk);
    while let Some((length, letter)) = message_head(rest).map_err(fault::unreadable)? {
        let Some((message, tail)) = rest.split_at_checked(length) else {
            break;
        };
        if let (b'd', Some(b'k')) = (letter, message.get(5))
            && let Frame::Keepalive { end, is_asking } = frame(letter, &message[5..])?
        {
            survey.end = survey.end.max(end);
            survey.is_asked |= is_asking;
        } else {
            survey.has_changes = true;
        }
        rest = tail;
    }
    Ok(survey)
}

/// What one message of the running stream is.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    /// A message of pgoutput.
    Data(&'a [u8]),
    /// How far the log has been read, and whether an answer is due.
    Keepalive { end: Lsn, is_asking: bool },
    /// A notice or a changed parameter.
    Aside,
    /// The server gave up.
    Failure(ServerError),
}

/// Reads one message of the running stream. An unknown one is an error.
pub(crate) fn frame(letter: u8, body: &[u8]) -> Result<Frame<'_>> {
    let cut = || fault::unreadable("a frame of the stream is cut");
    match (letter, body.split_first()) {
        (b'd', Some((b'w', rest))) => Ok(Frame::Data(rest.get(24..).ok_or_else(cut)?)),
        (b'd', Some((b'k', rest))) => {
            let end = rest.first_chunk::<8>().ok_or_else(cut)?;
            let is_asking = rest.get(16).ok_or_else(cut)? == &1;
            Ok(Frame::Keepalive { end: Lsn(u64::from_be_bytes(*end)), is_asking })
        }
        (b'N' | b'S', _) => Ok(Frame::Aside),
        (b'E', _) => Ok(Frame::Failure(server_error(body))),
        _ => Err(fault::unreadable("the stream has a frame that is not known").with("letter", letter.escape_ascii())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keepalive(end: u64, asking: u8) -> Vec<u8> {
        let mut message = vec![b'd', 0, 0, 0, 22, b'k'];
        message.extend(end.to_be_bytes());
        message.extend(0_i64.to_be_bytes());
        message.push(asking);
        message
    }

    #[test]
    fn a_survey_finds_the_farthest_position_and_a_request_to_report() {
        let chunk = [keepalive(7, 0), keepalive(5, 1)].concat();
        let found = |end, is_asked| Survey { end: Lsn(end), is_asked, has_changes: false };
        assert_eq!(survey(&chunk).unwrap(), found(7, true));
        assert_eq!(survey(&keepalive(7, 0)).unwrap(), found(7, false));
        assert!(survey(&[b'd', 0, 0, 0, 5, b'w']).unwrap().has_changes);
    }

    #[test]
    fn requests_without_end_or_movement_mean_a_shutdown_and_anything_else_starts_the_count_anew() {
        let asked = Survey { end: Lsn(7), is_asked: true, has_changes: false };
        let mut requests = Requests::default();
        let changes = Survey { has_changes: true, is_asked: false, ..asked };
        for (between, now) in [(changes, 1), (Survey { end: Lsn(8), ..changes }, 1), (asked, 60)] {
            for _ in 0..REQUESTS_MAX {
                requests.count(&asked, Duration::from_secs(1)).unwrap();
            }
            assert!(!requests.count(&between, Duration::from_secs(now)).unwrap());
        }
        let quiet = Survey { is_asked: false, ..asked };
        let mut failed = Ok(false);
        for _ in 0..REQUESTS_MAX {
            assert!(failed.is_ok() && !requests.count(&quiet, Duration::from_secs(60)).unwrap());
            failed = requests.count(&asked, Duration::from_secs(60));
        }
        assert_eq!(failed.unwrap_err().code(), "R0311");
    }

    #[test]
    fn a_frame_that_is_not_known_is_an_error() {
        assert!(frame(b'd', b"x").is_err());
        assert!(frame(b'd', b"w123").is_err());
        assert!(frame(b'q', b"").is_err());
        assert!(matches!(frame(b'E', b"C55000\0\0").unwrap(), Frame::Failure(answer) if answer.code == "55000"));
    }
}
