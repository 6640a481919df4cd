//! `lifecycle` definitions, and the sinks that name one. What is refused here would lose or hide rows, or be refused by a
//! store long after the file was written.

use std::time::Duration;

use arrow_schema::{DataType, Schema};
use lakehead_core::{
    Expiry, Lifecycle, Move, OptionKind, OptionSpec, PartitionTime, Replica, Retention, Settings, SinkRole,
    StorageClass, TimeColumn, Transition, WriteMode,
};
use lakehead_syntax::ast::{self, Rule};
use lakehead_syntax::{Diagnostic, FileId, Span};

use crate::definitions::{Connection, Definitions, unknown};
use crate::lowering::Lowering;
use crate::model::{CopyPlan, Layout, LayoutTransform, SinkPlan};
use crate::options::check_settings as read_settings;
use crate::values::{Context, names_run};

static TRANSITION: [OptionSpec; 1] =
    [OptionSpec::new("unreadable", OptionKind::Word(&["allow"]), "queries may fail on what has moved")];
static REPLICATE: [OptionSpec; 1] =
    [OptionSpec::new("delete", OptionKind::Bool, "whether what is deleted here is deleted there").default("false")];

/// A definition as it was read, with the places of its steps.
pub(crate) struct Written<'a> {
    model: Lifecycle,
    file: FileId,
    /// The rule of each of `model.transitions`.
    transitions: Vec<&'a Rule>,
    expire: Option<&'a Rule>,
    /// The rule of each of `model.replicas`.
    replicas: Vec<&'a Rule>,
}

/// Reads one definition; mistakes go to `found`, and what is right is returned.
pub(crate) fn read<'a>(
    file: FileId,
    item: &'a ast::Lifecycle,
    definitions: &Definitions<'_>,
    found: &mut Vec<Diagnostic>,
) -> Written<'a> {
    refuse_twice(file, item, found);
    let model = Lifecycle { name: item.name.text.clone(), ..Lifecycle::default() };
    let mut written = Written { model, file, transitions: Vec::new(), expire: None, replicas: Vec::new() };
    let context = Context { definitions, file, holes: &[] };
    for rule in &item.rules {
        match rule {
            Rule::Transition { class, after, settings, span } => {
                let settings = of_rule(&context, settings.as_ref(), &TRANSITION, *span, found);
                let unreadable_allowed = settings.text("unreadable").is_some();
                if let (Some(class), Some(after)) = (class_of(file, class, found), days(file, after, found)) {
                    written.model.transitions.push(Transition { class, after, unreadable_allowed });
                    written.transitions.push(rule);
                }
            }
            Rule::Expire { after, .. } => {
                written.model.expire_after = days(file, after, found);
                written.expire = Some(rule);
            }
            Rule::Vacuum { after, .. } => {
                written.model.vacuum_after = length(file, after, found);
                tell_short_vacuum(file, after, written.model.vacuum_after, found);
            }
            Rule::Replicate { to, settings, span } => {
                let settings = of_rule(&context, settings.as_ref(), &REPLICATE, *span, found);
                check_connection(file, to, definitions, found);
                let deletes = settings.bool_or("delete", false);
                written.model.replicas.push(Replica { connection: to.to_string(), deletes });
                written.replicas.push(rule);
            }
        }
    }
    check_order(&written, found);
    written
}

fn of_rule(
    context: &Context<'_, '_>,
    settings: Option<&ast::Settings>,
    options: &[OptionSpec],
    place: Span,
    found: &mut Vec<Diagnostic>,
) -> Settings {
    settings.map_or_else(Settings::default, |written| read_settings(context, written, options, place, found))
}

fn class_of(file: FileId, class: &ast::Name, found: &mut Vec<Diagnostic>) -> Option<StorageClass> {
    let read = StorageClass::parse(&class.text);
    if read.is_none() {
        found.push(unknown("E0219", "storage class", class, file, &StorageClass::ALL.map(StorageClass::word)));
    }
    read
}

fn length(file: FileId, after: &ast::Duration, found: &mut Vec<Diagnostic>) -> Option<Duration> {
    let read = after.milliseconds().map(Duration::from_millis);
    if read.is_none() {
        found.push(Diagnostic::error("E0106", "this number does not fit").primary(file, after.span, "too large"));
    }
    read
}

fn days(file: FileId, after: &ast::Duration, found: &mut Vec<Diagnostic>) -> Option<Duration> {
    let read = length(file, after, found)?;
    if Lifecycle::days(read).is_some() {
        return Some(read);
    }
    found.push(
        Diagnostic::error("E0611", format!("`{}` is not a number of days", after.text))
            .primary(file, after.span, "stores count whole days, 1 or more")
            .help("after 30d   or   after 2w   or   after 1y"),
    );
    None
}

/// Readers of the version before still open what was taken out, and rounds under way name what no version does.
fn tell_short_vacuum(file: FileId, after: &ast::Duration, read: Option<Duration>, found: &mut Vec<Diagnostic>) {
    const DAY: Duration = Duration::from_secs(86_400);
    if read.is_some_and(|read| read < DAY) {
        found.push(
            Diagnostic::warning("W0610", format!("files are kept a day, not `{}`", after.text))
                .primary(file, after.span, "shorter than anything is kept")
                .note("readers of the version before still open them")
                .help("vacuum after 1d   says what is done"),
        );
    }
}

fn check_connection(file: FileId, to: &ast::Path, definitions: &Definitions<'_>, found: &mut Vec<Diagnostic>) {
    let name = to.to_string();
    if !definitions.connections.contains_key(&name) {
        let names: Vec<&str> = definitions.connections.keys().map(String::as_str).collect();
        found.push(unknown("E0201", "connection", &ast::Name { text: name, span: to.span }, file, &names));
    }
}

/// What a rule is about: there is one rule for each.
fn subject(rule: &Rule) -> String {
    match rule {
        Rule::Transition { class, .. } => format!("transition to {}", class.text),
        Rule::Expire { .. } => "expire".into(),
        Rule::Vacuum { .. } => "vacuum".into(),
        Rule::Replicate { to, .. } => format!("replicate to {to}"),
    }
}

fn refuse_twice(file: FileId, item: &ast::Lifecycle, found: &mut Vec<Diagnostic>) {
    for (place, rule) in item.rules.iter().enumerate() {
        let first = item.rules[..place].iter().find(|first| subject(first) == subject(rule));
        if let Some(first) = first {
            found.push(
                Diagnostic::error("E0609", format!("`{}` stands in `{}` twice", subject(rule), item.name.text))
                    .primary(file, rule.span(), "the second")
                    .secondary(file, first.span(), "the first")
                    .help("leave one of them out"),
            );
        }
    }
}

/// Each step is later and colder than the one before: stores move nothing back, and what is gone moves nowhere.
fn check_order(written: &Written<'_>, found: &mut Vec<Diagnostic>) {
    let moves: Vec<_> = written.model.transitions.iter().zip(&written.transitions).collect();
    for pair in moves.windows(2) {
        let [(before, first), (now, second)] = pair else { continue };
        let refused = |message: String, label: String, cure: &str| {
            Diagnostic::error("E0610", message)
                .primary(written.file, second.span(), label)
                .secondary(written.file, first.span(), "the step before")
                .help(cure)
        };
        // The same class twice is told as that.
        if now.class < before.class {
            let message = format!("nothing moves from `{}` back to `{}`", before.class.word(), now.class.word());
            let cure = "write the classes in this order: infrequent, archive_instant, archive";
            found.push(refused(message, "warmer than before".into(), cure));
        } else if now.class != before.class && now.after <= before.after {
            let message = format!("`{}` comes no later than `{}`", now.class.word(), before.class.word());
            let cure = format!("transition to {} after {}d", now.class.word(), whole_days(before.after) + 30);
            found.push(refused(message, "ages rise from step to step".into(), &cure));
        }
    }
    let last = moves.iter().max_by_key(|(step, _)| step.after);
    if let (Some(age), Some(rule), Some((step, moved))) = (written.model.expire_after, written.expire, last)
        && age <= step.after
    {
        let class = step.class.word();
        found.push(
            Diagnostic::error("E0610", format!("rows expire before they are moved to `{class}`"))
                .primary(written.file, rule.span(), "the expiry comes last")
                .secondary(written.file, moved.span(), "would never happen")
                .help(format!("leave the move to {class} out, or   expire after {}d", whole_days(step.after) + 365)),
        );
    }
}

fn whole_days(age: Duration) -> u64 {
    Lifecycle::days(age).unwrap_or(0)
}

/// Returns what a sink carries.
pub(crate) fn of_sink(lowering: &Lowering<'_>, settings: &Settings) -> Option<Box<Lifecycle>> {
    let definition = settings.text("lifecycle").and_then(|name| lowering.definitions.lifecycles.get(name))?;
    Some(Box::new(definition.model.clone()))
}

/// Returns where a sink's table is copied to; what cannot take a copy is told.
pub(crate) fn copies_of(
    lowering: &mut Lowering<'_>,
    settings: &Settings,
    connection: &Connection,
    sink: Span,
) -> Vec<CopyPlan> {
    let definitions = lowering.definitions;
    let name = settings.text("lifecycle").unwrap_or_default();
    lowering.lean_on("lifecycle", name);
    let definition = definitions.lifecycles.get(name);
    let mut copies = Vec::new();
    for (definition, (replica, rule)) in
        definition.into_iter().flat_map(|one| one.model.replicas.iter().zip(&one.replicas).map(move |pair| (one, pair)))
    {
        // What is not there was told where it stands.
        let Some(to) = definitions.connections.get(&replica.connection) else { continue };
        lowering.lean_on("connection", &replica.connection);
        let refused = |code, message: String, label: String, cure: String| {
            Diagnostic::error(code, message)
                .primary(definition.file, rule.span(), label)
                .secondary(lowering.file, sink, format!("writes to `{}`", connection.name))
                .help(cure)
        };
        let holds_any = to.connector.and_then(|connector| connector.sink).is_some_and(|role| role.holds_copies);
        if to.kind != connection.kind && !holds_any {
            let (kind, wanted) = (&to.kind, &connection.kind);
            let message = format!("a copy of a {wanted} table cannot be kept in `{}`", to.name);
            let cure = format!("connection {} {wanted} {{ path = … }}", to.name);
            lowering.found.push(refused("E0615", message, format!("is {kind}"), cure));
        } else if place_of(to) == place_of(connection) {
            let message = format!("the copy would be the table itself: `{}` is the same place", to.name);
            let cure = "replicate to a connection with another `path`".to_owned();
            lowering.found.push(refused("E0616", message, "where the table is".into(), cure));
        } else {
            let (connection_name, connection) = (to.name.clone(), to.settings.clone());
            copies.push(CopyPlan { connection_name, connection, deletes: replica.deletes });
        }
    }
    copies
}

/// What says where the tables of a connection lie.
fn place_of(connection: &Connection) -> [Option<&str>; 3] {
    let path = connection.settings.text("path").map(|path| path.trim_end_matches('/'));
    [path, connection.settings.text("prefix").filter(|prefix| !prefix.is_empty()), connection.settings.text("endpoint")]
}

impl SinkPlan {
    /// Returns what its connector does for its lifecycle. A table that is only compacted says itself which of its partition
    /// columns is a time, unless the file does.
    pub fn retention(&self) -> Retention {
        let Some(lifecycle) = &self.lifecycle else { return Retention::default() };
        let column = |part: &Layout| {
            let (name, source) = (part.name.clone(), part.source.clone());
            Some(TimeColumn { name, source, tells: time_of(part)? })
        };
        let by: Vec<TimeColumn> = self.layout.iter().filter_map(column).collect();
        let aged = |after| Expiry { after, by: by.clone() };
        let goes_by_age = !by.is_empty() || self.mode == WriteMode::Compact;
        let moves = lifecycle.transitions.iter().filter(|_| goes_by_age);
        let moves = moves.map(|step| Move { class: step.class, age: aged(step.after) }).collect();
        let expiry = lifecycle.expire_after.filter(|_| !by.is_empty()).map(aged);
        Retention { moves, expiry, vacuum_after: lifecycle.vacuum_after, copied: !self.copies.is_empty() }
    }
}

fn time_of(part: &Layout) -> Option<PartitionTime> {
    match (part.transform, &part.data_type) {
        (LayoutTransform::Year, _) => Some(PartitionTime::Year),
        (LayoutTransform::Month, _) => Some(PartitionTime::Month),
        (LayoutTransform::Day, _) | (LayoutTransform::Identity, DataType::Date32) => Some(PartitionTime::Day),
        (LayoutTransform::Hour, _) => Some(PartitionTime::Hour),
        (LayoutTransform::Identity, DataType::Timestamp(..)) => Some(PartitionTime::Moment),
        (LayoutTransform::Identity | LayoutTransform::Truncate(_), _) => None,
    }
}

/// Notes the rules that nobody carries out yet: `run` refuses them, so that nothing is accepted and ignored.
pub(crate) fn note_not_yet(
    lowering: &mut Lowering<'_>,
    lifecycle: Option<&Lifecycle>,
    connection: &Connection,
    role: SinkRole,
    mode: WriteMode,
    layout: &[Layout],
    table: &str,
) {
    let Some(lifecycle) = lifecycle else { return };
    // On a disk `infrequent` stays where it is; what is colder goes to the cold root.
    let path = connection.settings.text("path").unwrap_or_default();
    let is_local = !path.contains("://") || path.starts_with("file://");
    let stays = lifecycle.transitions.iter().all(|step| step.class == StorageClass::Infrequent);
    let keeps = role.past_age.is_some();
    // A table of one run alone is another one with the next run.
    let copies = role.replicate.is_some() && !names_run(table);
    // A table that is only compacted says its layout itself: what tells an age in it is good enough to move files by, and is
    // told when it is opened (R0656); no row is deleted by it.
    let tells_age = layout.iter().any(|part| tells_age(part, layout));
    let has_cold = connection.settings.text("cold").is_some() && (tells_age || mode == WriteMode::Compact);
    let moves = path.starts_with("s3://") || (is_local && (stays || has_cold));
    // A version that stands would go because it is old.
    let expires = keeps && tells_age && mode != WriteMode::Scd2;
    let rules = [
        (!lifecycle.transitions.is_empty() && !moves, "transition outside s3:// and without `cold`"),
        (lifecycle.expire_after.is_some() && !expires, "expire"),
        (lifecycle.vacuum_after.is_some() && !keeps, "vacuum"),
        (!lifecycle.replicas.is_empty() && !copies, "replicate"),
    ];
    for (_, rule) in rules.iter().filter(|(used, _)| *used) {
        lowering
            .not_yet
            .push((format!("{rule} of lifecycle {}", lifecycle.name), format!("sink to {}", connection.name)));
    }
}

/// Checks the lifecycle of a sink, whatever its rows are.
pub(crate) fn check_settings(
    lowering: &mut Lowering<'_>,
    written: &ast::Settings,
    settings: &Settings,
    connection: &Connection,
) {
    let Some((name, setting)) = settings.text("lifecycle").zip(written.get("lifecycle")) else { return };
    let definitions = lowering.definitions;
    let span = setting.value.span;
    let Some(definition) = definitions.lifecycles.get(name) else {
        let names: Vec<_> = definitions.lifecycles.keys().map(String::as_str).collect();
        let name = ast::Name { text: name.to_owned(), span };
        lowering.found.push(unknown("E0218", "lifecycle", &name, lowering.file, &names));
        return;
    };
    // Files that a `path` names are nobody's table: what reads them is not ours to break.
    if settings.get("table").is_some() {
        refuse_unreadable(lowering, definition, span);
    }
    if connection.settings.text("path").is_some_and(|path| path.starts_with("s3://")) {
        check_s3(lowering, definition, span);
    }
}

fn refuse_unreadable(lowering: &mut Lowering<'_>, definition: &Written<'_>, sink: Span) {
    for (step, rule) in definition.model.transitions.iter().zip(&definition.transitions) {
        if step.class == StorageClass::Archive && !step.unreadable_allowed {
            lowering.found.push(
                Diagnostic::error("E0612", "queries of the table would fail on what is in `archive`")
                    .primary(definition.file, rule.span(), "not readable until restored")
                    .secondary(lowering.file, sink, "a table is under this rule")
                    .note("a query that touches one archived file fails as a whole; a restore takes hours")
                    .help(format!(
                        "transition to archive_instant after {}d   which is read at once",
                        whole_days(step.after)
                    ))
                    .help("or, where nothing reads such old rows:   { unreadable = allow }   behind the rule"),
            );
        }
    }
}

/// What S3 refuses, and what it bills for nothing.
fn check_s3(lowering: &mut Lowering<'_>, definition: &Written<'_>, sink: Span) {
    let steps = &definition.model.transitions;
    for (place, (step, rule)) in steps.iter().zip(&definition.transitions).enumerate() {
        let (class, least) = (step.class.word(), step.class.age_days_min());
        if whole_days(step.after) < least {
            lowering.found.push(
                Diagnostic::error("E0614", format!("S3 moves nothing to `{class}` before {least} days"))
                    .primary(definition.file, rule.span(), format!("{} days", whole_days(step.after)))
                    .secondary(lowering.file, sink, "a table in S3 is under this rule")
                    .help(format!("transition to {class} after {least}d")),
            );
        }
        let next = steps.get(place + 1).map(|step| step.after).zip(definition.transitions.get(place + 1));
        let next = next.or(definition.model.expire_after.zip(definition.expire.as_ref()));
        let Some((left, next)) = next else { continue };
        let (stay, billed) = (left.saturating_sub(step.after), step.class.billed_days_min());
        if !stay.is_zero() && whole_days(stay) < billed {
            lowering.found.push(
                Diagnostic::warning("W0609", format!("`{class}` is left before the days it is billed for are over"))
                    .primary(definition.file, next.span(), format!("{} days after it came there", whole_days(stay)))
                    .secondary(definition.file, rule.span(), format!("S3 bills {billed} days at least"))
                    .help(format!("after {}d   costs the same", whole_days(step.after) + billed)),
            );
        }
    }
}

/// Checks that the age of a partition can be told from its folders.
pub(crate) fn check_layout(
    lowering: &mut Lowering<'_>,
    stage: &ast::Sink,
    settings: &Settings,
    mode: WriteMode,
    layout: &[Layout],
    table: &Schema,
) {
    // The layout of a table that is only compacted is the table's, and not said here; files age as files.
    if mode == WriteMode::Compact
        || settings.get("table").is_none()
        || layout.iter().any(|part| tells_age(part, layout))
    {
        return;
    }
    let name = settings.text("lifecycle");
    let Some((name, setting)) = name.zip(stage.settings.get("lifecycle")) else { return };
    let definitions = lowering.definitions;
    let Some(definition) = definitions.lifecycles.get(name) else { return };
    let rule = definition.transitions.first().or(definition.expire.as_ref());
    let Some(rule) = rule else { return };
    let by = stage.settings.get("partition_by").map(|setting| setting.value.span);
    let (span, label) = match by {
        Some(span) => (span, "no day, month or year of a time"),
        None => (setting.value.span, "the table has no partitions"),
    };
    lowering.found.push(
        Diagnostic::error("E0613", format!("`{name}` goes by the age of partitions, and theirs is not known"))
            .primary(lowering.file, span, label)
            .secondary(definition.file, rule.span(), "by age")
            .note("the age of a file says nothing: merging and upserts write old rows into new files")
            .help(partition_cure(layout, table)),
    );
}

/// An hour of the day alone comes again every day.
fn tells_age(part: &Layout, layout: &[Layout]) -> bool {
    match part.transform {
        LayoutTransform::Day | LayoutTransform::Month | LayoutTransform::Year => true,
        LayoutTransform::Identity => is_time(&part.data_type),
        LayoutTransform::Hour => layout.iter().any(|other| {
            other.source == part.source && other.transform != LayoutTransform::Hour && tells_age(other, &[])
        }),
        LayoutTransform::Truncate(_) => false,
    }
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Timestamp(..))
}

fn partition_cure(layout: &[Layout], table: &Schema) -> String {
    let time = table.fields().iter().find(|field| is_time(field.data_type()) && !field.name().starts_with('_'));
    let Some(time) = time else {
        return "derive { … as created_at }   with the time of the row, and   partition_by = [day(created_at)]".into();
    };
    let kept = layout.iter().filter(|part| part.transform == LayoutTransform::Identity);
    let mut parts: Vec<String> = kept.map(|part| part.name.clone()).collect();
    parts.push(if time.data_type() == &DataType::Date32 {
        time.name().clone()
    } else {
        format!("day({})", time.name())
    });
    format!("partition_by = [{}]", parts.join(", "))
}
