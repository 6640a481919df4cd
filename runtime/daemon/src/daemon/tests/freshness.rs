use super::*;
use crate::board::Counting;

fn watched(mut plan: Plan, setting: &str, value: Value) -> Plan {
    plan.alerts = vec![alert(&[(setting, value)])];
    plan
}

fn counting(bench: &Bench) -> Counting {
    let clock = Arc::clone(&bench.clock) as Arc<dyn Clock>;
    Counting::new(&bench.daemon.pipelines["p"].plan, bench.daemon.board.counters("p"), clock)
}

fn read(rows: u64, newest: &str) -> Event {
    Event::Read { node: "shop".into(), rows, bytes: 10, newest: parse_micros(newest) }
}

fn committed() -> Event {
    Event::Committed { round: 1, table: "lake:t".into(), version: 1, rows: 1, bytes: 1 }
}

#[tokio::test]
async fn a_lag_is_told_when_it_begins_and_when_it_ends() {
    let minutes = Value::Duration(Duration::from_secs(120));
    let mut bench = Bench::new("2026-05-01T10:00:00Z", &[watched(plan("p", When::Continuous), "lag_over", minutes)]);
    bench.act("p", &[Act::Hold]);
    bench.settle().await;
    let counting = counting(&bench);
    counting.event(read(1, "2026-05-01T10:00:00Z"));
    bench.after(120).await;
    assert!(bench.alerts().is_empty());
    bench.after(1).await;
    assert_eq!(bench.alerts(), ["pipeline `p` lags: its tables are 121 s behind, more than 120 s"]);
    // What is committed now is ten minutes old, and more waits: still behind.
    bench.after(479).await;
    counting.event(committed());
    bench.after(1).await;
    assert!(bench.alerts().is_empty());
    let metrics = bench.daemon.board.metrics();
    assert!(metrics.contains("lakehead_lag_seconds{pipeline=\"p\"} 600\n"), "{metrics}");
    // The source has nothing more, and all of it is in the lake.
    counting.event(Event::Level { node: "shop".into() });
    counting.event(committed());
    bench.after(1).await;
    assert_eq!(bench.alerts(), ["pipeline `p` no longer lags by more than 120 s"]);
}

#[tokio::test]
async fn a_table_that_runs_fill_is_as_fresh_as_the_last_run_that_succeeded() {
    let hours = Value::Duration(Duration::from_secs(5400));
    let mut bench = Bench::new("2026-05-01T09:59:59Z", &[watched(hourly(), "lag_over", hours)]);
    bench.act("p", &[Act::Succeed, Act::Break, Act::Break, Act::Succeed]);
    bench.at("2026-05-01T10:00:00Z").await;
    bench.at("2026-05-01T11:00:00Z").await;
    assert!(bench.alerts().is_empty());
    bench.at("2026-05-01T11:30:01Z").await;
    assert_eq!(bench.alerts(), ["pipeline `p` lags: its tables are 5401 s behind, more than 5400 s"]);
    bench.at("2026-05-01T12:00:00Z").await;
    assert!(bench.alerts().is_empty());
    bench.at("2026-05-01T13:00:00Z").await;
    bench.after(1).await;
    assert_eq!(bench.alerts(), ["pipeline `p` no longer lags by more than 5400 s"]);
}

#[tokio::test]
async fn a_run_that_sets_too_many_rows_aside_is_told() {
    let mut bench = Bench::new("2026-05-01T09:59:59Z", &[watched(hourly(), "dead_letters_over", Value::Percent(0.1))]);
    bench.at("2026-05-01T10:00:00Z").await;
    assert_eq!(bench.alerts(), ["pipeline `p` set 1 of 3 rows aside in run 2026-05-01T10:00:00Z"]);
    let mut bench = Bench::new("2026-05-01T09:59:59Z", &[watched(hourly(), "dead_letters_over", Value::Int(1))]);
    bench.at("2026-05-01T10:00:00Z").await;
    assert!(bench.alerts().is_empty());
}

#[tokio::test]
async fn a_stream_that_sets_too_many_rows_aside_is_told_once_a_while() {
    let always = watched(plan("p", When::Continuous), "dead_letters_over", Value::Percent(0.01));
    let mut bench = Bench::new("2026-05-01T10:00:00Z", &[always]);
    bench.act("p", &[Act::Hold]);
    bench.settle().await;
    let counting = counting(&bench);
    counting.event(read(1000, "2026-05-01T10:00:00Z"));
    counting.event(Event::Rejected { rows: 10 });
    bench.after(2).await;
    assert!(bench.alerts().is_empty(), "one in a hundred is allowed");
    counting.event(Event::Rejected { rows: 1 });
    bench.after(2).await;
    assert_eq!(bench.alerts(), ["pipeline `p` set 11 of 1000 rows aside in the last minutes"]);
    counting.event(Event::Rejected { rows: 100 });
    bench.after(2).await;
    assert!(bench.alerts().is_empty());
}
