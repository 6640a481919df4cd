use super::*;

fn after(name: &str, parents: &[&str], outcome: Outcome) -> Plan {
    plan(name, When::After(parents.iter().map(|parent| (*parent).to_owned()).collect(), outcome))
}

#[tokio::test]
async fn a_child_runs_when_its_parent_ended_as_it_asks() {
    let plans = [
        cron("a", "0 * * * *"),
        after("good", &["a"], Outcome::Succeeded),
        after("bad", &["a"], Outcome::Failed),
        after("any", &["a"], Outcome::Finished),
        after("grandchild", &["good"], Outcome::Succeeded),
    ];
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &plans);
    bench.act("a", &[Act::Succeed, Act::Break]);
    bench.at("2026-05-01T10:00:00Z").await;
    let names = |runs: Vec<String>| runs.iter().map(|run| run[..run.find(' ').unwrap()].to_owned()).collect::<Vec<_>>();
    assert_eq!(names(bench.runs()), ["a", "any", "good", "grandchild"]);
    bench.at("2026-05-01T11:00:00Z").await;
    assert_eq!(names(bench.runs()), ["a", "any", "bad"]);
}

#[tokio::test]
async fn a_child_of_several_has_their_interval_first_start_to_last_end() {
    let plans = [cron("a", "0 * * * *"), cron("b", "30 * * * *"), after("both", &["a", "b"], Outcome::Succeeded)];
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &plans);
    bench.at("2026-05-01T10:00:00Z").await;
    assert_eq!(bench.intervals(), ["a 2026-05-01T09:00:00Z .. 2026-05-01T10:00:00Z"]);
    bench.at("2026-05-01T10:30:00Z").await;
    let expected =
        ["b 2026-05-01T09:30:00Z .. 2026-05-01T10:30:00Z", "both 2026-05-01T09:00:00Z .. 2026-05-01T10:30:00Z"];
    assert_eq!(bench.intervals(), expected);
    // Both count once: the next run needs both again.
    bench.at("2026-05-01T11:00:00Z").await;
    assert_eq!(bench.runs(), ["a 2026-05-01T11:00:00Z"]);
}

#[tokio::test]
async fn parents_that_end_too_far_apart_start_nothing() {
    let mut both = after("both", &["a", "b"], Outcome::Finished);
    both.trigger.within = Some(Duration::from_secs(60));
    let plans = [cron("a", "0 * * * *"), cron("b", "30 9,11 * * *"), cron("c", "0 0 1 1 *"), both];
    let mut bench = Bench::new("2026-05-01T09:29:00Z", &plans);
    bench.at("2026-05-01T09:30:00Z").await;
    bench.at("2026-05-01T10:00:00Z").await;
    assert_eq!(bench.runs(), ["b 2026-05-01T09:30:00Z", "a 2026-05-01T10:00:00Z"]);
    // Its failure after the success takes the success back.
    let strict = [cron("a", "0 * * * *"), cron("b", "30 * * * *"), after("both", &["a", "b"], Outcome::Succeeded)];
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &strict);
    bench.act("a", &[Act::Succeed, Act::Break]);
    bench.act("b", &[Act::Break, Act::Succeed]);
    for time in ["2026-05-01T10:00:00Z", "2026-05-01T10:30:00Z", "2026-05-01T11:00:00Z", "2026-05-01T11:30:00Z"] {
        bench.at(time).await;
    }
    assert!(bench.runs().iter().all(|run| !run.starts_with("both")));
}

#[tokio::test]
async fn a_restart_loses_no_link_of_a_chain() {
    let plans = [cron("a", "0 * * * *"), cron("b", "30 * * * *"), after("both", &["a", "b"], Outcome::Succeeded)];
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &plans);
    bench.at("2026-05-01T10:00:00Z").await;
    assert_eq!(bench.runs(), ["a 2026-05-01T10:00:00Z"]);
    let mut bench = bench.restart("2026-05-01T10:10:00Z", &plans);
    bench.at("2026-05-01T10:30:00Z").await;
    assert_eq!(bench.runs(), ["b 2026-05-01T10:30:00Z", "both 2026-05-01T10:30:00Z"]);
    let mut bench = bench.restart("2026-05-01T10:40:00Z", &plans);
    bench.settle().await;
    assert!(bench.runs().is_empty(), "a link counts once, also over restarts");
}

#[tokio::test]
async fn a_parent_that_is_retried_has_not_ended() {
    let mut parent = cron("a", "0 * * * *");
    parent.retry.max = 1;
    let mut bench = Bench::new("2026-05-01T09:59:00Z", &[parent, after("bad", &["a"], Outcome::Failed)]);
    bench.act("a", &[Act::Falter, Act::Falter]);
    bench.at("2026-05-01T10:00:00Z").await;
    assert_eq!(bench.runs(), ["a 2026-05-01T10:00:00Z"]);
    bench.after(1).await;
    assert_eq!(bench.runs(), ["a 2026-05-01T10:00:00Z", "bad 2026-05-01T10:00:01Z"]);
}
