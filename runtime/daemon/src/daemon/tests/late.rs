//! Intervals that gain inputs after their run.

use lakehead_plan::{Node, NodeKind, OnMisfit, SchemaChanges, SourcePlan};

use super::*;

fn compactor() -> Plan {
    let source = SourcePlan {
        connector: "files".into(),
        connection_name: "landing".into(),
        connection: Settings::default(),
        settings: Settings::new([(RECORDED.to_owned(), Value::Bool(true))]),
        tables: Vec::new(),
        endless: false,
        changes: false,
        arrives: true,
        on_misfit: OnMisfit::Fail,
        schema_changes: SchemaChanges::Fail,
    };
    let node = Node { name: "small".into(), kind: NodeKind::Source(source) };
    Plan { nodes: vec![node], ..cron("p", "*/5 * * * *") }
}

fn late(start: &str, end: &str, fingerprint: &str) -> Vec<LateInterval> {
    let at = |text| parse_micros(text).unwrap();
    vec![LateInterval { start: at(start), end: at(end), fingerprint: fingerprint.into() }]
}

#[tokio::test]
async fn a_late_object_has_its_interval_made_again_once_and_behind_the_schedule() {
    let mut bench = Bench::new("2026-05-01T10:00:01Z", &[compactor()]);
    bench.settle().await;
    assert!(bench.runs().is_empty());
    *bench.host.late.lock().unwrap() = late("2026-05-01T09:00:00Z", "2026-05-01T09:05:00Z", "a b");
    bench.act("p", &[Act::Hold]);
    bench.after(60).await;
    assert_eq!(bench.intervals(), ["p 2026-05-01T09:00:00Z .. 2026-05-01T09:05:00Z"]);
    // The schedule goes on while it is made: `overlap = skip` is about occasions.
    bench.at("2026-05-01T10:05:00Z").await;
    assert!(bench.left_out().is_empty());
    bench.release("p");
    bench.settle().await;
    assert_eq!(bench.intervals(), ["p 2026-05-01T10:00:00Z .. 2026-05-01T10:05:00Z"]);
    bench.after(61).await;
    assert!(bench.runs().is_empty(), "the same inputs give the same answer");
    // Another object, and a store that fails: the interval is tried until it is made.
    *bench.host.late.lock().unwrap() = late("2026-05-01T09:00:00Z", "2026-05-01T09:05:00Z", "a b c");
    bench.act("p", &[Act::Falter, Act::Break]);
    for _ in 0..3 {
        bench.after(61).await;
    }
    assert_eq!(bench.intervals().len(), 2);
    assert_eq!(bench.state("p"), PipelineState::Waiting);
}

#[tokio::test]
async fn a_restart_forgets_no_late_object() {
    let mut bench = Bench::new("2026-05-01T10:00:01Z", &[compactor()]);
    *bench.host.late.lock().unwrap() = late("2026-05-01T09:00:00Z", "2026-05-01T09:05:00Z", "a b");
    bench.act("p", &[Act::Hang]);
    bench.settle().await;
    assert_eq!(bench.intervals().len(), 1);
    let mut bench = bench.restart("2026-05-01T10:00:31Z", &[compactor()]);
    bench.settle().await;
    assert_eq!(bench.intervals(), ["p 2026-05-01T09:00:00Z .. 2026-05-01T09:05:00Z"]);
}
