//! Texts that are looked at: what the store is asked for, and what is said of what cannot be read.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use lakehead_conformance::FaultStore;
use lakehead_core::{Error, Settings};
use lakehead_files::TextObject;
use lakehead_lakefile::Location;
use object_store::ObjectStoreExt;
use object_store::path::Path as StorePath;

use super::gzip;

const MIB: u64 = 1 << 20;
/// Rows of texts that are longer than three blocks, packed too.
const ROWS: u64 = 24_000;

/// Some rows of one object, and the bytes that it took.
struct Look {
    store: std::sync::Arc<FaultStore>,
    object: TextObject,
}

impl Look {
    async fn open(store: &str, name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        let mounted = FaultStore::mount(store, 1);
        mounted.objects().put(&StorePath::from(format!("in/{name}")), bytes.into()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open(&format!("fault://{store}/in"), folder.path(), &Settings::default()).unwrap();
        Ok(Self { store: mounted, object: TextObject::open(&location, name).await? })
    }

    /// Returns the ids of the next rows, and the bytes that were asked for up to then.
    async fn ids(&mut self, rows: usize) -> Result<(Vec<i64>, u64), Error> {
        let mut ids = Vec::new();
        while ids.len() < rows
            && let Some(found) = self.object.next_rows(rows - ids.len()).await?
        {
            ids.extend(found.column_by_name("id").unwrap().as_primitive::<Int64Type>().values());
        }
        assert_eq!(self.object.bytes_read(), self.store.bytes_asked(), "what is said is what was asked for");
        Ok((ids, self.store.bytes_asked()))
    }
}

/// Notes that no archive makes much smaller.
fn noise(id: u64) -> String {
    let mut word = id;
    let mut step = || {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word >> 8
    };
    (0..20).map(|_| format!("{:x}", step())).collect()
}

fn texts(rows: u64) -> [(&'static str, Vec<u8>); 6] {
    let csv: String = (0..rows).map(|id| format!("{id},{}\n", noise(id))).collect();
    let csv = format!("id,note\n{csv}");
    let lines: String = (0..rows).map(|id| format!("{{\"id\":{id},\"note\":\"{}\"}}\n", noise(id))).collect();
    let array = format!("[{}]", lines.trim_end().replace('\n', ",\n"));
    [
        ("a.csv.gz", gzip(&csv)),
        ("a.csv.zst", zstd::encode_all(csv.as_bytes(), 1).unwrap()),
        ("a.csv", csv.into_bytes()),
        ("a.json.gz", gzip(&lines)),
        ("a.ndjson", lines.into_bytes()),
        ("a.json", array.into_bytes()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn first_rows_cost_the_first_block_and_all_rows_every_byte_once() {
    for (n, (name, bytes)) in texts(ROWS).into_iter().enumerate() {
        let size = bytes.len() as u64;
        assert!(size > 3 * MIB, "{name}: {size}");
        let mut look = Look::open(&format!("look{n}"), name, bytes).await.unwrap();
        let (ids, asked) = look.ids(20).await.unwrap();
        assert_eq!((ids, asked), ((0..20).collect(), MIB), "{name}");
        let (ids, asked) = look.ids(5000).await.unwrap();
        assert!(ids.into_iter().eq(20..5020) && asked <= 2 * MIB, "{name}: {asked}");
        let (ids, asked) = look.ids(usize::MAX).await.unwrap();
        assert!(ids.into_iter().eq(5020..ROWS as i64) && asked == size, "{name}: {asked} of {size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_behind_the_rows_that_are_shown_is_told_once_it_is_reached() {
    for (n, (name, mut bytes)) in texts(ROWS / 2).into_iter().enumerate() {
        let cut = bytes.len() - 1000;
        match name.ends_with('z') || name.ends_with("zst") {
            true => bytes.truncate(cut),
            false => bytes[cut] = 0xFF,
        }
        let mut look = Look::open(&format!("wrong{n}"), name, bytes).await.unwrap();
        assert_eq!(look.ids(20).await.unwrap().0.len(), 20, "{name}");
        let error = look.ids(usize::MAX).await.map(drop).unwrap_err();
        assert!(error.code() == "R0429" && error.to_string().contains(name), "{error}");
    }
    let array = format!("[{}{{\"id\":1 \"note\":2}}]", "{\"id\":0},\n".repeat(200_000));
    let mut look = Look::open("broken", "b.json", array.into()).await.unwrap();
    let error = look.ids(usize::MAX).await.map(drop).unwrap_err();
    assert!(error.code() == "R0429" && error.to_string().contains("line 200001"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_few_bytes_or_none_is_shown_or_refused() {
    let refused = async |store: &str, name: &str, bytes: &[u8]| {
        let error = Look::open(store, name, bytes.to_vec()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "R0429", "{name}");
        error.to_string()
    };
    refused("few1", "empty.csv", b"").await;
    assert!(refused("few2", "a.parquet.gz", b"").await.contains("packed Parquet"));
    refused("few3", "a.txt", b"id\n1\n").await;
    refused("few4", "a.json.zst", b"none").await;
    let mut look = Look::open("few5", "a.csv", b"id\n7".to_vec()).await.unwrap();
    assert_eq!(look.ids(9).await.unwrap(), (vec![7], 4));
}
