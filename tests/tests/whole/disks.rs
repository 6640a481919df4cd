//! Disks that fill, refuse or stop short (fault F7): a run ends with code, place and cure, nothing is committed in part,
//! and once there is space again the next run goes on and the lake equals its source.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::lakehead::{binary, command, project, succeed, text};

/// Rows of one input; each is some 40 bytes long.
const ROWS: usize = 20_000;

/// Memory that no test's changes fill.
const AMPLE: &str = "64MB";

const KEYED: &str = r#"
connection drops files { path = "in" }
connection lake delta { path = "lake" }

pipeline p {
  source rows = drops { path = "*.csv", columns = { id = bigint, note = varchar } }
  sink lake { table = "t", mode = upsert, key = [id], memory = MEMORY }
  retry { max = 1, backoff = 1ms }
}
"#;

/// With an order, so that rows are sorted beside the table first.
const PLAIN: &str = r#"
connection drops files { path = "in" }
connection lake parquet { path = "lake" }

pipeline p {
  source rows = drops { path = "*.csv", columns = { id = bigint, note = varchar } }
  sink lake { table = "t", mode = append, sort_by = [note] }
  retry { max = 1, backoff = 1ms }
}
"#;

/// A small file system of its own; it goes with its owner.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts so many KiB at `at`; none where this user may not mount.
    fn mount(at: PathBuf, kib: usize) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).arg(&at).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            println!("skipped: a small file system cannot be mounted here");
            return None;
        }
        Some(Self { at })
    }

    /// Changes how it is mounted.
    fn remount(&self, options: &str) {
        let remounted = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.at).status();
        assert!(remounted.unwrap().success(), "mount -o remount,{options}");
    }

    /// Leaves so many KiB free.
    fn leave(&self, kib: usize) {
        let kept = self.at.join("kept");
        std::fs::write(&kept, vec![1; kib << 10]).unwrap();
        self.fill();
        std::fs::remove_file(kept).unwrap();
    }

    /// Leaves no byte free.
    fn fill(&self) {
        use std::io::Write;
        let mut filler = std::fs::File::create(self.at.join("filler")).unwrap();
        for piece in [1 << 16, 1 << 10, 1] {
            while filler.write(&vec![0; piece]).is_ok_and(|written| written > 0) {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.at.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).output();
    }
}

/// A project whose source can be read again, so that `verify` can compare.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new(file: &str) -> Self {
        let folder = project(file);
        std::fs::create_dir(folder.path().join("in")).unwrap();
        let made = Self { folder };
        made.arrives("a", 0);
        made
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts an input of [`ROWS`] rows from `first` on into the folder that is read.
    fn arrives(&self, name: &str, first: usize) {
        let mut text = String::from("id,note\n");
        for id in first..first + ROWS {
            // In no order, and so that nothing packs well.
            let note = (id as u128).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
            text.push_str(&format!("{id},{note:032x}\n"));
        }
        std::fs::write(self.at("in").join(format!("{name}.csv")), text).unwrap();
    }

    fn run(&self) -> Output {
        command(self.folder.path()).args(["run", "p"]).output().unwrap()
    }

    /// Data files that versions of the table name.
    fn named(&self) -> BTreeSet<String> {
        let logs = ["lake/t/_delta_log", "lake/t/_manifest"].map(|log| self.at(log));
        let entries = logs.iter().filter_map(|log| std::fs::read_dir(log).ok()).flatten();
        let bodies = entries.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
        let is_data = |name: &&str| name.ends_with(".parquet") || name.ends_with(".orc");
        let names = |body: String| body.split('"').filter(is_data).map(str::to_owned).collect::<Vec<_>>();
        bodies.flat_map(names).collect()
    }

    /// The next run goes on, and the lake is as the source.
    #[track_caller]
    fn goes_on(&self) {
        succeed(self.folder.path(), &["run", "p"]);
        let verified = succeed(self.folder.path(), &["verify", "p"]);
        assert!(verified.contains("same") && !verified.contains("DIFFERS"), "{verified}");
    }
}

/// Asserts that a run ended of itself, with the code, the place and a cure, and returns what it said.
#[track_caller]
fn complaint(output: &Output, code: &str, place: &Path) -> String {
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!output.status.success(), "it ran: {said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("error[{code}]")), "{said}");
    assert!(said.contains(&place.display().to_string()), "no place: {said}");
    assert!(said.contains("= help: "), "no cure: {said}");
    assert!(!said.contains("panicked") && !said.contains("R0001") && !said.contains("R0002"), "{said}");
    said
}

fn keyed(memory: &str) -> String {
    KEYED.replace("MEMORY", memory)
}

#[test]
fn a_lake_that_fills_in_a_data_file_takes_nothing_and_goes_on_with_space() {
    for file in [keyed(AMPLE), PLAIN.to_owned(), PLAIN.replace("lake parquet", "lake orc")] {
        let project = Project::new(&file);
        let Some(disk) = SmallDisk::mount(project.at("lake"), 16 * 1024) else { return };
        project.goes_on();
        project.arrives("b", ROWS);
        disk.leave(128);
        let before = project.named();
        complaint(&project.run(), "R0401", &project.at("lake"));
        assert_eq!(project.named(), before, "nothing is committed in part");
        disk.free();
        project.goes_on();
    }
}

#[test]
fn a_full_state_folder_stops_a_run_before_it_commits() {
    let project = Project::new(&keyed(AMPLE));
    let Some(disk) = SmallDisk::mount(project.at(".lakehead"), 8192) else { return };
    project.goes_on();
    project.arrives("b", ROWS);
    disk.fill();
    let before = project.named();
    complaint(&project.run(), "R0650", &project.at(".lakehead"));
    assert_eq!(project.named(), before);
    disk.free();
    project.goes_on();
}

#[test]
fn a_state_folder_that_is_full_from_the_start_is_told() {
    let project = Project::new(&keyed(AMPLE));
    let Some(disk) = SmallDisk::mount(project.at(".lakehead"), 64) else { return };
    disk.fill();
    complaint(&project.run(), "R0650", &project.at(".lakehead"));
    disk.free();
    disk.remount("size=8m");
    project.goes_on();
}

#[test]
fn a_state_folder_that_may_not_be_written_is_told() {
    let project = Project::new(&keyed(AMPLE));
    let Some(disk) = SmallDisk::mount(project.at(".lakehead"), 8192) else { return };
    disk.remount("ro");
    complaint(&project.run(), "R0961", &project.at(".lakehead"));
    disk.remount("rw");
    project.goes_on();
    project.arrives("b", ROWS);
    disk.remount("ro");
    let before = project.named();
    complaint(&project.run(), "R0961", &project.at(".lakehead"));
    assert_eq!(project.named(), before);
    disk.remount("rw");
    project.goes_on();
}

#[test]
fn changes_that_fill_the_disk_they_are_spilled_to_are_told() {
    let project = Project::new(&keyed("100KB"));
    let Some(disk) = SmallDisk::mount(project.at(".lakehead"), 700) else { return };
    complaint(&project.run(), "R0237", &project.at(".lakehead"));
    assert!(project.named().is_empty());
    let left = std::fs::read_dir(project.at(".lakehead")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with("spill-")), "spilled files stay");
    disk.remount("size=16m");
    project.goes_on();
}

#[test]
fn a_key_index_that_fills_its_disk_is_told() {
    let project = Project::new(&keyed(AMPLE));
    let Some(disk) = SmallDisk::mount(project.at(".lakehead/keys"), 64) else { return };
    // The first rows of a table are looked up nowhere; the second run builds the index of them.
    succeed(project.folder.path(), &["run", "p"]);
    project.arrives("b", ROWS);
    let before = project.named();
    complaint(&project.run(), "R1103", &project.at(".lakehead/keys"));
    assert_eq!(project.named(), before);
    disk.remount("size=16m");
    project.goes_on();
}

#[test]
fn a_key_index_that_may_not_be_written_is_told() {
    let project = Project::new(&keyed(AMPLE));
    let Some(disk) = SmallDisk::mount(project.at(".lakehead/keys"), 4096) else { return };
    succeed(project.folder.path(), &["run", "p"]);
    project.arrives("b", ROWS);
    disk.remount("ro");
    complaint(&project.run(), "R0219", &project.at(".lakehead/keys"));
    disk.remount("rw");
    project.goes_on();
}

/// A limit on the size of files: a signal whose default is to end the process in the middle.
#[test]
fn files_that_may_not_grow_further_are_told() {
    for file in [keyed(AMPLE), PLAIN.to_owned(), PLAIN.replace("lake parquet", "lake orc")] {
        let project = Project::new(&file);
        let limited = |kib: usize| {
            let script = format!("ulimit -f {kib}; exec \"$0\" run p");
            let mut shell = Command::new("bash");
            shell.current_dir(project.folder.path()).env("NO_COLOR", "1").args(["-c", &script]).arg(binary());
            shell.output().unwrap()
        };
        complaint(&limited(300), "R0651", &project.at("lake"));
        assert!(project.named().is_empty());
        project.goes_on();
    }
}

/// The disk of the ledger fills while a run is under way: what it has committed stands, and it says that it could not note
/// it down.
#[test]
fn a_state_folder_that_fills_during_a_run_is_told_behind_the_commit() {
    let project = Project::new(&keyed(AMPLE));
    let Some(disk) = SmallDisk::mount(project.at(".lakehead"), 8192) else { return };
    let mut run = command(project.folder.path());
    run.args(["run", "p"]).env("LAKEHEAD_FAILPOINTS", "engine.document=delay(3000)");
    let run = run.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let is_there = || {
        let found = Command::new("find").arg(project.at("lake")).args(["-path", "*/pos/*.json"]).output();
        found.is_ok_and(|found| !found.stdout.is_empty())
    };
    while !is_there() {
        assert!(std::time::Instant::now() < deadline, "the run wrote no position");
        std::thread::yield_now();
    }
    disk.fill();
    complaint(&run.wait_with_output().unwrap(), "R0650", &project.at(".lakehead"));
    assert_eq!(project.named().len(), 1, "the round is whole");
    disk.free();
    project.goes_on();
}
