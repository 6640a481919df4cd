//! Where rows stand that were written anew: entries keep the place that they were given, and a lookup follows it.
//!
//! Rows that are written anew keep their order, so that a row's new number is its old one less the rows before it that
//! were left out, behind those of the files before. A merge of files in the table costs the index these bits and no
//! entry; entries take their new places on when their runs merge.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use lakehead_core::{Error, Result};

use crate::{FileId, Place};

mod file;

pub(crate) use file::MovesFile;

/// Words whose rows are counted together: a line of the cache.
const LINE_WORDS: usize = 8;

/// Which rows of a file were left out when it was written anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    rows: u32,
    kept: u32,
    /// A bit for each row that was left out, up to the last of them.
    words: Vec<u64>,
    /// How many were left out before each line of words.
    before: Vec<u32>,
}

impl LeftOut {
    /// Notes that of `rows` rows those of `gone` were left out; numbers beyond are none of them.
    pub fn new(rows: u32, gone: impl IntoIterator<Item = u32>) -> Self {
        let mut words = Vec::new();
        for row in gone.into_iter().filter(|row| *row < rows) {
            let word = row as usize / 64;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (row % 64);
        }
        Self::of_words(rows, words)
    }

    /// Restores what [`LeftOut::words`] returned.
    pub(crate) fn of_words(rows: u32, words: Vec<u64>) -> Self {
        let (mut gone, mut before) = (0, Vec::with_capacity(words.len().div_ceil(LINE_WORDS)));
        for line in words.chunks(LINE_WORDS) {
            before.push(gone);
            gone += line.iter().map(|word| word.count_ones()).sum::<u32>();
        }
        Self { rows, kept: rows.saturating_sub(gone), words, before }
    }

    /// Returns the bits of the rows that were left out.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Returns how many rows the file had.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Returns how many of them were kept.
    pub fn kept(&self) -> u32 {
        self.kept
    }

    /// Returns how many kept rows precede a row; `None` where it was left out, or the file has none of that number.
    fn rank(&self, row: u32) -> Option<u32> {
        if row >= self.rows {
            return None;
        }
        let word = row as usize / 64;
        let Some(bits) = self.words.get(word) else { return Some(row - (self.rows - self.kept)) };
        if bits >> (row % 64) & 1 == 1 {
            return None;
        }
        let line = word / LINE_WORDS;
        let whole: u32 = self.words[line * LINE_WORDS..word].iter().map(|word| word.count_ones()).sum();
        Some(row - self.before[line] - whole - (bits & ((1 << (row % 64)) - 1)).count_ones())
    }

    fn bytes(&self) -> u64 {
        self.words.len() as u64 * 8 + self.before.len() as u64 * 4
    }
}

/// Where the rows of one file stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) left_out: LeftOut,
    /// Rows that precede its first one in the new files.
    pub(crate) start: u64,
    /// The new files with their rows, in their order.
    pub(crate) to: Arc<[(FileId, u32)]>,
}

impl Move {
    fn follow(&self, row: u32) -> Option<Place> {
        let mut row = self.start + u64::from(self.left_out.rank(row)?);
        for (file, rows) in self.to.iter() {
            if row < u64::from(*rows) {
                return Some(Place { file: *file, row: row as u32 });
            }
            row -= u64::from(*rows);
        }
        None
    }
}

/// Moves that a lookup follows from an entry, where its run can be helped: a run most of whose entries are further from
/// their rows is written anew.
const MOVES_MAX: u32 = 8;

/// How many entries lead to live files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveCount {
    pub(crate) all: u64,
    /// Those that no more than [`MOVES_MAX`] moves lead there.
    pub(crate) near: u64,
}

impl std::iter::Sum for LiveCount {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, count| Self { all: sum.all + count.all, near: sum.near + count.near })
    }
}

/// The files that were written anew and that entries may still name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moves {
    by_file: HashMap<FileId, Move, BuildHasherDefault<IdHasher>>,
}

impl Moves {
    /// Notes that the rows of `old`, but for those that were left out, stand in `new` now, in their order.
    pub(crate) fn add(&mut self, old: Vec<(FileId, LeftOut)>, new: &[(FileId, u32)]) -> Result<()> {
        let kept: u64 = old.iter().map(|(_, left_out)| u64::from(left_out.kept)).sum();
        let rows: u64 = new.iter().map(|(_, rows)| u64::from(*rows)).sum();
        if kept != rows {
            return Err(Error::bug("files were written anew with another count of rows")
                .with("kept", kept)
                .with("rows", rows));
        }
        let (to, mut start): (Arc<[_]>, u64) = (new.into(), 0);
        for (file, left_out) in old {
            let kept = u64::from(left_out.kept);
            self.restore(file, Move { left_out, start, to: Arc::clone(&to) });
            start += kept;
        }
        Ok(())
    }

    pub(crate) fn restore(&mut self, file: FileId, moved: Move) {
        self.by_file.insert(file, moved);
    }

    /// Returns where the row at a place stands after one writing anew; `None` where its file was not written anew, or
    /// the row was left out.
    pub(crate) fn follow(&self, place: Place) -> Option<Place> {
        self.by_file.get(&place.file)?.follow(place.row)
    }

    /// Returns about how many of `count` entries of a file lead to live ones: none only if there are none.
    pub(crate) fn live_count(&self, file: FileId, count: u64, is_live: &dyn Fn(FileId) -> bool) -> LiveCount {
        let mut live = LiveCount::default();
        self.count_live(file, count, 0, is_live, &mut live);
        live
    }

    fn count_live(&self, file: FileId, count: u64, moves: u32, is_live: &dyn Fn(FileId) -> bool, live: &mut LiveCount) {
        if is_live(file) {
            live.all += count;
            live.near += if moves <= MOVES_MAX { count } else { 0 };
            return;
        }
        let moved = self.by_file.get(&file).filter(|moved| moved.left_out.kept > 0);
        let Some(Move { left_out, start, to }) = moved else { return };
        let share = u128::from(count) * u128::from(left_out.kept) / u128::from(left_out.rows.max(1));
        let (mut from, end) = (0, start + u64::from(left_out.kept));
        for (file, rows) in to.iter() {
            let rows = u64::from(*rows);
            let inside = end.min(from + rows).saturating_sub(*start.max(&from));
            from += rows;
            if inside > 0 {
                let part = share * u128::from(inside) / u128::from(left_out.kept);
                self.count_live(*file, (part as u64).max(1), moves + 1, is_live, live);
            }
        }
    }

    /// Forgets what no entry can lead to any more; `named` are the files of all entries.
    pub(crate) fn keep(&mut self, named: impl IntoIterator<Item = FileId>) {
        let (mut needed, mut open) = (HashSet::new(), named.into_iter().collect::<Vec<_>>());
        while let Some(file) = open.pop() {
            if let Some(moved) = self.by_file.get(&file)
                && needed.insert(file)
            {
                open.extend(moved.to.iter().map(|(file, _)| *file));
            }
        }
        self.by_file.retain(|file, _| needed.contains(file));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_file.is_empty()
    }

    pub(crate) fn get(&self, file: FileId) -> Option<&Move> {
        self.by_file.get(&file)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = FileId> {
        self.by_file.keys().copied()
    }

    /// Returns the bytes that they take.
    pub(crate) fn bytes(&self) -> u64 {
        self.by_file.values().map(|moved| size_of::<(FileId, Move)>() as u64 + moved.left_out.bytes()).sum()
    }
}

/// Hashes a file's id, one of which is looked up or counted for every entry.
#[derive(Clone, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u32) -> FileId {
        FileId(number)
    }

    #[test]
    fn a_kept_row_has_the_number_of_the_kept_ones_before_it() {
        let gone = [0, 3, 4, 63, 64, 127, 500, 511, 512, 513, 1100, 1101];
        let left_out = LeftOut::new(1500, gone.into_iter().chain([1500, 4000]));
        assert_eq!((left_out.kept(), left_out.words().len()), (1488, 18));
        for row in 0..1500 {
            let before = gone.iter().filter(|gone| **gone < row).count() as u32;
            let expected = (!gone.contains(&row)).then_some(row - before);
            assert_eq!(left_out.rank(row), expected, "{row}");
        }
        assert_eq!(left_out.rank(1500), None, "there is no such row");
        assert_eq!(LeftOut::new(9, []).rank(8), Some(8));
        assert_eq!(LeftOut::of_words(1500, left_out.words().to_vec()), left_out);
    }

    #[test]
    fn places_are_followed_into_the_right_file() {
        let mut moves = Moves::default();
        let (a, b) = (LeftOut::new(10, [1, 2]), LeftOut::new(5, [4]));
        moves.add(vec![(file(1), a), (file(2), b)], &[(file(3), 0), (file(4), 9), (file(5), 3)]).unwrap();
        let follow = |of, row| moves.follow(Place { file: file(of), row }).map(|place| (place.file.0, place.row));
        assert_eq!([follow(1, 0), follow(1, 1), follow(1, 3)], [Some((4, 0)), None, Some((4, 1))]);
        assert_eq!([follow(2, 0), follow(2, 1), follow(2, 3)], [Some((4, 8)), Some((5, 0)), Some((5, 2))]);
        assert_eq!([follow(2, 4), follow(2, 5), follow(3, 0)], [None; 3]);
    }

    #[test]
    fn entries_are_counted_by_where_they_lead() {
        let mut moves = Moves::default();
        moves.add(vec![(file(1), LeftOut::new(100, 0..50))], &[(file(2), 25), (file(3), 25)]).unwrap();
        moves.add(vec![(file(3), LeftOut::new(25, []))], &[(file(4), 25)]).unwrap();
        let count = |live: &[u32]| moves.live_count(file(1), 1000, &|file| live.contains(&file.0)).all;
        assert_eq!([count(&[1]), count(&[2, 4]), count(&[4]), count(&[]), count(&[5])], [1000, 500, 250, 0, 0]);
        assert_eq!(moves.live_count(file(1), 1, &|file| file.0 == 4).all, 1, "one that may be left counts");
        let mut far = moves.clone();
        (4..20).for_each(|at| far.add(vec![(file(at), LeftOut::new(25, []))], &[(file(at + 1), 25)]).unwrap());
        let far = |last| far.live_count(file(1), 1000, &|file| [2, last].contains(&file.0));
        assert_eq!([far(10), far(11)], [LiveCount { all: 500, near: 500 }, LiveCount { all: 500, near: 250 }]);
        moves.keep([file(3)]);
        assert_eq!(moves.files().collect::<Vec<_>>(), [file(3)]);
    }
}
