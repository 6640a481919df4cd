//! Replica identities: what the server takes for one, what it sends by them, and what is refused.

use lakehead_core::Checkpoint;

use crate::scene::{Scene, rows};

/// Opens a source over `t` that must go on capturing while the application updates and deletes.
async fn application_goes_on(declared: &str) {
    let scene = Scene::new(&format!("{declared}; insert into t values (1, 1), (2, 2)")).await;
    let mut reader = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.unwrap();
    scene.run("update t set n = 3 where id = 1; delete from t where id = 2; insert into t values (5, 5)").await;
    reader.until_rows(2).await;
    assert_eq!(rows(&reader.until_rows(1).await, &["_op", "id"]), ["c|5"], "{declared}");
    reader.close().await;
}

#[tokio::test]
async fn what_the_server_takes_for_no_identity_is_published_without_updates() {
    for declared in [
        "create table t (id int primary key deferrable, n int)",
        "create table t (id int not null, n int); create unique index i on t (id);
         alter table t replica identity using index i; drop index i",
        "create table t (id int not null, n int) partition by range (id);
         create table t1 partition of t for values from (0) to (9); alter table t replica identity full;
         create unique index i on t1 (id); alter table t1 replica identity using index i; drop index i",
    ] {
        application_goes_on(declared).await;
    }
}

#[tokio::test]
async fn a_full_identity_that_a_partition_does_not_share_is_refused_with_the_cure() {
    let scene = Scene::new(
        "create table t (id int primary key, n int) partition by range (id); alter table t replica identity full;
         create table t1 partition of t for values from (0) to (9)",
    )
    .await;
    let error = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.err().unwrap();
    assert_eq!(error.code(), "R0324", "{error}");
    assert!(error.helps()[0].contains("alter table public.t1 replica identity full"), "{:?}", error.helps());
    scene.run("alter table t1 replica identity full; insert into t values (1, 1)").await;
    let (mut reader, _) = scene.streaming(&["public.t"]).await;
    scene.run("update t set n = 2; delete from t").await;
    assert_eq!(rows(&reader.until_rows(2).await, &["_op", "id", "n"]), ["u|1|2", "d|1|~"]);
    reader.close().await;
}

#[tokio::test]
async fn a_key_stored_out_of_line_is_there_in_every_change() {
    let scene = Scene::new(
        "create table t (k text primary key, n int, body text); alter table t alter k set storage external;
         alter table t alter body set storage external; insert into t values (repeat('k', 2400), 1, repeat('b', 5000))",
    )
    .await;
    let (mut reader, _) = scene.streaming(&["public.t"]).await;
    scene.run("update t set n = 2").await;
    let events = reader.until_rows(1).await;
    assert_eq!(rows(&events, &["_op", "k", "n", "body", "_unchanged"]), [format!("u|{}|2|~|body", "k".repeat(2400))]);
    reader.close().await;
}
