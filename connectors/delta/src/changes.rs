//! Rows of a round that are no rows of the table: keys whose rows go, and rows whose unsent columns the table holds.
//!
//! Few of them travel in the round itself; many go to a file outside the table, which goes with the round.

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lakehead_core::{Error, Result, Settings};
use lakehead_lakefile::{FileFormat, FileWriter, Location, WrittenFile, read_file};
use serde::{Deserialize, Serialize};

use crate::stage::Owner;

/// Bytes in memory up to which changes travel in the round: a file costs a request to write and one to remove.
const INLINE_BYTES_MAX: usize = 256 * 1024;

/// Changes of a prepared round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Changes {
    /// In a file of the staging folder.
    File(WrittenFile),
    /// Here, as an Arrow stream in Base64.
    Inline { rows: String },
}

impl Changes {
    /// Keeps `batches` for the round; none where there is nothing in them.
    pub(crate) async fn keep(folder: &Location, owner: &Owner, batches: &[RecordBatch]) -> Result<Option<Self>> {
        let Some(first) = batches.first() else { return Ok(None) };
        if batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>() <= INLINE_BYTES_MAX {
            let mut writer = StreamWriter::try_new(Vec::new(), &first.schema())?;
            for batch in batches {
                writer.write(batch)?;
            }
            return Ok(Some(Self::Inline { rows: STANDARD.encode(writer.into_inner()?) }));
        }
        let mut file = ChangeFile::default();
        file.write(folder, owner, batches).await?;
        file.finish().await
    }

    /// Reads them back.
    pub(crate) async fn read(&self, folder: &Location) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let unreadable = || Error::incident("R0234", "a prepared round does not read back");
        match self {
            Self::File(file) => Ok(read_file(folder, &file.name, None).await?.boxed()),
            Self::Inline { rows } => {
                let bytes = STANDARD.decode(rows).map_err(|error| unreadable().caused_by(error))?;
                let reader = StreamReader::try_new(std::io::Cursor::new(bytes), None)?;
                Ok(futures::stream::iter(reader).map_err(move |error| unreadable().caused_by(error)).boxed())
            }
        }
    }

    /// Returns the file, where they are in one.
    pub(crate) fn file(&self) -> Option<&WrittenFile> {
        match self {
            Self::File(file) => Some(file),
            Self::Inline { .. } => None,
        }
    }

    /// Bytes written for them.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::File(file) => file.size,
            Self::Inline { rows } => rows.len() as u64,
        }
    }
}

/// Changes that go to a file, however few.
#[derive(Default)]
pub(crate) struct ChangeFile(Option<FileWriter>);

impl ChangeFile {
    pub(crate) async fn write(&mut self, folder: &Location, owner: &Owner, batches: &[RecordBatch]) -> Result<()> {
        for batch in batches {
            if self.0.is_none() {
                let format = FileFormat::from_settings(&Settings::default());
                self.0 = Some(FileWriter::create(folder, &owner.part_name(), &batch.schema(), format)?);
            }
            if let Some(writer) = &mut self.0 {
                writer.write(batch).await?;
            }
        }
        Ok(())
    }

    /// Closes the file; none where nothing was written.
    pub(crate) async fn finish(self) -> Result<Option<Changes>> {
        match self.0 {
            Some(writer) => Ok(Some(Changes::File(writer.finish().await?))),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[tokio::test]
    async fn few_stay_in_the_round_and_many_go_to_a_file_and_both_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
        let owner = Owner::new("p", 1);
        for (count, inline) in [(0, true), (100, true), (100_000, false)] {
            let ids: ArrayRef = Arc::new((0..count).collect::<Int64Array>());
            let texts: ArrayRef =
                Arc::new((0..count).map(|id| (id % 3 > 0).then(|| id.to_string())).collect::<StringArray>());
            let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("n", texts, true)]).unwrap();
            let kept = Changes::keep(&location, &owner, std::slice::from_ref(&batch)).await.unwrap().unwrap();
            assert_eq!(kept.file().is_none(), inline);
            let text = serde_json::to_string(&kept).unwrap();
            let kept: Changes = serde_json::from_str(&text).unwrap();
            let read: Vec<RecordBatch> = kept.read(&location).await.unwrap().try_collect().await.unwrap();
            assert_eq!(arrow::compute::concat_batches(&batch.schema(), &read).unwrap(), batch);
        }
        assert!(Changes::keep(&location, &owner, &[]).await.unwrap().is_none());
    }
}
