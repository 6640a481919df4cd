//! What Unity Catalog lists otherwise than a table is, and the one call that changes an entry.
//!
//! The documented API makes tables and drops them. Servers since 0.5 know Delta's own calls as well, which set columns,
//! comment and properties of an entry that is there, and keep its grants.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Column, Definition, Difference, spark};

/// How the call is named among those that a server says it knows.
pub(super) const CHANGE: &str = "POST /v1/catalogs/{catalog}/schemas/{schema}/tables/{table}";

/// What an entry should say and does not.
pub(super) struct Changes {
    /// For people.
    pub(super) differences: Vec<Difference>,
    /// For the server.
    updates: Vec<Value>,
}

impl Changes {
    /// Compares what is listed with the table. A comment of others stays where the table has none.
    pub(super) fn between(found: &Value, definition: &Definition) -> Self {
        let mut changes = Self { differences: Vec::new(), updates: Vec::new() };
        changes.compare_columns(found, definition);
        let wanted = definition.comment.clone().unwrap_or_default();
        if !wanted.is_empty() && changes.says("comment", text(&found["comment"]), &wanted) {
            changes.updates.push(json!({ "action": "set-table-comment", "comment": wanted }));
        }
        let mut properties = serde_json::Map::new();
        for (name, wanted) in properties_of(definition) {
            if changes.says(name, text(&found["properties"][name]), wanted) {
                properties.insert(name.to_owned(), wanted.into());
            }
        }
        if !properties.is_empty() {
            changes.updates.push(json!({ "action": "set-properties", "updates": properties }));
        }
        changes
    }

    /// The request that makes them, on the very entry that was looked at.
    pub(super) fn request(&self, found: &Value) -> Value {
        let same = json!({ "type": "assert-table-uuid", "uuid": found["table_id"] });
        json!({ "requirements": [same], "updates": self.updates })
    }

    fn compare_columns(&mut self, found: &Value, definition: &Definition) {
        let listed = found["columns"].as_array().map_or(&[][..], Vec::as_slice);
        let comments: BTreeMap<&str, &str> =
            listed.iter().filter_map(|column| Some((column["name"].as_str()?, column["comment"].as_str()?))).collect();
        let wanted: Vec<Column> = definition
            .columns
            .iter()
            .map(|column| {
                let theirs = || comments.get(column.name.as_str()).map(|comment| (*comment).to_owned());
                Column { comment: column.comment.clone().or_else(theirs), ..column.clone() }
            })
            .collect();
        let fields: Vec<Value> = wanted.iter().map(spark::field).collect();
        let lines = |lines: Vec<String>| lines.join(", ");
        let is = lines(listed.iter().map(listed_line).collect());
        let should =
            lines(wanted.iter().zip(&fields).map(|(column, field)| line(column.comment.as_deref(), field)).collect());
        let others = self.says("columns", &is, &should);
        let others =
            self.says("partition columns", &partitions(listed), &lines(definition.partition_by.clone())) || others;
        if others {
            let fields: Vec<Value> = fields.into_iter().map(delta_field).collect();
            self.updates.push(json!({ "action": "set-columns", "columns": { "type": "struct", "fields": fields } }));
            self.updates
                .push(json!({ "action": "set-partition-columns", "partition-columns": definition.partition_by }));
        }
    }

    /// Notes a difference, where it is one.
    fn says(&mut self, what: &str, found: &str, wanted: &str) -> bool {
        if found != wanted {
            let (what, found, wanted) = (what.to_owned(), found.to_owned(), wanted.to_owned());
            self.differences.push(Difference::Says { what, found, wanted });
            return true;
        }
        false
    }
}

/// Whose table it is.
pub(super) fn properties_of(definition: &Definition) -> [(&'static str, &str); 2] {
    [("lakehead.pipeline", &definition.pipeline), ("lakehead.owner", &definition.owner)]
}

/// A column as it is listed, for people and for comparing: by its type in Spark's words, which servers keep as they are.
fn listed_line(column: &Value) -> String {
    let field = column["type_json"].as_str().and_then(|field| serde_json::from_str::<Value>(field).ok());
    let kind = match field {
        Some(Value::Object(mut field)) => field.remove("type").unwrap_or_default(),
        Some(kind) => kind,
        None => column["type_text"].clone(),
    };
    line(column["comment"].as_str(), &json!({ "name": column["name"], "type": kind }))
}

fn line(comment: Option<&str>, field: &Value) -> String {
    let (name, kind) = (text(&field["name"]), type_text(&field["type"]));
    match comment.filter(|comment| !comment.is_empty()) {
        Some(comment) => format!("{name} {kind} ({comment})"),
        None => format!("{name} {kind}"),
    }
}

fn type_text(kind: &Value) -> String {
    match kind {
        Value::String(kind) => kind.clone(),
        Value::Object(kind) if kind.contains_key("elementType") => {
            format!("array<{}>", type_text(&kind["elementType"]))
        }
        other => other.to_string(),
    }
}

/// The listed partition columns, in their order.
fn partitions(listed: &[Value]) -> String {
    let indexed = |column: &Value| Some((column["partition_index"].as_u64()?, text(&column["name"]).to_owned()));
    let indexed: BTreeMap<u64, String> = listed.iter().filter_map(indexed).collect();
    indexed.into_values().collect::<Vec<_>>().join(", ")
}

/// A column as Delta's calls take it: they write some words of a type in another way than Delta's log does.
fn delta_field(mut field: Value) -> Value {
    let kind = delta_type(field["type"].take());
    field["type"] = kind;
    field
}

fn delta_type(mut kind: Value) -> Value {
    if kind.get("elementType").is_none() {
        return kind;
    }
    json!({ "type": "array", "element-type": delta_type(kind["elementType"].take()), "contains-null": true })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_stays_where_the_table_says_nothing_and_gives_way_where_it_does() {
        let column = |name: &str, type_name: &str, comment: Option<&str>| Column {
            name: name.into(),
            type_name: type_name.into(),
            comment: comment.map(str::to_owned),
        };
        let definition = Definition {
            name: "shop.orders".into(),
            format: "delta".into(),
            location: "s3://lake/orders".into(),
            columns: vec![column("id", "bigint", Some("ours")), column("tags", "list(varchar)", None)],
            partition_by: vec!["id".into()],
            buckets: None,
            sort_by: Vec::new(),
            comment: None,
            pipeline: "orders".into(),
            owner: "1".into(),
        };
        let listed = |id: &str, index: Option<u64>| {
            json!({
                "table_id": "u",
                "comment": "theirs",
                "properties": { "lakehead.pipeline": "orders", "lakehead.owner": "1", "team": "sales" },
                "columns": [
                    { "name": "id", "type_json": "\"long\"", "comment": id, "partition_index": index },
                    {
                        "name": "tags", "comment": "words",
                        "type_json": "{\"type\":{\"containsNull\":true,\"elementType\":\"string\",\"type\":\"array\"}}",
                    },
                ],
            })
        };
        assert_eq!(Changes::between(&listed("ours", Some(0)), &definition).differences, Vec::new());
        let found = listed("theirs", None);
        let changes = Changes::between(&found, &definition);
        let said: Vec<_> = changes.differences.iter().map(Difference::to_string).collect();
        let columns =
            "columns: id long (theirs), tags array<string> (words) -> id long (ours), tags array<string> (words)";
        assert_eq!(said, [columns, "partition columns:  -> id"]);
        let request = changes.request(&found);
        assert_eq!(request["requirements"][0]["uuid"], "u");
        assert_eq!(request["updates"].as_array().map(Vec::len), Some(2));
        let tags = &request["updates"][0]["columns"]["fields"][1];
        assert_eq!(tags["metadata"], json!({ "comment": "words" }));
        assert_eq!(tags["type"], json!({ "type": "array", "element-type": "string", "contains-null": true }));
    }
}
