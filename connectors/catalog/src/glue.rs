//! The AWS Glue Data Catalog, over its JSON API.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lakehead_core::{Error, Result, Settings};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer};
use serde_json::{Value, json};

use crate::http::{CALL_TIMEOUT, Http};
use crate::metastore::{PartitionChanges, StoredColumn, StoredTable, is, unless, values_of};
use crate::{AGAIN, Difference, Known, TableEntry};

/// Partitions of one call that adds some: what the API takes.
const ADDED_MAX: usize = 100;
/// Partitions of one call that removes some: what the API takes.
const REMOVED_MAX: usize = 25;
/// Partitions of a page: what the API gives at most.
const PAGE: usize = 1000;
/// Pages that are read at most: ten million partitions are no table that anybody lists.
const PAGES_MAX: usize = 10_000;
/// The region of accounts that say none, as for buckets.
const REGION: &str = "us-east-1";

/// One account's catalog in one region.
#[derive(Debug)]
pub struct Glue {
    http: Http,
    /// Gives keys by the usual chain: environment, web identity, container, machine.
    keys: AmazonS3,
    region: String,
    catalog_id: Option<String>,
    database: String,
    timeout: Duration,
}

impl Glue {
    /// Builds it from a catalog's settings; asks nobody yet.
    pub(crate) fn open(settings: &Settings) -> Result<Self> {
        // The one public way to the chain of keys is a bucket's client; no bucket is ever asked.
        let mut keys = AmazonS3Builder::from_env().with_bucket_name("glue");
        if let Some(region) = settings.text("region") {
            keys = keys.with_region(region);
        }
        if let (Some(id), Some(key)) = (settings.secret("access_key_id"), settings.secret("secret_access_key")) {
            keys = keys.with_access_key_id(id).with_secret_access_key(key);
        }
        if let Some(token) = settings.secret("session_token") {
            keys = keys.with_token(token);
        }
        let region = keys.get_config_value(&object_store::aws::AmazonS3ConfigKey::Region);
        let region = region.filter(|region| !region.is_empty()).unwrap_or_else(|| REGION.to_owned());
        let keys = keys.build().map_err(|error| {
            Error::user("R0623", "the keys of the catalog's account cannot be looked for")
                .help("look at the variables that begin with AWS_, and at `access_key_id` and `secret_access_key`")
                .caused_by(error)
        })?;
        let endpoint = match settings.text("endpoint") {
            Some(endpoint) => endpoint.to_owned(),
            None => format!("https://glue.{region}.amazonaws.com"),
        };
        let timeout = settings.duration("timeout").unwrap_or(CALL_TIMEOUT);
        Ok(Self {
            http: Http::new("glue", &endpoint, timeout)?,
            keys,
            region,
            catalog_id: settings.text("catalog_id").map(str::to_owned),
            database: settings.text("database").unwrap_or("default").to_owned(),
            timeout,
        })
    }

    /// Compares, and mends where `mend` says so.
    pub(crate) async fn register(&self, entry: &TableEntry, known: &Known, mend: bool) -> Result<Vec<Difference>> {
        let (database, table) = entry.definition.two_parts(&self.database);
        let place = Place { database, table };
        let wanted = StoredTable::of(&entry.definition);
        let mut differences = Vec::new();
        let listed: BTreeSet<Vec<String>> = match known {
            Known::Definition(partitions) => partitions.iter().map(values_of).collect(),
            Known::Nothing => match self.table(&place).await? {
                None => {
                    differences.push(Difference::Missing);
                    if mend {
                        self.create(&place, &wanted).await?;
                    }
                    BTreeSet::new()
                }
                Some((found, version)) => {
                    wanted.refuse_foreign(&found, &entry.definition.name)?;
                    differences = wanted.differences(&found);
                    if mend && !differences.is_empty() {
                        self.update(&place, &wanted.merged(&found), version).await?;
                    }
                    if wanted.keys.is_empty() { BTreeSet::new() } else { self.partitions(&place).await? }
                }
            },
        };
        if wanted.keys.is_empty() {
            return Ok(differences);
        }
        let changes = PartitionChanges::between(&listed, &entry.partitions);
        if mend {
            self.add(&place, &wanted, &changes.added).await?;
            self.remove(&place, &changes.gone).await?;
        }
        differences.extend(changes.differences());
        Ok(differences)
    }

    async fn table(&self, place: &Place<'_>) -> Result<Option<(StoredTable, Option<String>)>> {
        let asked = self.call("GetTable", place.named(json!({ "Name": place.table }))).await;
        match asked {
            Ok(answer) => {
                let version = answer["Table"]["VersionId"].as_str().map(str::to_owned);
                Ok(Some((stored(&answer["Table"]), version)))
            }
            Err(error) if is(&error, "EntityNotFoundException") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, place: &Place<'_>, wanted: &StoredTable) -> Result<()> {
        let body = || place.named(json!({ "TableInput": input(place.table, wanted) }));
        match self.call("CreateTable", body()).await {
            Err(error) if is(&error, "EntityNotFoundException") => {
                let database = json!({ "DatabaseInput": { "Name": place.database } });
                unless(self.call("CreateDatabase", database).await, "AlreadyExistsException")?;
                self.call("CreateTable", body()).await.map(|_| ())
            }
            // Somebody was faster; what they wrote is compared the next time.
            outcome => unless(outcome, "AlreadyExistsException"),
        }
    }

    async fn update(&self, place: &Place<'_>, wanted: &StoredTable, version: Option<String>) -> Result<()> {
        let mut body = place.named(json!({ "TableInput": input(place.table, wanted) }));
        if let Some(version) = version {
            body["VersionId"] = version.into();
        }
        self.call("UpdateTable", body).await.map(|_| ())
    }

    async fn partitions(&self, place: &Place<'_>) -> Result<BTreeSet<Vec<String>>> {
        let mut found = BTreeSet::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut body =
                place.named(json!({ "TableName": place.table, "ExcludeColumnSchema": true, "MaxResults": PAGE }));
            if let Some(token) = next.take() {
                body["NextToken"] = token.into();
            }
            let answer = self.call("GetPartitions", body).await?;
            for partition in answer["Partitions"].as_array().into_iter().flatten() {
                found.insert(texts(&partition["Values"]));
            }
            match answer["NextToken"].as_str().filter(|token| !token.is_empty()) {
                Some(token) => next = Some(token.to_owned()),
                None => return Ok(found),
            }
        }
        Err(Error::external("R0625", "the catalog lists more partitions than are read")
            .with("table", place.table)
            .help("write into a table with fewer partitions: day(ts) instead of hour(ts)"))
    }

    async fn add(&self, place: &Place<'_>, table: &StoredTable, added: &[(Vec<String>, String)]) -> Result<()> {
        for batch in added.chunks(ADDED_MAX) {
            let inputs: Vec<Value> = batch
                .iter()
                .map(|(values, folder)| {
                    let location = format!("{}/{folder}", table.location);
                    json!({ "Values": values, "StorageDescriptor": storage(table, &location) })
                })
                .collect();
            let body = place.named(json!({ "TableName": place.table, "PartitionInputList": inputs }));
            let answer = self.call("BatchCreatePartition", body).await?;
            refuse_errors(&answer, "AlreadyExistsException", place.table)?;
        }
        Ok(())
    }

    async fn remove(&self, place: &Place<'_>, gone: &[Vec<String>]) -> Result<()> {
        for batch in gone.chunks(REMOVED_MAX) {
            let values: Vec<Value> = batch.iter().map(|values| json!({ "Values": values })).collect();
            let body = place.named(json!({ "TableName": place.table, "PartitionsToDelete": values }));
            let answer = self.call("BatchDeletePartition", body).await?;
            refuse_errors(&answer, "EntityNotFoundException", place.table)?;
        }
        Ok(())
    }

    async fn call(&self, action: &'static str, mut body: Value) -> Result<Value> {
        if let Some(id) = &self.catalog_id {
            body["CatalogId"] = id.as_str().into();
        }
        let mut request = self.http.request("POST", "/", body.to_string().into_bytes())?;
        let headers = request.headers_mut();
        let unusable = || Error::bug("a header cannot be written").with("action", action);
        headers.insert("content-type", "application/x-amz-json-1.1".parse().map_err(|_| unusable())?);
        headers.insert("x-amz-target", format!("AWSGlue.{action}").parse().map_err(|_| unusable())?);
        let keys = self.keys_of_account().await?;
        AwsAuthorizer::new(&keys, "glue", &self.region).authorize(&mut request, None);
        let (status, answer) = self.http.send(request).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
        if status < 300 {
            return Ok(answer);
        }
        Err(refused(action, status, &answer))
    }

    async fn keys_of_account(&self) -> Result<Arc<object_store::aws::AwsCredential>> {
        // A machine that gives keys answers at once; elsewhere nobody does, however long it is asked.
        let asked = tokio::time::timeout(self.timeout, self.keys.credentials().get_credential()).await;
        let keys = asked.map_err(|late| object_store::Error::Generic { store: "glue", source: late.into() });
        keys.and_then(|keys| keys).map_err(|error| {
            Error::external("R0626", "there are no keys for the catalog's account")
                .help(
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `access_key_id` and `secret_access_key` here",
                )
                .caused_by(error)
        })
    }
}

struct Place<'a> {
    database: &'a str,
    table: &'a str,
}

impl Place<'_> {
    fn named(&self, mut body: Value) -> Value {
        body["DatabaseName"] = self.database.into();
        body
    }
}

/// What the service calls an error is a fact of ours.
fn refused(action: &'static str, status: u16, answer: &Value) -> Error {
    let kind = answer["__type"].as_str().unwrap_or("");
    let kind = kind.rsplit('#').next().unwrap_or(kind).to_owned();
    let said = answer["Message"].as_str().or_else(|| answer["message"].as_str()).unwrap_or("").to_owned();
    let passes = status >= 500 || kind.contains("Throttling") || kind == "ConcurrentModificationException";
    let error = if passes {
        Error::external("R0625", "the catalog could not do it now")
    } else {
        Error::incident("R0625", "the catalog refused a call")
    };
    let error = error.with("action", action).with("kind", &kind).with("status", status).with("said", said);
    match kind.as_str() {
        "AccessDeniedException" => error.help(format!("allow   glue:{action}   to the role or user of these keys")),
        "UnrecognizedClientException" | "InvalidSignatureException" | "ExpiredTokenException" => {
            error.help("the keys are not those of an account, or are no longer")
        }
        _ => error.help(AGAIN),
    }
}

/// A batch may fail in part.
fn refuse_errors(answer: &Value, passed: &str, table: &str) -> Result<()> {
    let failed = answer["Errors"].as_array().into_iter().flatten();
    let kind = |error: &Value| error["ErrorDetail"]["ErrorCode"].as_str().unwrap_or("").to_owned();
    match failed.map(kind).find(|kind| kind != passed) {
        None => Ok(()),
        Some(kind) => Err(Error::external("R0625", "the catalog did not take a partition")
            .with("table", table)
            .with("kind", kind)
            .help(AGAIN)),
    }
}

/// A table as the API takes it. `PartitionKeys` is said also where there are none: Athena fails on a table without.
fn input(name: &str, table: &StoredTable) -> Value {
    let mut input = json!({
        "Name": name,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": table.parameters,
        "PartitionKeys": columns(&table.keys),
        "StorageDescriptor": storage(table, &table.location),
    });
    if let Some(comment) = &table.comment {
        input["Description"] = comment.as_str().into();
    }
    input
}

fn storage(table: &StoredTable, location: &str) -> Value {
    let sort: Vec<Value> =
        table.sort_columns.iter().map(|column| json!({ "Column": column, "SortOrder": 1 })).collect();
    json!({
        "Columns": columns(&table.columns),
        "Location": location,
        "InputFormat": table.input_format,
        "OutputFormat": table.output_format,
        "Compressed": false,
        "NumberOfBuckets": if table.bucket_columns.is_empty() { -1 } else { table.bucket_count },
        "SerdeInfo": { "SerializationLibrary": table.serde, "Parameters": table.serde_parameters },
        "BucketColumns": table.bucket_columns,
        "SortColumns": sort,
        "Parameters": {},
        "StoredAsSubDirectories": false,
    })
}

fn columns(columns: &[StoredColumn]) -> Vec<Value> {
    let object = |column: &StoredColumn| {
        let mut object = json!({ "Name": column.name, "Type": column.type_name });
        if let Some(comment) = &column.comment {
            object["Comment"] = comment.as_str().into();
        }
        object
    };
    columns.iter().map(object).collect()
}

/// Reads a table as the API gives it.
fn stored(table: &Value) -> StoredTable {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let some = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let columns = |value: &Value| -> Vec<StoredColumn> {
        let column = |column: &Value| StoredColumn {
            name: text(&column["Name"]),
            type_name: text(&column["Type"]),
            comment: some(&column["Comment"]),
        };
        value.as_array().into_iter().flatten().map(column).collect()
    };
    let map = |value: &Value| -> BTreeMap<String, String> {
        value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
    };
    let storage = &table["StorageDescriptor"];
    let sorted = storage["SortColumns"].as_array().into_iter().flatten();
    StoredTable {
        columns: columns(&storage["Columns"]),
        keys: columns(&table["PartitionKeys"]),
        location: text(&storage["Location"]),
        input_format: text(&storage["InputFormat"]),
        output_format: text(&storage["OutputFormat"]),
        serde: text(&storage["SerdeInfo"]["SerializationLibrary"]),
        serde_parameters: map(&storage["SerdeInfo"]["Parameters"]),
        bucket_columns: texts(&storage["BucketColumns"]),
        bucket_count: storage["NumberOfBuckets"].as_i64().and_then(|count| i32::try_from(count).ok()).unwrap_or(0),
        sort_columns: sorted.map(|column| text(&column["Column"])).collect(),
        parameters: map(&table["Parameters"]),
        comment: some(&table["Description"]),
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use lakehead_core::ListedPartition;

    use super::*;

    #[test]
    fn an_answer_reads_back_as_what_was_sent() {
        let definition = crate::Definition {
            name: "shop.orders".into(),
            format: "parquet".into(),
            location: "s3://lake/orders".into(),
            columns: ["id bigint", "note varchar", "day date"]
                .iter()
                .map(|text| {
                    let (name, type_name) = text.split_once(' ').unwrap();
                    crate::Column { name: name.into(), type_name: type_name.into(), comment: None }
                })
                .collect(),
            partition_by: vec!["day".into()],
            buckets: Some(lakehead_core::ListedBuckets { columns: vec!["id".into()], count: 4, hash: "hive2".into() }),
            sort_by: vec!["id".into()],
            comment: Some("orders".into()),
            pipeline: "p".into(),
            owner: "o".into(),
        };
        let table = StoredTable::of(&definition);
        assert_eq!(stored(&input("orders", &table)), table);
        assert_eq!(table.differences(&table), []);
        assert_eq!(table.parameters["bucketing_version"], "2");
        let partition = ListedPartition { values: vec![None], folder: "day=__HIVE_DEFAULT_PARTITION__".into() };
        assert_eq!(values_of(&partition), ["__HIVE_DEFAULT_PARTITION__"]);
    }
}
