use super::*;
use lakehead_state::RunState;

#[tokio::test]
async fn a_failed_run_is_made_again_with_pauses_that_double() {
    let mut retried = hourly();
    let (backoff, backoff_max) = (Duration::from_secs(2), Duration::from_secs(5));
    retried.retry = RetryPlan { max: 3, backoff, backoff_max, timeout: None };
    let mut bench = Bench::new("2026-05-01T09:59:59Z", &[retried]);
    bench.act("p", &[Act::Falter; 4]);
    bench.at("2026-05-01T10:00:00Z").await;
    for pause in [2, 4, 5] {
        assert_eq!(bench.state("p"), PipelineState::Retrying);
        assert_eq!(bench.runs().len(), 1);
        bench.after(pause - 1).await;
        assert!(bench.runs().is_empty());
        bench.after(1).await;
    }
    assert_eq!(bench.runs(), ["p 2026-05-01T10:00:00Z"]);
    assert_eq!(bench.state("p"), PipelineState::Waiting);
    let run = &bench.ledger.runs("p", 10).unwrap()[0];
    assert_eq!((run.state, run.error.as_deref()), (RunState::Failed, Some("R0301: the server went away")));
    // The next occasion is another run.
    bench.at("2026-05-01T11:00:00Z").await;
    assert_eq!(bench.runs(), ["p 2026-05-01T11:00:00Z"]);
    assert_eq!(bench.daemon.board.status().pipelines[0].last_error_code, None);
}

#[tokio::test]
async fn what_cannot_pass_is_not_tried_again() {
    let mut retried = hourly();
    retried.retry.max = 5;
    let mut bench = Bench::new("2026-05-01T09:59:59Z", &[retried]);
    bench.act("p", &[Act::Break]);
    bench.at("2026-05-01T10:00:00Z").await;
    bench.after(600).await;
    assert_eq!(bench.runs(), ["p 2026-05-01T10:00:00Z"]);
    let status = bench.daemon.board.status().pipelines[0].clone();
    assert_eq!((status.failures, status.last_error_code.as_deref()), (1, Some("R0302")));
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_asked_to_stop_and_then_dropped() {
    let mut limited = hourly();
    limited.retry.timeout = Some(Duration::from_secs(60));
    let mut bench = Bench::new("2026-05-01T09:59:59Z", &[limited]);
    bench.act("p", &[Act::Hold, Act::Hang]);
    bench.at("2026-05-01T10:00:00Z").await;
    bench.after(59).await;
    assert_eq!(bench.state("p"), PipelineState::Running);
    bench.after(1).await;
    let error = |bench: &Bench| bench.ledger.runs("p", 1).unwrap()[0].error.clone().unwrap_or_default();
    assert!(error(&bench).starts_with("R1005"), "{}", error(&bench));
    bench.at("2026-05-01T11:00:00Z").await;
    bench.after(60).await;
    assert_eq!(bench.state("p"), PipelineState::Running, "it may take a moment to reach a consistent point");
    bench.after(30).await;
    assert_eq!(bench.state("p"), PipelineState::Waiting);
    assert!(error(&bench).starts_with("R1005"), "{}", error(&bench));
}

#[tokio::test]
async fn a_continuous_pipeline_never_gives_up_on_what_may_pass() {
    let always = plan("p", When::Continuous);
    let mut bench = Bench::new("2026-05-01T10:00:00Z", &[always]);
    bench.act("p", &[Act::Falter; 8]);
    bench.act("p", &[Act::CommitAndFalter, Act::Hold]);
    bench.settle().await;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(bench.runs().len(), 1);
        bench.after(pause - 1).await;
        assert!(bench.runs().is_empty());
        bench.after(1).await;
    }
    // The ninth got somewhere: the pauses begin anew.
    assert_eq!(bench.runs().len(), 1);
    bench.after(1).await;
    assert_eq!(bench.runs().len(), 1);
    assert_eq!(bench.state("p"), PipelineState::Running);
}

#[tokio::test]
async fn a_continuous_pipeline_that_cannot_go_on_waits_for_another_text() {
    let mut always = plan("p", When::Continuous);
    always.alerts = vec![alert(&[("failed", Value::Bool(true)), ("after", Value::Int(3))])];
    let mut bench = Bench::new("2026-05-01T10:00:00Z", std::slice::from_ref(&always));
    bench.act("p", &[Act::Break, Act::Hold]);
    bench.settle().await;
    bench.after(3600).await;
    assert_eq!((bench.runs().len(), bench.state("p")), (1, PipelineState::Failed));
    let expected = "pipeline `p` failed: R0302: the password is wrong; it is not started again until its text changes";
    assert_eq!(bench.alerts(), [expected]);
    let reasons = bench.daemon.board.not_ready();
    assert_eq!((reasons.len(), &reasons[0]["reason"]), (1, &serde_json::json!("failed")));
    bench.change(Ok(vec![always.clone()])).await;
    assert_eq!(bench.state("p"), PipelineState::Failed, "the same text");
    always.retry.max = 7;
    bench.change(Ok(vec![always])).await;
    assert_eq!(bench.state("p"), PipelineState::Running);
    assert!(bench.daemon.board.not_ready().is_empty());
}

#[tokio::test]
async fn an_alert_comes_after_as_many_failures_in_a_row_as_it_asks_for() {
    let mut told = hourly();
    told.alerts = vec![
        alert(&[("failed", Value::Bool(true)), ("after", Value::Int(2))]),
        alert(&[("missed", Value::Bool(true))]),
    ];
    let mut bench = Bench::new("2026-05-01T09:59:59Z", &[told]);
    bench.act("p", &[Act::Break, Act::Succeed, Act::Break, Act::Falter, Act::Break]);
    for hour in 10..15 {
        bench.at(&format!("2026-05-01T{hour}:00:00Z")).await;
    }
    assert_eq!(bench.alerts(), ["pipeline `p` failed 2 times in a row: R0301: the server went away"]);
}

#[tokio::test]
async fn what_this_version_does_not_carry_out_is_refused_and_said() {
    let mut event = plan("p", When::Event("order.*".into()));
    event.not_yet = vec![("trigger event".into(), "orders.lake:3".into())];
    let mut bench = Bench::new("2026-05-01T10:00:00Z", &[event]);
    bench.settle().await;
    assert_eq!(bench.state("p"), PipelineState::Failed);
    assert_eq!(bench.daemon.board.status().pipelines[0].last_error_code.as_deref(), Some("R0971"));
}

#[tokio::test]
async fn work_that_waits_too_long_is_not_ready() {
    let mut bench = Bench::new("2026-05-01T10:00:00Z", &[plan("p", When::Continuous)]);
    bench.act("p", &[Act::Hold]);
    bench.settle().await;
    let Phase::Running { counting, .. } = &bench.daemon.pipelines["p"].phase else { panic!("it runs") };
    let counting = Arc::clone(counting);
    let read = || counting.event(Event::Read { node: "shop".into(), rows: 1, bytes: 10, newest: None });
    let commit = |round| {
        counting.event(Event::Committed { round, table: "lake:t".into(), version: 1, rows: 1, bytes: 10 });
    };
    bench.after(3600).await;
    assert!(bench.daemon.board.not_ready().is_empty(), "a source may be quiet for ever");
    read();
    bench.after(600).await;
    read();
    assert!(bench.daemon.board.not_ready().is_empty());
    bench.after(600).await;
    assert_eq!(bench.daemon.board.not_ready()[0]["reason"], "stalled");
    commit(1);
    assert!(bench.daemon.board.not_ready().is_empty());
}
