//! Whatever happens to its files, the index answers right or says that it is to be built anew.

use std::fs;
use std::path::{Path, PathBuf};

use lakehead_keyindex::{DAMAGED, KeyHash, KeyIndex, LeftOut, Limits, OTHER_FORMAT, Opened, Place, Reason};

use crate::dice::{Dice, hash};
use crate::{SMALL, create, lookup, names};

const KEYS: u64 = 330;

/// So that a run is a block or two: every byte is damaged once.
const TINY: Limits = Limits { memory_entries: 100, ..SMALL };

/// Two runs, a tail, and a file that was written anew, sealed.
fn sealed(folder: &Path) -> Vec<Option<Place>> {
    let mut index = create(folder, TINY);
    let file = index.register("a.parquet").unwrap();
    for keys in [0..200, 200..300, 300..KEYS] {
        index.insert(keys.map(|key| (hash(key), Place { file, row: key as u32 })).collect()).unwrap();
    }
    let anew = index.register("b.parquet").unwrap();
    index.move_rows(vec![(file, LeftOut::new(KEYS as u32, [7, 70]))], &[(anew, KEYS as u32 - 2)]).unwrap();
    index.seal(b"version 9").unwrap();
    assert_eq!(names(folder), ["manifest.keys", "moves-2.keys", "run-0.keys", "run-1.keys", "tail-3.keys"]);
    lookup(&index, &hashes(), |_| true)
}

fn hashes() -> Vec<KeyHash> {
    (0..KEYS + 5).map(hash).collect()
}

/// What became of an index.
#[derive(Debug, PartialEq)]
enum Fate {
    Right,
    FoundAtOpen,
    FoundAtLookup,
}

/// Opens a damaged copy and looks everything up; a wrong answer fails.
#[track_caller]
fn fate(folder: &Path, limits: Limits, expected: &[Option<Place>], what: &str) -> Fate {
    let index = match KeyIndex::open(folder, limits).unwrap() {
        Opened::Ready(index) => index,
        Opened::Rebuild(index, Reason::Unusable(error)) => {
            assert!([DAMAGED, OTHER_FORMAT].contains(&error.code()), "{what}: {error}");
            assert_eq!(names(folder), Vec::<String>::new(), "{what}");
            assert_eq!(lookup(&index, &hashes(), |_| true), vec![None; hashes().len()]);
            return Fate::FoundAtOpen;
        }
        Opened::Rebuild(_, Reason::Absent) => panic!("{what}: the manifest is there"),
    };
    assert_eq!(index.stamp(), Some(&b"version 9"[..]), "{what}");
    let mut found = Vec::new();
    match index.lookup(&hashes(), |_| true, &mut found) {
        Ok(()) => {
            assert_eq!(found, expected, "{what}");
            Fate::Right
        }
        Err(error) => {
            assert_eq!((error.code(), found.len()), (DAMAGED, 0), "{what}");
            Fate::FoundAtLookup
        }
    }
}

/// Damages each file in turn, once for each of `changes` of its bytes, and counts the fates.
fn damage_each<C: Iterator<Item = Vec<u8>>>(changes: impl Fn(Vec<u8>) -> C, limits: Limits) -> [usize; 3] {
    let origin = tempfile::tempdir().unwrap();
    let expected = sealed(origin.path());
    let whole: Vec<(PathBuf, Vec<u8>)> = names(origin.path())
        .into_iter()
        .map(|name| (PathBuf::from(&name), fs::read(origin.path().join(name)).unwrap()))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let (mut fates, mut is_whole) = ([0; 3], false);
    for (name, bytes) in &whole {
        for (at, changed) in changes(bytes.clone()).enumerate() {
            for (name, bytes) in whole.iter().filter(|_| !is_whole) {
                fs::write(folder.path().join(name), bytes).unwrap();
            }
            fs::write(folder.path().join(name), changed).unwrap();
            let what = format!("change {at} of {}", name.display());
            let fate = fate(folder.path(), limits, &expected, &what);
            is_whole = fate != Fate::FoundAtOpen;
            fates[fate as usize] += 1;
        }
        is_whole = false;
    }
    fates
}

#[test]
fn no_flipped_byte_makes_a_wrong_answer() {
    let flip = |bytes: Vec<u8>| {
        let mut dice = Dice(1);
        let filler = |at: usize| bytes[at.saturating_sub(8)..bytes.len().min(at + 8)].iter().all(|byte| *byte == 0);
        // In the midst of filler one byte is like another.
        let told: Vec<_> = (0..bytes.len()).filter(|at| !filler(*at) || at.is_multiple_of(61)).collect();
        told.into_iter().map(move |at| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << dice.below(8);
            bytes
        })
    };
    let [right, at_open, at_lookup] = damage_each(flip, TINY);
    // Filler between the sections is read by nobody.
    assert!(right > 0 && at_open > 500 && at_lookup > 7_000, "{right} {at_open} {at_lookup}");
}

#[test]
fn no_flipped_byte_of_a_filter_matters_where_it_is_not_read() {
    let flip = |mut bytes: Vec<u8>| {
        let at = bytes.len().min(4100) - 1;
        bytes[at] ^= 1;
        std::iter::once(bytes)
    };
    let [right, at_open, at_lookup] = damage_each(flip, Limits { bloom_bytes: 0, ..TINY });
    assert_eq!([right, at_open, at_lookup], [2, 3, 0]);
}

#[test]
fn no_length_makes_a_wrong_answer() {
    // In the midst of a run one length is like another: its head says how long it is.
    let tells = |length: usize, whole: usize| length < 300 || whole - length < 300 || length.is_multiple_of(61);
    let cut = |bytes: Vec<u8>| {
        let whole = bytes.len();
        (0..whole).filter(move |length| tells(*length, whole)).map(move |length| bytes[..length].to_vec())
    };
    let [right, at_open, at_lookup] = damage_each(cut, TINY);
    assert_eq!((right, at_lookup), (0, 0));
    assert!(at_open > 1_500, "{at_open}");
}

#[test]
fn zeros_noise_and_another_file_make_no_wrong_answer() {
    let changes = |bytes: Vec<u8>| {
        let mut dice = Dice(7);
        let mut changed = vec![vec![0; bytes.len()], Vec::new(), b"not an index".to_vec()];
        for page in 0..bytes.len() / 4096 {
            let mut zeroed = bytes.to_vec();
            zeroed[page * 4096..][..4096].fill(0);
            changed.push(zeroed);
            let mut noise = bytes.to_vec();
            noise[page * 4096..][..4096].fill_with(|| dice.roll() as u8);
            changed.push(noise);
        }
        for (from, to) in (2..bytes.len() / 4096).flat_map(|from| (2..from).map(move |to| (from, to))) {
            let mut moved = bytes.to_vec();
            moved.copy_within(from * 4096..(from + 1) * 4096, to * 4096);
            changed.push(moved);
        }
        changed.into_iter()
    };
    damage_each(changes, TINY);
}

#[test]
fn a_missing_or_a_stranger_run_is_found_at_open() {
    for name in ["run-0.keys", "run-1.keys", "moves-2.keys", "tail-3.keys"] {
        let folder = tempfile::tempdir().unwrap();
        let expected = sealed(folder.path());
        fs::remove_file(folder.path().join(name)).unwrap();
        assert_eq!(fate(folder.path(), SMALL, &expected, name), Fate::FoundAtOpen);
    }
    // A run of the same number and size from a later life, as after a loss of power.
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = sealed(folder.path());
    let mut index = create(other.path(), TINY);
    let file = index.register("b.parquet").unwrap();
    index.insert((0..200).map(|key| (hash(key + 9_000), Place { file, row: 1 })).collect()).unwrap();
    fs::copy(other.path().join("run-0.keys"), folder.path().join("run-0.keys")).unwrap();
    assert_eq!(fate(folder.path(), SMALL, &expected, "another life"), Fate::FoundAtOpen);
    // And moves of the same number, that leave other rows out.
    let folder = tempfile::tempdir().unwrap();
    let expected = sealed(folder.path());
    let mut index = create(other.path(), TINY);
    let (file, anew) = (index.register("b.parquet").unwrap(), index.register("c.parquet").unwrap());
    for keys in [0..200, 200..300, 300..KEYS] {
        index.insert(keys.map(|key| (hash(key), Place { file, row: key as u32 })).collect()).unwrap();
    }
    index.move_rows(vec![(file, LeftOut::new(KEYS as u32, [8, 71]))], &[(anew, KEYS as u32 - 2)]).unwrap();
    index.seal(b"version 9").unwrap();
    fs::copy(other.path().join("moves-2.keys"), folder.path().join("moves-2.keys")).unwrap();
    assert_eq!(fate(folder.path(), SMALL, &expected, "other moves"), Fate::FoundAtOpen);
}

#[test]
fn another_format_means_a_rebuild() {
    let folder = tempfile::tempdir().unwrap();
    sealed(folder.path());
    let path = folder.path().join("manifest.keys");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] += 1;
    fs::write(&path, bytes).unwrap();
    let Opened::Rebuild(_, reason) = KeyIndex::open(folder.path(), TINY).unwrap() else { panic!("it opened") };
    assert!(matches!(&reason, Reason::Unusable(error) if error.code() == OTHER_FORMAT), "{reason}");
    let Opened::Rebuild(_, reason) = KeyIndex::open(folder.path(), TINY).unwrap() else { panic!("it opened") };
    assert!(matches!(reason, Reason::Absent), "{reason}");
}
