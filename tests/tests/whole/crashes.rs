//! What a lake in any store must hold behind a crash at each step of a round.

use std::path::Path;
use std::process::Command;

use super::lakehead::text;

/// Where a round is cut off: before and behind each of its effects.
const POINTS: [&str; 6] =
    ["delta.vectors.put", "delta.put", "delta.put.answer", "parquet.put", "parquet.put.answer", "engine.committed"];

/// Puts a file of rows where the pipeline `orders` looks for it.
pub(crate) fn put(folder: &Path, number: usize) {
    std::fs::create_dir_all(folder.join("in")).unwrap();
    let rows = format!("id,note\n{number},a{number}\n0,newest{number}\n");
    std::fs::write(folder.join(format!("in/{number}.csv")), rows).unwrap();
}

/// Cuts rounds of `orders` off, each at another point; behind them source and lake are equal, and a reader of others finds each
/// row once. `lakehead` runs the program with more in its environment, and says whether it succeeded; `read` is a script for the
/// reader, and its arguments.
pub(crate) fn holds_each_row_once(
    folder: &Path,
    lakehead: impl Fn(&[(&str, &str)], &[&str]) -> (bool, String),
    read: &[&str],
) {
    for (number, point) in POINTS.into_iter().enumerate() {
        put(folder, number + 1);
        let failpoint = format!("{point}=abort");
        let (ran, said) = lakehead(&[("LAKEHEAD_FAILPOINTS", &failpoint)], &["run", "orders"]);
        // Nothing is taken out by vectors in the first round.
        assert_eq!(ran, number == 0, "{point}: {said}");
    }
    let (ran, said) = lakehead(&[], &["run", "orders"]);
    assert!(ran, "{said}");
    let (same, said) = lakehead(&[], &["verify", "orders"]);
    assert!(same && !said.contains("DIFFERENT"), "{said}");
    let python = std::env::var_os("LAKEHEAD_READERS").unwrap();
    let found = Command::new(python).arg("-c").args(read).output().unwrap();
    let expected = "[(0, 'newest6'), (1, 'a1'), (2, 'a2'), (3, 'a3'), (4, 'a4'), (5, 'a5'), (6, 'a6')]";
    assert_eq!(text(&found.stdout).trim(), expected, "{}", text(&found.stderr));
}
