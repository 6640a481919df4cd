//! The first reading of tables: what happens to them meanwhile, and what a reading that was cut leaves behind.

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
