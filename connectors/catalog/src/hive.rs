//! A Hive metastore, over Thrift.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lakehead_core::{Error, Result, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::CALL_TIMEOUT;
use crate::metastore::{PartitionChanges, StoredColumn, StoredTable, is, unless, values_of};
use crate::thrift::{self, Answer, Fields, Value};
use crate::{AGAIN, Difference, Known, TableEntry};

/// Partitions of one call.
const BATCH: usize = 100;
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Characters that are kept of what a server says: some send the whole stack.
const SAID_MAX: usize = 300;
/// The port of a metastore whose address names none.
const PORT: u16 = 9083;

/// One metastore.
#[derive(Debug)]
pub struct Hive {
    /// `host:port`, in the order in which they are tried.
    addresses: Vec<String>,
    database: String,
    timeout: Duration,
}

impl Hive {
    /// Builds it from a catalog's settings; asks nobody yet.
    pub(crate) fn open(settings: &Settings) -> Result<Self> {
        let uri = settings.required_text("uri")?;
        let addresses: Option<Vec<String>> = uri.split(',').map(address).collect();
        let addresses = addresses.ok_or_else(|| {
            Error::user("R0623", "the metastore's address is not one")
                .with("uri", uri)
                .help("uri = \"thrift://host:9083\"   or several, with a comma between")
        })?;
        Ok(Self {
            addresses,
            database: settings.text("database").unwrap_or("default").to_owned(),
            timeout: settings.duration("timeout").unwrap_or(CALL_TIMEOUT),
        })
    }

    /// Compares, and mends where `mend` says so.
    pub(crate) async fn register(&self, entry: &TableEntry, known: &Known, mend: bool) -> Result<Vec<Difference>> {
        let mut session = self.connect().await?;
        let (database, name) = entry.definition.two_parts(&self.database);
        let place = [Value::text(database), Value::text(name)];
        let wanted = StoredTable::of(&entry.definition);
        let mut differences = Vec::new();
        let listed: BTreeSet<Vec<String>> = match known {
            Known::Definition(partitions) => partitions.iter().map(values_of).collect(),
            Known::Nothing => match session.table(&place).await? {
                None => {
                    differences.push(Difference::Missing);
                    if mend {
                        session.create(&place, &wanted).await?;
                    }
                    BTreeSet::new()
                }
                Some(raw) => {
                    let found = stored(&raw);
                    wanted.refuse_foreign(&found, &entry.definition.name)?;
                    differences = wanted.differences(&found);
                    if mend && !differences.is_empty() {
                        session.alter(&place, written_over(raw, &wanted.merged(&found))).await?;
                    }
                    if wanted.keys.is_empty() { BTreeSet::new() } else { session.partitions(&place, &wanted).await? }
                }
            },
        };
        if wanted.keys.is_empty() {
            return Ok(differences);
        }
        let changes = PartitionChanges::between(&listed, &entry.partitions);
        if mend {
            session.add(&place, &wanted, &changes.added).await?;
            session.remove(&place, &changes.gone).await?;
        }
        differences.extend(changes.differences());
        Ok(differences)
    }

    async fn connect(&self) -> Result<Session> {
        let mut refused: Option<std::io::Error> = None;
        for address in &self.addresses {
            match tokio::time::timeout(self.timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(Session { stream, timeout: self.timeout, number: 0 });
                }
                Ok(Err(error)) => refused = Some(error),
                Err(_) => {}
            }
        }
        let error = unreachable().with("addresses", self.addresses.join(","));
        Err(match refused {
            Some(cause) => error.caused_by(cause),
            None => error,
        })
    }
}

fn unreachable() -> Error {
    Error::external("R0623", "the catalog did not answer")
        .with("service", "hive metastore")
        .help("data is committed all the same; the table is registered when the catalog answers again")
}

fn address(uri: &str) -> Option<String> {
    let rest = uri.trim().strip_prefix("thrift://")?.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (rest, PORT),
    };
    (!host.is_empty() && !host.contains('/')).then(|| format!("{host}:{port}"))
}

/// One connection; calls follow one another.
struct Session {
    stream: TcpStream,
    timeout: Duration,
    number: i32,
}

/// What a call declares that may go wrong, by the field it comes in.
type Exceptions = &'static [(i16, &'static str)];

impl Session {
    async fn table(&mut self, place: &[Value; 2]) -> Result<Option<Fields>> {
        let asked = self.call("get_table", arguments(place), &[(1, "MetaException"), (2, "NoSuchObject")]).await;
        match asked {
            Ok(result) => Ok(result.get(&0).map(Value::fields)),
            Err(error) if is(&error, "NoSuchObject") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(&mut self, place: &[Value; 2], wanted: &StoredTable) -> Result<()> {
        const MAY: Exceptions =
            &[(1, "AlreadyExists"), (2, "InvalidObject"), (3, "MetaException"), (4, "NoSuchObject")];
        let named = Fields::from([(1, place[1].clone()), (2, place[0].clone()), (3, Value::text("lakehead"))]);
        let table = Value::Struct(written_over(named, wanted));
        match self.call("create_table", arguments([&table]), MAY).await {
            // A database that is not there is told in one way or the other.
            Err(error) if is(&error, "NoSuchObject") || is(&error, "InvalidObject") => {
                let database = Value::Struct(Fields::from([(1, place[0].clone())]));
                let may: Exceptions = &[(1, "AlreadyExists"), (2, "InvalidObject"), (3, "MetaException")];
                unless(self.call("create_database", arguments([&database]), may).await, "AlreadyExists")?;
                self.call("create_table", arguments([&table]), MAY).await.map(|_| ())
            }
            outcome => unless(outcome, "AlreadyExists"),
        }
    }

    async fn alter(&mut self, place: &[Value; 2], table: Fields) -> Result<()> {
        let table = Value::Struct(table);
        let arguments = arguments(place.iter().chain([&table]));
        self.call("alter_table", arguments, &[(1, "InvalidOperation"), (2, "MetaException")]).await.map(|_| ())
    }

    /// Names hold the values escaped: `day=2026-11-01/note=a%2Fb`.
    async fn partitions(&mut self, place: &[Value; 2], table: &StoredTable) -> Result<BTreeSet<Vec<String>>> {
        let all = Value::I16(-1);
        let result = self.call("get_partition_names", arguments(place.iter().chain([&all])), &[]).await?;
        let names = result.get(&0).map(Value::items).unwrap_or(&[]);
        let values = |name: &Value| -> Vec<String> {
            let parts = name.as_text().unwrap_or("").split('/');
            parts.filter_map(|part| part.split_once('=')).map(|(_, value)| unescaped(value)).collect()
        };
        Ok(names.iter().map(values).filter(|values| values.len() == table.keys.len()).collect())
    }

    async fn add(&mut self, place: &[Value; 2], table: &StoredTable, added: &[(Vec<String>, String)]) -> Result<()> {
        for batch in added.chunks(BATCH) {
            let partition = |(values, folder): &(Vec<String>, String)| {
                let location = format!("{}/{folder}", table.location);
                Value::Struct(Fields::from([
                    (1, Value::List(values.iter().map(Value::text).collect())),
                    (2, place[0].clone()),
                    (3, place[1].clone()),
                    (6, Value::Struct(storage(table, &location))),
                    (7, Value::Map(Vec::new())),
                ]))
            };
            let request = Value::Struct(Fields::from([
                (1, place[0].clone()),
                (2, place[1].clone()),
                (3, Value::List(batch.iter().map(partition).collect())),
                // What somebody added meanwhile is there already, and nobody needs it told.
                (4, Value::Bool(true)),
                (5, Value::Bool(false)),
            ]));
            let may: Exceptions = &[(1, "InvalidObject"), (2, "AlreadyExists"), (3, "MetaException")];
            self.call("add_partitions_req", arguments([&request]), may).await?;
        }
        Ok(())
    }

    async fn remove(&mut self, place: &[Value; 2], gone: &[Vec<String>]) -> Result<()> {
        for values in gone {
            let values = Value::List(values.iter().map(Value::text).collect());
            let keep_data = Value::Bool(false);
            let may: Exceptions = &[(1, "NoSuchObject"), (2, "MetaException")];
            let arguments = arguments(place.iter().chain([&values, &keep_data]));
            unless(self.call("drop_partition", arguments, may).await, "NoSuchObject")?;
        }
        Ok(())
    }

    async fn call(&mut self, name: &'static str, arguments: Fields, may: Exceptions) -> Result<Fields> {
        self.number += 1;
        let bytes = thrift::call(name, self.number, arguments);
        let exchanged = tokio::time::timeout(self.timeout, self.exchange(name, &bytes)).await;
        let answer = exchanged.map_err(|_| unreachable().with("call", name).with("kind", "timeout"))??;
        let (kind, said) = match answer {
            Answer::Result(result) => {
                let Some((field, thrown)) = result.iter().find(|(field, _)| **field != 0) else { return Ok(result) };
                let kind = may.iter().find(|(number, _)| number == field).map_or("exception", |(_, kind)| kind);
                (kind, thrown.fields().get(&1).and_then(Value::as_text).unwrap_or_default().to_owned())
            }
            Answer::Refused(said) => ("TApplicationException", said),
        };
        Err(Error::incident("R0625", "the catalog refused a call")
            .with("action", name)
            .with("kind", kind)
            .with("said", said.chars().take(SAID_MAX).collect::<String>())
            .help(AGAIN))
    }

    async fn exchange(&mut self, name: &'static str, bytes: &[u8]) -> Result<Answer> {
        let failed = |cause: std::io::Error| unreachable().with("call", name).caused_by(cause);
        self.stream.write_all(bytes).await.map_err(failed)?;
        let mut read = Vec::new();
        loop {
            let count = self.stream.read_buf(&mut read).await.map_err(failed)?;
            if let Some(answer) = thrift::answer(&read, self.number)? {
                return Ok(answer);
            }
            if count == 0 || read.len() > ANSWER_BYTES_MAX {
                return Err(unreachable().with("call", name).with("kind", "an answer without an end"));
            }
        }
    }
}

/// Arguments by their places, from 1 on.
fn arguments<'a>(values: impl IntoIterator<Item = &'a Value>) -> Fields {
    (1_i16..).zip(values.into_iter().cloned()).collect()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `Table` of hive_metastore.thrift: what is wanted over what was read. Fields that nobody here knows stay.
fn written_over(mut raw: Fields, table: &StoredTable) -> Fields {
    let mut parameters: BTreeMap<String, String> = table.parameters.clone();
    if let Some(comment) = &table.comment {
        parameters.insert("comment".to_owned(), comment.clone());
    }
    let mut described = raw.get(&7).map(Value::fields).unwrap_or_default();
    described.extend(storage(table, &table.location));
    raw.extend([
        (7, Value::Struct(described)),
        (8, Value::List(field_schemas(&table.keys))),
        (9, Value::texts(&parameters)),
        (12, Value::text("EXTERNAL_TABLE")),
    ]);
    raw
}

/// `StorageDescriptor`.
fn storage(table: &StoredTable, location: &str) -> Fields {
    let serde = Fields::from([
        (1, Value::text("")),
        (2, Value::text(&table.serde)),
        (3, Value::texts(&table.serde_parameters)),
    ]);
    let order = |column: &String| Value::Struct(Fields::from([(1, Value::text(column)), (2, Value::I32(1))]));
    let buckets = if table.bucket_columns.is_empty() { -1 } else { table.bucket_count };
    Fields::from([
        (1, Value::List(field_schemas(&table.columns))),
        (2, Value::text(location)),
        (3, Value::text(&table.input_format)),
        (4, Value::text(&table.output_format)),
        (5, Value::Bool(false)),
        (6, Value::I32(buckets)),
        (7, Value::Struct(serde)),
        (8, Value::List(table.bucket_columns.iter().map(Value::text).collect())),
        (9, Value::List(table.sort_columns.iter().map(order).collect())),
        (10, Value::Map(Vec::new())),
    ])
}

/// `FieldSchema`s.
fn field_schemas(columns: &[StoredColumn]) -> Vec<Value> {
    let column = |column: &StoredColumn| {
        let mut fields = Fields::from([(1, Value::text(&column.name)), (2, Value::text(&column.type_name))]);
        fields.extend(column.comment.as_ref().map(|comment| (3, Value::text(comment))));
        Value::Struct(fields)
    };
    columns.iter().map(column).collect()
}

/// Reads a `Table`.
fn stored(raw: &Fields) -> StoredTable {
    let storage = raw.get(&7).map(Value::fields).unwrap_or_default();
    let serde = storage.get(&7).map(Value::fields).unwrap_or_default();
    let mut parameters = map(raw.get(&9));
    let comment = parameters.remove("comment").filter(|comment| !comment.is_empty());
    let items = |value: Option<&Value>| value.map(Value::items).unwrap_or(&[]).to_vec();
    StoredTable {
        columns: columns(storage.get(&1)),
        keys: columns(raw.get(&8)),
        location: text(storage.get(&2)),
        input_format: text(storage.get(&3)),
        output_format: text(storage.get(&4)),
        serde: text(serde.get(&2)),
        serde_parameters: map(serde.get(&3)),
        bucket_columns: items(storage.get(&8)).iter().map(|name| text(Some(name))).collect(),
        bucket_count: match storage.get(&6) {
            Some(Value::I32(count)) => (*count).max(0),
            _ => 0,
        },
        sort_columns: items(storage.get(&9)).iter().map(|order| text(order.fields().get(&1))).collect(),
        parameters,
        comment,
    }
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_text).unwrap_or_default().to_owned()
}

fn columns(value: Option<&Value>) -> Vec<StoredColumn> {
    let column = |value: &Value| {
        let fields = value.fields();
        let comment = text(fields.get(&3));
        StoredColumn {
            name: text(fields.get(&1)),
            type_name: text(fields.get(&2)),
            comment: (!comment.is_empty()).then_some(comment),
        }
    };
    value.map(Value::items).unwrap_or(&[]).iter().map(column).collect()
}

fn map(value: Option<&Value>) -> BTreeMap<String, String> {
    let Some(Value::Map(pairs)) = value else { return BTreeMap::new() };
    pairs.iter().map(|(name, value)| (text(Some(name)), text(Some(value)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_metastores() {
        assert_eq!(address("thrift://hive:9084").as_deref(), Some("hive:9084"));
        assert_eq!(address(" thrift://hive/").as_deref(), Some("hive:9083"));
        for wrong in ["hive:9083", "http://hive:9083", "thrift://hive:port", "thrift://"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_of_partitions_read_back() {
        assert_eq!(unescaped("a%2Fb%3D%25"), "a/b=%");
        assert_eq!(unescaped("100%"), "100%");
    }
}
