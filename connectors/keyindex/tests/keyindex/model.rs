//! The index against a map in memory: random inserts, drops, deletes, merges, seals, crashes and rebuilds.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use lakehead_keyindex::{FileId, KeyHash, KeyIndex, LeftOut, Limits, Place, Progress};

use crate::dice::{Dice, hash};
use crate::{SMALL, create, lookup, open};

/// Keys are few, so that most have several entries.
const KEYS: u64 = 1_500;
/// A file has as many rows, most of which are of no key.
const ROWS: u32 = 4_000;

/// What the index must say.
#[derive(Clone, Default)]
struct Model {
    /// The places of each hash, the oldest first.
    places: HashMap<KeyHash, Vec<Place>>,
    names: HashMap<String, FileId>,
    dead: HashSet<Place>,
    /// How many rows a file has that others were written into; the rest have `ROWS`.
    rows: HashMap<FileId, u32>,
}

impl Model {
    fn is_live(&self, place: Place) -> bool {
        !self.dead.contains(&place)
    }

    fn expected(&self, hash: KeyHash) -> Option<Place> {
        let live: HashSet<_> = self.names.values().copied().collect();
        let newest_first = self.places.get(&hash)?.iter().rev();
        newest_first.copied().find(|place| live.contains(&place.file) && self.is_live(*place))
    }

    /// The order of one batch: the later file and row is the newer.
    fn insert(&mut self, mut batch: Vec<(KeyHash, Place)>) {
        batch.sort_by_key(|(_, place)| *place);
        for (hash, place) in batch {
            self.places.entry(hash).or_default().push(place);
        }
    }
}

/// The index, what it must say, and what it must say after a crash.
struct Bench<'a> {
    folder: &'a Path,
    limits: Limits,
    /// How a key becomes a hash: uniform, or so that many share the bits that the index searches by.
    spread: fn(u64) -> KeyHash,
    index: KeyIndex,
    model: Model,
    sealed: Option<(Vec<u8>, Model)>,
    dice: Dice,
    next_name: u64,
}

impl Bench<'_> {
    fn step(&mut self, at: u64) {
        match self.dice.below(100) {
            0..45 => self.insert(),
            45..55 => self.delete(),
            55..60 => self.drop_file(),
            60..75 => self.maintain(),
            75..88 => self.seal(at),
            88..92 => self.crash(),
            92..94 => self.rebuild(),
            94..99 => self.move_rows(),
            _ => {}
        }
        if at.is_multiple_of(10) {
            self.check();
        }
    }

    fn register(&mut self) -> FileId {
        self.next_name += 1;
        let name = format!("part-{}.parquet", self.next_name % 30);
        let file = self.index.register(&name).unwrap();
        assert_eq!(self.index.file_name(file), Some(name.as_str()));
        self.model.names.insert(name, file);
        file
    }

    fn insert(&mut self) {
        let (first, second) = (self.register(), self.register());
        let count = self.dice.below(if self.dice.0.is_multiple_of(7) { 900 } else { 60 });
        let batch: Vec<_> = (0..count)
            .map(|row| {
                let file = if self.dice.below(2) == 0 { first } else { second };
                let row = (row + self.dice.below(4) * 1_000) as u32;
                ((self.spread)(self.dice.below(KEYS)), Place { file, row })
            })
            .collect();
        self.model.insert(batch.clone());
        self.index.insert(batch).unwrap();
    }

    fn delete(&mut self) {
        for _ in 0..20 {
            let hash = (self.spread)(self.dice.below(KEYS));
            self.model.dead.extend(self.model.expected(hash));
        }
    }

    fn drop_file(&mut self) {
        let (name, _) = self.index.files().map(|(id, name)| (name.to_owned(), id)).next().unzip();
        if let Some(file) = name.and_then(|name| self.model.names.remove(&name)) {
            assert!(self.index.drop_file(file) && !self.index.drop_file(file));
        }
    }

    fn maintain(&mut self) {
        let entries_max = 1 + self.dice.below(2_000) as usize;
        for _ in 0..self.dice.below(20) {
            let model = &self.model;
            if self.index.maintain(entries_max, |place| model.is_live(place)).unwrap() == Progress::Idle {
                break;
            }
        }
    }

    fn seal(&mut self, at: u64) {
        let stamp = at.to_le_bytes().to_vec();
        self.index.seal(&stamp).unwrap();
        assert_eq!(self.index.stamp(), Some(&stamp[..]));
        self.sealed = Some((stamp, self.model.clone()));
    }

    /// Loses what was not sealed. Rows stay dead: the caller's deletion vectors are not the index's.
    fn crash(&mut self) {
        let Some((stamp, model)) = self.sealed.clone() else { return };
        self.index = open(self.folder, self.limits);
        assert_eq!(self.index.stamp(), Some(&stamp[..]));
        let names: HashMap<_, _> = self.index.files().map(|(id, name)| (name.to_owned(), id)).collect();
        assert_eq!(names, model.names);
        self.model = Model { dead: model.dead.union(&self.model.dead).copied().collect(), ..model };
    }

    fn rebuild(&mut self) {
        self.index.clear().unwrap();
        (self.model, self.sealed) = (Model::default(), None);
        let file = self.register();
        let mut builders = [self.index.builder(), self.index.builder()];
        for key in 0..KEYS {
            let (hash, place) = ((self.spread)(key), Place { file, row: key as u32 });
            // A rebuild gives one live row a key.
            if self.model.places.contains_key(&hash) {
                continue;
            }
            self.model.insert(vec![(hash, place)]);
            builders[self.dice.below(2) as usize].push(hash, place).unwrap();
        }
        self.index.insert_built(builders.into()).unwrap();
    }

    /// The rows of some files are written anew into others, without some that are dead, in the order that they have.
    fn move_rows(&mut self) {
        let files: Vec<_> = self.index.files().map(|(id, name)| (id, name.to_owned())).collect();
        let first = self.dice.below(files.len().max(1) as u64) as usize;
        let old: Vec<_> = files.into_iter().skip(first).take(1 + self.dice.below(3) as usize).collect();
        let (mut kept, mut left_out) = (Vec::new(), Vec::new());
        for (file, _) in &old {
            let (dead, rows) = (self.some_dead(*file), self.model.rows.get(file).copied().unwrap_or(ROWS));
            kept.extend((0..rows).filter(|row| !dead.contains(row)).map(|row| Place { file: *file, row }));
            left_out.push((*file, LeftOut::new(rows, dead)));
        }
        let (rows, first_rows) = (kept.len() as u32, self.dice.below(kept.len() as u64 + 1) as u32);
        let new = [self.moved_file(first_rows), self.moved_file(rows - first_rows)];
        // Each place by its rank among those that are kept, which is what the index must find without being told.
        let to = |at| match at {
            at if at < first_rows => Place { file: new[0].0, row: at },
            at => Place { file: new[1].0, row: at - first_rows },
        };
        let to: HashMap<Place, Place> = kept.into_iter().zip((0..).map(to)).collect();
        let dead: Vec<_> = self.model.dead.iter().filter_map(|place| to.get(place)).copied().collect();
        self.model.dead.extend(dead);
        for place in self.model.places.values_mut().flatten() {
            *place = to.get(place).copied().unwrap_or(*place);
        }
        self.model.names.retain(|_, file| old.iter().all(|(id, _)| id != file));
        self.index.move_rows(left_out, &new).unwrap();
    }

    fn moved_file(&mut self, rows: u32) -> (FileId, u32) {
        self.next_name += 1;
        let name = format!("moved-{}.parquet", self.next_name);
        let file = self.index.register(&name).unwrap();
        self.model.names.insert(name, file);
        self.model.rows.insert(file, rows);
        (file, rows)
    }

    /// Returns most of the dead rows of a file.
    fn some_dead(&mut self, file: FileId) -> HashSet<u32> {
        let mut dead: Vec<_> = self.model.dead.iter().filter(|place| place.file == file).map(|p| p.row).collect();
        dead.sort_unstable();
        dead.into_iter().filter(|_| self.dice.below(4) > 0).collect()
    }

    fn check(&mut self) {
        let mut hashes: Vec<_> = (0..KEYS + 100).map(self.spread).collect();
        hashes.rotate_left(self.dice.below(KEYS) as usize);
        let found = lookup(&self.index, &hashes, |place| self.model.is_live(place));
        for (hash, found) in hashes.iter().zip(found) {
            assert_eq!(found, self.model.expected(*hash), "{hash:x}");
        }
    }
}

#[track_caller]
fn check(limits: Limits, spread: fn(u64) -> KeyHash, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench {
        folder: folder.path(),
        limits,
        spread,
        index: create(folder.path(), limits),
        model: Model::default(),
        sealed: None,
        dice: Dice(seed),
        next_name: 0,
    };
    (1..400).for_each(|at| bench.step(at));
    bench.check();
}

#[test]
fn it_says_what_a_map_says() {
    for seed in 0..4 {
        check(SMALL, hash, seed);
    }
}

#[test]
fn it_says_what_a_map_says_without_blooms_and_without_blocks_in_memory() {
    check(Limits { bloom_bytes: 300, block_bytes: 0, ..SMALL }, hash, 11);
    check(Limits { bloom_bytes: 0, memory_entries: 1, ..SMALL }, hash, 12);
    check(Limits { bloom_bytes: u64::MAX, block_bytes: u64::MAX, memory_entries: 100_000, ..SMALL }, hash, 13);
}

#[test]
fn hashes_that_are_not_uniform_are_slower_and_not_wrong() {
    check(SMALL, KeyHash::from, 21);
    check(SMALL, |key| KeyHash::from(key) << 64, 22);
    check(SMALL, |key| KeyHash::MAX - KeyHash::from(key % 7), 23);
}
