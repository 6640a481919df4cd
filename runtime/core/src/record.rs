//! Small immutable objects beside the tables: the epoch chain and the position documents.

use async_trait::async_trait;

use crate::Result;

/// What a create-if-absent did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object is there and holds our bytes.
    Ours,
    /// Another object was there first.
    Exists,
}

/// Create-if-absent storage for records, under one folder of the lake.
///
/// # Laws
///
/// 1. `create` is atomic: of any number of calls with one name, exactly one gets `Ours`, and a reader sees all of its
///    bytes or none.
/// 2. An unclear answer is resolved by reading the object and comparing its bytes, never by assuming (delivery 3.3):
///    bodies carry a uuid, so equal bytes mean that the object is ours.
/// 3. `list` sees every object whose `create` has returned (read-after-write).
#[async_trait]
pub trait RecordStore: Send + Sync {
    /// Writes `body` under `name` unless something is there already.
    async fn create(&self, name: &str, body: Vec<u8>) -> Result<Created>;
    /// Returns the object's bytes, or `None` where it does not exist.
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>>;
    /// Returns the names under `folder`, sorted; a name is relative to the store, like those given to `create`.
    async fn list(&self, folder: &str) -> Result<Vec<String>>;
    /// Removes an object; one that is gone already is no error.
    async fn delete(&self, name: &str) -> Result<()>;
}
