//! The reference keeps the laws that it is the reference of.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use lakehead_conformance::{SinkUnderTest, rows, sink_laws, upsert_laws};
use lakehead_core::{Sink, WriteMode};
use lakehead_memory::{MemorySink, MemoryStore};

struct Table(MemoryStore);

#[async_trait]
impl SinkUnderTest for Table {
    fn sink(&self) -> Box<dyn Sink> {
        let schema = Arc::new(lakehead_core::data_fields(&rows(&[]).schema()));
        Box::new(MemorySink::new(&self.0, "p", "t", WriteMode::Upsert, &["id".into()], &schema))
    }

    async fn read(&self) -> Vec<(i64, Option<String>)> {
        let Some(found) = self.0.rows("t") else { return Vec::new() };
        let ids = found.column(0).as_primitive::<Int64Type>();
        let bodies = found.column(1).as_string::<i32>();
        (0..found.num_rows()).map(|n| (ids.value(n), bodies.is_valid(n).then(|| bodies.value(n).to_owned()))).collect()
    }
}

#[tokio::test]
async fn the_reference_sink_keeps_the_laws() {
    sink_laws(&Table(MemoryStore::default())).await.unwrap();
    upsert_laws(&Table(MemoryStore::default())).await.unwrap();
}
