//! What a check says of connections that lie where no store of the build leads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod offline;

use lakehead_core::Connector;
use lakehead_syntax::Diagnostic;
use offline::{lake, sink_of};

static TABLES: Connector = lake("tables", &[]);

#[test]
fn a_connection_in_a_store_that_was_left_out_is_told_at_its_path_with_the_cure() {
    for (path, refused) in [("\"gs://b/t\"", true), ("\"gs://${var.bucket}/t\"", true), ("\"s3://b/t\"", false)] {
        let text = format!(
            "var bucket: string = \"b\"\nconnection lake tables {{ path = {path} }}\nconnection feed rows {{ }}\n\npipeline p {{\n  \
             source a = rows {{ columns = {{ id = bigint }} }}\n  sink lake {{ table = \"t\" }}\n}}\n"
        );
        let planned = offline::planned(&text, &[&TABLES]);
        let errors: Vec<_> = planned.diagnostics.iter().filter(|found| Diagnostic::is_error(found)).collect();
        assert_eq!(errors.len(), usize::from(refused), "{path}: {errors:#?}");
        match refused {
            true => assert!(planned.plans.is_empty(), "{path}"),
            false => assert_eq!(sink_of(&planned).table, "t"),
        }
        for error in errors {
            assert_eq!((error.code, &text[error.labels[0].span.range()]), ("R0640", path));
            assert!(error.helps[0].contains("`gcs`"), "{:?}", error.helps);
        }
    }
}
