//! What a table asks of those who read and write it: features of its protocol, and properties that bind writers.
//!
//! A feature that is declared is not yet one that is used (Delta protocol, "Supported Features" and "Active Features"):
//! old version numbers declare several at once, and one that was used before stays declared.

use std::collections::BTreeSet;

use arrow::datatypes::Schema;
use lakehead_core::{Error, Result};
use serde_json::{Value, json};

use crate::live::LiveTable;
use crate::schema::{field_json, has_ntz};

/// Features that are kept, whatever the table does with them.
const KEPT: [&str; 5] = ["timestampNtz", "deletionVectors", "v2Checkpoint", "vacuumProtocolCheck", "appendOnly"];

/// What writer versions before 7 stand for, each with what stands before it.
const OF_WRITERS: [(i64, &str); 7] = [
    (2, "appendOnly"),
    (2, "invariants"),
    (3, "checkConstraints"),
    (4, "changeDataFeed"),
    (4, "generatedColumns"),
    (5, "columnMapping"),
    (6, "identityColumns"),
];

/// Spark takes every number of an application out of its checkpoints where this is set, whatever it is set to, unless
/// the number came with a time; with one, those that are older.
const FORGETS: &str = "delta.setTransactionRetentionDuration";

/// The newest versions that a protocol can have.
const READER_VERSION_MAX: i64 = 3;
const WRITER_VERSION_MAX: i64 = 7;

impl LiveTable {
    fn version_of(&self, side: &str) -> i64 {
        self.protocol[side].as_i64().unwrap_or(1)
    }

    fn listed(&self, side: &str) -> impl Iterator<Item = String> {
        self.protocol[side].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
    }

    /// Returns what a reader must know.
    fn reader_features(&self) -> BTreeSet<String> {
        let mapped = self.version_of("minReaderVersion") == 2;
        self.listed("readerFeatures").chain(mapped.then(|| "columnMapping".to_owned())).collect()
    }

    /// Returns what a writer must know.
    fn writer_features(&self) -> BTreeSet<String> {
        let version = self.version_of("minWriterVersion");
        let declared = OF_WRITERS.iter().filter(|(since, _)| version < WRITER_VERSION_MAX && version >= *since);
        self.listed("writerFeatures").chain(declared.map(|(_, feature)| (*feature).to_owned())).collect()
    }

    /// Returns whether the table does with a feature what is not done here.
    fn uses(&self, feature: &str) -> bool {
        let property = |name: &str| self.configuration.get(name).map(String::as_str);
        let schema = self.metadata["schemaString"].as_str().unwrap_or_default();
        match feature {
            "invariants" => schema.contains("\"delta.invariants\""),
            "checkConstraints" => self.configuration.keys().any(|name| name.starts_with("delta.constraints.")),
            "changeDataFeed" => property("delta.enableChangeDataFeed") == Some("true"),
            "generatedColumns" => schema.contains("\"delta.generationExpression\""),
            "identityColumns" => schema.contains("\"delta.identity."),
            "columnMapping" => property("delta.columnMapping.mode").is_some_and(|mode| mode != "none"),
            "inCommitTimestamp" => property("delta.enableInCommitTimestamps") == Some("true"),
            _ => !KEPT.contains(&feature),
        }
    }

    /// Refuses to read what would not be read as it is meant.
    pub(crate) fn check_readable(&self) -> Result<()> {
        let refused = |what: &str| {
            Error::incident("R0206", "the table uses a feature that is not read here")
                .with("feature", what)
                .help("read it by another way, or turn the feature off in its writer")
        };
        let version = self.version_of("minReaderVersion");
        if version > READER_VERSION_MAX {
            return Err(refused(&format!("reader version {version}")));
        }
        let used = self.reader_features().into_iter().find(|feature| self.uses(feature));
        used.map_or(Ok(()), |feature| Err(refused(&feature)))
    }

    /// Refuses to write what a foreign writer turned on and cannot be kept here.
    pub(crate) fn check_writable(&self) -> Result<()> {
        let refused = |what: &str| {
            Error::incident("R0206", "the table uses a feature that is not written here")
                .with("feature", what)
                .help("write into a table of its own, or turn the feature off in its writer")
        };
        let version = self.version_of("minWriterVersion");
        if version > WRITER_VERSION_MAX {
            return Err(refused(&format!("writer version {version}")));
        }
        let mut features = self.reader_features();
        features.extend(self.writer_features());
        if let Some(feature) = features.into_iter().find(|feature| self.uses(feature)) {
            return Err(refused(&feature));
        }
        if self.configuration.contains_key(FORGETS) {
            return Err(Error::incident("R0207", "the table is told to forget which rounds it holds")
                .with("property", FORGETS)
                .help(format!("`alter table … unset tblproperties ('{FORGETS}')`, before a checkpoint is written")));
        }
        Ok(())
    }

    /// Refuses a round that breaks what the table says of its rows.
    pub(crate) fn check_round(&self, actions: &[Value]) -> Result<()> {
        let appends_only = self.configuration.get("delta.appendOnly").is_some_and(|value| value == "true");
        if appends_only && actions.iter().any(|action| action["remove"]["dataChange"] == true) {
            return Err(Error::incident("R0232", "rows would go from a table that is only appended to")
                .with("property", "delta.appendOnly")
                .help("use `mode = changelog`, which keeps every change, or unset the property"));
        }
        let fields: Value =
            serde_json::from_str(self.metadata["schemaString"].as_str().unwrap_or_default()).unwrap_or_default();
        let names = fields["fields"].as_array().into_iter().flatten();
        let required: Vec<&str> =
            names.filter(|field| field["nullable"] == false).filter_map(|field| field["name"].as_str()).collect();
        if required.is_empty() {
            return Ok(());
        }
        // Rows that stay under a new vector were there before.
        let added = actions.iter().map(|action| &action["add"]).filter(|add| add.is_object());
        for add in added.filter(|add| add["deletionVector"].is_null()) {
            let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap_or_default()).unwrap_or_default();
            let lacks = |column: &&&str| match add["partitionValues"].get(**column) {
                Some(value) => value.is_null(),
                None => stats["nullCount"][**column] != 0,
            };
            if let Some(column) = required.iter().find(lacks) {
                return Err(Error::incident("R0233", "a row lacks a value that the table asks for")
                    .with("column", column)
                    .help("`alter table … alter column … drop not null`, or fill it in a `derive`"));
            }
        }
        Ok(())
    }

    /// Returns the actions that add columns: what a foreign writer said of the others, and of the table, stays.
    pub(crate) fn with_columns(&self, schema: &Schema) -> Result<Vec<Value>> {
        let mut actions = Vec::new();
        let is_new = |name: &str| self.schema.field_with_name(name).is_err();
        let added: Vec<_> = schema.fields().iter().filter(|field| is_new(field.name())).collect();
        if added.iter().any(|field| has_ntz(field.data_type())) && !self.writer_features().contains("timestampNtz") {
            let with = |mut features: BTreeSet<String>| {
                features.insert("timestampNtz".into());
                features
            };
            actions.push(json!({ "protocol": {
                "minReaderVersion": READER_VERSION_MAX,
                "minWriterVersion": WRITER_VERSION_MAX,
                "readerFeatures": with(self.reader_features()),
                "writerFeatures": with(self.writer_features()),
            }}));
        }
        let mut metadata = self.metadata.clone();
        let mut columns: Value =
            serde_json::from_str(metadata["schemaString"].as_str().unwrap_or_default()).map_err(|error| {
                Error::incident("R0205", "the table's schema is not one that can be read").caused_by(error)
            })?;
        if let Some(fields) = columns["fields"].as_array_mut() {
            for field in added {
                fields.push(field_json(field)?);
            }
        }
        metadata["schemaString"] = columns.to_string().into();
        actions.push(json!({ "metaData": metadata }));
        Ok(actions)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, TimeUnit};

    use super::*;
    use crate::live::Totals;

    fn table(protocol: Value, field_metadata: Value, configuration: Value) -> LiveTable {
        let fields = json!([{ "name": "id", "type": "long", "nullable": false, "metadata": field_metadata }]);
        let mut live = LiveTable {
            version: 1,
            identity: String::new(),
            schema: Arc::new(Schema::empty()),
            partition_by: Vec::new(),
            configuration: BTreeMap::new(),
            protocol,
            metadata: Value::Null,
            files: HashMap::new(),
            totals: Totals::default(),
            numbers: HashMap::new(),
        };
        let schema = json!({ "type": "struct", "fields": fields }).to_string();
        live.take_metadata(
            &json!({ "id": "x", "name": "orders", "schemaString": schema, "configuration": configuration }),
        )
        .unwrap();
        live
    }

    /// Returns what refuses to read and to write: a feature, or a code.
    fn refused(live: &LiveTable) -> [String; 2] {
        [live.check_readable(), live.check_writable()].map(|checked| match checked {
            Ok(()) => "no".to_owned(),
            Err(error) => error
                .context()
                .iter()
                .find(|(name, _)| *name == "feature")
                .map_or(error.code().into(), |(_, v)| v.clone()),
        })
    }

    fn listed(readers: &[&str], writers: &[&str]) -> Value {
        json!({ "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": readers, "writerFeatures": writers })
    }

    #[test]
    fn what_is_declared_and_not_used_is_no_hindrance() {
        let none = json!({});
        for writer in 1..=6 {
            let protocol = json!({ "minReaderVersion": 2, "minWriterVersion": writer });
            assert_eq!(refused(&table(protocol, none.clone(), none.clone())), ["no", "no"], "writer version {writer}");
        }
        let unused = ["appendOnly", "changeDataFeed", "checkConstraints", "columnMapping", "generatedColumns"];
        let unused = table(listed(&["columnMapping"], &unused), none.clone(), none);
        assert_eq!(refused(&unused), ["no", "no"]);
    }

    #[test]
    fn what_is_used_and_cannot_be_kept_is_refused_by_its_name() {
        let none = json!({});
        let old = |writer: i64| json!({ "minReaderVersion": 2, "minWriterVersion": writer });
        let mapped = json!({ "delta.columnMapping.mode": "name" });
        let check = |live: LiveTable, readers: &str, writers: &str| assert_eq!(refused(&live), [readers, writers]);
        check(table(old(5), none.clone(), mapped), "columnMapping", "columnMapping");
        check(table(old(3), none.clone(), json!({ "delta.constraints.c": "id > 0" })), "no", "checkConstraints");
        check(table(old(4), none.clone(), json!({ "delta.enableChangeDataFeed": "true" })), "no", "changeDataFeed");
        check(table(old(4), json!({ "delta.generationExpression": "1" }), none.clone()), "no", "generatedColumns");
        check(table(old(2), json!({ "delta.invariants": "id > 0" }), none.clone()), "no", "invariants");
        check(table(old(6), json!({ "delta.identity.start": 1 }), none.clone()), "no", "identityColumns");
        check(table(listed(&[], &["rowTracking"]), none.clone(), none.clone()), "no", "rowTracking");
        let widened = listed(&["typeWidening"], &["typeWidening"]);
        check(table(widened, none.clone(), none.clone()), "typeWidening", "typeWidening");
        let newer = json!({ "minReaderVersion": 4, "minWriterVersion": 8 });
        check(table(newer, none.clone(), none.clone()), "reader version 4", "writer version 8");
        let forgets = json!({ "delta.setTransactionRetentionDuration": "interval 30 days" });
        check(table(old(2), none, forgets), "no", "R0207");
    }

    #[test]
    fn a_new_column_leaves_what_others_said() {
        let live =
            table(json!({ "minReaderVersion": 1, "minWriterVersion": 3 }), json!({ "comment": "the key" }), json!({}));
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("local", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ]);
        let actions = live.with_columns(&schema).unwrap();
        let writers = ["appendOnly", "checkConstraints", "invariants", "timestampNtz"];
        assert_eq!(actions[0]["protocol"], listed(&["timestampNtz"], &writers));
        let metadata = &actions[1]["metaData"];
        assert_eq!(metadata["name"], "orders");
        let columns: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
        assert_eq!(columns["fields"][0]["metadata"]["comment"], "the key");
        assert_eq!(columns["fields"][0]["nullable"], false);
        assert_eq!((&columns["fields"][1]["name"], columns["fields"].as_array().unwrap().len()), (&json!("local"), 2));
    }
}
