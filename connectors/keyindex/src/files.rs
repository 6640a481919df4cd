//! The data files that entries point to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lakehead_core::{Error, Result};

use crate::FileId;

/// The registered files. An id is never given twice, so whatever is not live was dropped, or its rows
/// moved.
#[derive(Default)]
pub(crate) struct Files {
    next: u32,
    names: BTreeMap<FileId, Arc<str>>,
    ids: HashMap<Arc<str>, FileId>,
    /// A bit for each id from `base` on: every candidate of a lookup is tested.
    live: Vec<u64>,
    base: u32,
}

impl Files {
    /// Restores what a manifest lists.
    pub(crate) fn restore(next: u32, listed: Vec<(u32, String)>) -> Self {
        let base = listed.iter().map(|(id, _)| *id).min().unwrap_or(next);
        let mut files = Self { next, base, ..Self::default() };
        listed.into_iter().for_each(|(id, name)| files.add(FileId(id), name.into()));
        files
    }

    pub(crate) fn register(&mut self, name: &str) -> Result<FileId> {
        if let Some(id) = self.ids.get(name) {
            return Ok(*id);
        }
        let id = FileId(self.next);
        self.next = self.next.checked_add(1).ok_or_else(|| {
            Error::incident("R1106", "the key index has no numbers left for data files")
                .help("delete the folder of the index while lakehead is stopped: it is built anew from the table")
        })?;
        self.add(id, name.into());
        Ok(id)
    }

    /// Makes a file live under a number.
    fn add(&mut self, id: FileId, name: Arc<str>) {
        let bit = (id.0 - self.base) as usize;
        if self.live.len() <= bit / 64 {
            self.live.resize(bit / 64 + 1, 0);
        }
        self.live[bit / 64] |= 1 << (bit % 64);
        self.ids.insert(Arc::clone(&name), id);
        self.names.insert(id, name);
    }

    /// Forgets a file; false says that it was not live.
    pub(crate) fn drop_file(&mut self, id: FileId) -> bool {
        let Some(name) = self.names.remove(&id) else { return false };
        self.ids.remove(&name);
        let bit = (id.0 - self.base) as usize;
        self.live[bit / 64] &= !(1 << (bit % 64));
        true
    }

    pub(crate) fn is_live(&self, id: FileId) -> bool {
        let Some(bit) = id.0.checked_sub(self.base) else { return false };
        self.live.get(bit as usize / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    pub(crate) fn name(&self, id: FileId) -> Option<&str> {
        self.names.get(&id).map(AsRef::as_ref)
    }

    pub(crate) fn id(&self, name: &str) -> Option<FileId> {
        self.ids.get(name).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (FileId, &str)> {
        self.names.iter().map(|(id, name)| (*id, name.as_ref()))
    }

    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_id_until_it_is_dropped() {
        let mut files = Files::restore(70, vec![(69, "z".into()), (3, "a".into())]);
        assert_eq!(files.register("a").unwrap(), FileId(3));
        assert_eq!(files.register("b").unwrap(), FileId(70));
        assert!(files.drop_file(FileId(3)) && !files.drop_file(FileId(3)));
        assert_eq!(files.register("a").unwrap(), FileId(71));
        let live: Vec<_> = (0..200).filter(|id| files.is_live(FileId(*id))).collect();
        assert_eq!(live, [69, 70, 71]);
        assert_eq!(files.name(FileId(3)), None);
    }
}
