//! `catalog` definitions, and the tables that are listed in them. What a catalog would refuse, or fold into another name,
//! is refused here, long before the first commit.

use std::collections::BTreeMap;

use arrow_schema::Schema;
use lakehead_core::{CatalogKind, Connector, Settings};
use lakehead_syntax::ast::{self, ValueKind};
use lakehead_syntax::{Diagnostic, FileId, Span};

use crate::definitions::{Connection, Definitions, unknown};
use crate::lowering::Lowering;
use crate::model::{CatalogPlan, NodeKind, Plan, SinkPlan, Stream};
use crate::names_run;
use crate::options::{check_settings, ok_place};
use crate::values::Context;

/// Kinds that are known and not built into this binary: tables of formats that it does not write.
const MISSING_KINDS: [&str; 1] = ["rest"];

/// A catalog after its settings were read.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    name: String,
    kind: Option<&'static CatalogKind>,
    settings: Settings,
}

/// Reads one definition; mistakes go to `found`.
pub(crate) fn read(
    file: FileId,
    item: &ast::Catalog,
    definitions: &Definitions<'_>,
    kinds: &[&'static CatalogKind],
    found: &mut Vec<Diagnostic>,
) -> Catalog {
    let kind = kinds.iter().copied().find(|kind| kind.name == item.kind.text);
    let empty = ast::Settings::default();
    let written = item.settings.as_ref().unwrap_or(&empty);
    let mut settings = Settings::default();
    let names: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
    match kind {
        Some(kind) => {
            let context = Context { definitions, file, holes: &[] };
            settings = check_settings(&context, written, kind.options, ok_place(item.name.span), found);
        }
        None if MISSING_KINDS.contains(&item.kind.text.as_str()) => found.push(
            Diagnostic::error("E0220", format!("catalogs of kind `{}` list Iceberg tables alone", item.kind.text))
                .primary(file, item.kind.span, "this version writes none")
                .help(format!("kinds are: {}", names.join(", "))),
        ),
        None => found.push(unknown("E0220", "kind of catalog", &item.kind, file, &names)),
    }
    Catalog { name: item.name.text.clone(), kind, settings }
}

/// Returns every catalog, those of the kind that needs no definition too.
pub(crate) fn all(definitions: &Definitions<'_>, kinds: &[&'static CatalogKind]) -> Vec<CatalogPlan> {
    let defined =
        definitions.catalogs.values().filter_map(|catalog| Some((&catalog.name, catalog.kind?, &catalog.settings)));
    let plan = |(name, kind, settings): (&String, &CatalogKind, &Settings)| CatalogPlan {
        name: name.clone(),
        kind: kind.name.to_owned(),
        settings: settings.clone(),
        table: String::new(),
    };
    let default = kinds.iter().filter(|kind| kind.is_default && !definitions.catalogs.contains_key(kind.name));
    let (none, no_settings) = (String::new(), Settings::default());
    let defaults = default.map(|kind| CatalogPlan { name: kind.name.to_owned(), ..plan((&none, kind, &no_settings)) });
    defined.map(plan).chain(defaults).collect()
}

/// Says where a name in a list of catalogs stands.
struct Named<'a> {
    catalog: &'a Catalog,
    file: FileId,
    span: Span,
}

/// Reports names in a `catalog` setting that are no catalogs.
pub(crate) fn check_names(
    file: FileId,
    written: Option<&ast::Settings>,
    definitions: &Definitions<'_>,
    found: &mut Vec<Diagnostic>,
) {
    for (name, span) in places(written) {
        if !definitions.catalogs.contains_key(&name) {
            let names: Vec<&str> = definitions.catalogs.keys().map(String::as_str).collect();
            found.push(unknown("E0221", "catalog", &ast::Name { text: name, span }, file, &names));
        }
    }
}

/// The names in a `catalog` setting, with their places.
fn places(written: Option<&ast::Settings>) -> Vec<(String, Span)> {
    let Some(setting) = written.and_then(|written| written.get("catalog")) else { return Vec::new() };
    let name = |value: &ast::Value| match &value.kind {
        ValueKind::Path(path) => Some((path.to_string(), value.span)),
        _ => None,
    };
    match &setting.value.kind {
        ValueKind::List(items) => items.iter().filter_map(name).collect(),
        _ => name(&setting.value).into_iter().collect(),
    }
}

/// What of a sink is to be listed.
pub(crate) struct Listed<'a> {
    pub(crate) written: &'a ast::Settings,
    pub(crate) settings: &'a Settings,
    pub(crate) connection: &'a Connection,
    pub(crate) table: &'a str,
    pub(crate) schema: &'a Schema,
    /// Where the table's name stands.
    pub(crate) span: Span,
}

/// Returns the catalogs that list a sink's table: those of the sink, else those of its connection, else the default.
pub(crate) fn of_sink(lowering: &mut Lowering<'_>, listed: &Listed<'_>) -> Vec<CatalogPlan> {
    let lists = |connector: &Connector| connector.connection.iter().any(|option| option.name == "catalog");
    if !listed.connection.connector.is_some_and(lists) || listed.table.is_empty() {
        return Vec::new();
    }
    check_names(lowering.file, Some(listed.written), lowering.definitions, &mut lowering.found);
    let own = listed.settings.get("catalog").is_some();
    let (file, said, spans) = if own {
        (lowering.file, listed.settings, places(Some(listed.written)))
    } else {
        (listed.connection.file, &listed.connection.settings, Vec::new())
    };
    if said.get("catalog").is_none() {
        return of_default(lowering, listed);
    }
    let definitions = lowering.definitions;
    let mut plans: Vec<CatalogPlan> = Vec::new();
    for name in said.texts("catalog") {
        let Some(catalog) = definitions.catalogs.get(&name) else { continue };
        lowering.lean_on("catalog", &name);
        if plans.iter().any(|plan| plan.name == name) {
            continue;
        }
        let span = spans.iter().find(|(place, _)| *place == name).map(|(_, span)| *span);
        let named = Named { catalog, file, span: span.unwrap_or(listed.connection.span) };
        plans.extend(of_catalog(lowering, listed, &named));
    }
    plans
}

/// The catalog of tables that name none. It holds every name.
fn of_default(lowering: &Lowering<'_>, listed: &Listed<'_>) -> Vec<CatalogPlan> {
    let kind = lowering.input.catalogs.iter().find(|kind| kind.is_default);
    let plan = |kind: &&'static CatalogKind| CatalogPlan {
        name: kind.name.to_owned(),
        kind: kind.name.to_owned(),
        settings: Settings::default(),
        table: listed_name(listed),
    };
    kind.filter(|_| !names_run(listed.table)).map(plan).into_iter().collect()
}

/// The table's name with the connection's prefix.
fn listed_name(listed: &Listed<'_>) -> String {
    format!("{}{}", listed.connection.settings.text("prefix").unwrap_or(""), listed.table)
}

fn of_catalog(lowering: &mut Lowering<'_>, listed: &Listed<'_>, named: &Named<'_>) -> Option<CatalogPlan> {
    let catalog = named.catalog;
    let kind = catalog.kind?;
    let table = listed_name(listed);
    if names_run(&table) {
        lowering
            .error("E0222", "a table of each run is in no catalog".into(), listed.span, "another name in every run")
            .help_last("catalog = []   lists it nowhere");
        return None;
    }
    if !kind.formats.contains(&listed.connection.kind.as_str()) {
        let format = &listed.connection.kind;
        lowering.found.push(
            Diagnostic::error("E0223", format!("`{}` lists no `{format}` tables", catalog.name))
                .primary(named.file, named.span, format!("a catalog of kind `{}`", kind.name))
                .help(format!("it lists: {}; or name another catalog", kind.formats.join(", "))),
        );
        return None;
    }
    let named_well = check_table(lowering, listed, kind, &table);
    let columns_well = check_columns(lowering, listed, kind);
    (named_well && columns_well).then(|| CatalogPlan {
        name: catalog.name.clone(),
        kind: kind.name.to_owned(),
        settings: catalog.settings.clone(),
        table,
    })
}

fn check_table(lowering: &mut Lowering<'_>, listed: &Listed<'_>, kind: &CatalogKind, table: &str) -> bool {
    let parts: Vec<&str> = table.split('.').collect();
    if parts.len() > kind.parts_max {
        let (last, first) = parts.split_at(parts.len() + 1 - kind.parts_max);
        let safe = [&[last.join("_")], &first.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>()[..]].concat();
        lowering
            .error(
                "E0222",
                format!("`{}` has no place for `{table}`", kind.name),
                listed.span,
                &format!("{} names at most, joined by dots", kind.parts_max),
            )
            .help_last(format!("table = \"{}\"", safe.join(".")));
        return false;
    }
    let safe: Vec<_> = parts.iter().map(|part| (kind.safe_name)(part)).collect();
    if safe.iter().all(Option::is_none) {
        return true;
    }
    let whole: Vec<String> = safe.into_iter().zip(&parts).map(|(safe, part)| safe.unwrap_or((*part).into())).collect();
    lowering
        .error("E0222", format!("`{}` holds no table called `{table}`", kind.name), listed.span, kind.names)
        .help_last(format!("a table that it holds: {}", whole.join(".")));
    false
}

fn check_columns(lowering: &mut Lowering<'_>, listed: &Listed<'_>, kind: &CatalogKind) -> bool {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    let mut well = true;
    for field in listed.schema.fields() {
        let name = field.name().as_str();
        if let Some(safe) = (kind.safe_column)(name) {
            lowering
                .error("E0222", format!("`{}` holds no column called `{name}`", kind.name), listed.span, kind.names)
                .help_last(format!("derive {{ \"{name}\" as {safe} }}   drop {{ \"{name}\" }}   before the sink"));
            well = false;
        }
        let folded = if kind.folds_case { name.to_lowercase() } else { name.to_owned() };
        if let Some(first) = seen.insert(folded, name) {
            lowering
                .error(
                    "E0222",
                    format!("`{first}` and `{name}` are one column to `{}`", kind.name),
                    listed.span,
                    "they differ in case alone",
                )
                .help_last(format!("derive {{ \"{name}\" as {}_2 }}   drop {{ \"{name}\" }}", name.to_lowercase()));
            well = false;
        }
    }
    well
}

/// What the source says of the columns of a table: of those that still have their name and type.
pub(crate) fn comments(lowering: &Lowering<'_>, stream: &Stream, table: &Schema) -> BTreeMap<String, String> {
    let sources = lowering.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Source(source) => Some(source),
        _ => None,
    });
    let named = stream.table.as_ref();
    let entries = sources
        .filter(|source| source.tables.iter().any(|table| Some(&table.name) == named))
        .filter_map(|source| lowering.input.lock.get(&source.connection_name, named?));
    let mut comments = BTreeMap::new();
    for entry in entries {
        for (column, comment) in &entry.comments {
            let was = entry.table.schema.field_with_name(column).ok();
            let is = table.field_with_name(column).ok();
            if was.is_some_and(|was| is.is_some_and(|is| is.data_type() == was.data_type())) {
                comments.insert(column.clone(), comment.clone());
            }
        }
    }
    comments
}

/// Two tables of one name in one catalog would take the entry from one another. The default catalog lists both.
pub(crate) fn refuse_shared_names(plans: &[Plan], kinds: &[&'static CatalogKind], found: &mut Vec<Diagnostic>) {
    let is_default = |name: &str| kinds.iter().any(|kind| kind.is_default && kind.name == name);
    let mut seen: BTreeMap<(&str, &str), (&SinkPlan, FileId)> = BTreeMap::new();
    for plan in plans {
        let nodes = plan.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Sink(sink) => Some(sink),
            _ => None,
        });
        for sink in nodes.chain(&plan.dead_letter) {
            for catalog in sink.catalogs.iter().filter(|catalog| !is_default(&catalog.kind)) {
                let (first, file) = *seen.entry((&catalog.name, &catalog.table)).or_insert((sink, plan.file));
                // Dead letters of several pipelines share a table.
                if (&first.connection_name, &first.table) != (&sink.connection_name, &sink.table) {
                    let message = format!("`{}` would list two tables as `{}`", catalog.name, catalog.table);
                    found.push(
                        Diagnostic::error("E0224", message)
                            .primary(plan.file, sink.span, "the second")
                            .secondary(file, first.span, "the first")
                            .help("give one another `table`, or its connection another `prefix`"),
                    );
                }
            }
        }
    }
}
