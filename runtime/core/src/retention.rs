//! What a lifecycle has the writer of a table do: rows expire by the age of their partition, files that no version needs
//! go after a while.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta};

use crate::clock::Micros;
use crate::lifecycle::StorageClass;
use crate::value::{Settings, Value};

/// The setting by which a plan tells a sink what its lifecycle asks of it. No file can say it.
const RETENTION: &str = "retention";

/// What the values of a partition column tell of the times of its rows, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionTime {
    /// `2026`.
    Year,
    /// `2026-05`.
    Month,
    /// `2026-05-01`.
    Day,
    /// `0` to `23`, an hour of the day that another column of the same source tells.
    Hour,
    /// `2026-05-01 10:00:00`, with or without a zone.
    Moment,
}

impl PartitionTime {
    const ALL: [Self; 5] = [Self::Year, Self::Month, Self::Day, Self::Hour, Self::Moment];

    fn word(self) -> &'static str {
        match self {
            Self::Year => "year",
            Self::Month => "month",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Moment => "moment",
        }
    }

    /// Returns whether a value is such a time.
    pub(crate) fn reads(self, value: &str) -> bool {
        match self {
            Self::Hour => value.parse::<u32>().is_ok_and(|hour| hour < 24),
            _ => self.end_of(value).is_some(),
        }
    }

    /// Returns the first moment behind a value; `None` where it is not one.
    fn end_of(self, value: &str) -> Option<NaiveDateTime> {
        match self {
            Self::Year => midnight(NaiveDate::from_ymd_opt(value.parse::<i32>().ok()?.checked_add(1)?, 1, 1)?),
            Self::Month => {
                let first = NaiveDate::parse_from_str(&format!("{value}-01"), "%Y-%m-%d").ok()?;
                let next = first.checked_add_months(chrono::Months::new(1))?;
                midnight(next.with_day(1)?)
            }
            Self::Day => midnight(day(value)?.succ_opt()?),
            // Says nothing without its day.
            Self::Hour => None,
            Self::Moment => moment(value)?.checked_add_signed(TimeDelta::microseconds(1)),
        }
    }
}

fn midnight(date: NaiveDate) -> Option<NaiveDateTime> {
    date.and_hms_opt(0, 0, 0)
}

fn day(value: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(value, "%Y-%m-%d").ok()
}

/// A time without a zone counts in UTC.
fn moment(value: &str) -> Option<NaiveDateTime> {
    let zoned = DateTime::parse_from_rfc3339(value).ok().map(|at| at.naive_utc());
    let plain = || ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"].into_iter().find_map(|form| read(value, form));
    zoned.or_else(plain)
}

fn read(value: &str, form: &str) -> Option<NaiveDateTime> {
    NaiveDateTime::parse_from_str(value, form).ok()
}

/// A partition column that tells a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeColumn {
    /// Its name.
    pub name: String,
    /// The column that it is made from; of a column as it is, itself.
    pub source: String,
    /// What its values say.
    pub tells: PartitionTime,
}

/// When rows expire: a partition goes as a whole, once its end is older than an age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The age.
    pub after: Duration,
    /// The columns that tell a time; one of them at least is more than an hour of the day.
    pub by: Vec<TimeColumn>,
}

impl Expiry {
    /// Returns the end of a partition, exclusive: no row of it is of that time or a later one. `None` where a column has no
    /// value, or one that is no time: such rows have no age.
    ///
    /// Several columns made from one narrow each other; of several sources the latest end counts.
    pub fn end_of<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Option<Micros> {
        let mut ends: BTreeMap<&str, NaiveDateTime> = BTreeMap::new();
        for column in self.by.iter().filter(|column| column.tells != PartitionTime::Hour) {
            let end = column.tells.end_of(value(&column.name)?)?;
            ends.entry(&column.source).and_modify(|found| *found = end.min(*found)).or_insert(end);
        }
        for column in self.by.iter().filter(|column| column.tells == PartitionTime::Hour) {
            let is_its_day = |other: &&TimeColumn| other.source == column.source && other.tells == PartitionTime::Day;
            let (Some(of_day), Some(end)) = (self.by.iter().find(is_its_day), ends.get_mut(column.source.as_str()))
            else {
                continue;
            };
            let hour = value(&column.name)?.parse::<u32>().ok()?;
            let start = day(value(&of_day.name)?)?.and_hms_opt(hour, 0, 0)?;
            *end = (*end).min(start.checked_add_signed(TimeDelta::hours(1))?);
        }
        ends.into_values().max().map(|end| end.and_utc().timestamp_micros())
    }

    /// Returns whether the rows of a partition have expired by `now`.
    pub fn has_expired<'a>(&self, value: impl Fn(&str) -> Option<&'a str>, now: Micros) -> bool {
        let age = i64::try_from(self.after.as_micros()).unwrap_or(i64::MAX);
        self.end_of(value).is_some_and(|end| end.saturating_add(age) <= now)
    }
}

/// When files move to a colder class: by the age of their partition, like rows that expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The class.
    pub class: StorageClass,
    /// The age of a partition at which its files move.
    pub age: Expiry,
}

/// What a sink does for the lifecycle of its table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Moves to colder classes, in order of age.
    pub moves: Vec<Move>,
    /// When rows expire; `None` where they stay.
    pub expiry: Option<Expiry>,
    /// How long files that no version of the table needs are kept; `None` where the table says so itself.
    pub vacuum_after: Option<Duration>,
    /// Whether the table is copied elsewhere: beside the sink, and only where a table says which files are its own.
    pub copied: bool,
}

impl Retention {
    /// Puts this into the settings of a sink.
    pub fn tell(&self, settings: &mut Settings) {
        let mut said = Vec::new();
        let text = |text: &str| Value::Text(text.to_owned());
        let moves =
            self.moves.iter().map(|one| Value::List(vec![text(one.class.word()), Value::Duration(one.age.after)]));
        let moves: Vec<Value> = moves.collect();
        if !moves.is_empty() {
            said.push(("moves".to_owned(), Value::List(moves)));
        }
        let ages = self.expiry.iter().chain(self.moves.iter().map(|one| &one.age));
        if let Some(expiry) = ages.clone().next() {
            let of = |column: &TimeColumn| {
                Value::List(vec![text(&column.name), text(&column.source), text(column.tells.word())])
            };
            said.push(("by".to_owned(), Value::List(expiry.by.iter().map(of).collect())));
        }
        said.extend(self.expiry.iter().map(|expiry| ("after".to_owned(), Value::Duration(expiry.after))));
        said.extend(self.vacuum_after.map(|after| ("vacuum".to_owned(), Value::Duration(after))));
        said.extend(self.copied.then(|| ("copied".to_owned(), Value::Bool(true))));
        if !said.is_empty() {
            settings.set(RETENTION, Value::Map(said));
        }
    }

    /// Reads what a plan has put into the settings of a sink.
    pub fn told(settings: &Settings) -> Self {
        let Some(Value::Map(said)) = settings.get(RETENTION) else { return Self::default() };
        let said = Settings::new(said.iter().cloned());
        let columns = match said.get("by") {
            Some(Value::List(columns)) => columns.iter().filter_map(column_of).collect(),
            _ => Vec::new(),
        };
        let columns: Vec<TimeColumn> = columns;
        let moves = match said.get("moves") {
            Some(Value::List(moves)) => moves.iter().filter_map(|one| move_of(one, &columns)).collect(),
            _ => Vec::new(),
        };
        let expiry = said.duration("after").map(|after| Expiry { after, by: columns });
        Self { moves, expiry, vacuum_after: said.duration("vacuum"), copied: said.bool_or("copied", false) }
    }

    /// Returns the class in which the files of a partition are to be by `now`; `None` where it is too young to move.
    pub fn class_of<'a>(&self, value: impl Fn(&str) -> Option<&'a str>, now: Micros) -> Option<StorageClass> {
        self.moves.iter().rev().find(|one| one.age.has_expired(&value, now)).map(|one| one.class)
    }
}

fn move_of(value: &Value, by: &[TimeColumn]) -> Option<Move> {
    let Value::List(parts) = value else { return None };
    let [class, Value::Duration(after)] = parts.as_slice() else { return None };
    Some(Move { class: StorageClass::parse(class.as_text()?)?, age: Expiry { after: *after, by: by.to_vec() } })
}

fn column_of(value: &Value) -> Option<TimeColumn> {
    let Value::List(parts) = value else { return None };
    let [name, source, tells] = parts.as_slice() else { return None };
    let tells = PartitionTime::ALL.into_iter().find(|known| Some(known.word()) == tells.as_text())?;
    Some(TimeColumn { name: name.as_text()?.to_owned(), source: source.as_text()?.to_owned(), tells })
}

/// Rows of a table that are past their age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Partitions that hold them.
    pub partitions: u64,
    /// Their files.
    pub files: u64,
    /// Rows that are live in them.
    pub rows: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn by(columns: &[(&str, &str, PartitionTime)], days: u64) -> Expiry {
        let column = |(name, source, tells): &(&str, &str, PartitionTime)| TimeColumn {
            name: (*name).to_owned(),
            source: (*source).to_owned(),
            tells: *tells,
        };
        Expiry { after: Duration::from_secs(days * DAY), by: columns.iter().map(column).collect() }
    }

    /// The end of a partition, as text.
    fn end(columns: &[(&str, &str, PartitionTime)], values: &[(&str, &str)]) -> Option<String> {
        let value = |name: &str| values.iter().find(|(column, _)| *column == name).map(|(_, value)| *value);
        let end = by(columns, 1).end_of(value)?;
        Some(DateTime::from_timestamp_micros(end)?.format("%Y-%m-%d %H:%M:%S%.f").to_string())
    }

    #[test]
    fn each_column_tells_the_end_of_its_partition() {
        use PartitionTime::{Day, Moment, Month, Year};
        for (tells, value, expected) in [
            (Year, "2025", Some("2026-01-01 00:00:00")),
            (Year, "-1", Some("0000-01-01 00:00:00")),
            (Month, "2026-05", Some("2026-06-01 00:00:00")),
            (Month, "2026-12", Some("2027-01-01 00:00:00")),
            (Month, "2024-02", Some("2024-03-01 00:00:00")),
            (Day, "2024-02-28", Some("2024-02-29 00:00:00")),
            (Day, "2024-02-29", Some("2024-03-01 00:00:00")),
            (Day, "2026-02-28", Some("2026-03-01 00:00:00")),
            (Day, "2026-12-31", Some("2027-01-01 00:00:00")),
            (Moment, "2026-05-01 10:00:00", Some("2026-05-01 10:00:00.000001")),
            (Moment, "2026-05-01 10:00:00.5", Some("2026-05-01 10:00:00.500001")),
            (Moment, "2026-05-01T10:00:00.000000Z", Some("2026-05-01 10:00:00.000001")),
            // A zone is minded, and what has none counts in UTC.
            (Moment, "2026-05-01T00:30:00+02:00", Some("2026-04-30 22:30:00.000001")),
            (Year, "", None),
            (Year, "y", None),
            (Month, "2026-13", None),
            (Month, "2026", None),
            (Day, "2026-02-29", None),
            (Day, "__HIVE_DEFAULT_PARTITION__", None),
            (Moment, "yesterday", None),
            (Year, "999999999", None),
        ] {
            assert_eq!(end(&[("c", "c", tells)], &[("c", value)]).as_deref(), expected, "{tells:?} {value}");
        }
    }

    #[test]
    fn columns_of_one_time_narrow_and_the_latest_of_several_times_counts() {
        use PartitionTime::{Day, Hour, Month, Year};
        let hourly = [("d", "ts", Day), ("h", "ts", Hour)];
        let of = |values| end(&hourly, values);
        assert_eq!(of(&[("d", "2026-05-01"), ("h", "7")]).unwrap(), "2026-05-01 08:00:00");
        assert_eq!(of(&[("d", "2024-02-29"), ("h", "23")]).unwrap(), "2024-03-01 00:00:00");
        assert_eq!(
            [of(&[("d", "2026-05-01"), ("h", "24")]), of(&[("d", "2026-05-01")]), of(&[("h", "7")])],
            [const { None }; 3]
        );
        let nested = [("y", "ts", Year), ("m", "ts", Month), ("h", "ts", Hour)];
        let values = [("y", "2026"), ("m", "2026-05"), ("h", "3")];
        assert_eq!(end(&nested, &values).unwrap(), "2026-06-01 00:00:00", "an hour of no day");
        let two = [("a", "a", Day), ("b", "b", Day)];
        let values = [("a", "2026-05-01"), ("b", "2026-04-01")];
        assert_eq!(end(&two, &values).unwrap(), "2026-05-02 00:00:00");
        assert_eq!(end(&two, &values[..1]), None, "rows without one of the times have no age");
        assert_eq!(end(&[], &[]), None);
    }

    #[test]
    fn a_partition_expires_when_its_end_is_as_old_as_the_age() {
        let expiry = by(&[("d", "ts", PartitionTime::Day)], 30);
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let expired = |now: &str| expiry.has_expired(|_| Some("2024-02-29"), at(now));
        assert!(!expired("2024-03-30T23:59:59.999999Z") && expired("2024-03-31T00:00:00Z"));
        assert!(!expired("2024-03-31T01:00:00+02:00"), "the day ends in UTC");
        let for_ever = Expiry { after: Duration::MAX, ..expiry };
        assert!(!for_ever.has_expired(|_| Some("0001-01-01"), at("2024-03-31T00:00:00Z")));
    }

    #[test]
    fn what_is_told_to_a_sink_reads_back() {
        let mut settings = Settings::default();
        Retention::default().tell(&mut settings);
        assert_eq!((settings.clone(), Retention::told(&settings)), (Settings::default(), Retention::default()));
        let columns: Vec<_> = PartitionTime::ALL.iter().map(|tells| ("name", "source", *tells)).collect();
        let moves = vec![
            Move { class: StorageClass::Infrequent, age: by(&columns, 1) },
            Move { class: StorageClass::Archive, age: by(&columns, 2) },
        ];
        let vacuum_after = Some(Duration::from_secs(DAY));
        let retention = Retention { moves, expiry: Some(by(&columns, 3)), vacuum_after, copied: true };
        retention.tell(&mut settings);
        assert_eq!(Retention::told(&settings), retention);
        let moving = Retention { expiry: None, vacuum_after: None, copied: false, ..retention };
        let mut settings = Settings::default();
        moving.tell(&mut settings);
        assert_eq!(Retention::told(&settings), moving);
    }

    #[test]
    fn a_partition_is_in_the_coldest_class_that_it_is_old_enough_for() {
        let day = |class, days| Move { class, age: by(&[("d", "ts", PartitionTime::Day)], days) };
        let moves = vec![day(StorageClass::Infrequent, 30), day(StorageClass::Archive, 365)];
        let retention = Retention { moves, ..Retention::default() };
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let class = |now: &str| retention.class_of(|_| Some("2025-01-01"), at(now));
        assert_eq!(class("2025-01-31T23:59:59Z"), None);
        assert_eq!(class("2025-02-01T00:00:00Z"), Some(StorageClass::Infrequent));
        assert_eq!(class("2026-01-02T00:00:00Z"), Some(StorageClass::Archive));
        assert_eq!(retention.class_of(|_| None, at("2026-01-02T00:00:00Z")), None);
    }
}
