//! The binary under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

pub(crate) fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("LAKEHEAD_BIN") {
        return named.into();
    }
    let test = std::env::current_exe().unwrap();
    let binary = test.parent().unwrap().parent().unwrap().join("lakehead");
    assert!(binary.exists(), "{} is not built: run `cargo build --bin lakehead` first", binary.display());
    binary
}

pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(folder).env("NO_COLOR", "1").env_remove("LAKEHEAD_FAILPOINTS");
    command
}

/// Runs a verb and returns what it printed.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder).args(arguments).output().unwrap()
}

#[track_caller]
pub(crate) fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "lakehead {} failed\n{out}\n{err}", arguments.join(" "));
    format!("{out}{err}")
}

#[track_caller]
pub(crate) fn fail(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = run(folder, arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "lakehead {}\n{out}\n{err}", arguments.join(" "));
    format!("{out}{err}")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes a project with one file.
pub(crate) fn project(file: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lakehead.toml"), "name = \"t\"\nedition = 1\n").unwrap();
    std::fs::write(folder.path().join("p.lake"), file).unwrap();
    folder
}
