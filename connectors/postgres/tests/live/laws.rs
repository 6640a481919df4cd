//! The laws that every source keeps.

use std::sync::Mutex;

use lakehead_conformance::{SourceUnderTest, source_laws};
use lakehead_core::{Checkpoint, Settings, Source, TableSpec, Value};

use crate::scene::{Scene, checkpoint, settings};

struct UnderLaw<'a> {
    scene: &'a Scene,
    settings: Settings,
    tables: Vec<TableSpec>,
    start: Checkpoint,
    rows: Option<usize>,
    /// How often a source was built: once, and once more from every progress.
    built: Mutex<usize>,
}

impl SourceUnderTest for UnderLaw<'_> {
    fn source(&self) -> Box<dyn Source> {
        *self.built.lock().unwrap() += 1;
        self.scene.build(&self.settings, self.tables.clone()).source
    }

    fn start(&self) -> Checkpoint {
        self.start.clone()
    }

    fn rows_of_endless(&self) -> Option<usize> {
        self.rows
    }
}

#[tokio::test]
async fn a_stream_of_changes_keeps_the_laws() {
    let scene = Scene::new("create table a (id int primary key, n text); create table b (id int primary key)").await;
    let tables = ["public.a", "public.b"];
    let (mut reader, start) = scene.streaming(&tables).await;
    for round in 0..4 {
        let from = round * 150 + 1;
        scene
            .run(&format!(
                "begin; insert into a select id, 'n' from generate_series({from}, {}) id; insert into b values ({round});
                 update a set n = 'm' where id % 50 = 0; delete from a where id = {from}; commit;
                 insert into b values ({})",
                from + 149,
                round + 100
            ))
            .await;
    }
    // Per round 150 and 1 inserts, a delete, an insert, and an update of every fiftieth row so far.
    let rows = 4 * 153 + 3 * (1 + 2 + 3 + 4);
    reader.until_rows(rows).await;
    reader.close().await;
    let settings = scene.cdc(&tables);
    let tables = scene.discover(&settings).await.unwrap();
    let law = UnderLaw { scene: &scene, settings, tables, start, rows: Some(rows), built: Mutex::new(0) };
    source_laws(&law).await.unwrap();
    let built = *law.built.lock().unwrap();
    assert!(built > 3, "a progress follows every transaction that is larger than a batch, {built}");
}

#[tokio::test]
async fn a_query_with_a_cursor_keeps_the_laws() {
    let scene = Scene::new(
        "create table t (id bigint primary key, at timestamptz not null);
         insert into t select id, '2026-01-01'::timestamptz + id * interval '1 minute' from generate_series(1, 450) id",
    )
    .await;
    let settings = settings(&[("query", Value::Text("select * from t".into())), ("cursor", Value::Name("at".into()))]);
    let tables = scene.discover(&settings).await.unwrap();
    let mut law =
        UnderLaw { scene: &scene, settings, tables, start: Checkpoint::default(), rows: None, built: Mutex::new(0) };
    source_laws(&law).await.unwrap();

    let mut reader = scene.open(&law.settings, &Checkpoint::default()).await.unwrap();
    law.start = checkpoint(&reader.until_caught_up().await);
    reader.close().await;
    scene.run("insert into t select id, '2026-02-01'::timestamptz + id * interval '1 minute' from generate_series(451, 700) id").await;
    source_laws(&law).await.unwrap();
}
