//! Parquet and ORC files that were changed at every region: each way of reading gives rows or an error with code and place,
//! never a panic, and never takes more memory than is stated (fault F16).
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::compute::kernels::cmp::gt;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use futures::TryStreamExt;
use lakehead_core::{Error, Result, Settings};
use lakehead_lakefile::{
    Condition, FileFormat, FileIndexes, FileKind, FileWriter, Location, SelectiveFile, calmly, load_metadata,
    read_file, read_head, read_schema,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Changes of one file, of each kind.
const CHANGES: u64 = 300;
/// Bytes of address space that reading one of these small files may take more than before: a page of 1 GiB, and what is
/// made of it.
const ROOM_MAX: u64 = 3 << 30;

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn rows() -> RecordBatch {
    let ids: ArrayRef = Arc::new((0..3000).collect::<Int64Array>());
    let names = (0..3000).map(|n| (n % 7 != 0).then(|| format!("name {}", n % 40)));
    let lists = (0..3000).map(|n| (n % 5 != 0).then(|| vec![Some(n), None, Some(n * 2)]));
    let fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("list", DataType::List(Arc::new(Field::new("item", DataType::Int64, true))), true),
    ];
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists));
    let columns = vec![ids, Arc::new(names.collect::<StringArray>()) as ArrayRef, lists];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

async fn written(folder: &Path, kind: FileKind) -> Vec<u8> {
    let location = Location::open("t", folder, &Settings::default()).unwrap();
    let name = format!("whole.{}", kind.extension());
    let format = FileFormat::from_settings(&Settings::default()).of(kind);
    let indexes = FileIndexes { keys: vec!["id".into()], ..FileIndexes::default() };
    let mut writer = FileWriter::create_indexed(&location, &name, &rows().schema(), format, &indexes).unwrap();
    for _ in 0..2 {
        writer.write(&rows()).await.unwrap();
        writer.flush().await.unwrap();
    }
    writer.finish().await.unwrap();
    std::fs::read(folder.join("t").join(name)).unwrap()
}

/// One way in which a file comes to harm.
fn harmed(whole: &[u8], dice: &mut Dice, change: u64) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let end = bytes.len();
    // Footers are a small part of a file and the larger part of what is believed.
    let near_end = end - 1 - dice.below(end.min(1500));
    let place = if change.is_multiple_of(2) { near_end } else { dice.below(end) };
    match change % 6 {
        0 | 1 => bytes[place] ^= 1 << dice.below(8),
        2 => bytes.truncate(place),
        3 => bytes[place] = [0, 0x7f, 0x80, 0xff][dice.below(4)],
        // A number of many bytes, as lengths are in both formats: 2^31 and more.
        4 => {
            let number = [0xff, 0xff, 0xff, 0xff, 0x7f];
            let room = number.len().min(end - place);
            bytes[place..place + room].copy_from_slice(&number[..room]);
        }
        _ => {
            let from = dice.below(end);
            let length = (1 + dice.below(64)).min(end - from).min(end - place);
            bytes.copy_within(from..from + length, place);
        }
    }
    bytes
}

/// Reads a file by every way there is; counts those that failed.
async fn read_every_way(location: &Location, name: &str, bytes: &[u8]) -> usize {
    let mut failed = 0;
    let mut look = |outcome: Result<()>| {
        let Err(error) = outcome else { return };
        assert!(!error.code().is_empty() && !error.helps().is_empty(), "{error}");
        assert!(error.to_string().contains(name), "no place: {error}");
        failed += 1;
    };
    look(read_schema(location, name).await.map(drop));
    look(read_head(location, name).await.map(drop));
    let all = async { read_file(location, name, None).await?.try_collect::<Vec<_>>().await.map(drop) };
    look(all.await);
    let some =
        async { read_file(location, name, Some(&["name".into()])).await?.try_collect::<Vec<_>>().await.map(drop) };
    look(some.await);
    look(selected(location, name).await);
    if name.ends_with(".parquet") {
        let _ = in_memory(bytes.to_vec().into());
    }
    failed
}

/// As `peek` does.
async fn selected(location: &Location, name: &str) -> Result<()> {
    let file = SelectiveFile::open(location, name).await?;
    if file.schema().field_with_name("id").is_err() {
        return Ok(());
    }
    let condition = Condition {
        columns: vec!["id".into()],
        keeps: Box::new(|parts, _| vec![true; parts]),
        holds: Box::new(|rows| gt(rows.column(0), &Int64Array::new_scalar(10)).map_err(Error::from)),
    };
    file.read(&["name".into(), "list".into()], Some(condition), 500)?.try_collect::<Vec<_>>().await.map(drop)
}

/// As a source of files does.
fn in_memory(bytes: bytes::Bytes) -> parquet::errors::Result<usize> {
    let metadata = load_metadata(&bytes)?;
    calmly(|| {
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata).build()?;
        let mut rows = 0;
        for batch in reader {
            rows += batch?.num_rows();
        }
        Ok(rows)
    })?
}

/// The most address space that this process ever had.
fn room() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Panics that become errors are not told; any other is.
fn hear_no_calm_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !lakehead_lakefile::is_calm() {
            usual(panic);
        }
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_were_changed_anywhere_are_rows_or_errors() {
    hear_no_calm_panics();
    let folder = tempfile::tempdir().unwrap();
    let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
    for kind in [FileKind::Parquet, FileKind::Orc] {
        let whole = written(folder.path(), kind).await;
        let whole_name = format!("whole.{}", kind.extension());
        assert_eq!(read_every_way(&location, &whole_name, &whole).await, 0, "the whole file can be read");
        let before = room();
        let mut dice = Dice(20_261_122);
        let (mut failed, mut files_failed) = (0, 0);
        for change in 0..CHANGES {
            let bytes = harmed(&whole, &mut dice, change);
            let name = format!("changed-{change}.{}", kind.extension());
            std::fs::write(folder.path().join("t").join(&name), &bytes).unwrap();
            let here = read_every_way(&location, &name, &bytes).await;
            failed += here;
            files_failed += usize::from(here > 0);
        }
        assert!(files_failed > CHANGES as usize / 5, "{files_failed} files failed, {failed} times");
        assert!(room() - before < ROOM_MAX, "{} MiB were taken", (room() - before) >> 20);
    }
}

/// Puts `footer` in the place of a Parquet file's own.
fn with_footer(whole: &[u8], footer: &[u8]) -> Vec<u8> {
    let length = u32::from_le_bytes(whole[whole.len() - 8..whole.len() - 4].try_into().unwrap()) as usize;
    let mut bytes = whole[..whole.len() - 8 - length].to_vec();
    bytes.extend_from_slice(footer);
    bytes.extend_from_slice(&u32::try_from(footer.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(b"PAR1");
    bytes
}

/// Files that are small and claim to be large: refused before there is room made for what they say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_are_refused_by_what_they_claim() {
    hear_no_calm_panics();
    let folder = tempfile::tempdir().unwrap();
    let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
    let whole = written(folder.path(), FileKind::Parquet).await;
    // Version, a schema of one empty root, no rows, and row groups: 2^31 - 1 of them.
    let row_groups = [0x15, 2, 0x19, 0x1c, 0x48, 1, b'r', 0, 0x16, 0, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0];
    let mut footer_length = whole.clone();
    let end = footer_length.len();
    footer_length[end - 8..end - 4].copy_from_slice(&(1_u32 << 31).to_le_bytes());
    // The first page's head: its kind, then its bytes unpacked; now 2^31 - 1.
    let mut page = whole.clone();
    assert_eq!(page[4..7], [0x15, page[5], 0x15], "the head of a page");
    page[7..12].copy_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0x0f]);
    let before = room();
    for (name, bytes) in [
        ("groups.parquet", with_footer(&whole, &row_groups)),
        ("nested.parquet", with_footer(&whole, &[0x1c; 100_000])),
        ("footer.parquet", footer_length),
        ("page.parquet", page),
        ("empty.parquet", Vec::new()),
        ("short.parquet", b"PAR1".to_vec()),
    ] {
        std::fs::write(folder.path().join("t").join(name), &bytes).unwrap();
        let failed = read_every_way(&location, name, &bytes).await;
        assert!(failed >= 1, "{name} was read");
        assert!(in_memory(bytes.into()).is_err(), "{name} was read from memory");
    }
    assert!(room() - before < 512 << 20, "{} MiB were taken", (room() - before) >> 20);
}

/// Seventy million rows of one value, which a source of files would decode twice before it knows that the file is sound. A
/// table of such a file is read row group by row group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_rows_than_bytes_can_hold_are_refused_in_memory() {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let ids = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(vec![7; 1 << 20]))]).unwrap();
    let file = |groups: usize| {
        let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), None).unwrap();
        for _ in 0..groups {
            writer.write(&ids).unwrap();
            writer.flush().unwrap();
        }
        bytes::Bytes::from(writer.into_inner().unwrap())
    };
    assert!(load_metadata(&file(2)).is_ok());
    let large = file(68);
    let error = load_metadata(&large).unwrap_err().to_string();
    assert!(error.contains("71303168 rows or values in"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.parquet"), &large).unwrap();
    let location = Location::open(".", folder.path(), &Settings::default()).unwrap();
    let mut batches = read_file(&location, "a.parquet", None).await.unwrap();
    assert!(batches.try_next().await.unwrap().unwrap().num_rows() > 0);
}
