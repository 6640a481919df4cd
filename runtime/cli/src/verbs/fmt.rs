//! `lakehead fmt`.

use std::path::{Path, PathBuf};

use lakehead_core::{Error, Result};
use lakehead_syntax::{SourceMap, format, render_json, render_text};

use super::Ended;
use crate::args::{Common, Fmt, Format};
use crate::environment::color;

/// Writes files in the one style; with `--check` only says which are not.
pub(crate) fn fmt(arguments: &Fmt, common: &Common) -> Result<Ended> {
    let mut files = Vec::new();
    for path in &arguments.paths {
        collect(path, &mut files)?;
    }
    if files.is_empty() {
        eprintln!("no *.lake files there");
        return Ok(Ended::NothingMatched);
    }
    let mut ended = Ended::Done;
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, error))?;
        match format(&text) {
            Err(found) => {
                ended = Ended::Errors;
                let sources = SourceMap::single(file.display().to_string(), text);
                match common.format {
                    Format::Json => println!("{}", render_json(&found, &sources)),
                    Format::Text => eprintln!("{}", render_text(&found, &sources, color())),
                }
            }
            Ok(formatted) if formatted == text => {}
            Ok(_) if arguments.check => {
                ended = Ended::Errors;
                show(&file, common);
            }
            Ok(formatted) => {
                write_whole(&file, &formatted)?;
                if !common.quiet {
                    show(&file, common);
                }
            }
        }
    }
    if ended == Ended::Errors && arguments.check && !common.quiet && common.format == Format::Text {
        eprintln!("write them in style:  lakehead fmt");
    }
    Ok(ended)
}

/// Names a file that is, or would be, written anew.
fn show(file: &Path, common: &Common) {
    match common.format {
        Format::Json => println!("{}", serde_json::json!({ "file": file })),
        Format::Text => println!("{}", file.display()),
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
        .map_err(|error| unreadable(path, error))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if entry.is_dir() && !hidden && !entry.is_symlink() {
            collect(&entry, files)?;
        } else if entry.extension().is_some_and(|extension| extension == "lake") {
            files.push(entry);
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::user("R0904", "a file cannot be read").with("file", path.display()).caused_by(error)
}

/// Writes a file so that a crash leaves the old or the new text, never half of one.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::user("R0909", "a file cannot be written").with("file", path.display()).caused_by(error)
    };
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let beside = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    std::fs::write(&beside, text).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}
