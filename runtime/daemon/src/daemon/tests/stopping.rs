use super::*;
use lakehead_state::RunState;

/// Runs the daemon as the program does, asks for what is given, and joins it.
async fn ended(bench: Bench, requests: &[Request]) -> Ended {
    let (send, receive) = mpsc::channel(8);
    for request in requests {
        send.send(*request).await.unwrap();
    }
    bench.daemon.run(receive).await
}

#[tokio::test]
async fn a_stop_lets_every_run_reach_a_consistent_point() {
    let plans = [plan("always", When::Continuous), hourly(), cron("later", "30 * * * *")];
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &plans);
    bench.act("always", &[Act::Hold]);
    bench.act("p", &[Act::Hold]);
    bench.at("2026-05-01T10:00:00Z").await;
    let (ledger, board) = (Arc::clone(&bench.ledger), bench.daemon.board());
    assert_eq!(ended(bench, &[Request::Stop]).await, Ended::Drained);
    for name in ["always", "p"] {
        assert_eq!(ledger.runs(name, 1).unwrap()[0].state, RunState::Stopped, "{name}");
    }
    assert!(board.status().stopping);
    assert_eq!(board.not_ready()[0]["reason"], "stopping");
}

#[tokio::test]
async fn a_second_stop_drops_what_is_on() {
    let mut bench = Bench::new("2026-05-01T10:00:00Z", &[plan("always", When::Continuous)]);
    bench.act("always", &[Act::Hang]);
    bench.settle().await;
    let ledger = Arc::clone(&bench.ledger);
    assert_eq!(ended(bench, &[Request::Stop, Request::Stop]).await, Ended::Aborted);
    assert_eq!(ledger.runs("always", 1).unwrap()[0].state, RunState::Running, "as after a crash");
}

#[tokio::test]
async fn a_run_that_was_cut_short_is_made_again_after_a_restart() {
    for act in [Act::Hold, Act::Hang] {
        let plans = [hourly()];
        let mut bench = Bench::new("2026-05-01T09:59:00Z", &plans);
        bench.act("p", &[act]);
        bench.at("2026-05-01T10:00:00Z").await;
        bench.runs();
        let mut bench = bench.restart("2026-05-01T10:20:00Z", &plans);
        bench.settle().await;
        assert_eq!(bench.intervals(), ["p 2026-05-01T09:00:00Z .. 2026-05-01T10:00:00Z"]);
        let mut bench = bench.restart("2026-05-01T10:30:00Z", &plans);
        bench.settle().await;
        assert!(bench.runs().is_empty(), "it ended well");
    }
}

#[tokio::test]
async fn a_run_of_a_person_is_not_the_daemons_to_repeat() {
    let plans = [hourly()];
    let bench = Bench::new("2026-05-01T09:59:00Z", &plans);
    let run = |id: &str| lakehead_state::RunRecord {
        pipeline: "p".into(),
        run: id.into(),
        state: RunState::Running,
        started: 1,
        ended: None,
        interval_start: 0,
        interval_end: 1,
        rows_read: 0,
        rows_written: 0,
        rows_rejected: 0,
        error: None,
    };
    bench.ledger.record_run(&run("manual 2026-05-01T09:30:00Z")).unwrap();
    bench.ledger.record_run(&run("backfill 2026-05-01T09:30:00Z")).unwrap();
    let mut bench = bench.restart("2026-05-01T10:20:00Z", &plans);
    bench.settle().await;
    assert!(bench.runs().is_empty());
}

#[tokio::test]
async fn the_running_daemon_sleeps_on_its_clock_alone() {
    let bench = Bench::new("2026-05-01T09:59:59Z", &[hourly()]);
    let (host, clock) = (Arc::clone(&bench.host), Arc::clone(&bench.clock));
    let (send, receive) = mpsc::channel(8);
    let mut tasks = JoinSet::new();
    tasks.spawn(bench.daemon.run(receive));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(host.runs.lock().unwrap().is_empty());
    clock.advance(Duration::from_secs(1));
    while host.runs.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    send.send(Request::Stop).await.unwrap();
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), Ended::Drained);
}

#[tokio::test]
async fn a_continuous_run_that_died_is_not_on_for_ever() {
    let plans = [plan("always", When::Continuous)];
    let mut bench = Bench::new("2026-05-01T10:00:00Z", &plans);
    bench.act("always", &[Act::Hang, Act::Hang]);
    bench.settle().await;
    let mut bench = bench.restart("2026-05-01T11:00:00Z", &plans);
    bench.settle().await;
    let states: Vec<_> = bench.ledger.runs("always", 9).unwrap().iter().map(|run| run.state).collect();
    assert_eq!(states, [RunState::Running, RunState::Stopped]);
}

#[tokio::test]
async fn a_run_that_fails_while_it_stops_was_cut_short_and_has_not_failed() {
    let mut told = hourly();
    told.alerts = vec![alert(&[("failed", Value::Bool(true))])];
    let plans = [told, plan("child", When::After(vec!["p".into()], Outcome::Finished))];
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &plans);
    bench.act("p", &[Act::Stumble]);
    bench.at("2026-05-01T10:00:00Z").await;
    bench.daemon.stop();
    bench.settle().await;
    assert!(bench.alerts().is_empty());
    assert_eq!(bench.ledger.runs("p", 1).unwrap()[0].state, RunState::Stopped);
    bench.runs();
    let mut bench = bench.restart("2026-05-01T10:20:00Z", &plans);
    bench.settle().await;
    assert_eq!(bench.runs(), ["p 2026-05-01T10:00:00Z", "child 2026-05-01T10:20:00Z"]);
}
