//! Which partition columns tell a time, as a table says it itself: no file lays out a table that is only compacted.

use std::collections::{BTreeMap, BTreeSet};

use arrow_schema::{DataType, Schema};

use crate::error::{Error, Result};
use crate::lifecycle::StorageClass;
use crate::retention::{PartitionTime, Retention, TimeColumn};

/// What the names of columns end with that `partition_by` makes of a time.
const MADE: [(&str, PartitionTime); 4] = [
    ("_year", PartitionTime::Year),
    ("_month", PartitionTime::Month),
    ("_day", PartitionTime::Day),
    ("_hour", PartitionTime::Hour),
];

/// Who moves the files of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MovedBy {
    /// Its writer alone: what tells no age never moves.
    Writer,
    /// The bucket's rules too, which count from the day a file was written.
    Bucket,
}

impl TimeColumn {
    /// Returns what a partition column of a table tells: by the name that a transform gives it, by its type, or, where it is
    /// text as the folders of others are, by its values. `None` where one of these is no such time.
    pub fn of_table(name: &str, schema: &Schema, values: &BTreeSet<&str>) -> Option<Self> {
        let data_type = |column: &str| schema.field_with_name(column).ok().map(|field| field.data_type());
        let is_time = |column: &str| matches!(data_type(column), Some(DataType::Date32 | DataType::Timestamp(..)));
        let made = MADE.iter().find_map(|(ending, tells)| Some((name.strip_suffix(ending)?, *tells)));
        let (source, told) = match (made.filter(|(source, _)| is_time(source)), data_type(name)) {
            (Some((source, tells)), _) => (source, vec![tells]),
            (None, Some(DataType::Date32)) => (name, vec![PartitionTime::Day]),
            (None, Some(DataType::Timestamp(..))) => (name, vec![PartitionTime::Moment]),
            (None, None | Some(DataType::Utf8)) if !values.is_empty() => {
                (name, vec![PartitionTime::Day, PartitionTime::Moment])
            }
            _ => return None,
        };
        let tells = told.into_iter().find(|tells| values.iter().all(|value| tells.reads(value)))?;
        Some(Self { name: name.to_owned(), source: source.to_owned(), tells })
    }
}

impl Retention {
    /// Completes what is done for a table that is only compacted: where the file says no layout, the table's own partitions
    /// tell which of their columns is a time. `partitions` gives columns with a value, once or more often.
    ///
    /// # Errors
    ///
    /// R0656 where the table has not the columns that the file says, or nothing would ever move.
    pub fn of_table<'a>(
        mut self,
        schema: &Schema,
        partitions: impl Iterator<Item = (&'a str, Option<&'a str>)>,
        by: MovedBy,
    ) -> Result<Self> {
        if self.moves.is_empty() {
            return Ok(self);
        }
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (column, value) in partitions {
            values.entry(column).or_default().extend(value);
        }
        if self.moves.iter().any(|one| one.age.by.iter().any(|column| !values.contains_key(column.name.as_str()))) {
            return Err(unknown_age(
                "the table is not partitioned by the columns that its age is to be told by",
                &values,
            )
            .help(
                "say `partition_by` as the table has it, or leave it out: a table that is compacted tells it itself",
            ));
        }
        let told: Vec<_> =
            values.iter().filter_map(|(name, values)| TimeColumn::of_table(name, schema, values)).collect();
        for one in self.moves.iter_mut().filter(|one| one.age.by.is_empty()) {
            one.age.by.clone_from(&told);
        }
        let stays = self.moves.iter().all(|one| one.class == StorageClass::Infrequent);
        if by == MovedBy::Writer && !stays && !self.tells_age() {
            return Err(unknown_age("files go by the age of their partitions, and no partition tells one", &values)
                .help("lay files out by a date: day=2026-05-01; or leave the moves out of the sink's lifecycle"));
        }
        Ok(self)
    }

    /// Returns whether anything is known of the age of partitions; an hour of the day alone comes again every day.
    pub fn tells_age(&self) -> bool {
        self.moves.iter().flat_map(|one| &one.age.by).any(|column| column.tells != PartitionTime::Hour)
    }
}

fn unknown_age(message: &'static str, columns: &BTreeMap<&str, BTreeSet<&str>>) -> Error {
    let columns: Vec<&str> = columns.keys().copied().collect();
    let columns = if columns.is_empty() { "none".to_owned() } else { columns.join(", ") };
    Error::user("R0656", message).with("partition_columns", columns)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow_schema::{Field, TimeUnit};

    use super::*;
    use crate::retention::{Expiry, Move};

    fn schema() -> Schema {
        let at = DataType::Timestamp(TimeUnit::Microsecond, None);
        let field = |name: &str, data_type: &DataType| Field::new(name, data_type.clone(), true);
        let texts = ["folder", "at_month", "code_day"].map(|name| field(name, &DataType::Utf8));
        let numbers = ["at_year", "at_hour", "n"].map(|name| field(name, &DataType::Int32));
        let times = [field("at", &at), field("day", &DataType::Date32)];
        Schema::new([texts.to_vec(), numbers.to_vec(), times.to_vec()].concat())
    }

    #[test]
    fn a_column_is_a_time_by_its_name_its_type_or_all_of_its_values() {
        use PartitionTime::{Day, Hour, Moment, Month, Year};
        for (name, values, expected) in [
            ("day", vec!["2026-05-01"], Some(("day", Day))),
            ("day", vec![], Some(("day", Day))),
            ("at", vec!["2026-05-01 10:00:00"], Some(("at", Moment))),
            ("at_month", vec!["2026-05"], Some(("at", Month))),
            ("at_month", vec!["2026-05", "May"], None),
            ("at_year", vec!["2026"], Some(("at", Year))),
            ("at_hour", vec!["0", "23"], Some(("at", Hour))),
            ("at_hour", vec!["24"], None),
            ("at_day", vec!["2026-05-01"], Some(("at", Day))),
            ("folder", vec!["2026-05-01", "2026-05-02"], Some(("folder", Day))),
            ("folder", vec!["2026-05-01 10:00:00"], Some(("folder", Moment))),
            ("folder", vec!["2026-05-01", "x"], None),
            ("folder", vec!["2026-05"], None),
            ("folder", vec![], None),
            ("code_day", vec!["2026-05-01"], Some(("code_day", Day))),
            ("n", vec!["20260501"], None),
        ] {
            let found = TimeColumn::of_table(name, &schema(), &values.iter().copied().collect());
            let found = found.as_ref().map(|found| (found.source.as_str(), found.tells));
            assert_eq!(found, expected, "{name} {values:?}");
        }
    }

    fn moving(class: StorageClass, by: Vec<TimeColumn>) -> Retention {
        let age = Expiry { after: Duration::from_secs(86_400), by };
        Retention { moves: vec![Move { class, age }], ..Retention::default() }
    }

    #[test]
    fn a_table_completes_what_no_file_says_and_what_would_never_move_is_refused() {
        use StorageClass::{ArchiveInstant, Infrequent};
        let told = |name: &str| TimeColumn { name: name.into(), source: "at".into(), tells: PartitionTime::Month };
        let by_day = [("folder", Some("2026-05-01")), ("n", Some("7")), ("folder", None)];
        let by_code = [("n", Some("7"))];
        let by_month = [("at_month", Some("2026-05"))];
        for (class, by, partitions, moved_by, expected) in [
            (ArchiveInstant, vec![], &by_day[..], MovedBy::Writer, Ok(vec!["folder"])),
            (ArchiveInstant, vec![], &by_code[..], MovedBy::Bucket, Ok(vec![])),
            (ArchiveInstant, vec![], &by_code[..], MovedBy::Writer, Err("R0656")),
            (ArchiveInstant, vec![], &[][..], MovedBy::Writer, Err("R0656")),
            (ArchiveInstant, vec![], &[("day", None)][..], MovedBy::Writer, Ok(vec!["day"])),
            (Infrequent, vec![], &by_code[..], MovedBy::Writer, Ok(vec![])),
            (ArchiveInstant, vec![told("at_month")], &by_month[..], MovedBy::Writer, Ok(vec!["at_month"])),
            (ArchiveInstant, vec![told("at_month")], &by_day[..], MovedBy::Bucket, Err("R0656")),
        ] {
            let found = moving(class, by).of_table(&schema(), partitions.iter().copied(), moved_by);
            let names = found.as_ref().map(|found| found.moves[0].age.by.iter().map(|one| one.name.as_str()).collect());
            assert_eq!(names.map_err(Error::code), expected, "{partitions:?} {moved_by:?}");
        }
        let nothing = Retention::default().of_table(&schema(), by_code.iter().copied(), MovedBy::Writer).unwrap();
        assert_eq!(nothing, Retention::default());
    }
}
