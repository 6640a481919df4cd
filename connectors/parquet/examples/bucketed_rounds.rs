//! Commits rounds to each of three tables in buckets, for readers of other houses to look at:
//!
//! ```text
//! cargo run -p lakehead-parquet --example bucketed_rounds -- FOLDER HASH ROUND
//! cargo run -p lakehead-parquet --example bucketed_rounds -- FOLDER HASH FIRST LAST parquet
//! ```
//!
//! Of several rounds the small files are merged meanwhile; `parquet` or `orc` is what the files are.
//!
//! `FOLDER/plain` is in 16 buckets of `id`, `FOLDER/parts` partitioned by `day` and in 5 buckets of `name`, `FOLDER/pairs`
//! in 5 buckets of `name` and `amount`.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lakehead_core::{
    Connector, Error, ManualClock, Mark, Patience, Result, RunContext, Settings, SinkSpec, Value, WriteMode,
};
use lakehead_parquet::{CONNECTOR, ORC};

/// Rows of a round.
const ROWS: i64 = 3000;

fn schema() -> SchemaRef {
    let fields = [
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("amount", DataType::Decimal128(20, 4)),
        ("day", DataType::Date32),
    ];
    Arc::new(Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()))
}

fn rows(round: i64) -> Result<RecordBatch> {
    let numbers = || (0..ROWS).map(|n| n * 31 + round * 7);
    let ids: Int64Array = numbers().map(|n| (n % 100 != 0).then(|| (n * 2_654_435_761) % 5000 - 2500)).collect();
    let name =
        |n: i64| (n % 11 != 0).then(|| ["", "é", "日本語", "ab😀", "Grüße"][(n % 5).unsigned_abs() as usize].repeat(2));
    let names: StringArray = numbers().map(name).collect();
    let amounts: Decimal128Array = numbers().map(|n| Some(i128::from(n % 40) * 12_500 - 100_000)).collect();
    let amounts = amounts.with_precision_and_scale(20, 4)?;
    let days: Date32Array = numbers().map(|n| i32::try_from(20_574 + n % 3).ok()).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(names), Arc::new(amounts), Arc::new(days)];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// What is written where.
struct Rounds<'a> {
    folder: &'a str,
    hash: &'a str,
    first: i64,
    last: i64,
    connector: &'static Connector,
}

impl Rounds<'_> {
    async fn write(&self, table: &str, by: &[&str], count: i64) -> Result<()> {
        let names = |names: &[&str]| Value::List(names.iter().map(|name| Value::Name((*name).into())).collect());
        let mut settings = Settings::default();
        settings.set("bucket_by", names(by));
        settings.set("bucket_count", Value::Int(count));
        settings.set("bucket_hash", Value::Name(self.hash.into()));
        settings.set("sort_by", names(by));
        if self.first < self.last {
            settings.set("compact", Value::Map(vec![("enabled".to_owned(), Value::Bool(true))]));
        }
        let role = self.connector.sink.ok_or_else(|| Error::bug("the connector writes nothing"))?;
        let mut sink = (role.build)(SinkSpec {
            pipeline: "rounds".into(),
            node: "lake".into(),
            table: table.into(),
            schema: schema(),
            key: by.iter().map(|name| (*name).to_owned()).collect(),
            mode: WriteMode::Append,
            partition_by: if table == "parts" { vec!["day".into()] } else { vec![] },
            connection: Settings::new([("path".into(), Value::Text(self.folder.into()))]),
            settings,
            root: Path::new(".").into(),
            cache: std::env::temp_dir(),
            run: RunContext::default(),
            clock: Arc::new(ManualClock::at(0)),
        })?;
        let fence = self.first.unsigned_abs();
        sink.open(fence).await?;
        for round in self.first..=self.last {
            sink.stage(rows(round)?).await?;
            if let Some(prepared) = sink.prepare().await? {
                sink.commit(&prepared, Mark { seq: round.unsigned_abs(), fence, ..Mark::default() }).await?;
            }
            sink.tend(if round == self.last { Patience::ToEnd } else { Patience::Between }).await;
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse::<i64>().map_err(|_| Error::bug("a round is a number from 1"));
    let (folder, hash, first, last, kind) = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [folder, hash, round] => (*folder, *hash, number(round)?, number(round)?, "parquet"),
        [folder, hash, first, last, kind] => (*folder, *hash, number(first)?, number(last)?, *kind),
        _ => return Err(Error::bug("usage: bucketed_rounds FOLDER HASH ROUND | FOLDER HASH FIRST LAST parquet|orc")),
    };
    let connector = if kind == "orc" { &ORC } else { &CONNECTOR };
    let rounds = Rounds { folder, hash, first, last, connector };
    rounds.write("plain", &["id"], 16).await?;
    rounds.write("parts", &["name"], 5).await?;
    rounds.write("pairs", &["name", "amount"], 5).await
}
