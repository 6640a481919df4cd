use super::*;
use lakehead_state::RunState;

#[tokio::test]
async fn a_cron_job_runs_at_its_times_with_the_interval_before() {
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &[hourly()]);
    bench.settle().await;
    assert!(bench.runs().is_empty());
    let next = bench.daemon.board.status().pipelines[0].next_run.clone();
    assert_eq!(next.as_deref(), Some("2026-05-01T10:00:00Z"));
    bench.at("2026-05-01T09:59:59.999999Z").await;
    assert!(bench.runs().is_empty());
    bench.at("2026-05-01T10:00:00Z").await;
    assert_eq!(bench.intervals(), ["p 2026-05-01T09:00:00Z .. 2026-05-01T10:00:00Z"]);
    bench.at("2026-05-01T10:59:59Z").await;
    assert!(bench.runs().is_empty());
    bench.at("2026-05-01T11:00:01Z").await;
    assert_eq!(bench.runs(), ["p 2026-05-01T11:00:00Z"]);
    let runs = bench.ledger.runs("p", 10).unwrap();
    assert_eq!((runs.len(), runs[0].state, runs[0].rows_written), (2, RunState::Succeeded, 2));
}

#[tokio::test]
async fn the_loop_sleeps_no_longer_than_to_the_next_occasion() {
    let mut bench = Bench::new("2026-05-01T09:59:59.5Z", &[hourly()]);
    assert_eq!(bench.daemon.turn(), Duration::from_millis(500));
    bench.at("2026-05-01T10:00:00Z").await;
    assert_eq!(bench.daemon.turn(), Limits::default().directory_poll);
}

#[tokio::test]
async fn a_delay_moves_the_run_and_not_its_interval() {
    let mut delayed = hourly();
    delayed.trigger.delay = Duration::from_secs(300);
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &[delayed]);
    bench.at("2026-05-01T10:04:59Z").await;
    assert!(bench.runs().is_empty());
    bench.at("2026-05-01T10:05:00Z").await;
    assert_eq!(bench.intervals(), ["p 2026-05-01T09:00:00Z .. 2026-05-01T10:00:00Z"]);
}

#[tokio::test]
async fn equal_distances_a_disabled_trigger_and_one_by_hand() {
    let every = plan("every", When::Every(Duration::from_secs(300)));
    let mut disabled = cron("disabled", "* * * * *");
    disabled.trigger.enabled = false;
    disabled.trigger.catchup = Catchup::All;
    let by_hand = plan("by_hand", When::Manual);
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &[every.clone(), disabled.clone(), by_hand.clone()]);
    bench.at("2026-05-01T10:00:00Z").await;
    bench.at("2026-05-01T10:05:00Z").await;
    assert_eq!(bench.runs(), ["every 2026-05-01T10:00:00Z", "every 2026-05-01T10:05:00Z"]);
    assert_eq!(bench.state("disabled"), PipelineState::Disabled);
    // Enabled again, it makes up for nothing of the time it was off.
    disabled.trigger.enabled = true;
    bench.change(Ok(vec![every, disabled, by_hand])).await;
    assert!(bench.runs().is_empty());
    bench.at("2026-05-01T10:06:00Z").await;
    assert_eq!(bench.runs(), ["disabled 2026-05-01T10:06:00Z"]);
}

async fn after_an_outage(catchup: Catchup) -> (Vec<String>, Vec<String>, Vec<String>) {
    let mut hourly = hourly();
    hourly.trigger.catchup = catchup;
    hourly.alerts = vec![alert(&[("missed", Value::Bool(true))])];
    let plans = [hourly];
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &plans);
    bench.at("2026-05-01T10:00:00Z").await;
    assert_eq!(bench.runs(), ["p 2026-05-01T10:00:00Z"]);
    let mut bench = bench.restart("2026-05-01T13:30:00Z", &plans);
    bench.settle().await;
    let found = (bench.runs(), bench.left_out(), bench.alerts());
    let mut bench = bench.restart("2026-05-01T13:31:00Z", &plans);
    bench.settle().await;
    assert!(bench.runs().is_empty() && bench.left_out().is_empty(), "once");
    bench.at("2026-05-01T14:00:00Z").await;
    assert_eq!(bench.runs(), ["p 2026-05-01T14:00:00Z"]);
    found
}

#[tokio::test]
async fn missed_runs_are_made_up_for_as_the_trigger_says() {
    let (runs, left_out, alerts) = after_an_outage(Catchup::All).await;
    assert_eq!(runs, ["p 2026-05-01T11:00:00Z", "p 2026-05-01T12:00:00Z", "p 2026-05-01T13:00:00Z"]);
    assert!(left_out.is_empty() && alerts.is_empty());
    let (runs, left_out, _) = after_an_outage(Catchup::Latest).await;
    assert_eq!(runs, ["p 2026-05-01T13:00:00Z"]);
    assert_eq!(left_out, ["2026-05-01T11:00:00Z .. 2026-05-01T12:00:00Z Missed"]);
    let (runs, left_out, alerts) = after_an_outage(Catchup::None).await;
    assert!(runs.is_empty());
    assert_eq!(left_out, ["2026-05-01T11:00:00Z .. 2026-05-01T13:00:00Z Missed"]);
    assert_eq!(alerts, ["pipeline `p` missed its runs from 2026-05-01T11:00:00Z to 2026-05-01T13:00:00Z"]);
}

#[tokio::test]
async fn a_restart_at_the_wrong_moment_misses_nothing() {
    let plans = [hourly()];
    let bench = Bench::new("2026-05-01T09:59:59Z", &plans);
    let mut bench = bench.restart("2026-05-01T10:00:20Z", &plans);
    bench.settle().await;
    assert_eq!(bench.runs(), ["p 2026-05-01T10:00:00Z"]);
}

#[tokio::test]
async fn a_clock_that_goes_back_fires_nothing_twice() {
    let plans = [hourly()];
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &plans);
    bench.at("2026-05-01T10:00:00Z").await;
    assert_eq!(bench.runs().len(), 1);
    bench.at("2026-05-01T09:00:00Z").await;
    bench.at("2026-05-01T10:00:10Z").await;
    let mut bench = bench.restart("2026-05-01T09:30:00Z", &plans);
    bench.at("2026-05-01T10:00:10Z").await;
    assert!(bench.runs().is_empty());
    bench.at("2026-05-01T11:00:00Z").await;
    assert_eq!(bench.runs(), ["p 2026-05-01T11:00:00Z"]);
}

#[tokio::test]
async fn an_occasion_while_a_run_is_on_is_left_out_or_waits() {
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &[hourly()]);
    bench.act("p", &[Act::Hold]);
    bench.at("2026-05-01T10:00:00Z").await;
    bench.at("2026-05-01T11:00:00Z").await;
    assert_eq!(bench.left_out(), ["2026-05-01T11:00:00Z .. 2026-05-01T11:00:00Z Overlap"]);
    bench.release("p");
    bench.settle().await;
    assert_eq!(bench.runs(), ["p 2026-05-01T10:00:00Z"]);

    let mut queued = hourly();
    queued.trigger.overlap = Overlap::Queue;
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &[queued]);
    bench.act("p", &[Act::Hold]);
    bench.at("2026-05-01T10:00:00Z").await;
    bench.at("2026-05-01T11:00:00Z").await;
    bench.at("2026-05-01T12:00:00Z").await;
    assert_eq!(bench.runs(), ["p 2026-05-01T10:00:00Z"]);
    assert_eq!(bench.daemon.board.status().pipelines[0].waiting, 2);
    bench.release("p");
    bench.settle().await;
    assert_eq!(bench.runs(), ["p 2026-05-01T11:00:00Z", "p 2026-05-01T12:00:00Z"]);
}

#[tokio::test]
async fn what_waits_has_a_bound_and_the_newest_are_left_out() {
    let mut seconds = plan("p", When::Every(Duration::from_secs(1)));
    seconds.trigger.overlap = Overlap::Queue;
    let mut bench = Bench::new("2026-05-01T10:00:00Z", &[seconds]);
    bench.act("p", &[Act::Hold]);
    for _ in 0..60 {
        bench.after(20).await;
    }
    assert_eq!(bench.daemon.pipelines["p"].waiting.len(), crate::pipeline::WAITING_MAX);
    let left_out = bench.left_out();
    assert!(left_out.iter().all(|line| line.ends_with("QueueFull")), "{left_out:?}");
    assert!(!left_out.is_empty());
    let oldest = bench.daemon.pipelines["p"].waiting[0].fire;
    assert_eq!(format_micros(oldest), "2026-05-01T10:00:02Z");
}

#[tokio::test]
async fn so_many_batch_runs_are_on_at_once_and_the_oldest_start_first() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut plans: Vec<Plan> = names.iter().map(|name| cron(name, "0 * * * *")).collect();
    plans.push(plan("always", When::Continuous));
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &plans);
    for name in names.iter().chain(&["always"]) {
        bench.act(name, &[Act::Hold]);
    }
    bench.at("2026-05-01T10:00:00Z").await;
    assert_eq!(bench.runs().len(), 1 + Limits::default().batch_runs_max);
    assert_eq!(bench.state("e"), PipelineState::Queued);
    bench.release("b");
    bench.settle().await;
    assert_eq!(bench.runs(), ["e 2026-05-01T10:00:00Z"]);
}

#[tokio::test]
async fn arrivals_start_a_run_when_they_have_settled() {
    let mut arrival = plan("p", When::Arrival);
    arrival.trigger.within = Some(Duration::from_secs(10));
    let mut bench = Bench::new("2026-05-01T10:00:00Z", &[arrival]);
    bench.settle().await;
    *bench.host.objects.lock().unwrap() = Some("one".into());
    bench.after(5).await;
    bench.after(5).await;
    assert!(bench.runs().is_empty());
    bench.act("p", &[Act::Hold]);
    bench.after(5).await;
    assert_eq!(bench.runs(), ["p 2026-05-01T10:00:15Z"]);
    // What arrives while the run is on starts the next one.
    *bench.host.objects.lock().unwrap() = Some("one two".into());
    bench.after(5).await;
    bench.release("p");
    bench.after(5).await;
    bench.after(10).await;
    assert_eq!(bench.runs(), ["p 2026-05-01T10:00:35Z"]);
    bench.after(60).await;
    bench.after(60).await;
    assert!(bench.runs().is_empty());
}
