//! Rows as requests.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use lakehead_core::{Error, Mark, Outcome, Prepared, Result, Sink, SinkPosition, SinkSpec};
use reqwest::Client;

use crate::lines::{json_lines, shown};
use crate::post::{Address, client, post};
use crate::round::{Rounds, texts};

/// Posts each committed round's rows, one request a row, in their order.
pub(crate) struct WebhookSink {
    spec: SinkSpec,
    address: Address,
    client: Option<Client>,
    rounds: Rounds,
    /// The round under way, and how many of its rows were taken: a retry goes on behind them.
    taken: (u64, usize),
}

impl WebhookSink {
    /// Builds the sink; posts nothing.
    pub(crate) fn new(spec: SinkSpec) -> Result<Self> {
        let url = spec
            .connection
            .secret("url")
            .ok_or_else(|| Error::bug("a required setting is missing").with("setting", "url"))?;
        let address = Address::parse(url)?;
        let rounds = Rounds::new(&address.shown());
        Ok(Self { spec, address, client: None, rounds, taken: (0, 0) })
    }

    /// Names a row: the same for the same row however often it is posted, and no other's. Where nothing keeps the
    /// pipeline's position (no fence), each run counts its rounds anew.
    fn key(&self, mark: Mark, ordinal: usize) -> String {
        let run = if mark.fence == 0 { format!("{}/", self.spec.run.id) } else { String::new() };
        format!("{}/{}/{run}{}/{ordinal}", self.spec.pipeline, self.spec.node, mark.seq)
    }

    fn client(&mut self) -> Result<Client> {
        let client = match self.client.take() {
            Some(client) => client,
            None => client()?,
        };
        self.client = Some(client.clone());
        Ok(client)
    }
}

#[async_trait]
impl Sink for WebhookSink {
    async fn open(&mut self, fence: u64) -> Result<SinkPosition> {
        self.rounds.open(fence)
    }

    async fn evolve(&mut self, schema: &SchemaRef) -> Result<()> {
        self.spec.schema = SchemaRef::clone(schema);
        Ok(())
    }

    async fn stage(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = shown(&rows, &self.spec.schema)?;
        self.rounds.add(json_lines(&rows)?, rows.num_rows())
    }

    /// What was posted stays posted; rows of the open round before this are dropped.
    async fn truncate(&mut self) -> Result<()> {
        self.abort().await
    }

    async fn prepare(&mut self) -> Result<Option<Prepared>> {
        Ok(self.rounds.prepare(&self.spec.table))
    }

    async fn commit(&mut self, prepared: &Prepared, mark: Mark) -> Result<Outcome> {
        if let Some(outcome) = self.rounds.outcome(mark) {
            return Ok(outcome);
        }
        if self.taken.0 != mark.seq {
            self.taken = (mark.seq, 0);
        }
        let client = self.client()?;
        for (ordinal, row) in texts(prepared)?.into_iter().enumerate().skip(self.taken.1) {
            let key = self.key(mark, ordinal);
            post(&client, &self.address, row, Some(&key)).await?;
            self.taken.1 = ordinal + 1;
        }
        Ok(self.rounds.written(mark))
    }

    async fn abort(&mut self) -> Result<()> {
        self.rounds.clear();
        Ok(())
    }
}
