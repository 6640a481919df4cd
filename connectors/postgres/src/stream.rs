//! The running stream: messages in, deliveries out, and the question whether anything is waiting.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use lakehead_core::{BatchBudget, Clock, Error, Result, SourceEvent};

use crate::catalog::Scope;
use crate::endpoint::Endpoint;
use crate::fault;
use crate::feed::{Feed, Frame, frame};
use crate::lsn::Lsn;
use crate::names::Patterns;
use crate::pgoutput::{self, Message, Relation};
use crate::session::Session;
use crate::slot;
use crate::transaction::{Assembler, Delivery, Described};
use crate::type_map::TypeMap;
use crate::wire::message_head;

/// A running stream of changes.
#[derive(Debug)]
pub(crate) struct Stream {
    feed: Feed,
    assembler: Assembler,
    lookup: Lookup,
    /// Whole messages that have come and are not taken in yet.
    chunk: Bytes,
    /// How far the log went when the source was opened; zero once that has been reached.
    target: Lsn,
    /// The server said, since the last change, that nothing is waiting.
    is_idle: bool,
    said_caught_up: bool,
    said_progress: bool,
    /// Why nothing can be read on; said once what came before has been delivered.
    failure: Option<Error>,
}

impl Stream {
    /// Puts a stream together; it has caught up for the first time at `target`.
    pub(crate) fn new(feed: Feed, assembler: Assembler, lookup: Lookup, target: Lsn) -> Self {
        Self {
            feed,
            assembler,
            lookup,
            chunk: Bytes::new(),
            target,
            is_idle: false,
            said_caught_up: false,
            said_progress: false,
            failure: None,
        }
    }

    /// Learns that a `Progress` was handed out before the stream began.
    pub(crate) fn progress_was_said(&mut self) {
        self.said_progress = true;
    }

    /// Reports a position as durable.
    pub(crate) fn acknowledge(&self, position: Lsn) {
        self.feed.acknowledge(position);
    }

    /// Closes the connection and waits until the server has let the slot go.
    pub(crate) async fn close(self) {
        self.feed.close(&*self.lookup.clock).await;
    }

    /// Returns what comes next. Cancel-safe: a message is taken off the chunk once it is taken in.
    pub(crate) async fn next(&mut self, budget: BatchBudget) -> Result<Delivery> {
        loop {
            if let Some(delivery) = self.assembler.take() {
                match delivery {
                    Delivery::Event(_) => (self.is_idle, self.said_caught_up) = (false, false),
                    Delivery::Progress(_) => self.said_progress = true,
                }
                return Ok(delivery);
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.assembler.is_full(budget) {
                self.assembler.flush()?;
            } else if !self.chunk.is_empty() {
                self.take_in().await?;
            } else if let Some(chunk) = self.feed.try_next()? {
                self.chunk = chunk;
            } else if !self.assembler.is_open() && self.assembler.has_pending() {
                self.assembler.flush()?;
            } else if let Some(delivery) = self.quiet() {
                return Ok(delivery);
            } else {
                self.chunk = self.feed.next().await?;
            }
        }
    }

    /// Returns `CaughtUp` once per quiet time, behind a `Progress`.
    ///
    /// The first time is when the position of opening has been reached; later it is the server that says when nothing
    /// waits.
    fn quiet(&mut self) -> Option<Delivery> {
        let done = self.assembler.done();
        let is_first = self.target > Lsn::default();
        if self.assembler.is_open() || self.said_caught_up || done < self.target || !(is_first || self.is_idle) {
            return None;
        }
        if !self.said_progress {
            self.said_progress = true;
            return Some(Delivery::Progress(done));
        }
        self.target = Lsn::default();
        self.said_caught_up = true;
        Some(Delivery::Event(SourceEvent::CaughtUp))
    }

    /// Takes in the message at the head of the chunk.
    async fn take_in(&mut self) -> Result<()> {
        let cut = || fault::unreadable("a message of the stream is cut");
        let (length, letter) = message_head(&self.chunk).map_err(fault::unreadable)?.ok_or_else(cut)?;
        if length > self.chunk.len() {
            return Err(cut());
        }
        let message = self.chunk.slice(5..length);
        match frame(letter, &message)? {
            Frame::Data(data) => match pgoutput::parse(data)? {
                Message::Relation(relation) => {
                    if let Err(error) = self.describe(&relation).await {
                        // What was collected is as right as it was before the table changed.
                        self.assembler.give_up()?;
                        self.failure = Some(error);
                        return Ok(());
                    }
                }
                change => self.assembler.apply(&change)?,
            },
            Frame::Keepalive { end, .. } => {
                self.assembler.nothing_until(end);
                self.is_idle = !self.assembler.is_open();
            }
            Frame::Aside => {}
            Frame::Failure(answer) => return Err(self.lookup.failure(answer)),
        }
        self.chunk.advance(length);
        Ok(())
    }

    /// Takes in the columns of a table of ours; what another's columns are is never asked.
    async fn describe(&mut self, relation: &Relation<'_>) -> Result<()> {
        if !self.assembler.recognize(&format!("{}.{}", relation.schema, relation.table), relation.oid)? {
            return Ok(());
        }
        let described = self.lookup.describe(relation).await?;
        self.assembler.describe(described)
    }
}

/// What the stream itself does not say: types that are not built in, and which columns are left out.
#[derive(Debug)]
pub(crate) struct Lookup {
    endpoint: Endpoint,
    clock: Arc<dyn Clock>,
    slot: String,
    excluded: Patterns,
    types: TypeMap,
}

impl Lookup {
    /// Creates a lookup that knows the built-in types.
    pub(crate) fn new(endpoint: Endpoint, clock: Arc<dyn Clock>, slot: String, excluded: Patterns) -> Self {
        Self { endpoint, clock, slot, excluded, types: TypeMap::default() }
    }

    /// Looks up the types of a relation; only types that are not built in need the catalogue.
    async fn describe(&mut self, relation: &Relation<'_>) -> Result<Described> {
        let name = format!("{}.{}", relation.schema, relation.table);
        let oids: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
        if oids.iter().any(|oid| !self.types.knows(*oid)) {
            let session = Session::connect(&self.endpoint, &self.clock).await?;
            self.types.load(&session, oids).await?;
        }
        let scope = Scope { changes: true, excluded: &self.excluded };
        let columns = relation.columns.iter().map(|column| {
            if scope.excludes(&name, column.name) {
                return Ok(None);
            }
            let kind = self.types.kind(column.type_oid, column.typmod);
            let kind = kind.map_err(|refusal| refusal.in_column(&name, column.name))?;
            scope.require_name(&name, column.name, &kind)?;
            Ok(Some((column.name.to_owned(), kind, column.is_key)))
        });
        let columns = columns.collect::<Result<_>>()?;
        Ok(Described { oid: relation.oid, name, identity: relation.identity, columns })
    }

    /// Says what it means that the server ended the stream.
    fn failure(&self, answer: fault::ServerError) -> Error {
        let code = answer.code.clone();
        let error = answer.into_error(&self.endpoint, "streaming changes");
        match code.as_str() {
            "42704" => Error::incident(
                fault::PUBLICATION_MISSING,
                "the publication was not there when a change was made",
            )
            .with("slot", &self.slot)
            .help("create the publication before the slot; a slot made earlier never sees it: lakehead resync PIPELINE")
            .caused_by(error),
            "55000" | "58P01" => slot::lost(&self.slot, "was invalidated").caused_by(error),
            _ => error,
        }
    }
}
