//! Whole tables, queries, discovery and inspection.

use std::path::Path;
use std::time::Duration;

use lakehead_core::{Checkpoint, Settings, Value, column_type_name};
use lakehead_postgres::inspect;

use crate::scene::{Scene, batches, checkpoint, client, role, rows, settings};
use crate::server::Server;

fn snapshot(tables: &[&str]) -> Settings {
    let tables = tables.iter().map(|table| Value::Text((*table).into())).collect();
    settings(&[("capture", Value::Name("snapshot".into())), ("tables", Value::List(tables))])
}

#[tokio::test]
async fn a_snapshot_reads_all_tables_of_one_moment_and_ends() {
    let scene = Scene::new(
        "create table a (id int primary key, g int generated always as (id + 1) stored); create table b (id int);
         create table empty (id int); insert into a values (1), (2); insert into b values (7)",
    )
    .await;
    let mut reader = scene.open(&snapshot(&["public.*"]), &Checkpoint::default()).await.unwrap();
    scene.run("insert into b values (8)").await;
    let events = reader.until_caught_up().await;
    let all: Vec<String> = rows(&events, &["id"]);
    assert_eq!(all, ["1", "2", "7"]);
    let batch = batches(&events)[0];
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "g"], "no reserved columns, and generated ones are there");
    assert!(checkpoint(&events).get("shop").unwrap().contains("snapshot"));
    let mut again = scene.open(&snapshot(&["public.*"]), &checkpoint(&events)).await.unwrap();
    assert_eq!(rows(&again.until_caught_up().await, &["id"]).len(), 4);
    assert!(!(role().endless)(&snapshot(&[])) && (role().endless)(&scene.cdc(&[])));
}

#[tokio::test]
async fn discovery_describes_types_keys_and_nulls() {
    let scene = Scene::new(
        "create schema sales; create table sales.\"Odd.name\" (b text not null, a int, primary key (a, b), u uuid, n numeric(12, 2));
         create domain positive as numeric(9, 3) check (value > 0); create table public.x (p positive, l int[], j jsonb)",
    )
    .await;
    let tables = scene.discover(&scene.cdc(&["sales.{Odd,Even}*", "x"])).await.unwrap();
    assert_eq!(tables[1].name, "sales.Odd.name");
    assert_eq!(tables[1].key, ["a", "b"]);
    let columns = |index: usize| -> Vec<String> {
        let fields = tables[index].schema.fields().iter();
        fields
            .map(|field| format!("{} {} {}", field.name(), column_type_name(field.data_type()), field.is_nullable()))
            .collect()
    };
    assert_eq!(columns(1), ["b varchar false", "a int false", "u varchar true", "n decimal(12, 2) true"]);
    assert_eq!(columns(0), ["p decimal(9, 3) true", "l list(int) true", "j varchar true"]);
    assert_eq!(tables[0].schema.field(2).metadata()["lakehead.type"], "json");
}

#[tokio::test]
async fn a_pattern_without_a_table_and_a_type_without_a_column_type_are_named() {
    let scene =
        Scene::new("create table orders (id int primary key, n numeric); create view w as select 1 as one").await;
    let error = scene.discover(&scene.cdc(&["public.order"])).await.unwrap_err();
    assert_eq!(error.code(), "R0314");
    assert!(
        error.helps()[0].contains("public.orders") && error.to_string().contains("tables=public.orders"),
        "{error}"
    );
    let error = scene.discover(&scene.cdc(&["public.orders"])).await.unwrap_err();
    assert!(error.code() == "R0315" && error.message().contains("numeric without a declared precision"), "{error}");
    let error = scene.discover(&scene.cdc(&["public.w"])).await.unwrap_err();
    assert!(error.code() == "R0333" && error.message().contains("`public.w` is a view"), "{error}");
    assert_eq!(scene.discover(&snapshot(&["public.w"])).await.unwrap()[0].schema.field(0).name(), "one");
}

#[tokio::test]
async fn what_leaves_nothing_out_is_refused_as_what_it_was_meant_for_would_be_read() {
    let scene = Scene::new("create table users (id int primary key, email text); create table logs (id int)").await;
    let with = |setting: &str, pattern: &str| {
        let mut settings = scene.cdc(&["public.*"]);
        settings.set(setting, Value::Text(pattern.into()));
        settings
    };
    let tables = scene.discover(&with("exclude_columns", "users.email")).await.unwrap();
    assert!(tables.iter().all(|table| table.schema.fields().len() == 1), "{tables:?}");
    for (setting, pattern, code, help) in [
        ("exclude_columns", "users.emial", "R0338", "public.users.email"),
        ("exclude_columns", "nowhere.at.all.in.the.world", "R0338", "schema.table.column"),
        ("exclude", "log", "R0314", "public.logs"),
    ] {
        let error = scene.discover(&with(setting, pattern)).await.unwrap_err();
        assert!(error.code() == code && error.helps()[0].contains(help), "{error} {:?}", error.helps());
    }
}

#[tokio::test]
async fn a_column_whose_name_means_something_else_in_the_rows_is_refused() {
    let scene = Scene::new(
        "create table o (id int primary key, _op text); create table c (id int primary key, \"a,b\" text);
         create table n (id int primary key, \"a,b\" int)",
    )
    .await;
    for (settings, code) in [
        (scene.cdc(&["public.o"]), Some("R0339")),
        (snapshot(&["public.o"]), Some("R0339")),
        (scene.cdc(&["public.c"]), Some("R0339")),
        (snapshot(&["public.c"]), None),
        (scene.cdc(&["public.n"]), None),
        (query("select 1 as _table"), Some("R0339")),
    ] {
        assert_eq!(scene.discover(&settings).await.err().map(|error| error.code()), code, "{settings:?}");
    }
    let mut settings = scene.cdc(&["public.o"]);
    settings.set("exclude_columns", Value::Text("o._op".into()));
    assert_eq!(scene.discover(&settings).await.unwrap()[0].schema.fields().len(), 1);
    let (mut reader, _) = scene.streaming(&["public.n"]).await;
    scene.run("alter table n add _unchanged text; insert into n values (1)").await;
    assert_eq!(reader.until_error().await.code(), "R0339");
}

fn query(sql: &str) -> Settings {
    settings(&[("query", Value::Text(sql.into()))])
}

#[tokio::test]
async fn a_query_is_described_and_read() {
    let scene = Scene::new("create table t (id int, price numeric); insert into t values (1, 1.5), (2, null)").await;
    let sql = query("select id, price::numeric(10, 2) as price from t order by id -- all of them;");
    let tables = scene.discover(&sql).await.unwrap();
    assert_eq!((tables[0].name.as_str(), tables[0].key.len()), ("shop", 0));
    let mut reader = scene.open(&sql, &Checkpoint::default()).await.unwrap();
    assert_eq!(rows(&reader.until_caught_up().await, &["id", "price"]), ["1|1.50", "2|~"]);
    for (bad, code) in [
        ("select 1 as a, 2 as a", "R0331"),
        ("select $1::int as a", "R0331"),
        ("selec 1", "R0312"),
        ("select x from nowhere", "R0312"),
    ] {
        assert_eq!(scene.discover(&query(bad)).await.unwrap_err().code(), code, "{bad}");
    }
}

#[tokio::test]
async fn case_82_a_cursor_waits_for_the_oldest_open_transaction() {
    let scene = Scene::new("create table t (id int, at timestamptz default now())").await;
    let mut sql = query("select * from t");
    sql.set("cursor", Value::Name("at".into()));
    scene.run("insert into t (id) values (1)").await;
    let late = scene.second().await;
    late.batch_execute("begin; insert into t (id) values (2)").await.unwrap();
    scene.run("insert into t (id) values (3)").await;
    let mut reader = scene.open(&sql, &Checkpoint::default()).await.unwrap();
    let first = reader.until_caught_up().await;
    assert_eq!(rows(&first, &["id"]), ["1"]);
    late.batch_execute("commit").await.unwrap();
    let mut reader = scene.open(&sql, &checkpoint(&first)).await.unwrap();
    let second = reader.until_caught_up().await;
    assert_eq!(rows(&second, &["id"]), ["2", "3"]);
    let mut reader = scene.open(&sql, &checkpoint(&second)).await.unwrap();
    assert_eq!(rows(&reader.until_caught_up().await, &["id"]), Vec::<String>::new());
    sql.set("lookback", Value::Duration(Duration::from_secs(3600)));
    let mut reader = scene.open(&sql, &checkpoint(&second)).await.unwrap();
    assert_eq!(rows(&reader.until_caught_up().await, &["id"]).len(), 3);
    sql.set("start_at", Value::Text("2999-01-01".into()));
    let mut reader = scene.open(&sql, &Checkpoint::default()).await.unwrap();
    let none = reader.until_caught_up().await;
    assert!(checkpoint(&none).get("shop").unwrap().starts_with("2999"));
}

/// Opens a query over `t` with a cursor `at` and without lookback, and returns why that is refused.
async fn refused(connection: Settings, scene: &Scene) -> lakehead_core::Error {
    let mut sql = query("select * from t");
    let tables = crate::scene::discover(connection.clone(), sql.clone()).await.unwrap();
    sql.set("cursor", Value::Name("at".into()));
    let error = scene.build_with(connection.clone(), &sql, tables.clone()).source.open(&Checkpoint::default()).await;
    sql.set("lookback", Value::Duration(Duration::from_secs(3600)));
    scene.build_with(connection, &sql, tables).source.open(&Checkpoint::default()).await.unwrap();
    error.unwrap_err()
}

#[tokio::test]
async fn a_cursor_without_lookback_is_refused_where_open_transactions_cannot_be_seen() {
    let table = "create table t (id int, at timestamptz default now())";
    let subscriber = Scene::new(&format!(
        "{table}; create subscription s connection 'dbname=nowhere' publication p with (connect = false)"
    ))
    .await;
    let blind = Scene::new(table).await;
    blind.run(&format!("alter database {} set track_activities = off", blind.database)).await;
    for (scene, expected) in [(&subscriber, "subscribes"), (&blind, "track_activities is off")] {
        let error = refused(scene.server.connection(&scene.database), scene).await;
        assert!(error.code() == "R0331" && error.message().contains(expected), "{error}");
        assert!(error.helps()[0].contains("`lookback`"), "{:?}", error.helps());
    }
    subscriber.run("alter subscription s set (slot_name = none); drop subscription s").await;

    let server = Server::start(&["wal_level = logical", "hot_standby = on"]);
    client(&server, "postgres").await.batch_execute(table).await.unwrap();
    server.stand_by();
    let error = refused(server.connection("postgres"), &blind).await;
    assert!(error.code() == "R0331" && error.message().contains("standby"), "{error}");
}

#[tokio::test]
async fn a_cursor_without_time_zone_needs_a_lookback_and_the_session_is_always_in_utc() {
    for type_name in ["timestamp", "date"] {
        let scene = Scene::new(&format!("create table t (id int, at {type_name} default now())")).await;
        let error = refused(scene.server.connection(&scene.database), &scene).await;
        assert!(error.code() == "R0331" && error.message().contains("time zone"), "{error}");
        scene.run(&format!("alter database {} set timezone = 'Asia/Kathmandu'", scene.database)).await;
        let sql =
            query("select current_setting('timezone') as zone, '2026-01-01 00:00:00+00'::timestamptz::text as at");
        let mut reader = scene.open(&sql, &Checkpoint::default()).await.unwrap();
        assert_eq!(rows(&reader.until_caught_up().await, &["zone", "at"]), ["UTC|2026-01-01 00:00:00+00"]);
    }
}

#[tokio::test]
async fn an_inspection_tells_what_a_first_start_needs_to_know() {
    let scene =
        Scene::new("create table t (id int primary key); create table k (n int); create table m (x money)").await;
    let found = inspect::inspect(&scene.server.connection(&scene.database), Path::new("/")).await.unwrap();
    assert_eq!(found.wal_level, "logical");
    assert!(found.may_replicate && found.may_create_publications && found.version_number >= 140_000);
    let hindrances: Vec<usize> = found.tables.iter().map(|table| table.hindrances.len()).collect();
    assert_eq!(
        found.tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(),
        ["public.k", "public.m", "public.t"]
    );
    assert_eq!(hindrances, [1, 2, 0]);
    assert_eq!(inspect::grants("u", &[("public", "t")], "p").len(), 4);
}
