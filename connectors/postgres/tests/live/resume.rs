//! Restarts: what is confirmed, what comes again, and what stops.

use lakehead_core::{Checkpoint, SourceEvent};

use crate::scene::{Scene, checkpoint, client, discover, row_count, rows};
use crate::server::Server;

#[tokio::test]
async fn case_1_nothing_is_confirmed_before_it_is_acknowledged() {
    let scene = Scene::new("create table t (id int primary key)").await;
    let (mut reader, start) = scene.streaming(&["public.t"]).await;
    let before = scene.confirmed().await;
    scene.run("insert into t select generate_series(1, 100)").await;
    let behind = checkpoint(&reader.until_rows(100).await);
    reader.close().await;
    assert_eq!(scene.confirmed().await, before, "reading and closing confirm nothing");

    let mut reader = scene.open(&scene.cdc(&["public.t"]), &start).await.unwrap();
    assert_eq!(row_count(&reader.until_rows(100).await), 100, "all of it comes again");
    reader.source.acknowledge(&behind).await.unwrap();
    reader.source.acknowledge(&start).await.unwrap();
    reader.close().await;
    let position: serde_json::Value = serde_json::from_str(behind.get(&scene.slot()).unwrap()).unwrap();
    assert_eq!(scene.confirmed().await, position["lsn"].as_str().unwrap(), "and an older position moves nothing back");
}

#[tokio::test]
async fn case_3_rows_of_one_log_record_are_told_apart_and_none_is_skipped_after_a_restart() {
    let scene = Scene::new("create table t (id int primary key); create table s (id int)").await;
    scene.run("insert into s select generate_series(1, 5)").await;
    let (mut reader, start) = scene.streaming(&["public.t"]).await;
    scene.run("insert into t select id from s; insert into t values (6)").await;
    let events = reader.until_rows(6).await;
    let positions = rows(&events, &["_source_position"]);
    let mut distinct = positions.clone();
    distinct.dedup();
    assert_eq!(distinct.len(), 6);
    let behind = checkpoint(&events);
    drop(reader);
    for (from, expected) in [(&start, 6), (&behind, 0)] {
        let mut reader = open_when_free(&scene, from).await;
        let events = reader.until_caught_up().await;
        assert_eq!(row_count(&events), expected);
        assert_eq!(rows(&events, &["_source_position"]), positions[..expected]);
        reader.close().await;
    }
}

/// Opens a source whose slot a dropped connection may still hold for a moment.
async fn open_when_free(scene: &Scene, from: &Checkpoint) -> crate::scene::Reader {
    loop {
        match scene.open(&scene.cdc(&["public.t"]), from).await {
            Ok(reader) => return reader,
            Err(error) => {
                assert_eq!((error.code(), error.retry()), ("R0325", lakehead_core::Retry::Backoff), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn case_6_a_position_moves_with_the_log_and_never_past_an_open_transaction() {
    let scene = Scene::new("create table t (id int primary key); create table other (id int)").await;
    let (mut reader, start) = scene.streaming(&["public.t"]).await;
    let writer = scene.second().await;
    writer.batch_execute("begin; insert into t values (1)").await.unwrap();
    scene.run("insert into other select generate_series(1, 1000)").await;
    let SourceEvent::Progress(moved) = reader.next().await.unwrap() else { panic!("the log moved without rows") };
    assert_ne!(moved, start);
    writer.batch_execute("commit").await.unwrap();
    assert_eq!(row_count(&reader.until_rows(1).await), 1);
    reader.close().await;
    let mut reader = scene.open(&scene.cdc(&["public.t"]), &moved).await.unwrap();
    assert_eq!(rows(&reader.until_rows(1).await, &["_op", "id"]), ["c|1"], "the open transaction comes again");
    reader.close().await;
}

#[tokio::test]
async fn case_8_a_slot_that_is_ahead_of_the_checkpoint_stops() {
    let scene = Scene::new("create table t (id int primary key)").await;
    let (reader, start) = scene.streaming(&["public.t"]).await;
    reader.close().await;
    scene.run("insert into t values (1)").await;
    scene.run(&format!("select pg_replication_slot_advance('{}', pg_current_wal_lsn())", scene.slot())).await;
    let error = scene.open(&scene.cdc(&["public.t"]), &start).await.err().unwrap();
    assert_eq!(error.code(), "R0327", "{error}");
}

#[tokio::test]
async fn case_9_a_slot_that_was_dropped_or_made_anew_stops() {
    let scene = Scene::new("create table t (id int primary key)").await;
    let (reader, start) = scene.streaming(&["public.t"]).await;
    reader.close().await;
    scene.run(&format!("select pg_drop_replication_slot('{}')", scene.slot())).await;
    let error = scene.open(&scene.cdc(&["public.t"]), &start).await.err().unwrap();
    assert_eq!(error.code(), "R0326", "{error}");
    scene.run("insert into t values (1)").await;
    scene.run(&format!("select pg_create_logical_replication_slot('{}', 'pgoutput')", scene.slot())).await;
    let error = scene.open(&scene.cdc(&["public.t"]), &start).await.err().unwrap();
    assert_eq!(error.code(), "R0327", "{error}");
}

#[tokio::test]
async fn cases_10_and_12_a_checkpoint_of_another_slot_server_or_time_stops() {
    let scene = Scene::new("create table t (id int primary key)").await;
    let (reader, start) = scene.streaming(&["public.t"]).await;
    reader.close().await;
    let text = start.get(&scene.slot()).unwrap();
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    for (field, value) in [("system", "\"1\""), ("timeline", "9"), ("database", "1"), ("lsn", "\"FF/0\"")] {
        let mut other = document.clone();
        other[field] = serde_json::from_str(value).unwrap();
        let mut checkpoint = Checkpoint::default();
        checkpoint.set(scene.slot(), other.to_string());
        let error = scene.open(&scene.cdc(&["public.t"]), &checkpoint).await.err().unwrap();
        assert_eq!(error.code(), "R0328", "{field}: {error}");
    }
    let mut elsewhere = Checkpoint::default();
    elsewhere.set("another_slot", text);
    assert_eq!(scene.open(&scene.cdc(&["public.t"]), &elsewhere).await.err().unwrap().code(), "R0328");
}

#[tokio::test]
async fn case_19_the_publication_comes_before_the_slot_and_one_that_goes_is_named() {
    let scene = Scene::new("create table t (id int primary key); create table u (id int primary key)").await;
    let (reader, start) = scene.streaming(&["public.t"]).await;
    reader.close().await;
    let error = scene.open(&scene.cdc(&["public.t", "public.u"]), &start).await.err().unwrap();
    assert_eq!(error.code(), "R0332", "case 20: {error}");
    scene.run(&format!("drop publication {}", scene.slot())).await;
    let error = scene.open(&scene.cdc(&["public.t"]), &start).await.err().unwrap();
    assert_eq!(error.code(), "R0322", "{error}");
    assert!(error.helps()[0].contains("create publication"), "{:?}", error.helps());
}

#[tokio::test]
async fn cases_21_and_22_a_publication_that_leaves_out_changes_is_refused() {
    let scene = Scene::new("create table t (id int primary key, n int)").await;
    for (publication, expected) in [
        ("for table t where (id > 5)", "row filter"),
        ("for table t (id)", "column list"),
        ("for table t with (publish = 'insert, update')", "does not publish every change"),
    ] {
        scene.run(&format!("create publication {} {publication}", scene.slot())).await;
        let error = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.err().unwrap();
        assert!(error.code() == "R0323" && error.message().contains(expected), "{error}");
        scene.run(&format!("drop publication {}", scene.slot())).await;
    }
    assert_eq!(scene.text("select count(*) from pg_replication_slots where database = current_database()").await, "0");
}

#[tokio::test]
async fn cases_25_and_26_and_28_a_snapshot_that_was_cut_starts_anew_and_doubles_nothing() {
    let scene = Scene::new("create table t (id int primary key, note text); insert into t select i, repeat('x', 200) from generate_series(1, 2000) i").await;
    let mut reader = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.unwrap();
    let budget = lakehead_core::BatchBudget { rows_max: 100, bytes_max: 1 << 20 };
    for _ in 0..3 {
        let event = reader.next_within(budget).await.unwrap();
        assert!(matches!(event, SourceEvent::Changes(_)), "no progress before the end: {event:?}");
    }
    let old = scene.confirmed().await;
    drop(reader);
    scene.run("delete from t where id = 1; insert into t values (3000, 'new')").await;
    let mut reader = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.unwrap();
    assert_ne!(scene.confirmed().await, old, "the slot is a new one");
    scene.run("insert into t values (3001, 'later')").await;
    let events = reader.until_rows(2001).await;
    let mut ids = rows(&events, &["id"]);
    ids.dedup();
    let is_later = |id: &String| id == "3001";
    assert_eq!(ids.iter().filter(|id| !is_later(id)).count(), 2000);
    assert!(!ids.contains(&"1".to_owned()) && ids.contains(&"3000".to_owned()));
    reader.close().await;
}

#[tokio::test]
async fn a_slot_in_use_is_an_error_that_may_pass() {
    let scene = Scene::new("create table t (id int primary key)").await;
    let (reader, start) = scene.streaming(&["public.t"]).await;
    let error = scene.open(&scene.cdc(&["public.t"]), &start).await.err().unwrap();
    assert_eq!((error.code(), error.retry()), ("R0325", lakehead_core::Retry::Backoff), "{error}");
    let error = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.err().unwrap();
    assert_eq!(error.code(), "R0325", "{error}");
    reader.close().await;
}

#[tokio::test]
async fn a_slot_of_another_plugin_is_left_alone() {
    let scene = Scene::new("create table t (id int primary key)").await;
    scene.run(&format!("select pg_create_physical_replication_slot('{}')", scene.slot())).await;
    let error = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.err().unwrap();
    assert_eq!(error.code(), "R0329", "{error}");
    assert_eq!(
        scene.text(&format!("select count(*) from pg_replication_slots where slot_name = '{}'", scene.slot())).await,
        "1"
    );
    scene.run(&format!("select pg_drop_replication_slot('{}')", scene.slot())).await;
}

#[tokio::test]
async fn a_dropped_call_of_next_loses_nothing() {
    let scene = Scene::new("create table t (id int primary key)").await;
    let (mut reader, _) = scene.streaming(&["public.t"]).await;
    scene.run("insert into t select generate_series(1, 20000)").await;
    let budget = lakehead_core::BatchBudget { rows_max: 1000, bytes_max: 1 << 20 };
    let mut events = Vec::new();
    while row_count(&events) < 20_000 {
        // The first poll alone: whatever it had begun is dropped with it.
        let polled = futures::poll!(Box::pin(reader.source.next(budget)));
        match polled {
            std::task::Poll::Ready(event) => events.push(event.unwrap()),
            std::task::Poll::Pending => tokio::task::yield_now().await,
        }
    }
    let ids: Vec<String> = rows(&events, &["id"]);
    assert_eq!(ids, (1..=20_000).map(|id| id.to_string()).collect::<Vec<_>>());
    reader.close().await;
}

#[tokio::test]
async fn a_quiet_source_says_that_it_has_caught_up_once_and_again_after_changes() {
    let scene = Scene::new("create table t (id int primary key)").await;
    let (mut reader, _) = scene.streaming(&["public.t"]).await;
    for id in 1..4 {
        scene.run(&format!("insert into t values ({id})")).await;
        assert_eq!(row_count(&reader.until_caught_up().await), 1);
    }
    reader.close().await;
}

#[tokio::test]
async fn cases_14_and_15_a_slow_sink_and_a_huge_transaction_do_not_cost_the_connection() {
    let scene = Scene::new("create table t (id int primary key, note text)").await;
    scene.run(&format!("alter database {} set wal_sender_timeout = '600ms'", scene.database)).await;
    let (mut reader, _) = scene.streaming(&["public.t"]).await;
    let before = scene.confirmed().await;
    scene.run("insert into t select i, repeat('x', 1000) from generate_series(1, 30000) i").await;
    let walsender = |column: &str| {
        format!(
            "select {column} from pg_stat_replication where application_name = 'lakehead' and pid = (select active_pid from pg_replication_slots where slot_name = '{}')",
            scene.slot()
        )
    };
    let pid = scene.text(&walsender("pid")).await;
    let first = scene.text(&walsender("reply_time")).await;
    // Nobody calls `next`: the queue fills, and only the feedback keeps the connection for four times the patience.
    let later = walsender(&format!("reply_time > '{first}'::timestamptz + interval '2400 ms'"));
    while scene.text(&later).await != "true" {}
    assert_eq!(scene.text(&walsender("pid")).await, pid);
    assert_eq!(scene.confirmed().await, before);
    assert_eq!(row_count(&reader.until_rows(30_000).await), 30_000);
    reader.close().await;
}

#[tokio::test]
async fn case_23_with_writers_running_the_snapshot_and_the_stream_meet_without_gap_or_double() {
    let scene = Scene::new(
        "create table t (id int primary key, n int); insert into t select i, 0 from generate_series(1, 500) i",
    )
    .await;
    let tables = scene.discover(&scene.cdc(&["public.t"])).await.unwrap();
    let writers: Vec<_> = [1, 2, 3].map(|writer| (writer, scene.second())).into_iter().collect();
    let mut tasks = Vec::new();
    for (writer, client) in writers {
        let client = client.await;
        tasks.push(tokio::spawn(async move {
            for round in 0..150 {
                let id = (round * 7 + writer * 13) % 600;
                let sql = format!(
                    "insert into t values ({id}, {round}) on conflict (id) do update set n = t.n + 1;
                     delete from t where id = {other} and id % 3 = {writer} % 3",
                    other = (round * 11 + writer) % 600
                );
                // Two writers may meet in a deadlock; the statement then changes nothing.
                let _ = client.batch_execute(&sql).await;
            }
        }));
    }
    let mut reader = scene.build(&scene.cdc(&["public.t"]), tables);
    reader.source.open(&Checkpoint::default()).await.unwrap();
    let mut events = reader.until_caught_up().await;
    for task in tasks {
        task.await.unwrap();
    }
    scene.run("insert into t values (9999, 9999)").await;
    let mut mirror = std::collections::BTreeMap::new();
    while !mirror.contains_key(&9999) {
        for line in rows(&events, &["_op", "id", "n"]) {
            let (op, rest) = line.split_once('|').unwrap();
            let (id, n) = rest.split_once('|').unwrap();
            let (id, n) = (id.parse::<i32>().unwrap(), n.to_owned());
            let before = mirror.contains_key(&id);
            match op {
                "d" => assert!(mirror.remove(&id).is_some(), "{line}"),
                "r" | "c" => assert!(!before && mirror.insert(id, n).is_none(), "{line}"),
                _ => assert!(mirror.insert(id, n).is_some(), "{line}"),
            }
        }
        events = vec![reader.next().await.unwrap()];
    }
    let expected = scene.app.query("select id, n::text from t order by id", &[]).await.unwrap();
    let expected: Vec<(i32, String)> = expected.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(mirror.into_iter().collect::<Vec<_>>(), expected);
    reader.close().await;
}

#[tokio::test]
async fn case_13_an_invalidated_slot_is_one_incident_that_says_so() {
    let server = Server::start(&[
        "wal_level = logical",
        "max_slot_wal_keep_size = 1MB",
        "max_wal_size = 32MB",
        "min_wal_size = 32MB",
    ]);
    let app = client(&server, "postgres").await;
    app.batch_execute("create table t (id int primary key)").await.unwrap();
    let scene = Scene::new("").await;
    let settings = scene.cdc(&["public.t"]);
    let tables = discover(server.connection("postgres"), settings.clone()).await.unwrap();
    let mut reader = scene.build_with(server.connection("postgres"), &settings, tables.clone());
    reader.source.open(&Checkpoint::default()).await.unwrap();
    let start = checkpoint(&reader.until_caught_up().await);
    reader.close().await;
    for _ in 0..6 {
        app.batch_execute("select pg_logical_emit_message(false, 'x', 'x'); select pg_switch_wal(); checkpoint")
            .await
            .unwrap();
    }
    let mut reader = scene.build_with(server.connection("postgres"), &settings, tables);
    let error = reader.source.open(&start).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("R0326", lakehead_core::Retry::Never), "{error}");
    assert!(error.message().contains("invalidated"), "{error}");
}

#[tokio::test]
async fn a_table_that_was_unpublished_for_a_while_is_a_gap_and_not_passed_over() {
    for all_tables in [false, true] {
        let scene = Scene::new("create table t (id int primary key)").await;
        let made = if all_tables { "for all tables" } else { "for table t" };
        scene.run(&format!("create publication {} {made}", scene.slot())).await;
        let (mut reader, start) = scene.streaming(&["public.t"]).await;
        scene.run("insert into t values (1)").await;
        let behind = checkpoint(&reader.until_rows(1).await);
        reader.close().await;
        scene.open(&scene.cdc(&["public.t"]), &behind).await.unwrap().close().await;
        scene.run(&format!("drop publication {}", scene.slot())).await;
        scene.run("insert into t values (2)").await;
        scene.run(&format!("create publication {} {made}", scene.slot())).await;
        for from in [&start, &behind] {
            let error = scene.open(&scene.cdc(&["public.t"]), from).await.err().unwrap();
            assert!(error.code() == "R0327" && error.message().contains("`public.t`"), "{error}");
        }
    }
}
