//! Records as small objects in a folder.

use async_trait::async_trait;
use futures::TryStreamExt;
use lakehead_core::{Created, RecordStore, Result};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::{Location, storage_error};

/// Unclear answers to one create before it is given up as an error of the store.
const CREATE_ATTEMPTS_MAX: usize = 8;

/// A [`RecordStore`] in a folder of an object store with atomic create-if-absent.
#[derive(Clone, Debug)]
pub struct ObjectRecords {
    folder: Location,
}

impl ObjectRecords {
    /// Keeps records in `folder`.
    pub fn new(folder: Location) -> Self {
        Self { folder }
    }

    fn describe(&self, name: &str) -> String {
        self.folder.place(name)
    }
}

#[async_trait]
impl RecordStore for ObjectRecords {
    async fn create(&self, name: &str, body: Vec<u8>) -> Result<Created> {
        self.folder.prove_create().await?;
        let path = self.folder.path(name);
        let payload = PutPayload::from(body.clone());
        let mut last = None;
        for _ in 0..CREATE_ATTEMPTS_MAX {
            let options = PutOptions::from(PutMode::Create);
            let answer = self.folder.store().put_opts(&path, payload.clone(), options).await;
            let Err(error) = answer else { return Ok(Created::Ours) };
            // Anything but a clean success is resolved by reading (delivery 3.3, RESOLVE).
            match self.get(name).await? {
                Some(found) if found == body => return Ok(Created::Ours),
                Some(_) => return Ok(Created::Exists),
                None => last = Some(error),
            }
        }
        let error = last.unwrap_or(object_store::Error::NotImplemented {
            operation: "create".into(),
            implementer: "object store".into(),
        });
        Err(storage_error(error, &self.describe(name)))
    }

    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.folder.store().get(&self.folder.path(name)).await {
            Ok(found) => {
                let bytes = found.bytes().await.map_err(|error| storage_error(error, &self.describe(name)))?;
                Ok(Some(bytes.to_vec()))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(storage_error(error, &self.describe(name))),
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = self.folder.path(folder);
        let found: Vec<_> = match self.folder.store().list(Some(&prefix)).try_collect().await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(storage_error(error, &self.describe(folder))),
        };
        let mut names: Vec<_> = found.iter().filter_map(|meta| self.folder.name_of(&meta.location)).collect();
        names.sort();
        Ok(names)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        match self.folder.store().delete(&self.folder.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(storage_error(error, &self.describe(name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use lakehead_core::Settings;

    use super::*;

    #[tokio::test]
    async fn of_many_creates_of_one_name_exactly_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let records = ObjectRecords::new(Location::open("r", folder.path(), &Settings::default()).unwrap());
        let creates = (0..32u8).map(|n| {
            let records = records.clone();
            async move { records.create("epoch/1.json", vec![n]).await.unwrap() }
        });
        let answers = futures::future::join_all(creates).await;
        assert_eq!(answers.iter().filter(|answer| **answer == Created::Ours).count(), 1);
        assert_eq!(records.list("epoch").await.unwrap(), ["epoch/1.json"]);
        let winner = records.get("epoch/1.json").await.unwrap().unwrap();
        assert_eq!(records.create("epoch/1.json", winner).await.unwrap(), Created::Ours);
        assert_eq!(records.list("nothing").await.unwrap(), Vec::<String>::new());
    }
}
