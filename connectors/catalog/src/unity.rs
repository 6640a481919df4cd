//! Unity Catalog, over its REST API: external Delta tables by name.
//!
//! The API makes tables and drops them; nothing in it changes the columns of one. To drop it and make it anew would lose
//! its grants, so a server that knows no other call keeps the columns that an entry was made with: engines read those of
//! the table's own log. Servers that know Delta's calls change the entry.

mod changes;

use std::collections::BTreeMap;

use arrow_schema::DataType;
use lakehead_core::{Error, Result, Secret, Settings};
use serde_json::{Value, json};

use crate::http::{CALL_TIMEOUT, Http};
use crate::metastore::{same_place, type_name};
use crate::{AGAIN, Column, Definition, Difference, TableEntry, spark};
use changes::{CHANGE, Changes, properties_of};

/// Where the API begins, below the address.
const API: &str = "/api/2.1/unity-catalog";
/// Characters that are kept of what a server says.
const SAID_MAX: usize = 300;

/// One server.
#[derive(Debug)]
pub struct Unity {
    http: Http,
    token: Option<Secret>,
    catalog: String,
    schema: String,
}

/// A table's name.
struct Place<'a> {
    catalog: &'a str,
    schema: &'a str,
    table: &'a str,
}

impl Unity {
    /// Builds it from a catalog's settings; asks nobody yet.
    pub(crate) fn open(settings: &Settings) -> Result<Self> {
        let timeout = settings.duration("timeout").unwrap_or(CALL_TIMEOUT);
        Ok(Self {
            http: Http::new("unity catalog", settings.required_text("endpoint")?, timeout)?,
            token: settings.secret("token").map(Secret::new),
            catalog: settings.text("catalog").unwrap_or("unity").to_owned(),
            schema: settings.text("schema").unwrap_or("default").to_owned(),
        })
    }

    /// Compares, and makes what is missing where `mend` says so.
    pub(crate) async fn register(&self, entry: &TableEntry, mend: bool) -> Result<Vec<Difference>> {
        let definition = &entry.definition;
        let place = self.place(&definition.name);
        let Some(found) = self.call("GET", &format!("{API}/tables/{}", place.full_name()), None).await? else {
            if mend {
                self.create(&place, definition).await?;
            }
            return Ok(vec![Difference::Missing]);
        };
        let location = found["storage_location"].as_str().unwrap_or("");
        if same_place(location, &definition.location) && found["data_source_format"] == "DELTA" {
            return self.bring_up_to_date(&place, &found, definition, mend).await;
        }
        Err(Error::incident("R0624", "the catalog lists another table under this name")
            .with("table", place.full_name())
            .with("its_location", location)
            .with("our_location", &definition.location)
            .help("give one of them another name (`table`, or `prefix` of the connection), or drop the other's entry"))
    }

    async fn bring_up_to_date(
        &self,
        place: &Place<'_>,
        found: &Value,
        definition: &Definition,
        mend: bool,
    ) -> Result<Vec<Difference>> {
        let changes = Changes::between(found, definition);
        // What nobody can change is no difference to tell at every look.
        if changes.differences.is_empty() || !self.changes_entries(place.catalog).await? {
            return Ok(Vec::new());
        }
        if mend {
            let Place { catalog, schema, table } = place;
            let path = format!("{API}/delta/v1/catalogs/{catalog}/schemas/{schema}/tables/{table}");
            if self.call("POST", &path, Some(changes.request(found))).await?.is_none() {
                return Err(Error::external("R0625", "the table's entry is gone since it was looked at")
                    .with("table", place.full_name())
                    .help(AGAIN));
            }
        }
        Ok(changes.differences)
    }

    /// Whether the server says that it changes entries which are there.
    async fn changes_entries(&self, catalog: &str) -> Result<bool> {
        let path = format!("{API}/delta/v1/config?catalog={catalog}&protocol-versions=1.0");
        let known = self.call("GET", &path, None).await?.unwrap_or_default();
        Ok(known["endpoints"].as_array().is_some_and(|calls| calls.iter().any(|call| call == CHANGE)))
    }

    fn place<'a>(&'a self, name: &'a str) -> Place<'a> {
        let mut parts = name.rsplit('.');
        let table = parts.next().unwrap_or(name);
        let schema = parts.next().unwrap_or(&self.schema);
        Place { catalog: parts.next().unwrap_or(&self.catalog), schema, table }
    }

    async fn create(&self, place: &Place<'_>, definition: &Definition) -> Result<()> {
        let schema = format!("{API}/schemas/{}.{}", place.catalog, place.schema);
        if self.call("GET", &schema, None).await?.is_none() {
            self.make("schemas", json!({ "name": place.schema, "catalog_name": place.catalog })).await?;
        }
        self.make("tables", table(place, definition)).await
    }

    async fn make(&self, what: &str, body: Value) -> Result<()> {
        match self.call("POST", &format!("{API}/{what}"), Some(body)).await? {
            Some(_) => Ok(()),
            None => Err(Error::user("R0625", "the catalog has no place for a table")
                .with("catalog", &self.catalog)
                .help("make that catalog first; schemas and tables in it are made by lakehead")),
        }
    }

    /// Returns the answer; `None` where what the path names is not there.
    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Option<Value>> {
        let unusable = || Error::bug("a header cannot be written").with("path", path);
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let mut request = self.http.request(method, path, body)?;
        let headers = request.headers_mut();
        headers.insert("content-type", "application/json".parse().map_err(|_| unusable())?);
        if let Some(token) = &self.token {
            let token = format!("Bearer {}", token.reveal()).parse().map_err(|_| {
                Error::user("R0626", "the token cannot be sent").help("a token is one line of letters and digits")
            })?;
            headers.insert("authorization", token);
        }
        let (status, answer) = self.http.send(request).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
        // Delta's calls put what went wrong one level down.
        let (kind, said) = match answer.get("error") {
            Some(error) => (error["type"].as_str(), error["message"].as_str()),
            None => (answer["error_code"].as_str(), answer["message"].as_str()),
        };
        let (kind, said) = (kind.unwrap_or(""), said.unwrap_or(""));
        match status {
            200..300 => Ok(Some(answer)),
            404 => Ok(None),
            // Somebody was faster.
            _ if kind.ends_with("ALREADY_EXISTS") => Ok(Some(Value::Null)),
            _ => Err(refused(status, kind, said, path)),
        }
    }
}

impl Place<'_> {
    fn full_name(&self) -> String {
        format!("{}.{}.{}", self.catalog, self.schema, self.table)
    }
}

fn refused(status: u16, kind: &str, said: &str, path: &str) -> Error {
    let error = match status {
        429 | 500.. => Error::external("R0625", "the catalog could not do it now"),
        _ => Error::incident("R0625", "the catalog refused a call"),
    };
    let said: String = said.chars().take(SAID_MAX).collect();
    let error = error.with("path", path).with("status", status).with("kind", kind).with("said", said);
    match status {
        401 => error.help("look at `token` of the catalog: it is wrong, of another server, or has run out"),
        403 => error.help("give the token's owner USE CATALOG, USE SCHEMA, CREATE TABLE, CREATE EXTERNAL TABLE"),
        _ => error.help(AGAIN),
    }
}

/// A table of the embedded catalog as the API shows one.
pub fn unity_table(catalog: &str, entry: &TableEntry) -> Value {
    let (schema, table_name) = entry.definition.name.rsplit_once('.').unwrap_or(("default", &entry.definition.name));
    let place = Place { catalog, schema, table: table_name };
    let mut body = table(&place, &entry.definition);
    body["full_name"] = place.full_name().into();
    body
}

/// A table as the API takes it.
fn table(place: &Place<'_>, definition: &Definition) -> Value {
    let columns = definition.columns.iter().enumerate();
    let mut body = json!({
        "name": place.table,
        "catalog_name": place.catalog,
        "schema_name": place.schema,
        "table_type": "EXTERNAL",
        "data_source_format": definition.format.to_uppercase(),
        "storage_location": definition.location,
        "columns": columns.map(|(at, one)| column(at, one, definition)).collect::<Vec<_>>(),
        "properties": BTreeMap::from(properties_of(definition)),
    });
    if let Some(comment) = &definition.comment {
        body["comment"] = comment.as_str().into();
    }
    body
}

fn column(position: usize, column: &Column, definition: &Definition) -> Value {
    let data_type = column.data_type();
    let mut object = json!({
        "name": column.name,
        "type_text": type_text(&data_type),
        "type_json": spark::field(column).to_string(),
        "type_name": kind(&data_type),
        "position": position,
        "nullable": true,
    });
    if let DataType::Decimal128(precision, scale) = data_type {
        object["type_precision"] = precision.into();
        object["type_scale"] = scale.into();
    }
    if let Some(comment) = &column.comment {
        object["comment"] = comment.as_str().into();
    }
    if let Some(index) = definition.partition_by.iter().position(|name| *name == column.name) {
        object["partition_index"] = index.into();
    }
    object
}

/// The type as it is shown: in Hive's words, and the one that Hive has not.
fn type_text(data_type: &DataType) -> String {
    match data_type {
        DataType::Timestamp(_, None) => "timestamp_ntz".into(),
        DataType::List(item) => format!("array<{}>", type_text(item.data_type())),
        other => type_name(other),
    }
}

/// The API's word for a type.
fn kind(data_type: &DataType) -> &'static str {
    use DataType as T;
    match data_type {
        T::Boolean => "BOOLEAN",
        T::Int16 => "SHORT",
        T::Int32 => "INT",
        T::Int64 | T::Time64(_) => "LONG",
        T::Float32 => "FLOAT",
        T::Float64 => "DOUBLE",
        T::Binary => "BINARY",
        T::Date32 => "DATE",
        T::Timestamp(_, Some(_)) => "TIMESTAMP",
        T::Timestamp(_, None) => "TIMESTAMP_NTZ",
        T::Decimal128(..) => "DECIMAL",
        T::List(_) => "ARRAY",
        _ => "STRING",
    }
}
