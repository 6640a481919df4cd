//! Definitions with mistakes: what leans on one is not run with something else in its place.

use super::lakehead::{fail, project, succeed};

const FILE: &str = r#"var place: string = "lake"
var least: int = 0
var unused: int = 1

profile prod { place = "prod" }
profile mistyped { place = 5 }
profile misspelt { plcae = "prod" }

secret hook = file("hook")

connection drops files { path = "in" }
connection lake parquet { path = var.place }
connection other parquet { path = "other" }

pipeline p {
  source rows = drops { path = "*.csv", columns = { id = bigint } }
  sink lake { table = "t", mode = append }
}

pipeline q {
  source rows = drops { path = "*.csv", columns = { id = bigint } }
  transform { where { id > $least } }
  sink other { table = "t", mode = append }
}

pipeline free {
  source rows = drops { path = "*.csv", columns = { id = bigint } }
  sink other { table = "free", mode = append }
}
"#;

fn written(file: &str) -> tempfile::TempDir {
    let folder = project(file);
    std::fs::create_dir(folder.path().join("in")).unwrap();
    std::fs::write(folder.path().join("in/1.csv"), "id\n1\n").unwrap();
    folder
}

/// Runs `pipeline`, which must be refused with `code` before anything is written.
#[track_caller]
fn refused(file: &str, pipeline: &str, arguments: &[&str], code: &str) {
    let folder = written(file);
    let said = fail(folder.path(), &[&["run", pipeline], arguments].concat(), 1);
    assert!(said.contains(&format!("error[{code}]")), "{said}");
    for place in ["lake", "prod", "other"] {
        assert!(!folder.path().join(place).exists(), "{pipeline} {arguments:?} has written to {place}\n{said}");
    }
}

#[test]
fn a_profile_or_variable_with_a_mistake_runs_nothing_that_leans_on_it() {
    // A value of another type must not leave the default in its place.
    refused(FILE, "p", &["--profile", "mistyped"], "E0605");
    // A setting that no variable takes was meant for one of them, and a profile that is not there has none of them.
    refused(FILE, "free", &["--profile", "misspelt"], "E0601");
    refused(FILE, "free", &["--profile", "prdo"], "E0603");
    refused(FILE, "p", &["--var", "plcae=prod"], "E0604");
    refused(FILE, "q", &["--var", "least=many"], "E0604");
    refused(&FILE.replace("least: int = 0", "least: int = \"none\""), "q", &[], "E0605");
}

#[test]
fn of_two_definitions_of_one_name_neither_is_run_with() {
    refused(&format!("{FILE}\nvar place: string = \"prod\"\n"), "p", &[], "E0202");
    refused(&format!("{FILE}\nvar least: int = 7\n"), "q", &[], "E0202");
    refused(&format!("{FILE}\nconnection lake parquet {{ path = \"prod\" }}\n"), "p", &[], "E0202");
    let hooked = FILE.replace(
        "connection other parquet { path = \"other\" }",
        "connection other parquet { path = \"other\", access_key_id = secret.hook }",
    );
    refused(&format!("{hooked}\nsecret hook = env(\"HOOK\")\n"), "free", &[], "E0202");
    let again = FILE.split("pipeline free").nth(1).unwrap().replace("\"free\"", "\"again\"");
    refused(&format!("{FILE}\npipeline free{again}"), "free", &[], "E0202");
}

/// A mistake elsewhere stops nobody else.
#[test]
fn what_leans_on_no_mistake_runs() {
    for (file, arguments) in [
        (FILE.to_owned(), &["--profile", "prod"][..]),
        (FILE.replace("unused: int = 1", "unused: int = \"x\""), &[]),
        (format!("{FILE}\nvar least: int = 7\n"), &[]),
    ] {
        let folder = written(&file);
        succeed(folder.path(), &[&["run", "free"], arguments].concat());
        assert!(folder.path().join("other/free").exists());
    }
}
