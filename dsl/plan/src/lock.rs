//! `lakehead.lock`: the schemas of sources, kept in git, so that a check needs no network.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{Field, Schema};
use lakehead_core::{TableSpec, column_type_name, parse_column};
use serde::Deserialize;

/// One object of the lock file.
#[derive(Clone, Debug, PartialEq)]
pub struct LockEntry {
    /// The columns and the key.
    pub table: TableSpec,
    /// Where the columns come from: a query, a sample, a registry; for people.
    pub from: Option<String>,
    /// The text of the query they were read from.
    pub query: Option<String>,
    /// The replica identity, where the source has one.
    pub identity: Option<String>,
    /// What the source says of its columns, by their names: for catalogs.
    pub comments: BTreeMap<String, String>,
}

impl LockEntry {
    /// Makes the entry of a table that its source has described. What it says of columns is no part of their types.
    pub fn new(mut table: TableSpec) -> Self {
        let mut comments = BTreeMap::new();
        let field = |field: &Arc<Field>| {
            let mut metadata = field.metadata().clone();
            if let Some(comment) = metadata.remove("comment") {
                comments.insert(field.name().clone(), comment);
            }
            field.as_ref().clone().with_metadata(metadata)
        };
        let fields: Vec<Field> = table.schema.fields().iter().map(field).collect();
        table.schema = Arc::new(Schema::new_with_metadata(fields, table.schema.metadata().clone()));
        Self { table, from: None, query: None, identity: None, comments }
    }
}

/// The whole file: connection, then object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lock(BTreeMap<String, BTreeMap<String, LockEntry>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    query: Option<String>,
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    key: Vec<String>,
    #[serde(default)]
    identity: Option<String>,
    #[serde(default)]
    comments: BTreeMap<String, String>,
    columns: Vec<String>,
}

impl Lock {
    /// Reads the file's text; the error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: BTreeMap<String, toml::Value> = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let mut lock = Self::default();
        for (connection, objects) in raw {
            if connection == "version" {
                if objects.as_integer() != Some(1) {
                    return Err(
                        "the lock file has a version that is not known here; refresh it with `lakehead lock`".into()
                    );
                }
                continue;
            }
            let objects: BTreeMap<String, RawEntry> =
                objects.try_into().map_err(|error: toml::de::Error| format!("[{connection}]: {}", error.message()))?;
            for (object, raw) in objects {
                let entry =
                    read_entry(&object, raw).map_err(|error| format!("[{connection}.\"{object}\"]: {error}"))?;
                lock.set(&connection, &object, entry);
            }
        }
        Ok(lock)
    }

    /// Returns an object's entry.
    pub fn get(&self, connection: &str, object: &str) -> Option<&LockEntry> {
        self.0.get(connection)?.get(object)
    }

    /// Returns all objects of a connection.
    pub fn objects(&self, connection: &str) -> impl Iterator<Item = (&str, &LockEntry)> {
        self.0.get(connection).into_iter().flatten().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Sets an object's entry.
    pub fn set(&mut self, connection: &str, object: &str, entry: LockEntry) {
        self.0.entry(connection.to_owned()).or_default().insert(object.to_owned(), entry);
    }

    /// Writes the file, the same text for the same contents.
    pub fn render(&self) -> String {
        let mut text = String::from(
            "# Written by `lakehead lock`; kept in git, not edited by hand. Connection, then object; a line per column.\n\
             version = 1\n",
        );
        for (connection, objects) in &self.0 {
            for (object, entry) in objects {
                text.push_str(&render_entry(connection, object, entry));
            }
        }
        text
    }
}

fn read_entry(object: &str, raw: RawEntry) -> Result<LockEntry, String> {
    let fields = raw.columns.iter().map(|line| parse_column(line)).collect::<Result<Vec<_>, _>>()?;
    let from = raw.from.or_else(|| raw.format.map(|format| format!("{format} table")));
    Ok(LockEntry {
        table: TableSpec { name: object.to_owned(), schema: Arc::new(Schema::new(fields)), key: raw.key },
        from,
        query: raw.query,
        identity: raw.identity,
        comments: raw.comments,
    })
}

fn render_entry(connection: &str, object: &str, entry: &LockEntry) -> String {
    let mut text = format!("\n[{connection}.{}]\n", quote(object));
    for (name, value) in [("from", &entry.from), ("query", &entry.query)] {
        if let Some(value) = value {
            text.push_str(&format!("{name:<7} = {}\n", quote(value)));
        }
    }
    let key: Vec<_> = entry.table.key.iter().map(|column| quote(column)).collect();
    if entry.identity.is_some() || !key.is_empty() {
        text.push_str(&format!("key     = [{}]\n", key.join(", ")));
    }
    if let Some(identity) = &entry.identity {
        text.push_str(&format!("identity = {}\n", quote(identity)));
    }
    let names: Vec<String> = entry.table.schema.fields().iter().map(|field| column_name(field.name())).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    text.push_str("columns = [\n");
    for (field, name) in entry.table.schema.fields().iter().zip(names) {
        let declared = field.metadata().get("lakehead.type").cloned();
        let type_name = declared.unwrap_or_else(|| column_type_name(field.data_type()));
        let null = if field.is_nullable() { "" } else { " not null" };
        text.push_str(&format!("  {},\n", quote(&format!("{name:<width$} {type_name}{null}"))));
    }
    text.push_str("]\n");
    if !entry.comments.is_empty() {
        text.push_str(&format!("\n[{connection}.{}.comments]\n", quote(object)));
        for (column, comment) in &entry.comments {
            text.push_str(&format!("{} = {}\n", quote(column), quote(comment)));
        }
    }
    text
}

fn column_name(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { name.to_owned() } else { format!("\"{name}\"") }
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_reads_back_as_it_is_written() {
        let text = "version = 1\n[shop.\"public.orders\"]\nkey = [\"id\"]\nidentity = \"default\"\n\
                    columns = [\"id bigint not null\", \"at timestamptz\", \"doc json\"]\n\
                    [shop.\"public.orders\".comments]\n\"id\" = \"a \\\"number\\\"\"\n";
        let lock = Lock::parse(text).unwrap();
        assert_eq!(lock.get("shop", "public.orders").unwrap().table.key, ["id"]);
        assert_eq!(Lock::parse(&lock.render()).unwrap(), lock);
    }

    #[test]
    fn a_mistake_names_its_table_and_column() {
        let error = Lock::parse("[a.\"b\"]\ncolumns = [\"x money\"]\n").unwrap_err();
        assert!(error.contains("[a.\"b\"]") && error.contains("`money` is not a type"), "{error}");
    }
}
