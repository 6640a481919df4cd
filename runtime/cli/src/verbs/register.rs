//! `lakehead register`: a table that others wrote, into a catalog.

use std::path::Path;
use std::sync::Arc;

use lakehead_catalog::{Book, Catalog, Difference, Known, TableEntry, kind};
use lakehead_core::{
    CatalogKind, Clock, Error, Listing, Result, RunContext, Settings, SinkSpec, SystemClock, Value, WriteMode,
};
use lakehead_plan::CatalogPlan;
use lakehead_sql::Sql;
use serde_json::json;

use super::Ended;
use crate::args::{Common, Format, Register};
use crate::environment::fill_settings;
use crate::project::{Loaded, load};

/// A folder that holds a table.
pub(crate) struct Found {
    /// The format, by the name of its connector.
    pub(crate) format: &'static str,
    pub(crate) location: String,
    pub(crate) listing: Listing,
}

/// Registers the table in a folder, new or as it is now.
pub(crate) async fn register(arguments: &Register, common: &Common) -> Result<Ended> {
    let loaded = load(&arguments.path, common, &Sql::new())?;
    let catalog = catalog_of(&loaded, arguments.catalog.as_deref())?;
    let found = look_at(&arguments.table).await?.ok_or_else(|| {
        Error::user("R0628", "there is no table at this place")
            .with("place", &arguments.table)
            .help("name the folder of a Delta table, or of Parquet or ORC files")
    })?;
    let last = found.location.rsplit('/').next().unwrap_or_default();
    let name = arguments.name.clone().unwrap_or_else(|| last.to_owned());
    let kind = kind(&catalog.kind).ok_or_else(|| Error::bug("a planned catalog is of no kind"))?;
    check(&name, kind, &found)?;
    let entry = TableEntry::new(&name, found.format, &found.location, &found.listing);
    let book = Book::open(&loaded.state_folder())?;
    let opened = Catalog::open(&catalog.name, &catalog.kind, &catalog.settings, &book)?;
    let done = Box::pin(opened.register(&entry, &Known::Nothing)).await?;
    let done: Vec<String> = done.iter().map(Difference::to_string).collect();
    if common.format == Format::Json {
        let object = json!({ "catalog": catalog.name, "table": name, "format": found.format, "done": done });
        println!("{object}");
    } else {
        let done = if done.is_empty() { "same".to_owned() } else { done.join("; ") };
        println!("{}: {name}: {done}   {} columns, {}", catalog.name, entry.definition.columns.len(), found.format);
    }
    Ok(Ended::Done)
}

/// Finds the catalog that is named, or the default one, with its secrets.
fn catalog_of(loaded: &Loaded, named: Option<&str>) -> Result<CatalogPlan> {
    let catalogs = &loaded.planned.catalogs;
    let is_default = |plan: &&CatalogPlan| kind(&plan.kind).is_some_and(|kind| kind.name == plan.name);
    let found = match named {
        Some(name) => catalogs.iter().find(|plan| plan.name == name),
        None => catalogs.iter().find(is_default),
    };
    let mut found = found.cloned().ok_or_else(|| {
        let names: Vec<&str> = catalogs.iter().map(|plan| plan.name.as_str()).collect();
        Error::user("R0628", "there is no such catalog")
            .with("catalog", named.unwrap_or_default())
            .help(format!("catalogs are: {}", names.join(", ")))
    })?;
    fill_settings(&mut found.settings, &loaded.planned.secrets)?;
    Ok(found)
}

fn check(name: &str, kind: &CatalogKind, found: &Found) -> Result<()> {
    let safe: Vec<String> =
        name.split('.').map(|part| (kind.safe_name)(part).unwrap_or_else(|| part.to_owned())).collect();
    let refused = |what: &str| Error::user("R0629", what).with("catalog_kind", kind.name).with("names", kind.names);
    if safe.join(".") != name || safe.len() > kind.parts_max {
        let safe = safe[safe.len().saturating_sub(kind.parts_max)..].join(".");
        return Err(refused("the catalog holds no table of this name")
            .with("table", name)
            .help(format!("--name {safe}")));
    }
    if !kind.formats.contains(&found.format) {
        return Err(refused("the catalog lists no tables of this format")
            .with("format", found.format)
            .help(format!("it lists: {}", kind.formats.join(", "))));
    }
    let column = found.listing.schema.fields().iter().find(|field| (kind.safe_column)(field.name()).is_some());
    match column {
        Some(field) => Err(refused("the catalog holds no column of this name")
            .with("column", field.name())
            .help("register the table in another catalog: --catalog NAME")),
        None => Ok(()),
    }
}

/// Reads what a catalog must know of the table in a folder, whoever wrote it; `None` where there is none.
pub(crate) async fn look_at(place: &str) -> Result<Option<Found>> {
    if Path::new(place).is_file() {
        return Ok(None);
    }
    let location = absolute(place)?;
    let Some((parent, last)) = location.rsplit_once('/') else { return Ok(None) };
    // A name is taken as it is where it is a prefix: a dot in it is no folder.
    let connection = [("path", parent), ("prefix", last)];
    let spec = SinkSpec {
        pipeline: String::new(),
        node: "register".into(),
        table: String::new(),
        schema: Arc::new(arrow::datatypes::Schema::empty()),
        key: Vec::new(),
        mode: WriteMode::Append,
        partition_by: Vec::new(),
        connection: Settings::new(connection.map(|(name, text)| (name.to_owned(), Value::Text(text.to_owned())))),
        settings: Settings::default(),
        root: Path::new("/").to_path_buf(),
        cache: std::env::temp_dir(),
        run: RunContext::default(),
        clock: Arc::new(SystemClock::default()) as Arc<dyn Clock>,
    };
    for connector in lakehead_registry::CONNECTORS {
        let Some(describe) = connector.sink.and_then(|sink| sink.describe) else { continue };
        if let Some(listing) = describe(&spec).await? {
            return Ok(Some(Found { format: connector.name, location, listing }));
        }
    }
    Ok(None)
}

/// A path from the folder that the command was given in, or a URL; without a slash at its end.
fn absolute(place: &str) -> Result<String> {
    if place.contains("://") {
        return Ok(place.trim_end_matches('/').to_owned());
    }
    let path = std::path::absolute(place)
        .map_err(|error| Error::user("R0628", "the path is not one").with("place", place).caused_by(error))?;
    Ok(path.display().to_string().trim_end_matches('/').to_owned())
}
