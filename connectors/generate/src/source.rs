//! The source itself.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use lakehead_core::{
    BatchBudget, ChangeBatch, Checkpoint, Discovery, Error, Micros, OP, Op, POSITION, Result, Settings, Source,
    SourceEvent, SourceSpec, TableSpec, Value, reserved_field,
};
use serde::{Deserialize, Serialize};

use crate::changes::{Change, Mix};
use crate::rule::Column;

/// Rows of a batch at most, so that rounds can be cut between them.
const BATCH_ROWS_MAX: u64 = 1000;
/// The shortest wait for rows of an endless source: not one wake-up per row.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The column that `add_column_at` adds.
const ADDED: &str = "note";

/// Where the source stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// The ordinal of the next row.
    next: u64,
    /// The ordinal behind the last row of the run that the position was taken in; 0 for an endless source.
    #[serde(default)]
    end: u64,
    /// That run's name: a run that starts again goes on to its own end, and makes no second set of rows.
    #[serde(default)]
    run: String,
}

/// Makes rows.
pub(crate) struct GenerateSource {
    spec: SourceSpec,
    columns: Vec<Column>,
    added: Option<Column>,
    seed: u64,
    rows: u64,
    rate: Option<u64>,
    mix: Option<Mix>,
    place: Place,
    /// Whether the schema that is known downstream has the added column.
    has_added: bool,
    /// What has been delivered since the last `Progress`.
    delivered: bool,
    caught_up: bool,
    ended: bool,
    /// When the endless source began, and the ordinal it began with.
    began: (Duration, u64),
}

impl GenerateSource {
    /// Builds the source.
    pub(crate) fn new(spec: SourceSpec) -> Result<Self> {
        let settings = &spec.settings;
        let mut columns = columns(settings)?;
        let mix = Mix::parse(settings)?;
        let mut added = None;
        if let Some(mix) = &mix {
            if !columns.iter().any(|column| column.name() == mix.key) {
                return Err(Error::user("R0503", "the setting `changes` cannot be carried out")
                    .with("reason", format!("its key `{}` is not a column", mix.key)));
            }
            if mix.add_column_at.is_some() {
                columns.retain(|column| column.name() != ADDED);
                added = Some(Column::parse(ADDED, &Value::Call("sentence".into(), vec![Value::Int(3)]))?);
            }
        }
        let rate = match settings.get("rate") {
            Some(Value::Int(rate)) if *rate > 0 => Some(rate.cast_unsigned()),
            None => None,
            Some(_) => return Err(Error::user("R0504", "`rate` must be a number of rows above 0")),
        };
        let rows = u64::try_from(settings.int_or("rows", 1000))
            .map_err(|_| Error::user("R0504", "`rows` must be a number of rows, 0 or more"))?;
        let table = spec.tables.first();
        let has_added = table.is_some_and(|table| table.schema.field_with_name(ADDED).is_ok());
        let seed = settings.int_or("seed", 1).cast_unsigned();
        Ok(Self {
            spec,
            columns,
            added,
            seed,
            rows,
            rate,
            mix,
            place: Place::default(),
            has_added,
            delivered: false,
            caught_up: false,
            ended: false,
            began: (Duration::ZERO, 0),
        })
    }

    fn table(&self) -> String {
        self.spec.tables.first().map_or_else(|| self.spec.node.clone(), |table| table.name.clone())
    }

    /// What `recent` counts back from: the run's end, so that a run repeated makes the same rows; else the time.
    fn end(&self) -> Micros {
        if self.rate.is_none() && self.spec.run.end != 0 { self.spec.run.end } else { self.spec.clock.now() }
    }

    fn column_appears_at(&self) -> Option<u64> {
        self.mix.as_ref().and_then(|mix| mix.add_column_at)
    }

    /// Returns how many rows may be made now.
    fn due(&self) -> u64 {
        let Some(rate) = self.rate else { return self.place.end.saturating_sub(self.place.next) };
        let elapsed = self.spec.clock.monotonic().saturating_sub(self.began.0).as_micros();
        let due = elapsed * u128::from(rate) / 1_000_000;
        let made = self.place.next - self.began.1;
        u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(made)
    }

    /// Returns how long it takes until the next row is due.
    fn pause(&self) -> Duration {
        let rate = u128::from(self.rate.unwrap_or(1));
        let made = u128::from(self.place.next - self.began.1);
        let due_at = ((made + 1) * 1_000_000).div_ceil(rate);
        let due_at = self.began.0 + Duration::from_micros(u64::try_from(due_at).unwrap_or(u64::MAX));
        due_at.saturating_sub(self.spec.clock.monotonic()).max(PAUSE_MIN)
    }

    fn batch(&mut self, rows: u64) -> Result<ChangeBatch> {
        let ordinals: Vec<u64> = (self.place.next..self.place.next + rows).collect();
        let rows = match &self.mix {
            None => self.plain(&ordinals)?,
            Some(mix) => {
                let changes: Vec<Change> = ordinals.iter().map(|at| mix.at(self.seed, *at)).collect();
                self.changes(&ordinals, &changes, &mix.key)?
            }
        };
        self.place.next += ordinals.len() as u64;
        self.delivered = true;
        self.caught_up = false;
        Ok(ChangeBatch { table: self.table(), rows })
    }

    fn plain(&self, ordinals: &[u64]) -> Result<RecordBatch> {
        let at: Vec<Option<u64>> = ordinals.iter().copied().map(Some).collect();
        let columns: Result<Vec<ArrayRef>> =
            self.columns.iter().map(|column| column.values(self.seed, &at, self.end())).collect();
        Ok(RecordBatch::try_new(self.schema(), columns?)?)
    }

    fn changes(&self, ordinals: &[u64], changes: &[Change], key: &str) -> Result<RecordBatch> {
        let keys: Vec<Option<u64>> = changes.iter().map(|change| Some(change.made_at)).collect();
        let others: Vec<Option<u64>> = ordinals
            .iter()
            .zip(changes)
            .map(|(at, change)| (change.op != Op::Delete && !change.bad).then_some(*at))
            .collect();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for column in self.live_columns() {
            let at = if column.name() == key { &keys } else { &others };
            columns.push(column.values(self.seed, at, self.end())?);
        }
        let mut fields: Vec<_> = self.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(reserved_field(OP)));
        columns.push(Arc::new(changes.iter().map(|change| Some(change.op.letter())).collect::<StringArray>()));
        fields.push(Arc::new(reserved_field(POSITION)));
        columns.push(Arc::new(ordinals.iter().map(|at| Some(format!("{at:020}"))).collect::<StringArray>()));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    fn live_columns(&self) -> impl Iterator<Item = &Column> {
        let added = self.added.as_ref().filter(|_| self.has_added);
        self.columns.iter().chain(added)
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.live_columns().map(Column::field).collect::<Vec<_>>()))
    }

    fn progress(&mut self) -> Result<SourceEvent> {
        self.delivered = false;
        let text = serde_json::to_string(&self.place)
            .map_err(|error| Error::bug("a position is not JSON").caused_by(error))?;
        let mut checkpoint = Checkpoint::default();
        checkpoint.set(&self.spec.node, text);
        Ok(SourceEvent::Progress(checkpoint))
    }
}

#[async_trait]
impl Source for GenerateSource {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        let found: Place = match from.get(&self.spec.node) {
            None => Place { run: self.spec.run.id.clone(), end: self.rows, next: 0 },
            Some(text) => serde_json::from_str(text).map_err(|error| {
                Error::incident("R0505", "the position is not one of a generated source")
                    .with("node", &self.spec.node)
                    .caused_by(error)
            })?,
        };
        self.place = if self.rate.is_some() {
            Place { next: found.next, ..Place::default() }
        } else if found.run == self.spec.run.id && found.end >= found.next {
            found
        } else {
            Place { next: found.next, end: found.next.saturating_add(self.rows), run: self.spec.run.id.clone() }
        };
        self.began = (self.spec.clock.monotonic(), self.place.next);
        Ok(())
    }

    async fn next(&mut self, budget: BatchBudget) -> Result<SourceEvent> {
        if let Some(at) = self.column_appears_at()
            && self.place.next >= at
            && !self.has_added
        {
            self.has_added = true;
            return Ok(SourceEvent::Schema { table: self.table(), schema: self.schema() });
        }
        if self.delivered {
            return self.progress();
        }
        loop {
            let budget_rows = u64::try_from(budget.rows_max).unwrap_or(u64::MAX).clamp(1, BATCH_ROWS_MAX);
            let mut rows = self.due().min(budget_rows);
            if let Some(at) = self.column_appears_at()
                && self.place.next < at
            {
                rows = rows.min(at - self.place.next);
            }
            if rows > 0 {
                return Ok(SourceEvent::Changes(self.batch(rows)?));
            }
            if self.rate.is_none() {
                if self.ended {
                    return Ok(SourceEvent::End);
                }
                self.ended = true;
                return self.progress();
            }
            if !self.caught_up && self.place.next > self.began.1 {
                self.caught_up = true;
                return Ok(SourceEvent::CaughtUp);
            }
            self.spec.clock.sleep(self.pause()).await;
        }
    }

    async fn acknowledge(&mut self, _durable: &Checkpoint) -> Result<()> {
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

fn columns(settings: &Settings) -> Result<Vec<Column>> {
    let Some(Value::Map(pairs)) = settings.get("columns") else {
        return Err(Error::user("R0502", "a generated source needs its columns")
            .help("columns = { id = sequence(), name = name() }"));
    };
    pairs.iter().map(|(name, value)| Column::parse(name, value)).collect()
}

/// Returns the declared columns.
pub(crate) async fn discover(discovery: &Discovery) -> Result<Vec<TableSpec>> {
    let columns = columns(&discovery.settings)?;
    let schema = Arc::new(Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>()));
    let key = Mix::parse(&discovery.settings)?.map(|mix| mix.key).into_iter().collect();
    Ok(vec![TableSpec { name: discovery.node.clone(), schema, key }])
}
