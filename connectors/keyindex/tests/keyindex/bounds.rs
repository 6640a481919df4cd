//! What the index may take, and what it leaves behind.

use std::path::Path;

use lakehead_keyindex::{FileId, KeyIndex, LeftOut, Limits, Place, Progress};

use crate::dice::hash;
use crate::{SMALL, create, lookup, names, open};

fn fill(index: &mut KeyIndex, file: FileId, keys: std::ops::Range<u64>) {
    index.insert(keys.map(|key| (hash(key), Place { file, row: key as u32 })).collect()).unwrap();
}

fn rows(index: &KeyIndex, keys: std::ops::Range<u64>) -> Vec<Option<u32>> {
    let hashes: Vec<_> = keys.map(hash).collect();
    lookup(index, &hashes, |_| true).into_iter().map(|place| place.map(|place| place.row)).collect()
}

fn all(keys: std::ops::Range<u64>) -> Vec<Option<u32>> {
    keys.map(|key| Some(key as u32)).collect()
}

#[test]
fn the_largest_bloom_filters_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = create(folder.path(), Limits { bloom_bytes: 2_500, ..SMALL });
    let file = index.register("a").unwrap();
    fill(&mut index, file, 0..5_000);
    assert_eq!(index.figures().runs_without_bloom, 1, "5,000 keys take 6 kB");
    fill(&mut index, file, 5_000..6_000);
    fill(&mut index, file, 6_000..6_900);
    assert_eq!((index.figures().runs, index.figures().runs_without_bloom), (3, 1));
    fill(&mut index, file, 6_900..7_200);
    assert_eq!((index.figures().runs, index.figures().runs_without_bloom), (4, 2));
    assert_eq!(rows(&index, 0..7_200), all(0..7_200));
    index.seal(b"").unwrap();
    assert_eq!(open(folder.path(), SMALL).figures().runs_without_bloom, 0);
}

#[test]
fn blocks_in_memory_keep_to_their_budget_and_give_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { bloom_bytes: 0, block_bytes: 10 * 2048, memory_entries: 1, ..SMALL };
    let mut index = create(folder.path(), limits);
    let file = index.register("a").unwrap();
    fill(&mut index, file, 0..10_000);
    let before = index.figures().memory_bytes;
    for _ in 0..3 {
        assert_eq!(rows(&index, 0..10_000), all(0..10_000));
        assert_eq!(index.figures().memory_bytes, before + 10 * 2048);
    }
    index.drop_file(file);
    assert_eq!(index.maintain(1, |_| true).unwrap(), Progress::Idle);
    assert_eq!(index.figures().runs, 0);
    let file = index.register("b").unwrap();
    fill(&mut index, file, 0..10_000);
    assert_eq!(rows(&index, 0..10_000), all(0..10_000));
    assert_eq!(index.figures().memory_bytes, before + 10 * 2048);
}

#[test]
fn a_builder_of_little_memory_makes_one_run_and_leaves_no_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = create(folder.path(), Limits { builder_bytes: 24 * 10, ..SMALL });
    let file = index.register("a").unwrap();
    let mut builders: Vec<_> = (0..3).map(|_| index.builder()).collect();
    for key in 0..5_000 {
        builders[key as usize % 3].push(hash(key), Place { file, row: key as u32 }).unwrap();
    }
    drop(index.builder());
    index.insert_built(builders).unwrap();
    assert_eq!(index.figures().runs, 1);
    assert_eq!(rows(&index, 0..5_000), all(0..5_000));
    assert_eq!(rows(&index, 5_000..5_100), vec![None; 100]);
    assert!(names(folder.path()).iter().all(|name| name.starts_with("run-")), "{:?}", names(folder.path()));
}

#[test]
fn a_small_seal_makes_no_run_and_costs_what_was_added() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = create(folder.path(), Limits::default());
    let file = index.register("a").unwrap();
    let tail = |folder: &Path| {
        let name = names(folder).into_iter().find(|name| name.starts_with("tail-")).unwrap();
        std::fs::metadata(folder.join(name)).unwrap().len()
    };
    for epoch in 0..5 {
        fill(&mut index, file, epoch * 10..epoch * 10 + 10);
        index.seal(b"").unwrap();
        assert_eq!(tail(folder.path()), (epoch + 1) * (16 + 240));
    }
    index.seal(b"").unwrap();
    assert_eq!(tail(folder.path()), 5 * (16 + 240));
    assert_eq!(names(folder.path()), ["manifest.keys", "tail-0.keys"]);
    assert_eq!(rows(&open(folder.path(), SMALL), 0..50), all(0..50));
}

#[test]
fn files_of_the_last_seal_stay_until_the_next_and_strangers_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = create(folder.path(), SMALL);
    let file = index.register("a").unwrap();
    (0..3).for_each(|run| fill(&mut index, file, run * 300..run * 300 + 300));
    index.seal(b"one").unwrap();
    while index.maintain(100, |_| true).unwrap() == Progress::More {}
    assert_eq!(index.figures().runs, 1);
    drop(index);
    for stranger in ["notes.txt", "run-x.keys", "manifest.keys.bak"] {
        std::fs::write(folder.path().join(stranger), b"mine").unwrap();
    }
    std::fs::write(folder.path().join("part-99.keys"), b"left by a crash").unwrap();
    let mut index = open(folder.path(), SMALL);
    assert_eq!((index.figures().runs, rows(&index, 0..900)), (3, all(0..900)));
    while index.maintain(100, |_| true).unwrap() == Progress::More {}
    index.seal(b"two").unwrap();
    let found = names(folder.path());
    assert_eq!(found.len(), 5, "{found:?}");
    assert_eq!(rows(&open(folder.path(), SMALL), 0..900), all(0..900));
}

#[test]
fn a_merge_keeps_what_the_caller_may_still_want() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = create(folder.path(), Limits { memory_entries: 1, ..SMALL });
    let files: Vec<_> = (0..3).map(|at| index.register(&format!("{at}")).unwrap()).collect();
    for file in &files {
        fill(&mut index, *file, 0..500);
    }
    while index.maintain(77, |_| true).unwrap() == Progress::More {}
    assert_eq!((index.figures().runs, index.figures().entries), (1, 1_500));
    for file in &files {
        let found = lookup(&index, &[hash(1)], |place| place.file == *file);
        assert_eq!(found, [Some(Place { file: *file, row: 1 })]);
    }
    index.drop_file(files[0]);
    index.drop_file(files[2]);
    while index.maintain(77, |_| true).unwrap() == Progress::More {}
    assert_eq!(index.figures().entries, 500);
    assert_eq!(lookup(&index, &[hash(1)], |_| true), [Some(Place { file: files[1], row: 1 })]);
}

/// Rows that are written anew again and again, one less each time.
fn move_on(index: &mut KeyIndex, file: FileId, rows: u32, name: &str) -> FileId {
    let new = index.register(name).unwrap();
    index.move_rows(vec![(file, LeftOut::new(rows, [0]))], &[(new, rows - 1)]).unwrap();
    new
}

#[test]
fn a_row_that_was_moved_often_is_found_where_it_stands_and_its_run_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = create(folder.path(), Limits { memory_entries: 1, ..SMALL });
    let mut file = index.register("0").unwrap();
    fill(&mut index, file, 0..500);
    let run = names(folder.path());
    for turn in 0..20_u32 {
        file = move_on(&mut index, file, 500 - turn, &format!("{}", turn + 1));
        let gone = u64::from(turn) + 1;
        assert_eq!(rows(&index, 0..gone), vec![None; gone as usize], "{turn}");
        assert_eq!(rows(&index, gone..500), all(0..500 - gone), "{turn}");
        while index.maintain(100, |_| true).unwrap() == Progress::More {}
        assert_eq!(names(folder.path()) == run, turn < 8, "{turn}");
    }
    index.seal(b"").unwrap();
    assert_eq!(index.figures().entries, 500 - 18, "those that were left out went with the second writing");
    assert_eq!(rows(&open(folder.path(), SMALL), 20..500), all(0..480));
}

#[test]
fn moves_are_kept_while_an_entry_needs_them_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = create(folder.path(), Limits { memory_entries: 1, ..SMALL });
    let moves = || names(folder.path()).into_iter().filter(|name| name.starts_with("moves-")).collect::<Vec<_>>();
    let (mut last, count) = (Vec::new(), 40_u64);
    for turn in 0..count {
        let file = index.register(&format!("{turn}")).unwrap();
        fill(&mut index, file, turn * 10..turn * 10 + 10);
        move_on(&mut index, file, turn as u32 * 10 + 10, &format!("{turn} anew"));
        index.seal(b"").unwrap();
        assert!((1..=17).contains(&moves().len()), "{:?}", moves());
        assert_ne!(moves(), last);
        last = moves();
    }
    let expected: Vec<_> = (0..count * 10).map(|key| (key as u32).checked_sub(1)).collect();
    assert_eq!(rows(&index, 0..count * 10), expected);
    let before = index.figures().memory_bytes;
    drop(index);
    let mut index = open(folder.path(), Limits { memory_entries: 1, ..SMALL });
    assert_eq!(rows(&index, 0..count * 10), expected);
    assert_eq!(index.figures().memory_bytes, before, "the same is held");
    // Runs that merge take the new places on.
    let file = index.register("more").unwrap();
    for at in 0..100 {
        fill(&mut index, file, 1_000 + at * 10..1_010 + at * 10);
        while index.maintain(1_000, |_| true).unwrap() == Progress::More {}
    }
    for _ in 0..2 {
        index.seal(b"").unwrap();
    }
    assert_eq!(moves(), Vec::<String>::new());
    assert_eq!(rows(&index, 0..count * 10), expected);
}

#[test]
fn rows_that_do_not_add_up_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = create(folder.path(), SMALL);
    let (old, new) = (index.register("a").unwrap(), index.register("b").unwrap());
    let error = index.move_rows(vec![(old, LeftOut::new(10, [3]))], &[(new, 10)]).unwrap_err();
    assert_eq!(error.code(), "R0001");
    index.drop_file(new);
    let error = index.move_rows(vec![(old, LeftOut::new(10, [3]))], &[(new, 9)]).unwrap_err();
    assert_eq!(error.code(), "R0001");
    assert_eq!(index.file_name(old), Some("a"), "it is as it was");
}

#[test]
fn an_entry_of_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = create(folder.path(), SMALL);
    let file = index.register("a").unwrap();
    index.drop_file(file);
    let error = index.insert(vec![(1, Place { file, row: 0 })]).unwrap_err();
    assert_eq!(error.code(), "R0001");
}

#[test]
fn a_folder_that_cannot_be_made_is_told_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    std::fs::write(&taken, b"a file").unwrap();
    let error = KeyIndex::open(taken.join("index"), SMALL).err().expect("a file is in the way");
    assert_eq!((error.code(), error.helps().len()), ("R1104", 1));
    assert!(error.to_string().contains("taken"), "{error}");
}
