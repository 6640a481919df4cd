//! The first reading of tables: what happens to them meanwhile, and what a reading that was cut leaves behind.

use std::time::Duration;

use lakehead_core::{Checkpoint, Retry, Settings, Value};

use crate::scene::{Scene, row_count, settings};

fn snapshot(table: &str) -> Settings {
    settings(&[("capture", Value::Name("snapshot".into())), ("tables", Value::Text(table.into()))])
}

#[tokio::test]
async fn a_table_rewritten_during_its_snapshot_is_read_again_and_never_taken_for_empty() {
    let plain = "create table t (id int primary key); insert into t select generate_series(1, 1000)";
    let parts = "create table t (id int primary key) partition by range (id);
        create table t1 partition of t for values from (0) to (500);
        create table t2 partition of t for values from (500) to (2000); insert into t select generate_series(1, 1000)";
    let view = "create table base (id int primary key); insert into base select generate_series(1, 1000);
        create view t as select id from base";
    for (declared, rewritten, is_cdc) in
        [(plain, "t", true), (plain, "t", false), (parts, "t", true), (parts, "t", false), (view, "base", false)]
    {
        let scene = Scene::new(declared).await;
        let settings = if is_cdc { scene.cdc(&["public.t"]) } else { snapshot("public.t") };
        let mut reader = scene.open(&settings, &Checkpoint::default()).await.unwrap();
        scene.run(&format!("alter table {rewritten} add u uuid default gen_random_uuid()")).await;
        let error = reader.next().await.unwrap_err();
        assert_eq!((error.code(), error.retry()), ("R0336", Retry::Backoff), "{declared}: {error}");
        reader.close().await;
        let mut reader = scene.open(&settings, &Checkpoint::default()).await.unwrap();
        assert_eq!(row_count(&reader.until_caught_up().await), 1000, "{declared}");
        reader.close().await;
    }
}

#[tokio::test]
async fn a_partition_dropped_during_its_snapshot_is_noticed() {
    let scene = Scene::new(
        "create table t (id int primary key) partition by range (id);
         create table t1 partition of t for values from (0) to (5); create table t2 partition of t for values from (5) to (9);
         insert into t values (1), (6)",
    )
    .await;
    let mut reader = scene.open(&snapshot("public.t"), &Checkpoint::default()).await.unwrap();
    scene.run("alter table t detach partition t1").await;
    assert_eq!(reader.next().await.unwrap_err().code(), "R0336");
}

/// Returns the names of the slots of the scene's database.
async fn slots(scene: &Scene) -> String {
    scene
        .text("select coalesce(string_agg(slot_name, ' ' order by slot_name), '') from pg_replication_slots where database = current_database()")
        .await
}

/// Waits for connections that were cut to let their slots go.
async fn until_slots(scene: &Scene, expected: &str) {
    let gone = async {
        while slots(scene).await != expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the slots that are left");
}

#[tokio::test]
async fn a_snapshot_that_was_cut_leaves_nothing_behind_that_keeps_the_log() {
    let scene = Scene::new("create table t (id int primary key); insert into t values (1)").await;
    for is_closed in [true, false] {
        let reader = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.unwrap();
        assert_eq!(slots(&scene).await, format!("{}_reading", scene.slot()));
        if is_closed {
            reader.close().await;
        } else {
            drop(reader);
        }
        until_slots(&scene, "").await;
    }
}

#[tokio::test]
async fn a_snapshot_that_the_lake_never_confirmed_is_read_again_under_a_new_slot() {
    let scene = Scene::new("create table t (id int primary key); insert into t values (1)").await;
    let (reader, _) = scene.streaming(&["public.t"]).await;
    let (slot, before) = (scene.slot(), scene.confirmed().await);
    assert_eq!(slots(&scene).await, format!("{slot} {slot}_pending"));
    reader.close().await;
    scene.run("insert into t values (2)").await;
    let mut reader = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.unwrap();
    let events = reader.until_caught_up().await;
    assert_eq!(row_count(&events), 2);
    assert_ne!(scene.confirmed().await, before);
    reader.source.acknowledge(&crate::scene::checkpoint(&events)).await.unwrap();
    until_slots(&scene, &slot).await;
    reader.close().await;
}

#[tokio::test]
async fn a_slot_that_may_be_in_use_elsewhere_is_left_alone_and_named_with_the_cure() {
    let refused = async |scene: &Scene| {
        let error = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.err().unwrap();
        assert_eq!((error.code(), error.retry()), ("R0337", Retry::Never), "{error}");
        let cure = format!("select pg_drop_replication_slot('{}')", scene.slot());
        assert!(error.helps()[0].contains(&cure), "{:?}", error.helps());
        assert_eq!(slots(scene).await, scene.slot());
    };
    let foreign = Scene::new("create table t (id int primary key)").await;
    foreign.run(&format!("select pg_create_logical_replication_slot('{}', 'pgoutput')", foreign.slot())).await;
    refused(&foreign).await;
    let named_alike = Scene::new("create table t (id int primary key)").await;
    let name = format!("{}_reading", named_alike.slot());
    named_alike.run(&format!("select pg_create_logical_replication_slot('{name}', 'pgoutput')")).await;
    let error = named_alike.open(&named_alike.cdc(&["public.t"]), &Checkpoint::default()).await.err().unwrap();
    assert_eq!(error.code(), "R0337", "{error}");
    assert_eq!(slots(&named_alike).await, name);
    for is_acknowledged in [true, false] {
        let scene = Scene::new("create table t (id int primary key)").await;
        let (mut reader, start) = scene.streaming(&["public.t"]).await;
        if is_acknowledged {
            reader.source.acknowledge(&start).await.unwrap();
            reader.close().await;
        } else {
            // The lake has the position, and the acknowledgement was lost.
            reader.close().await;
            scene.open(&scene.cdc(&["public.t"]), &start).await.unwrap().close().await;
        }
        refused(&scene).await;
    }
}

#[tokio::test]
async fn limits_of_the_role_do_not_end_a_snapshot_or_its_slot() {
    let scene = Scene::new("create table t (id int primary key); insert into t select generate_series(1, 5)").await;
    let limits = "idle_session_timeout idle_in_transaction_session_timeout lock_timeout statement_timeout";
    for limit in limits.split(' ') {
        scene.run(&format!("alter database {} set {limit} = '200ms'", scene.database)).await;
    }
    let writer = scene.second().await;
    writer.batch_execute("set idle_in_transaction_session_timeout = 0; begin; insert into t values (6)").await.unwrap();
    let tables = scene.discover(&scene.cdc(&["public.t"])).await.unwrap();
    let (mut reader, from) = (scene.build(&scene.cdc(&["public.t"]), tables), Checkpoint::default());
    {
        let mut opening = reader.source.open(&from);
        let waited =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
            and clock_timestamp() > query_start + interval '500 ms'";
        while scene.text(waited).await != "1" {
            assert!(futures::poll!(&mut opening).is_pending(), "the slot waits for the writer");
        }
        writer.batch_execute("commit").await.unwrap();
        opening.await.unwrap();
    }
    let idle = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
        and application_name = 'lakehead' and clock_timestamp() > state_change + interval '500 ms'";
    while scene.text(idle).await != "2" {}
    assert_eq!(row_count(&reader.until_caught_up().await), 6);
    reader.close().await;
}
