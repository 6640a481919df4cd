//! The one namespace of a directory: connections, variables, secrets, catalogs, lifecycles, pipelines.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use lakehead_core::{CatalogKind, Connector, Settings, Value};
use lakehead_syntax::ast::{self, Item, ValueKind, VarType};
use lakehead_syntax::{Diagnostic, FileId, Span, did_you_mean};

use crate::SecretSource;
use crate::catalogs::{self, Catalog};
use crate::lifecycle::{self, Written};
use crate::options::{check_settings, ok_place};
use crate::values::{Context, value};

/// Kinds of connections that are known and not built into this binary.
pub(crate) const MISSING_CONNECTORS: [&str; 8] =
    ["mysql", "kafka", "kinesis", "sqs", "iceberg", "mqtt", "nats", "redis"];

/// A connection after its settings were read.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) connector: Option<&'static Connector>,
    pub(crate) settings: Settings,
    pub(crate) file: FileId,
    pub(crate) span: Span,
}

/// Everything that pipelines may name.
pub(crate) struct Definitions<'a> {
    pub(crate) connections: BTreeMap<String, Connection>,
    pub(crate) catalogs: BTreeMap<String, Catalog>,
    pub(crate) lifecycles: BTreeMap<String, Written<'a>>,
    pub(crate) pipelines: BTreeMap<String, (FileId, &'a ast::Pipeline)>,
    pub(crate) variables: BTreeMap<String, Value>,
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    /// Definitions with mistakes, kind and name: what leans on one is not run, as a setting that could not be read is not
    /// there.
    unsound: BTreeSet<(&'static str, String)>,
    /// Whether a variable or a secret with a mistake was read since this was last asked.
    read_unsound: Cell<bool>,
}

impl Definitions<'_> {
    /// Returns whether a definition has mistakes.
    pub(crate) fn is_unsound(&self, kind: &'static str, name: &str) -> bool {
        self.unsound.iter().any(|(of, unsound)| *of == kind && unsound == name)
    }

    /// Notes that a value is read: what holds it leans on that definition.
    pub(crate) fn read(&self, kind: &'static str, name: &str) {
        if self.is_unsound(kind, name) {
            self.read_unsound.set(true);
        }
    }

    /// Returns whether a value with a mistake was read since this was last asked.
    pub(crate) fn has_read_unsound(&self) -> bool {
        self.read_unsound.take()
    }

    /// Notes that a definition has mistakes, where there are some behind `since`.
    pub(crate) fn note_mistakes(&mut self, item: &Item, since: &[Diagnostic]) {
        let leans = self.has_read_unsound();
        if let Some((kind, name)) = kind_and_name(item)
            && (leans || since.iter().any(Diagnostic::is_error))
        {
            self.unsound.insert((kind, name.text.clone()));
        }
    }
}

struct Variable<'a> {
    file: FileId,
    item: &'a ast::Var,
}

/// Collects the definitions of all files; mistakes go to `found`.
pub(crate) fn collect<'a>(
    files: &'a [(FileId, &'a ast::File)],
    connectors: &[&'static Connector],
    kinds: &[&'static CatalogKind],
    profile: Option<&str>,
    overrides: &[(String, String)],
    found: &mut Vec<Diagnostic>,
) -> Definitions<'a> {
    let items = || files.iter().flat_map(|(file, tree)| tree.items.iter().map(move |item| (*file, item)));
    let mut seen: BTreeMap<(&str, &str), (FileId, Span)> = BTreeMap::new();
    let mut unsound = BTreeSet::new();
    for (file, item) in items() {
        if let Some((kind, name)) = kind_and_name(item)
            && let Some(first) = seen.insert((kind, name.as_str()), (file, name.span))
        {
            unsound.insert((kind, name.text.clone()));
            found.push(
                Diagnostic::error("E0202", format!("there are two definitions of {kind} `{}`", name.text))
                    .primary(file, name.span, "the second")
                    .secondary(first.0, first.1, "the first")
                    .help("rename one of them"),
            );
        }
    }
    let mut definitions = Definitions {
        connections: BTreeMap::new(),
        catalogs: BTreeMap::new(),
        lifecycles: BTreeMap::new(),
        pipelines: BTreeMap::new(),
        variables: variables(items(), profile, overrides, &mut unsound, found),
        secrets: BTreeMap::new(),
        unsound,
        read_unsound: Cell::new(false),
    };
    for (file, item) in items() {
        match item {
            Item::Secret(secret) => {
                if let Some(source) = secret_source(file, secret, found) {
                    definitions.secrets.insert(secret.name.text.clone(), source);
                }
            }
            Item::Pipeline(pipeline) => {
                definitions.pipelines.insert(pipeline.name.text.clone(), (file, pipeline));
            }
            _ => {}
        }
    }
    for (file, item) in items() {
        if let Item::Catalog(catalog) = item {
            let before = found.len();
            let read = catalogs::read(file, catalog, &definitions, kinds, found);
            definitions.catalogs.insert(catalog.name.text.clone(), read);
            definitions.note_mistakes(item, &found[before..]);
        }
    }
    for (file, item) in items() {
        if let Item::Connection(written) = item {
            let before = found.len();
            let read = connection(file, written, &definitions, connectors, found);
            definitions.connections.insert(written.name.text.clone(), read);
            definitions.note_mistakes(item, &found[before..]);
        }
    }
    for (file, item) in items() {
        if let Item::Lifecycle(written) = item {
            let before = found.len();
            let read = lifecycle::read(file, written, &definitions, found);
            definitions.lifecycles.insert(written.name.text.clone(), read);
            definitions.note_mistakes(item, &found[before..]);
        }
    }
    definitions
}

fn kind_and_name(item: &Item) -> Option<(&'static str, &ast::Name)> {
    Some(match item {
        Item::Use(_) | Item::Test(_) => return None,
        Item::Var(item) => ("variable", &item.name),
        Item::Profile(item) => ("profile", &item.name),
        Item::Secret(item) => ("secret", &item.name),
        Item::Connection(item) => ("connection", &item.name),
        Item::Catalog(item) => ("catalog", &item.name),
        Item::Lifecycle(item) => ("lifecycle", &item.name),
        Item::Pipeline(item) => ("pipeline", &item.name),
    })
}

fn variables<'a>(
    items: impl Iterator<Item = (FileId, &'a Item)>,
    profile: Option<&str>,
    overrides: &[(String, String)],
    unsound: &mut BTreeSet<(&'static str, String)>,
    found: &mut Vec<Diagnostic>,
) -> BTreeMap<String, Value> {
    let mut declared: BTreeMap<&str, Variable<'a>> = BTreeMap::new();
    let mut profiles: BTreeMap<&str, (FileId, &ast::Profile)> = BTreeMap::new();
    for (file, item) in items {
        match item {
            Item::Var(item) => {
                declared.insert(&item.name.text, Variable { file, item });
            }
            Item::Profile(item) => {
                profiles.insert(&item.name.text, (file, item));
            }
            _ => {}
        }
    }
    let mut values = BTreeMap::new();
    for (name, Variable { file, item }) in &declared {
        if let Some(default) = &item.default {
            match typed(*file, item, default, found) {
                Some(value) => drop(values.insert((*name).to_owned(), value)),
                None => drop(unsound.insert(("variable", (*name).to_owned()))),
            }
        }
    }
    for (file, item) in profiles.values() {
        for setting in &item.settings.list {
            let Some(variable) = declared.get(setting.name.text.as_str()) else {
                let names: Vec<_> = declared.keys().copied().collect();
                found.push(unknown("E0601", "variable", &setting.name, *file, &names));
                unsound.insert(("profile", item.name.text.clone()));
                continue;
            };
            let value = typed(*file, variable.item, &setting.value, found);
            if profile == Some(item.name.text.as_str()) {
                if value.is_none() {
                    unsound.insert(("variable", setting.name.text.clone()));
                }
                values.extend(value.map(|value| (setting.name.text.clone(), value)));
            }
        }
    }
    if let Some(profile) = profile
        && !profiles.contains_key(profile)
    {
        let names: Vec<_> = profiles.keys().copied().collect();
        let mut diagnostic = Diagnostic::error("E0603", format!("there is no profile `{profile}`"))
            .note(format!("profiles are: {}", names.join(", ")));
        if let Some(meant) = did_you_mean(profile, names.iter().copied()) {
            diagnostic = diagnostic.help(format!("did you mean `--profile {meant}`?"));
        }
        found.push(diagnostic);
        unsound.insert(("profile", profile.to_owned()));
    }
    for (name, text) in overrides {
        match declared.get(name.as_str()).and_then(|variable| parse_override(variable.item.ty, text)) {
            Some(value) => {
                values.insert(name.clone(), value);
            }
            None => {
                // What was meant is not known: it may be any of them.
                unsound.extend(declared.keys().map(|declared| ("variable", (*declared).to_owned())));
                found.push(
                    Diagnostic::error("E0604", format!("`--var {name}={text}` does not fit a variable"))
                        .note(format!("variables are: {}", declared.keys().copied().collect::<Vec<_>>().join(", "))),
                );
            }
        }
    }
    values
}

fn typed(file: FileId, item: &ast::Var, given: &ast::Value, found: &mut Vec<Diagnostic>) -> Option<Value> {
    let value = match (&given.kind, item.ty) {
        (ValueKind::String(text), VarType::String) => text.as_text().map(|text| Value::Text(text.to_owned())),
        (ValueKind::Int(text), VarType::Int) => text.parse().ok().map(Value::Int),
        (ValueKind::Bool(value), VarType::Bool) => Some(Value::Bool(*value)),
        (ValueKind::Duration(value), VarType::Duration) => {
            value.milliseconds().map(|ms| Value::Duration(std::time::Duration::from_millis(ms)))
        }
        (ValueKind::Size(value), VarType::Size) => value.bytes().map(Value::Size),
        _ => None,
    };
    if value.is_none() {
        found.push(
            Diagnostic::error(
                "E0605",
                format!("variable `{}` is a {}, and this is not", item.name.text, item.ty.word()),
            )
            .primary(file, given.span, format!("needs a {}", item.ty.word()))
            .help(match item.ty {
                VarType::String => "write \"text\"",
                VarType::Int => "write 8",
                VarType::Bool => "write true or false",
                VarType::Duration => "write 30s",
                VarType::Size => "write 64MB",
            }),
        );
    }
    value
}

fn parse_override(ty: VarType, text: &str) -> Option<Value> {
    match ty {
        VarType::String => Some(Value::Text(text.to_owned())),
        VarType::Int => text.parse().ok().map(Value::Int),
        VarType::Bool => text.parse().ok().map(Value::Bool),
        VarType::Duration => {
            let duration = ast::Duration { text: text.to_owned(), span: Span::default() };
            duration.milliseconds().map(|ms| Value::Duration(std::time::Duration::from_millis(ms)))
        }
        VarType::Size => ast::Size { text: text.to_owned(), span: Span::default() }.bytes().map(Value::Size),
    }
}

fn secret_source(file: FileId, secret: &ast::Secret, found: &mut Vec<Diagnostic>) -> Option<SecretSource> {
    let argument = match secret.from.args.as_slice() {
        [ast::Value { kind: ValueKind::String(text), .. }] => text.as_text(),
        _ => None,
    };
    match (secret.from.name.text.as_str(), argument) {
        ("env", Some(name)) => Some(SecretSource::Environment(name.to_owned())),
        ("file", Some(path)) => Some(SecretSource::File(path.to_owned())),
        _ => {
            found.push(
                Diagnostic::error("E0606", format!("secret `{}` does not say where it is", secret.name.text))
                    .primary(file, secret.from.span, "not a place of secrets")
                    .help("env(\"NAME\")   or   file(\"/run/secrets/name\")"),
            );
            None
        }
    }
}

fn connection(
    file: FileId,
    item: &ast::Connection,
    definitions: &Definitions<'_>,
    connectors: &[&'static Connector],
    found: &mut Vec<Diagnostic>,
) -> Connection {
    let kind = item.kind.text.as_str();
    let connector = connectors.iter().copied().find(|connector| connector.name == kind);
    let empty = ast::Settings::default();
    let written = item.settings.as_ref().unwrap_or(&empty);
    let mut settings = Settings::default();
    match connector {
        Some(connector) => {
            let context = Context { definitions, file, holes: &[] };
            settings = check_settings(&context, written, connector.connection, ok_place(item.name.span), found);
            if connector.connection.iter().any(|option| option.name == "catalog") {
                catalogs::check_names(file, Some(written), definitions, found);
            }
        }
        None if MISSING_CONNECTORS.contains(&kind) => {}
        None => {
            let names: Vec<_> = connectors.iter().map(|connector| connector.name).chain(MISSING_CONNECTORS).collect();
            found.push(unknown("E0209", "kind of connection", &item.kind, file, &names));
        }
    }
    Connection { name: item.name.text.clone(), kind: kind.to_owned(), connector, settings, file, span: item.name.span }
}

/// Says that a name is not there, with the nearest one and the list.
pub(crate) fn unknown(code: &'static str, kind: &str, name: &ast::Name, file: FileId, names: &[&str]) -> Diagnostic {
    let meant = did_you_mean(&name.text, names.iter().copied());
    let label = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`?"));
    let mut diagnostic =
        Diagnostic::error(code, format!("there is no {kind} `{}`", name.text)).primary(file, name.span, label);
    if names.is_empty() {
        diagnostic = diagnostic.note(format!("no {kind} is defined"));
    } else if meant.is_none() {
        diagnostic = diagnostic.note(format!("there are: {}", names.join(", ")));
    }
    match (meant, definition(code, &name.text)) {
        (Some(meant), _) => diagnostic.fix(file, name.span, meant),
        (None, Some(cure)) => diagnostic.help(cure),
        (None, None) => diagnostic,
    }
}

/// How what is missing would be defined, where one line says it.
fn definition(code: &str, name: &str) -> Option<String> {
    match code {
        "E0607" => Some(format!("secret {name} = env(\"{}\")", name.to_uppercase())),
        "E0601" => Some(format!("var {name}: string = \"…\"   or   lakehead … --var {name}=…")),
        "E0221" => Some(format!("catalog {name} glue {{ region = \"eu-west-1\" }}")),
        "E0201" => Some(format!("connection {name} delta {{ path = \"lake\" }}")),
        _ => None,
    }
}

impl Definitions<'_> {
    /// Reads one value with these definitions.
    pub(crate) fn value(
        &self,
        file: FileId,
        written: &ast::Value,
        holes: &[&str],
        found: &mut Vec<Diagnostic>,
    ) -> Option<Value> {
        value(&Context { definitions: self, file, holes }, written, false, found)
    }
}
