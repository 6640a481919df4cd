//! `lakehead init`: a project that runs at once, or a mirror of a database.

use std::path::Path;

use lakehead_core::{Error, Result};

use super::Ended;
use super::fmt::write_whole;
use crate::args::{Common, Format, Init};

const HELLO: &str = include_str!("../../../../pipelines/hello.lake");

/// Makes a project.
pub(crate) async fn init(arguments: Init, common: &Common) -> Result<Ended> {
    let folder = &arguments.folder;
    if folder.join("lakehead.toml").exists() {
        return Err(Error::user("R0915", "there is a project already")
            .with("folder", folder.display())
            .help("lakehead check   looks at it"));
    }
    std::fs::create_dir_all(folder).map_err(|error| {
        Error::user("R0909", "the folder cannot be made").with("folder", folder.display()).caused_by(error)
    })?;
    match &arguments.from {
        Some(url) => crate::verbs::init_postgres::mirror(folder, url, common).await?,
        None => hello(folder, common)?,
    }
    Ok(Ended::Done)
}

/// Returns a project's name from its folder.
pub(crate) fn project_name(folder: &Path) -> String {
    let name =
        folder.canonicalize().ok().and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    let clean: String = name
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect();
    if clean.is_empty() { "lake".into() } else { clean }
}

/// Writes the settings file of a project.
pub(crate) fn write_settings(folder: &Path) -> Result<()> {
    let text = format!(
        "name    = \"{}\"\nedition = 1\nstate   = \".lakehead\"   # ledger; can be lost: positions live in the lake\n",
        project_name(folder)
    );
    write_whole(&folder.join("lakehead.toml"), &text)?;
    write_whole(&folder.join(".gitignore"), ".lakehead/\nlake/\n")
}

fn hello(folder: &Path, common: &Common) -> Result<()> {
    write_settings(folder)?;
    write_whole(&folder.join("hello.lake"), HELLO)?;
    if common.format == Format::Json {
        let files = ["lakehead.toml", "hello.lake"];
        println!("{}", serde_json::json!({ "event": "created", "folder": folder, "files": files }));
    } else if !common.quiet {
        let shown = folder.display();
        println!("created {shown}/");
        println!("  lakehead.toml   name, edition 1, state in ./.lakehead");
        println!("  hello.lake      made-up rows -> a Delta table, with one test");
        println!();
        println!(
            "next:  cd {shown} && lakehead test && lakehead run hello      (writes ./lake/hello, no account needed)"
        );
    }
    Ok(())
}
