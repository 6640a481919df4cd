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

/// What a run could not write is told offline, with what may be written instead, and that is taken.
#[test]
fn columns_that_no_table_has_a_type_for_are_refused_by_check() {
    for (step, told, cure) in [
        (
            "derive { map {'k': id} as c }",
            "it is map(varchar, bigint)",
            "derive { map_keys(c) as c_keys, map_values(c) as c_values }\n    drop { c }",
        ),
        ("derive { named_struct('x', id) as c }", "it is struct(x bigint)", "derive { c['x'] as c_x }\n    drop { c }"),
        ("derive { [named_struct('x', id)] as c }", "it is list(struct(x bigint))", "drop { c }"),
    ] {
        for kind in ["parquet", "delta", "orc"] {
            let file = |steps: &str| {
                format!(
                    "connection drops files {{ path = \"in\" }}\nconnection lake {kind} {{ path = \"lake\" }}\n\npipeline p {{\n  \
                     source rows = drops {{ path = \"*.csv\", columns = {{ id = bigint }} }}\n  transform {{\n    {steps}\n  }}\n  \
                     sink lake {{ table = \"t\", mode = append }}\n}}\n"
                )
            };
            let folder = written(&file(step));
            let said = fail(folder.path(), &["check"], 1);
            let first = cure.lines().next().unwrap();
            assert!(
                said.contains("error[E0522]")
                    && said.contains("p.lake:")
                    && said.contains(told)
                    && said.contains(first),
                "{step}: {said}"
            );
            std::fs::write(folder.path().join("p.lake"), file(&format!("{step}\n    {cure}"))).unwrap();
            succeed(folder.path(), &["run", "p"]);
        }
    }
}
