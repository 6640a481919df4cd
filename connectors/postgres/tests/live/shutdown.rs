//! A server that is stopped while a pipeline streams from it.

use std::time::Duration;

use lakehead_core::{Checkpoint, Retry};

use crate::scene::{Scene, checkpoint, client, discover};
use crate::server::Server;

/// What a stop may take; pg_ctl gives up after 60 s.
const STOP_MAX: Duration = Duration::from_secs(40);

async fn until_down(server: &Server) {
    let down = async {
        while server.is_up() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(STOP_MAX, down).await.expect("the server waits for the stream");
}

/// Streams from a server of its own, whose changes are never acknowledged, and stops it behind `changes`.
async fn stop_behind(changes: &str, is_read: bool) {
    let server = Server::start(&["wal_level = logical"]);
    let app = client(&server, "postgres").await;
    app.batch_execute("create table t (id int primary key, note text)").await.unwrap();
    let scene = Scene::new("").await;
    let settings = scene.cdc(&["public.t"]);
    let tables = discover(server.connection("postgres"), settings.clone()).await.unwrap();
    let mut reader = scene.build_with(server.connection("postgres"), &settings, tables.clone());
    reader.source.open(&Checkpoint::default()).await.unwrap();
    let start = checkpoint(&reader.until_caught_up().await);
    app.batch_execute(changes).await.unwrap();
    if is_read {
        reader.until_rows(10).await;
    }
    server.begin_shutdown();
    until_down(&server).await;
    let error = reader.until_error().await;
    assert_eq!((error.code(), error.retry()), ("R0311", Retry::Backoff), "{error}");
    server.boot();
    let mut reader = scene.build_with(server.connection("postgres"), &settings, tables);
    reader.source.open(&start).await.unwrap();
    reader.until_rows(10).await;
    reader.close().await;
}

#[tokio::test]
async fn a_server_stops_at_once_though_the_lake_has_not_taken_everything_in() {
    stop_behind("insert into t select generate_series(1, 10)", true).await;
}

#[tokio::test]
async fn a_server_stops_though_nobody_reads_what_it_has_sent() {
    stop_behind("insert into t select i, repeat('x', 1000) from generate_series(1, 100000) i", false).await;
}
