//! What changes look like: operations, keys, unsent values, truncates, columns that come and go.

use lakehead_core::{BatchBudget, Checkpoint, SourceEvent, Value};

use crate::scene::{Scene, batches, checkpoint, row_count, rows};

#[tokio::test]
async fn the_snapshot_comes_first_and_then_every_change_once() {
    let scene =
        Scene::new("create table t (id int primary key, note text); insert into t values (1, 'a'), (2, 'b')").await;
    let mut reader = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.unwrap();
    scene.run("insert into t values (3, 'c'); update t set note = 'B' where id = 2; delete from t where id = 1").await;
    let mut events = reader.until_rows(2).await;
    assert_eq!(rows(&events, &["_op", "id", "note"]), ["r|1|a", "r|2|b"]);
    events = reader.until_rows(3).await;
    assert_eq!(rows(&events, &["_op", "id", "note"]), ["c|3|c", "u|2|B", "d|1|~"]);
    let positions = rows(&events, &["_source_position"]);
    assert!(positions[0].contains('/') && positions[0].ends_with(".1"), "{positions:?}");
    reader.close().await;
}

#[tokio::test]
async fn every_row_of_a_batch_carries_its_commit_time_and_every_column_may_be_null() {
    let scene = Scene::new("create table t (id int primary key, note text not null)").await;
    let (mut reader, _) = scene.streaming(&["public.t"]).await;
    scene.run("insert into t values (1, 'a')").await;
    let events = reader.until_rows(1).await;
    let batch = batches(&events)[0];
    assert!(batch.schema().fields().iter().all(|field| field.is_nullable()));
    let year = scene.text("select extract(year from now())").await;
    assert!(rows(&events, &["_source_ts"])[0].starts_with(&year));
    reader.close().await;
}

#[tokio::test]
async fn case_33_an_unsent_large_value_is_named_and_never_a_plain_null() {
    let scene = Scene::new(
        "create table t (id int primary key, n int, body text); alter table t alter body set storage external;
         insert into t values (1, 1, repeat('x', 5000))",
    )
    .await;
    let (mut reader, _) = scene.streaming(&["public.t"]).await;
    scene.run("update t set n = 2 where id = 1; update t set body = null where id = 1").await;
    let events = reader.until_rows(2).await;
    assert_eq!(rows(&events, &["_op", "n", "body", "_unchanged"]), ["u|2|~|body", "u|2|~|~"]);
    scene.run("update t set body = repeat('y', 5000); alter table t replica identity full; update t set n = 3").await;
    let events = reader.until_rows(2).await;
    let lines = rows(&events, &["n", "_unchanged"]);
    assert_eq!(lines, ["2|~", "3|~"]);
    assert!(rows(&events, &["body"])[1].starts_with("yyy"), "the full old row holds the value");
    reader.close().await;
}

#[tokio::test]
async fn case_35_a_delete_carries_its_key_and_nothing_else_under_either_identity() {
    let scene = Scene::new(
        "create table d (id int primary key, note text); create table f (id int primary key, note text);
         alter table f replica identity full; insert into d values (1, 'x'); insert into f values (1, 'x')",
    )
    .await;
    let (mut reader, _) = scene.streaming(&["public.d", "public.f"]).await;
    scene.run("delete from d; delete from f").await;
    let events = reader.until_rows(2).await;
    assert_eq!(rows(&events, &["_op", "id", "note"]), ["d|1|~", "d|1|~"]);
    reader.close().await;
}

#[tokio::test]
async fn case_36_a_changed_key_is_a_delete_and_a_create() {
    let scene =
        Scene::new("create table t (id int primary key, note text); insert into t values (1, 'one'), (2, 'two')").await;
    let (mut reader, _) = scene.streaming(&["public.t"]).await;
    scene
        .run("begin; insert into t values (5, 'five'); update t set id = 6 where id = 5; commit;
              begin; update t set id = 9 where id = 1; update t set id = 1 where id = 2; update t set id = 2 where id = 9; commit")
        .await;
    let events = reader.until_rows(9).await;
    assert_eq!(
        rows(&events, &["_op", "id", "note"]),
        ["c|5|five", "d|5|~", "c|6|five", "d|1|~", "c|9|one", "d|2|~", "c|1|two", "d|9|~", "c|2|one"]
    );
    scene.run("alter table t replica identity full; update t set note = 'x' where id = 1; update t set id = 7 where id = 1").await;
    let events = reader.until_rows(3).await;
    assert_eq!(rows(&events, &["_op", "id", "note"]), ["u|1|x", "d|1|~", "c|7|x"]);
    reader.close().await;
}

#[tokio::test]
async fn a_table_without_key_delivers_inserts_and_the_application_may_still_update_it() {
    let scene =
        Scene::new("create table k (n int); create table t (id int primary key); insert into k values (1)").await;
    let (mut reader, _) = scene.streaming(&["public.k", "public.t"]).await;
    scene.run("insert into k values (2); update k set n = 3 where n = 2; delete from k; insert into t values (1); truncate k").await;
    let events = reader.until_rows(2).await;
    assert_eq!(rows(&events, &["_op"]), ["c", "c", "truncate public.k"]);
    assert_eq!(
        scene.text("select string_agg(pubname, ',' order by pubname) from pg_publication").await,
        format!("{slot},{slot}_inserts", slot = scene.slot())
    );
    reader.close().await;
}

#[tokio::test]
async fn case_37_a_table_without_key_and_with_full_identity_delivers_whole_old_rows() {
    let scene = Scene::new("create table t (n int, note text); alter table t replica identity full; insert into t values (1, 'a'), (1, 'a')").await;
    let (mut reader, _) = scene.streaming(&["public.t"]).await;
    scene.run("update t set n = 2 where ctid = '(0,1)'; delete from t where n = 1").await;
    let events = reader.until_rows(3).await;
    assert_eq!(rows(&events, &["_op", "n", "note"]), ["d|1|a", "c|2|a", "d|1|a"]);
    reader.close().await;
}

#[tokio::test]
async fn case_38_an_identity_without_the_key_is_refused_and_one_lost_on_the_way_stops() {
    let scene = Scene::new("create table n (id int primary key); alter table n replica identity nothing; create table t (id int primary key, note text)").await;
    let refused = scene.open(&scene.cdc(&["public.n"]), &Checkpoint::default()).await.err().unwrap();
    assert_eq!(refused.code(), "R0324");
    let (mut reader, _) = scene.streaming(&["public.t"]).await;
    scene
        .run("insert into t values (1, 'a'); alter table t replica identity nothing; insert into t values (2, 'b')")
        .await;
    let error = reader.until_error().await;
    assert_eq!(error.code(), "R0324", "{error}");
    assert!(error.message().contains("`public.t`"));
}

#[tokio::test]
async fn case_41_a_truncate_stands_in_order_and_names_every_table() {
    let scene = Scene::new(
        "create table p (id int primary key); create table c (id int primary key, p int references p);
         insert into p values (1); insert into c values (1, 1)",
    )
    .await;
    let (mut reader, _) = scene.streaming(&["public.p", "public.c"]).await;
    scene.run("begin; insert into p values (2); truncate p cascade; insert into p values (3); commit").await;
    let mut events = reader.until_rows(2).await;
    events.retain(|event| !matches!(event, SourceEvent::Progress(_)));
    let mut lines = rows(&events, &["_op", "id"]);
    lines[1..3].sort();
    assert_eq!(lines, ["c|2", "truncate public.c", "truncate public.p", "c|3"]);
    reader.close().await;
}

#[tokio::test]
async fn case_44_a_column_added_within_a_transaction_is_announced_where_it_begins() {
    let scene = Scene::new("create table t (id int primary key); create type mood as enum ('sad', 'happy')").await;
    let (mut reader, before) = scene.streaming(&["public.t"]).await;
    scene
        .run("begin; insert into t values (1); alter table t add feeling mood; insert into t values (2, 'happy'); commit;
              insert into t values (3, 'sad')")
        .await;
    let events = reader.until_rows(3).await;
    let lines: Vec<String> = rows(&events, &["_op", "id"]);
    assert_eq!(lines, ["c|1", "schema public.t id,feeling", "c|2", "c|3"]);
    assert!(batches(&events).last().unwrap().column_by_name("feeling").is_some());
    reader.close().await;

    // Read again from before: the columns are those of the log, not those of the catalogue.
    let tables = scene.discover(&scene.cdc(&["public.t"])).await.unwrap();
    assert_eq!(tables[0].schema.fields().len(), 2);
    let mut old = tables.clone();
    old[0].schema = std::sync::Arc::new(arrow::datatypes::Schema::new(vec![tables[0].schema.field(0).clone()]));
    let mut reader = scene.build(&scene.cdc(&["public.t"]), old);
    reader.source.open(&before).await.unwrap();
    assert_eq!(rows(&reader.until_rows(3).await, &["_op", "id"]), lines);
    reader.close().await;
}

#[tokio::test]
async fn a_dropped_renamed_or_retyped_column_stops_and_is_named() {
    for (change, expected) in [
        ("alter table t drop column note", "`note` of `public.t` is missing"),
        ("alter table t rename column note to remark", "`note` of `public.t` is missing"),
        ("alter table t alter column n type bigint", "`n` of `public.t` has another type"),
        ("alter table t rename to u; alter table u rename to v", "`public.t` was renamed"),
    ] {
        let scene = Scene::new("create table t (id int primary key, n int, note text)").await;
        let (mut reader, _) = scene.streaming(&["public.t"]).await;
        let table = if change.contains("to v") { "v" } else { "t" };
        scene.run(&format!("{change}; insert into {table} (id) values (1)")).await;
        let error = reader.until_error().await;
        assert!(error.message().contains(expected), "{error}");
        assert_eq!(error.code(), "R0318");
    }
}

#[tokio::test]
async fn a_transaction_larger_than_the_budget_comes_in_parts_and_with_one_progress() {
    let scene = Scene::new("create table t (id int primary key, note text)").await;
    let (mut reader, _) = scene.streaming(&["public.t"]).await;
    scene.run("insert into t select i, repeat('x', 100) from generate_series(1, 5000) i").await;
    let budget = BatchBudget { rows_max: 700, bytes_max: 1 << 20 };
    let mut events = Vec::new();
    while row_count(&events) < 5000 {
        let event = reader.next_within(budget).await.unwrap();
        assert!(!matches!(event, SourceEvent::Progress(_)) || row_count(&events) == 0, "progress within a transaction");
        if let SourceEvent::Changes(batch) = &event {
            assert!(batch.rows.num_rows() <= 701);
        }
        events.push(event);
    }
    assert!(matches!(reader.next().await.unwrap(), SourceEvent::Progress(_)));
    assert_eq!(rows(&events, &["id"]).len(), 5000);
    reader.close().await;
}

#[tokio::test]
async fn a_partitioned_table_is_one_table() {
    let scene = Scene::new(
        "create table m (id int primary key, note text) partition by range (id);
         create table m1 partition of m for values from (0) to (10); create table m2 partition of m for values from (10) to (20);
         insert into m values (1, 'a'), (11, 'b')",
    )
    .await;
    let tables = scene.discover(&scene.cdc(&["public.*"])).await.unwrap();
    assert_eq!(tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["public.m"]);
    let mut reader = scene.open(&scene.cdc(&["public.*"]), &Checkpoint::default()).await.unwrap();
    let events = reader.until_caught_up().await;
    assert_eq!(rows(&events, &["_op", "id"]), ["r|1", "r|11"]);
    scene.run("update m set id = 12 where id = 1").await;
    let events = reader.until_rows(2).await;
    assert_eq!(rows(&events, &["_op", "id", "note"]), ["d|1|~", "c|12|a"]);
    reader.close().await;
}

#[tokio::test]
async fn generated_and_excluded_columns_are_no_part_of_the_changes() {
    let scene = Scene::new(
        "create table t (id int primary key, n int, twice int generated always as (n * 2) stored, odd money)",
    )
    .await;
    let mut settings = scene.cdc(&["public.t"]);
    let refused = scene.discover(&settings).await.unwrap_err();
    assert!(refused.message().contains("column `odd` of `public.t` has the type money"), "{refused}");
    settings.set("exclude_columns", Value::Text("public.t.odd".into()));
    scene.run("insert into t values (1, 1, default, 1)").await;
    let mut reader = scene.open(&settings, &Checkpoint::default()).await.unwrap();
    scene.run("insert into t values (2, 2, default, 1)").await;
    let mut events = reader.until_rows(1).await;
    events.extend(reader.until_rows(1).await);
    assert_eq!(rows(&events, &["_op", "id", "n"]), ["r|1|1", "c|2|2"]);
    assert_eq!(batches(&events)[0].num_columns(), 2 + 4);
    assert_eq!(checkpoint(&events).iter().count(), 1);
    reader.close().await;
}

#[tokio::test]
async fn case_58_names_with_quotes_dots_and_marks_are_read_as_they_are() {
    let name = "o\"d'd.T \u{202e}\u{1F600}\\x";
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    let scene =
        Scene::new(&format!("create table {quoted} ({quoted} int primary key); insert into {quoted} values (1)")).await;
    let mut settings = scene.cdc(&["public.*"]);
    settings.set("publication", Value::Text(name.into()));
    let mut reader = scene.open(&settings, &Checkpoint::default()).await.unwrap();
    scene.run(&format!("insert into {quoted} values (2)")).await;
    let mut events = reader.until_rows(1).await;
    events.extend(reader.until_rows(1).await);
    assert_eq!(rows(&events, &["_op", name]), ["r|1", "c|2"]);
    reader.close().await;
}

#[tokio::test]
async fn publishing_never_makes_an_update_of_the_application_fail() {
    let scene = Scene::new(
        "create table parent (id int primary key, n int); create table child () inherits (parent);
         create table m (id int, n int) partition by range (id); alter table m replica identity full;
         create table m1 partition of m for values from (0) to (10);
         insert into child values (1, 1); insert into m values (1, 1); insert into parent values (2, 2)",
    )
    .await;
    let mut reader = scene.open(&scene.cdc(&["public.parent", "public.m"]), &Checkpoint::default()).await.unwrap();
    scene.run("update child set n = 2; update m set n = 2; update parent set n = 3; delete from m; insert into m values (2, 2)").await;
    let mut events = reader.until_rows(2).await;
    assert_eq!(rows(&events, &["_op", "id"]), ["r|1", "r|2"], "the partition's row, and the parent's own");
    events = reader.until_rows(2).await;
    let mut lines = rows(&events, &["_op", "id"]);
    lines.sort();
    assert_eq!(lines, ["c|2", "u|2"]);
    reader.close().await;
}

#[tokio::test]
async fn case_48_rows_hidden_by_a_policy_stop_the_snapshot() {
    let scene = Scene::new(
        "create table t (id int primary key); insert into t values (1), (2); alter table t enable row level security;
         create policy half on t using (id = 1); do $$ begin create role hidden login replication; exception when duplicate_object then null; end $$;
         grant select on t to hidden",
    )
    .await;
    scene.run(&format!("create publication {} for table t", scene.slot())).await;
    let mut connection = scene.server.connection(&scene.database);
    connection.set("user", Value::Text("hidden".into()));
    let tables = scene.discover(&scene.cdc(&["public.t"])).await.unwrap();
    let mut reader = scene.build_with(connection, &scene.cdc(&["public.t"]), tables);
    reader.source.open(&Checkpoint::default()).await.unwrap();
    let error = reader.until_error().await;
    assert!(error.code() == "R0313" && error.to_string().contains("row-level security"), "{error}");
}

#[tokio::test]
async fn what_came_before_a_change_of_columns_that_stops_is_delivered_with_its_progress() {
    let scene = Scene::new("create table t (id int primary key, n int); create table o (id int primary key)").await;
    let (reader, start) = scene.streaming(&["public.t", "public.o"]).await;
    reader.close().await;
    scene.run("insert into t values (1, 1)").await;
    scene.run("insert into t values (2, 2)").await;
    scene
        .run("insert into t values (3, 3); insert into o values (7); alter table t drop column n; insert into t values (4)")
        .await;
    let tables = {
        let fields = vec![
            arrow::datatypes::Field::new("id", arrow::datatypes::DataType::Int32, false),
            arrow::datatypes::Field::new("n", arrow::datatypes::DataType::Int32, true),
        ];
        let mut tables = scene.discover(&scene.cdc(&["public.t", "public.o"])).await.unwrap();
        tables.iter_mut().filter(|table| table.name == "public.t").for_each(|table| {
            table.schema = std::sync::Arc::new(arrow::datatypes::Schema::new(fields.clone()));
        });
        tables
    };
    let mut reader = scene.build(&scene.cdc(&["public.t", "public.o"]), tables);
    reader.source.open(&start).await.unwrap();
    let mut events = Vec::new();
    let error = loop {
        match reader.next().await {
            Ok(event) => events.push(event),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), "R0318", "{error}");
    assert_eq!(rows(&events, &["id"]), ["1", "2"], "whole transactions, and nothing of the one that stops");
    assert!(matches!(events.last(), Some(SourceEvent::Progress(_))), "{events:?}");
    assert_ne!(checkpoint(&events), start);
    reader.close().await;
}

#[tokio::test]
async fn a_published_table_that_is_not_ours_stops_nothing_whatever_its_columns() {
    let scene =
        Scene::new("create table t (id int primary key); create table alien (id int primary key, i inet, s interval)")
            .await;
    scene.run(&format!("create publication {} for all tables", scene.slot())).await;
    let (mut reader, _) = scene.streaming(&["public.t"]).await;
    scene.run("insert into alien values (1, '::1', '1 day'); insert into t values (1)").await;
    assert_eq!(rows(&reader.until_rows(1).await, &["_op", "id"]), ["c|1"]);
    reader.close().await;
}
