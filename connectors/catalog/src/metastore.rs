//! A table as Hive's metastore and Glue describe it: columns, keys, and the classes that read its files.

use std::collections::{BTreeMap, BTreeSet};

use arrow_schema::DataType;
use lakehead_core::{Error, ListedPartition, Result};

use crate::{Column, Definition, Difference, spark};

/// The parameter that says who writes a table, for people.
const PIPELINE: &str = "lakehead.pipeline";
/// The parameter by which an entry is known as ours.
const OWNER: &str = "lakehead.owner";
/// Characters of a table's comment that both keep: what Glue takes.
const TABLE_COMMENT_MAX: usize = 2048;
/// Characters of a column's comment that both keep: what Glue takes; Hive has room for one more.
const COLUMN_COMMENT_MAX: usize = 255;
/// What Hive calls the partition of NULL.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredColumn {
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(crate) comment: Option<String>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredTable {
    pub(crate) columns: Vec<StoredColumn>,
    pub(crate) keys: Vec<StoredColumn>,
    pub(crate) location: String,
    pub(crate) input_format: String,
    pub(crate) output_format: String,
    pub(crate) serde: String,
    pub(crate) serde_parameters: BTreeMap<String, String>,
    pub(crate) bucket_columns: Vec<String>,
    pub(crate) bucket_count: i32,
    pub(crate) sort_columns: Vec<String>,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) comment: Option<String>,
}

impl StoredTable {
    /// Returns the description of a table.
    pub(crate) fn of(definition: &Definition) -> Self {
        let is_delta = definition.format == "delta";
        let (columns, keys) = if is_delta {
            // Readers learn the partitions from the log: an entry with keys would ask for partitions that nobody adds.
            (definition.columns.iter().collect(), Vec::new())
        } else {
            definition.split_columns()
        };
        let stored = |columns: Vec<&Column>| columns.into_iter().map(StoredColumn::of).collect();
        let [input_format, output_format, serde] = classes(&definition.format).map(str::to_owned);
        let mut table = Self {
            columns: stored(columns),
            keys: stored(keys),
            location: definition.location.clone(),
            input_format,
            output_format,
            serde,
            serde_parameters: BTreeMap::from([("serialization.format".to_owned(), "1".to_owned())]),
            bucket_columns: Vec::new(),
            bucket_count: 0,
            sort_columns: Vec::new(),
            parameters: BTreeMap::new(),
            comment: definition.comment.as_ref().map(|comment| cut(comment, TABLE_COMMENT_MAX)),
        };
        let mut set = |name: &str, value: &str| drop(table.parameters.insert(name.to_owned(), value.to_owned()));
        set("EXTERNAL", "TRUE");
        set("classification", &definition.format);
        if !definition.owner.is_empty() {
            set(PIPELINE, &definition.pipeline);
            set(OWNER, &definition.owner);
        }
        if is_delta {
            set("spark.sql.sources.provider", "delta");
            set("table_type", "delta");
        }
        if is_delta || definition.buckets.as_ref().is_some_and(|buckets| buckets.hash == "spark") {
            table.serde_parameters.insert("path".to_owned(), definition.location.clone());
        }
        table.set_buckets(definition);
        table
    }

    fn set_buckets(&mut self, definition: &Definition) {
        let Some(buckets) = &definition.buckets else { return };
        let lower = |names: &[String]| names.iter().map(|name| name.to_lowercase()).collect();
        self.bucket_columns = lower(&buckets.columns);
        self.bucket_count = i32::try_from(buckets.count).unwrap_or(i32::MAX);
        self.sort_columns = lower(&definition.sort_by);
        let mut set = |name: &str, value: &str| drop(self.parameters.insert(name.to_owned(), value.to_owned()));
        match buckets.hash.as_str() {
            "hive1" => set("bucketing_version", "1"),
            "spark" => {
                set("bucketing_format", "spark");
                self.parameters.extend(spark::parameters(definition));
            }
            _ => set("bucketing_version", "2"),
        }
    }

    /// Refuses to take a name from somebody: a table of another place that this pipeline did not register.
    pub(crate) fn refuse_foreign(&self, found: &Self, name: &str) -> Result<()> {
        let owner = found.parameters.get(OWNER);
        if (owner.is_some() && owner == self.parameters.get(OWNER)) || place(&found.location) == place(&self.location) {
            return Ok(());
        }
        Err(Error::incident("R0624", "the catalog lists another table under this name")
            .with("table", name)
            .with("its_location", &found.location)
            .with("our_location", &self.location)
            .help("give one of them another name (`table`, or `prefix` of the connection), or drop the other's entry"))
    }

    /// Returns what `found` says otherwise. What people added to it, and comments that the file does not give, stay.
    pub(crate) fn differences(&self, found: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, found: String, wanted: String| {
            if found != wanted {
                differences.push(Difference::Says { what: what.to_owned(), found, wanted });
            }
        };
        let merged = self.merged(found);
        compare("columns", columns_text(&found.columns), columns_text(&merged.columns));
        compare("partition keys", columns_text(&found.keys), columns_text(&merged.keys));
        compare("location", place(&found.location), place(&self.location));
        compare("input format", found.input_format.clone(), self.input_format.clone());
        compare("output format", found.output_format.clone(), self.output_format.clone());
        compare("serde", found.serde.clone(), self.serde.clone());
        let buckets = |table: &Self| match table.bucket_columns.is_empty() {
            true => "none".to_owned(),
            false => format!("{} into {}", table.bucket_columns.join(", "), table.bucket_count),
        };
        compare("buckets", buckets(found), buckets(self));
        compare("order", found.sort_columns.join(", "), self.sort_columns.join(", "));
        compare("comment", found.comment.clone().unwrap_or_default(), merged.comment.unwrap_or_default());
        let none = || "nothing".to_owned();
        for (owned, has) in [(&self.parameters, &found.parameters), (&self.serde_parameters, &found.serde_parameters)] {
            for (name, wanted) in owned {
                let found = has.get(name).cloned().unwrap_or_else(none);
                // A location among the parameters is compared as one.
                let same = name == "path" && place(&found) == place(wanted);
                compare(name, found, if same { has[name].clone() } else { wanted.clone() });
            }
        }
        differences
    }

    /// Returns what is to be written over `found`.
    pub(crate) fn merged(&self, found: &Self) -> Self {
        let mut merged = self.clone();
        for (own, theirs) in [(&mut merged.columns, &found.columns), (&mut merged.keys, &found.keys)] {
            for column in own.iter_mut().filter(|column| column.comment.is_none()) {
                let same = theirs.iter().find(|other| other.name == column.name);
                column.comment = same.and_then(|other| other.comment.clone());
            }
        }
        merged.comment = merged.comment.or_else(|| found.comment.clone());
        for (own, theirs) in
            [(&mut merged.parameters, &found.parameters), (&mut merged.serde_parameters, &found.serde_parameters)]
        {
            for (name, value) in theirs {
                own.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        merged
    }
}

impl StoredColumn {
    fn of(column: &Column) -> Self {
        Self {
            name: column.name.to_lowercase(),
            type_name: type_name(&column.data_type()),
            comment: column.comment.as_ref().map(|comment| cut(comment, COLUMN_COMMENT_MAX)),
        }
    }
}

/// The first characters of a comment.
fn cut(comment: &str, chars_max: usize) -> String {
    comment.chars().take(chars_max).collect()
}

/// Returns whether a service refused a call with its own error `kind`.
pub(crate) fn is(error: &Error, kind: &str) -> bool {
    error.context().iter().any(|(name, value)| *name == "kind" && value == kind)
}

/// Passes over the one refusal that says what was wanted is so already.
pub(crate) fn unless<T>(outcome: Result<T>, kind: &str) -> Result<()> {
    match outcome {
        Err(error) if !is(&error, kind) => Err(error),
        _ => Ok(()),
    }
}

/// The values of a partition as a metastore writes them.
pub(crate) fn values_of(partition: &ListedPartition) -> Vec<String> {
    partition.values.iter().map(|value| value.clone().unwrap_or_else(|| NULL_PARTITION.to_owned())).collect()
}

/// The partitions that are to be added to, and taken from, those of a metastore.
pub(crate) struct PartitionChanges {
    pub(crate) added: Vec<(Vec<String>, String)>,
    pub(crate) gone: Vec<Vec<String>>,
}

impl PartitionChanges {
    pub(crate) fn between(found: &BTreeSet<Vec<String>>, wanted: &BTreeSet<ListedPartition>) -> Self {
        let wanted: BTreeMap<Vec<String>, String> =
            wanted.iter().map(|partition| (values_of(partition), partition.folder.clone())).collect();
        let gone = found.iter().filter(|values| !wanted.contains_key(*values)).cloned().collect();
        let added = wanted.into_iter().filter(|(values, _)| !found.contains(values)).collect();
        Self { added, gone }
    }

    pub(crate) fn differences(&self) -> impl Iterator<Item = Difference> {
        let added = (!self.added.is_empty()).then_some(Difference::PartitionsMissing(self.added.len()));
        added.into_iter().chain((!self.gone.is_empty()).then_some(Difference::PartitionsGone(self.gone.len())))
    }
}

/// Whether two locations are one.
pub(crate) fn same_place(one: &str, other: &str) -> bool {
    place(one) == place(other)
}

/// A location without the ways of writing it: Hive writes `file:/x` for `file:///x`.
fn place(location: &str) -> String {
    let location = location.trim_end_matches('/');
    match location.strip_prefix("file:") {
        Some(path) => format!("file:/{}", path.trim_start_matches('/')),
        None => location.to_owned(),
    }
}

fn columns_text(columns: &[StoredColumn]) -> String {
    let text = |column: &StoredColumn| match &column.comment {
        Some(comment) => format!("{} {} ({comment})", column.name, column.type_name),
        None => format!("{} {}", column.name, column.type_name),
    };
    columns.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Input format, output format and serde of a format.
fn classes(format: &str) -> [&'static str; 3] {
    match format {
        "parquet" => [
            "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
            "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
            "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
        ],
        "orc" => [
            "org.apache.hadoop.hive.ql.io.orc.OrcInputFormat",
            "org.apache.hadoop.hive.ql.io.orc.OrcOutputFormat",
            "org.apache.hadoop.hive.ql.io.orc.OrcSerde",
        ],
        // What Spark and Glue's crawler write for Delta: readers go by the parameters, and nobody by these.
        _ => [
            "org.apache.hadoop.mapred.SequenceFileInputFormat",
            "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat",
            "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
        ],
    }
}

/// Returns Hive's word for a type. It has no time of day: the files hold microseconds.
pub(crate) fn type_name(data_type: &DataType) -> String {
    use DataType as T;
    match data_type {
        T::Boolean => "boolean".into(),
        T::Int8 => "tinyint".into(),
        T::Int16 => "smallint".into(),
        T::Int32 => "int".into(),
        T::Int64 | T::Time64(_) => "bigint".into(),
        T::Float32 => "float".into(),
        T::Float64 => "double".into(),
        T::Binary => "binary".into(),
        T::Date32 => "date".into(),
        T::Timestamp(..) => "timestamp".into(),
        T::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        T::List(item) => format!("array<{}>", type_name(item.data_type())),
        _ => "string".into(),
    }
}
