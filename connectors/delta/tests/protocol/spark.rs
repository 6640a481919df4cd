//! Apache Spark with Delta Lake beside our sink: it reads what we write, and changes the table between our rounds.
//!
//! Runs where `LAKEHEAD_SPARK` names the Python of an installation (`tests/spark/install`); one Spark serves all tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use lakehead_core::Patience;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::wide::{Model, Row, SHOWN, Wide, same};

/// Spark as a process that answers SQL; it ends with its input.
struct Spark {
    _process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

type Answer = Result<Vec<Vec<Option<String>>>, String>;

/// Asks Spark; its error is an answer.
fn try_ask(sql: &str) -> Answer {
    static SPARK: OnceLock<Mutex<Spark>> = OnceLock::new();
    let spark = SPARK.get_or_init(|| {
        let session = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/spark/session.py");
        let mut process = Command::new(std::env::var_os("LAKEHEAD_SPARK").unwrap())
            .arg(session)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (asks, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Mutex::new(Spark { _process: process, asks, answers })
    });
    let mut spark = spark.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(spark.asks, "{}", serde_json::Value::from(sql)).unwrap();
    let mut line = String::new();
    spark.answers.read_line(&mut line).unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("Spark ended at {sql}"));
    if let Some(error) = said["error"].as_str() {
        return Err(error.to_owned());
    }
    Ok(serde_json::from_value(said["rows"].clone()).unwrap())
}

/// Asks Spark for one table, which the text calls `{t}`.
fn ask(table: &Wide, sql: &str) -> Vec<Vec<Option<String>>> {
    let sql = sql.replace("{t}", &format!("delta.`{}`", table.path().display()));
    try_ask(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Returns whether there is a Spark, and says so where there is none.
fn there_is_spark() -> bool {
    let there = std::env::var_os("LAKEHEAD_SPARK").is_some();
    if !there {
        let note = "skipped: a test with Spark, as LAKEHEAD_SPARK names none (tests/spark/install)\n";
        std::io::stderr().write_all(note.as_bytes()).unwrap();
    }
    there
}

fn lines_in_spark(table: &Wide, at: &str) -> Vec<String> {
    let shown = SHOWN.replace("MICROS", "unix_micros(at)");
    let rows = ask(table, &format!("select {shown} from {{t}} {at} order by id"));
    rows.into_iter().map(|mut row| row.remove(0).unwrap()).collect()
}

/// Holds the table against the model as Spark reads it.
fn check_in_spark(model: &Model, table: &Wide, after: &str) {
    same(&lines_in_spark(table, ""), &model.lines(), "Spark", after);
}

/// What Spark answers from statistics alone, or by skipping files for them: by those of no column may a row be lost.
fn check_statistics(model: &Model, table: &Wide) {
    let (first, last) = (model.rows.keys().next().unwrap(), model.rows.keys().next_back().unwrap());
    let said = ask(table, "select count(*), min(id), max(id) from {t}");
    assert_eq!(said[0], [model.rows.len() as i64, *first, *last].map(|number| Some(number.to_string())));
    let some = ("id between 100 and 199".to_owned(), model.rows.range(100..200).count());
    let rows = model.rows.values().step_by(model.rows.len() / 4);
    for (filter, count) in std::iter::once(some).chain(rows.flat_map(|row| alike(model, row))) {
        let said = ask(table, &format!("select count(*) from {{t}} where {filter}"));
        assert_eq!(said[0], [Some(count.to_string())], "{filter}");
    }
}

/// Filters for what `row` holds, each with the rows of the model that hold the same.
fn alike(model: &Model, row: &Row) -> Vec<(String, usize)> {
    let filters = ["region = '{}'", "body = '{}'", "amount = {}", "at = timestamp_micros({})"];
    let held = filters.iter().zip(row).enumerate();
    held.filter_map(|(place, (filter, value))| {
        let value = value.as_ref()?;
        let count = model.rows.values().filter(|row| row[place].as_ref() == Some(value)).count();
        Some((filter.replace("{}", value), count))
    })
    .collect()
}

async fn check(model: &Model, table: &Wide, after: &str) {
    check_in_spark(model, table, after);
    model.check(table, after).await;
}

/// Upserts, merged files and checkpoints of ours, now and as they were.
#[tokio::test(flavor = "multi_thread")]
async fn spark_reads_what_rounds_leave() {
    if !there_is_spark() {
        return;
    }
    for partition_by in [&[] as &[_], &["region"]] {
        let folder = tempfile::tempdir().unwrap();
        let table = Wide::new(folder.path(), partition_by);
        let mut model = Model::new();
        let mut sink = table.sink();
        sink.open(1).await.unwrap();
        let mut earlier = BTreeMap::new();
        let first = model.round(1500, 1000);
        model.commit(&mut sink, &first).await.unwrap();
        for round in 0..70 {
            let changes = model.round(30, 1200);
            let version = model.commit(&mut sink, &changes).await.unwrap();
            if round % 20 == 9 {
                check_in_spark(&model, &table, &format!("round {round}, {partition_by:?}"));
                earlier.insert(version, model.lines());
            }
        }
        drop(sink);
        check(&model, &table, &format!("{partition_by:?}")).await;
        assert!(table.path().join("_delta_log/_last_checkpoint").exists());
        for (version, lines) in earlier {
            let at = format!("version as of {version}");
            same(&lines_in_spark(&table, &at), &lines, "Spark", &at);
        }
        let history = ask(&table, "describe history {t}");
        assert!(history.len() > 72, "{} versions", history.len());
        check_statistics(&model, &table);
        assert!(history.iter().any(|entry| entry.contains(&Some("OPTIMIZE".into()))), "files were merged");
    }
}

fn row(region: &str, body: &str, amount: &str, micros: &str) -> Row {
    [region, body, amount, micros].map(|part| Some(part.to_owned()))
}

/// What Spark does to a table, and what it means for the model.
type Foreign = (&'static str, fn(&mut BTreeMap<i64, Row>));

const FOREIGN: [Foreign; 8] = [
    (
        "insert into {t} select id, 'west', concat('spark ', id), 1.5, timestamp_micros(id) from range(2000, 2050)",
        |rows| {
            rows.extend((2000..2050).map(|id| (id, row("west", &format!("spark {id}"), "1.50", &id.to_string()))));
        },
    ),
    ("delete from {t} where id % 7 = 3", |rows| rows.retain(|id, _| id % 7 != 3)),
    ("update {t} set body = concat('spark ', id), amount = 7.25 where id % 11 = 2", |rows| {
        for (id, row) in rows.iter_mut().filter(|(id, _)| *id % 11 == 2) {
            row[1] = Some(format!("spark {id}"));
            row[2] = Some("7.25".into());
        }
    }),
    ("update {t} set region = 'moved to' where id % 13 = 5", |rows| {
        for (_, row) in rows.iter_mut().filter(|(id, _)| *id % 13 == 5) {
            row[0] = Some("moved to".into());
        }
    }),
    (
        "merge into {t} t using (select id from range(0, 900, 10)) s on t.id = s.id \
         when matched and t.id % 20 = 0 then delete when matched then update set body = 'merged' \
         when not matched then insert (id, body) values (s.id, 'new')",
        |rows| {
            for id in (0..900).step_by(10) {
                match rows.get_mut(&id) {
                    Some(_) if id % 20 == 0 => drop(rows.remove(&id)),
                    Some(row) => row[1] = Some("merged".into()),
                    None => drop(rows.insert(id, [None, Some("new".into()), None, None])),
                }
            }
        },
    ),
    ("optimize {t}", |_| {}),
    ("vacuum {t} retain 0 hours", |_| {}),
    ("alter table {t} add columns (note string comment 'of Spark')", |_| {}),
];

/// Each step of Spark lies between rounds of ours, and readers agree before and behind them.
#[tokio::test(flavor = "multi_thread")]
async fn what_spark_changes_between_rounds_is_followed() {
    if !there_is_spark() {
        return;
    }
    for partition_by in [&[] as &[_], &["region"]] {
        let folder = tempfile::tempdir().unwrap();
        let table = Wide::new(folder.path(), partition_by);
        let mut model = Model::new();
        let mut sink = table.sink();
        sink.open(1).await.unwrap();
        model.rounds(&mut sink, 8, 300, 1000).await;
        for (sql, meaning) in FOREIGN {
            ask(&table, sql);
            meaning(&mut model.rows);
            check_in_spark(&model, &table, sql);
            model.rounds(&mut sink, 3, 60, 1000).await;
            // Those of Spark are changed by us too.
            let ours = (2000..2050).filter(|id| id % 9 == model.seq.cast_signed() % 9);
            let ours: Vec<_> = ours.map(|id| ("u", id, row("north", "ours", "2.00", "5"), None)).collect();
            model.rows.extend(ours.iter().map(|(_, id, row, _)| (*id, row.clone())));
            model.commit(&mut sink, &ours).await.unwrap();
            check(&model, &table, &format!("rounds behind: {sql}, {partition_by:?}")).await;
        }
        check_statistics(&model, &table);
    }
}

/// RESTORE takes rows back, not our numbers: nothing is put upon the rows that were restored before all are read anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_spark_restored_stops_until_it_is_read_anew() {
    if !there_is_spark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let table = Wide::new(folder.path(), &[]);
    let mut model = Model::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    model.rounds(&mut sink, 5, 200, 500).await;
    let changes = model.round(50, 500);
    let version = model.commit(&mut sink, &changes).await.unwrap();
    let then = model.rows.clone();
    model.rounds(&mut sink, 12, 50, 500).await;
    model.rows = then;
    ask(&table, &format!("restore {{t}} to version as of {version}"));
    check(&model, &table, "restored").await;
    let held = model.clone();
    for process in ["that was there", "that came later"] {
        let change = model.round(20, 500);
        assert_eq!(model.commit(&mut sink, &change).await.unwrap_err().code(), "R0235", "a process {process}");
        model = held.clone();
        sink = table.sink();
        // The number of the last round stands, not that of the restored version.
        assert_eq!(sink.open(1).await.unwrap().mark.seq, model.seq);
    }
    sink.truncate().await.unwrap();
    model.rows.clear();
    model.rounds(&mut sink, 3, 60, 500).await;
    check(&model, &table, "read anew").await;
}

/// Golden tables are made by Spark; here it reads what we made of them.
#[tokio::test(flavor = "multi_thread")]
async fn spark_reads_its_own_tables_behind_our_rounds() {
    if !there_is_spark() {
        return;
    }
    for (name, partition_by) in super::golden::TABLES {
        let folder = tempfile::tempdir().unwrap();
        let (table, mut model) = super::golden::open(name, folder.path(), partition_by);
        let mut sink = table.sink();
        sink.open(1).await.unwrap();
        for round in 0..3 {
            model.rounds(&mut sink, 6, 30, 300).await;
            check_in_spark(&model, &table, &format!("{name}, round {round}"));
            ask(&table, "delete from {t} where id % 10 = 1");
            model.rows.retain(|id, _| id % 10 != 1);
        }
        if name.ends_with("checkpoint") {
            super::golden::rounds_to_a_checkpoint(&table, &mut model, &mut sink).await;
        }
        model.rounds(&mut sink, 3, 30, 300).await;
        check_in_spark(&model, &table, name);
        model.check_alone(&table, name).await;
    }
}

/// Where a table is told to forget numbers, we stop; ours outlive the checkpoint that Spark writes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_forgets_stops_us_before_it_does() {
    if !there_is_spark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let table = Wide::new(folder.path(), &[]);
    let mut model = Model::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    model.rounds(&mut sink, 3, 100, 300).await;
    let forgets = "'delta.setTransactionRetentionDuration'";
    let at_once = "'delta.checkpointInterval' = '1'";
    ask(&table, &format!("alter table {{t}} set tblproperties ({forgets} = 'interval 30 days', {at_once})"));
    let (held, changes) = (model.clone(), model.round(50, 300));
    assert_eq!(model.commit(&mut sink, &changes).await.unwrap_err().code(), "R0207");
    drop(sink);
    assert_eq!(table.sink().open(1).await.unwrap_err().code(), "R0207");
    model = held;
    ask(&table, "delete from {t} where id % 3 = 1");
    model.rows.retain(|id, _| id % 3 != 1);
    ask(&table, &format!("alter table {{t}} unset tblproperties ({forgets})"));
    assert!(table.path().join("_delta_log/_last_checkpoint").exists());
    let mut sink = table.sink();
    assert_eq!(sink.open(1).await.unwrap().mark.seq, model.seq);
    model.rounds(&mut sink, 3, 100, 300).await;
    check(&model, &table, "told to forget, and not to").await;
}

/// What Spark turns on is refused by its name, and what it dropped again is no hindrance.
#[tokio::test(flavor = "multi_thread")]
async fn what_spark_turns_on_is_refused_and_what_it_turns_off_is_not() {
    if !there_is_spark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let table = Wide::new(folder.path(), &[]);
    let mut model = Model::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    model.rounds(&mut sink, 3, 100, 300).await;
    ask(&table, "alter table {t} add constraint positive check (id >= 0)");
    let (held, changes) = (model.clone(), model.round(50, 300));
    assert_eq!(model.commit(&mut sink, &changes).await.unwrap_err().code(), "R0206");
    ask(&table, "alter table {t} drop constraint positive");
    drop(sink);
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    model = held;
    model.rounds(&mut sink, 3, 100, 300).await;
    check(&model, &table, "a constraint that was dropped").await;
    ask(&table, "alter table {t} set tblproperties ('delta.columnMapping.mode' = 'name')");
    ask(&table, "alter table {t} rename column body to text");
    assert_eq!(table.lines().await.unwrap_err().code(), "R0206");
    let changes = model.round(50, 300);
    assert_eq!(model.commit(&mut sink, &changes).await.unwrap_err().code(), "R0206");
}

/// Large files are merged by putting their row groups behind one another, and rows go from what came of it.
#[tokio::test(flavor = "multi_thread")]
async fn spark_reads_files_that_were_put_behind_one_another() {
    const ROWS: i64 = 66_000;
    const ROUNDS: i64 = 9;
    if !there_is_spark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let table = Wide::new(folder.path(), &[]);
    let mut model = Model::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    for round in 0..ROUNDS {
        let ids = round * ROWS..(round + 1) * ROWS;
        let rows: Vec<_> = ids.map(|id| ("r", id, row("north", "b", "1.25", &(id * 10).to_string()), None)).collect();
        model.commit(&mut sink, &rows).await.unwrap();
    }
    sink.tend(Patience::ToEnd).await;
    let gone: Vec<_> = (0..100).map(|n| ("d", n * 5000, Row::default(), None)).collect();
    model.commit(&mut sink, &gone).await.unwrap();
    let files = std::fs::read_dir(table.path()).unwrap().map(|entry| entry.unwrap().path());
    let data = files.filter(|path| path.extension().is_some_and(|end| end == "parquet"));
    let largest = data.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let largest = SerializedFileReader::new(std::fs::File::open(largest).unwrap()).unwrap();
    assert!(largest.num_row_groups() >= 8, "row groups were kept");
    let said = ask(&table, "select count(*), sum(id), sum(unix_micros(at)), sum(amount), max(region) from {t}");
    let (rows, all) = (ROUNDS * ROWS - 100, ROUNDS * ROWS);
    let ids = all * (all - 1) / 2 - (0..100).map(|n| n * 5000).sum::<i64>();
    let amount = format!("{}.{:02}", rows * 125 / 100, rows * 125 % 100);
    let expected = [rows.to_string(), ids.to_string(), (ids * 10).to_string(), amount, "north".to_owned()];
    assert_eq!(said[0], expected.map(Some));
    let one = ask(&table, "select body from {t} where id = 262145 and at = timestamp_micros(2621450)");
    assert_eq!(one, [[Some("b".to_owned())]]);
}
