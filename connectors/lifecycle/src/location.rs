//! The place of a table in a bucket.

use lakehead_core::{Error, Result};

/// Folders that hold the books of tables and pipelines, never data of one table.
const BOOKS: [&str; 4] = ["_delta_log", "_manifest", "_lakehead", "_staging"];
/// Stores that keep rules of their own which nobody makes yet.
const NOT_YET: [&str; 8] = ["gs", "az", "azure", "abfs", "abfss", "adl", "https", "http"];

/// A table's folder in a bucket of S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The bucket.
    pub bucket: String,
    /// The folder, with a slash behind it and none before, so that `t/` is not also `t2/`.
    pub prefix: String,
}

impl Location {
    /// Reads `s3://bucket/folder/table`, or `s3a://` as Hadoop writes it.
    ///
    /// # Errors
    ///
    /// R0551 where there is no bucket, no folder (the rules would reach the whole bucket), or a part that is filled in
    /// later or encoded; R0552 for Google Cloud, Azure, web and local locations; R0553 inside a table's own books.
    pub fn parse(url: &str) -> Result<Self> {
        let Some((scheme, rest)) = url.split_once("://") else { return Err(unsupported("local", url)) };
        match scheme {
            "s3" | "s3a" => {}
            "file" => return Err(unsupported("local", url)),
            known if NOT_YET.contains(&known) => return Err(unsupported(known, url)),
            _ => return Err(no_folder(url)),
        }
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // What a URL would read as something else is in no prefix as it stands.
        let literal = !url.contains("${") && !url.chars().any(|c| c.is_control() || matches!(c, '%' | '?' | '#'));
        let plain = !parts.iter().any(|part| matches!(*part, "." | ".."));
        if !is_bucket(bucket) || parts.is_empty() || !literal || !plain {
            return Err(no_folder(url));
        }
        if let Some(book) = parts.iter().find(|part| BOOKS.contains(part)) {
            return Err(Error::user("R0553", "no storage rule may reach a table's own books")
                .with("folder", book)
                .with("location", url)
                .help("name the folder of the table itself"));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: format!("{}/", parts.join("/")) })
    }
}

/// Whether S3 may have a bucket of that name (its naming rules: 3 to 63 of a-z, 0-9, dot and dash; older ones also have
/// capitals and underscores, up to 255).
fn is_bucket(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (3..=255).contains(&name.len()) && name.chars().all(fits)
}

fn no_folder(url: &str) -> Error {
    Error::user("R0551", "the location is not a folder of a bucket")
        .with("location", url)
        .help("s3://bucket/folder/table, written out")
}

fn unsupported(store: &str, url: &str) -> Error {
    Error::user("R0552", "no rules are made for this kind of store yet")
        .with("store", store)
        .with("location", url)
        .help("rules are made for s3:// locations")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_a_bucket_is_read() {
        for (url, prefix) in [
            ("s3://lake/a/t", "a/t/"),
            ("s3://lake/a/t/", "a/t/"),
            ("s3a://lake//a//t", "a/t/"),
            ("s3://lake/my_delta_log/t", "my_delta_log/t/"),
        ] {
            let expected = Location { bucket: "lake".into(), prefix: prefix.into() };
            assert_eq!(Location::parse(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn what_no_rule_may_reach_is_refused() {
        for (url, code) in [
            ("s3://lake", "R0551"),
            ("s3://lake/", "R0551"),
            ("s3:///t", "R0551"),
            ("s3://la ke/t", "R0551"),
            ("s3://lake/a/${run.id}", "R0551"),
            ("s3://lake/a/../t", "R0551"),
            ("s3://lake/a%20b/t", "R0551"),
            ("s3://lake/t?versions", "R0551"),
            ("ftp://lake/t", "R0551"),
            ("gs://lake/t", "R0552"),
            ("abfss://c@account/t", "R0552"),
            ("az://c/t", "R0552"),
            ("file:///lake/t", "R0552"),
            ("lake/t", "R0552"),
            ("s3://lake/t/_delta_log", "R0553"),
            ("s3://lake/_staging/p/t", "R0553"),
            ("s3://lake/_lakehead/p", "R0553"),
            ("s3://lake/t/_manifest/", "R0553"),
        ] {
            assert_eq!(Location::parse(url).unwrap_err().code(), code, "{url}");
        }
    }
}
