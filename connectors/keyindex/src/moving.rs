//! Files that are written anew: their entries stay as they are.

use std::collections::HashSet;

use lakehead_core::{Error, Result};

use crate::index::KeyIndex;
use crate::moves::{LeftOut, MovesFile};
use crate::{FileId, Place};

/// Files of moves at most; more are written into one.
const FILES_MAX: usize = 16;

impl KeyIndex {
    /// Notes that the rows of `old`, but for those that were left out, stand in the files of `new` now, in their order:
    /// `new` has the number of rows of each. All are registered; what is in `old` is dropped.
    ///
    /// It costs a bit for each row, and no entry.
    pub fn move_rows(&mut self, old: Vec<(FileId, LeftOut)>, new: &[(FileId, u32)]) -> Result<()> {
        let files = old.iter().map(|(file, _)| file).chain(new.iter().map(|(file, _)| file));
        if let Some(file) = files.into_iter().find(|file| !self.files.is_live(**file)) {
            return Err(Error::bug("rows move between files that are not registered").with("file", file.0));
        }
        let moved: Vec<FileId> = old.iter().map(|(file, _)| *file).collect();
        self.moves.add(old, new)?;
        self.settled = false;
        for file in moved {
            self.files.drop_file(file);
            self.unsealed_moves.push(file);
        }
        Ok(())
    }

    /// Returns where the row of an entry stands now; `None` where it is in no live file.
    pub(crate) fn resolve(&self, mut place: Place) -> Option<Place> {
        while !self.files.is_live(place.file) {
            place = self.moves.follow(place)?;
        }
        Some(place)
    }

    /// Forgets moves that no entry needs, and writes those that no file has yet.
    pub(crate) fn seal_moves(&mut self) -> Result<()> {
        if self.moves.is_empty() {
            self.leave_moves();
            return Ok(());
        }
        let mut named: HashSet<FileId> = self.runs.iter().flat_map(|run| run.files()).collect();
        named.extend(self.memory.entries().iter().map(|entry| entry.place().file));
        self.moves.keep(named);
        self.leave_moves();
        let moves = &self.moves;
        self.unsealed_moves.retain(|file| moves.get(*file).is_some());
        let many = self.moves_files.len() >= FILES_MAX;
        if many {
            self.unsealed_moves = self.moves.files().collect();
        }
        if self.unsealed_moves.is_empty() {
            return Ok(());
        }
        let written = MovesFile::write(self.folder.next_moves(), &self.moves, self.unsealed_moves.clone())?;
        self.unsealed_moves.clear();
        let replaced = if many { std::mem::take(&mut self.moves_files) } else { Vec::new() };
        replaced.into_iter().for_each(|file| self.leave_moves_file(file));
        self.moves_files.push(written);
        Ok(())
    }

    /// Lets go of files all of whose moves are forgotten.
    fn leave_moves(&mut self) {
        let moves = &self.moves;
        let needless = |file: &mut MovesFile| file.files.iter().all(|file| moves.get(*file).is_none());
        let needless: Vec<_> = self.moves_files.extract_if(.., needless).collect();
        needless.into_iter().for_each(|file| self.leave_moves_file(file));
    }

    fn leave_moves_file(&mut self, file: MovesFile) {
        let is_sealed = |number| self.sealed.as_ref().is_some_and(|sealed| sealed.moves.iter().any(|m| m.0 == number));
        let is_sealed = is_sealed(file.number);
        self.leave(file.path, is_sealed);
    }
}
