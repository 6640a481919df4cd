use super::*;
use lakehead_state::RunState;

#[tokio::test]
async fn a_broken_change_keeps_what_was_and_says_why() {
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &[hourly()]);
    bench.settle().await;
    bench.change(Err("error[E0201]: there is no connection `lak`")).await;
    let status = bench.daemon.board.status();
    assert_eq!(status.load_error.as_deref(), Some("error[E0201]: there is no connection `lak`"));
    assert_eq!(bench.daemon.board.not_ready()[0]["reason"], "load_failed");
    bench.at("2026-05-01T10:00:00Z").await;
    assert_eq!(bench.runs(), ["p 2026-05-01T10:00:00Z"]);
    bench.change(Ok(vec![hourly()])).await;
    assert_eq!(bench.daemon.board.status().load_error, None);
    assert!(bench.daemon.board.not_ready().is_empty());
}

#[tokio::test]
async fn a_change_is_taken_when_the_directory_has_settled() {
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &[hourly()]);
    bench.settle().await;
    *bench.host.plans.lock().unwrap() = Some(Ok(vec![]));
    bench.host.fingerprint.store(1, Ordering::SeqCst);
    bench.after(2).await;
    bench.host.fingerprint.store(2, Ordering::SeqCst);
    bench.after(2).await;
    assert_eq!(bench.daemon.pipelines.len(), 1, "half a git pull");
    bench.after(2).await;
    assert!(bench.daemon.pipelines.is_empty());
}

#[tokio::test]
async fn only_what_changed_is_stopped_and_started_anew() {
    let (same, mut changed) = (plan("same", When::Continuous), plan("changed", When::Continuous));
    let removed = plan("removed", When::Continuous);
    let mut bench = Bench::new("2026-05-01T10:00:00Z", &[same.clone(), changed.clone(), removed]);
    for name in ["same", "changed", "removed", "added"] {
        bench.act(name, &[Act::Hold, Act::Hold]);
    }
    bench.settle().await;
    bench.runs();
    changed.retry.max = 9;
    bench.change(Ok(vec![same, changed, plan("added", When::Continuous)])).await;
    assert_eq!(bench.runs(), ["added 2026-05-01T10:00:04Z", "changed 2026-05-01T10:00:04Z"]);
    assert_eq!(bench.daemon.pipelines.keys().collect::<Vec<_>>(), ["added", "changed", "same"]);
    assert_eq!(bench.daemon.pipelines["changed"].plan.retry.max, 9);
    assert_eq!(bench.ledger.runs("removed", 1).unwrap()[0].state, RunState::Stopped);
    assert_eq!(bench.ledger.runs("same", 9).unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_run_that_a_change_cut_short_is_made_again_with_the_new_text() {
    let mut changed = hourly();
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &[hourly()]);
    bench.act("p", &[Act::Hold]);
    bench.at("2026-05-01T10:00:00Z").await;
    changed.retry.max = 9;
    bench.change(Ok(vec![changed])).await;
    assert_eq!(bench.runs(), ["p 2026-05-01T10:00:00Z", "p 2026-05-01T10:00:00Z"]);
    assert_eq!(bench.ledger.runs("p", 1).unwrap()[0].state, RunState::Succeeded);
}

#[tokio::test]
async fn new_times_make_up_for_nothing_of_the_past() {
    let mut often = cron("p", "*/5 * * * *");
    often.trigger.catchup = Catchup::All;
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &[hourly()]);
    bench.at("2026-05-01T10:00:00Z").await;
    bench.at("2026-05-01T10:33:00Z").await;
    bench.runs();
    bench.change(Ok(vec![often])).await;
    assert!(bench.runs().is_empty());
    bench.at("2026-05-01T10:35:00Z").await;
    assert_eq!(bench.intervals(), ["p 2026-05-01T10:30:00Z .. 2026-05-01T10:35:00Z"]);
}

#[tokio::test]
async fn a_reload_that_is_asked_for_does_not_wait() {
    let mut bench = Bench::new("2026-05-01T10:00:00Z", &[hourly()]);
    bench.settle().await;
    *bench.host.plans.lock().unwrap() = Some(Ok(vec![]));
    bench.daemon.directory.load_at_once();
    bench.settle().await;
    assert!(bench.daemon.pipelines.is_empty());
}

#[test]
fn the_place_of_a_text_is_no_part_of_it() {
    use lakehead_plan::{Branch, Node, NodeKind, SqlText, StreamId, Target};
    let route = |start: u32, text: &str| {
        let mut span =
            lakehead_plan::SqlText { text: String::new(), file: Default::default(), span: Default::default() }.span;
        span.start = start;
        let condition = SqlText { text: text.into(), file: Default::default(), span };
        let branches = vec![Branch { name: "b".into(), condition, output: StreamId(1) }];
        let kind = NodeKind::Route { input: StreamId(0), branches, otherwise: Target::DeadLetter };
        let mut plan = hourly();
        plan.nodes = vec![Node { name: "r".into(), kind }];
        crate::pipeline::text_of(&plan)
    };
    assert_eq!(route(10, "a > 1"), route(99, "a > 1"));
    assert_ne!(route(10, "a > 1"), route(10, "a > 2"));
}
