//! Records in a map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lakehead_core::{Created, RecordStore, Result};

/// A [`RecordStore`] in memory; clones share one map.
#[derive(Clone, Debug, Default)]
pub struct MemoryRecords(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

#[async_trait]
impl RecordStore for MemoryRecords {
    async fn create(&self, name: &str, body: Vec<u8>) -> Result<Created> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match records.get(name) {
            Some(found) if *found == body => Ok(Created::Ours),
            Some(_) => Ok(Created::Exists),
            None => {
                records.insert(name.to_owned(), body);
                Ok(Created::Ours)
            }
        }
    }

    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned())
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = format!("{folder}/");
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(records.keys().filter(|name| name.starts_with(&prefix)).cloned().collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }
}
