//! Made-up rows: every value is a pure function of the seed, the row's ordinal and the column's name, so that a run
//! resumed anywhere goes on with the same rows.

mod changes;
mod dice;
mod pattern;
mod rule;
mod source;
mod value;
mod words;

use lakehead_core::{Connector, OptionKind, OptionSpec, SourceRole};

/// The `generate` connector.
pub static CONNECTOR: Connector = Connector {
    name: "generate",
    summary: "made-up rows, the same ones every time",
    built_in: true,
    connection: &[],
    source: Some(SourceRole {
        options: &SOURCE,
        endless: |settings| settings.get("rate").is_some(),
        changes: |settings| settings.get("changes").is_some(),
        build: |spec| Ok(Box::new(source::GenerateSource::new(spec)?)),
        discover: |discovery| Box::pin(source::discover(discovery)),
        arrivals: None,
        column_rule: rule::made_type,
        makes: |_| Vec::new(),
        comparable: false,
    }),
    sink: None,
    alert: None,
};

static CHANGES: [OptionSpec; 5] = [
    OptionSpec::new("key", OptionKind::Column, "column that says which rows are the same").required(),
    OptionSpec::new("updates", OptionKind::Percent, "share of rows that change an earlier one").default("20%"),
    OptionSpec::new("deletes", OptionKind::Percent, "share of rows that take an earlier one out").default("5%"),
    OptionSpec::new("bad", OptionKind::Percent, "share of rows without any value but the key").default("0%"),
    OptionSpec::new("add_column_at", OptionKind::Int, "row from which on there is one more column"),
];

static SOURCE: [OptionSpec; 5] = [
    OptionSpec::new("rows", OptionKind::Int, "rows of one run").default("1000"),
    OptionSpec::new(
        "columns",
        OptionKind::Schema,
        "{ name = rule, … }: sequence(), number(a, b), money(a, b), choice([…]), recent(\"1m\"), \
         pattern(\"…\"), sentence(n), name(), email(), or a type",
    )
    .required(),
    OptionSpec::new("seed", OptionKind::Int, "another seed makes other rows").default("1"),
    OptionSpec::new("rate", OptionKind::Int, "rows a second; the source then never ends"),
    OptionSpec::new("changes", OptionKind::Settings(&CHANGES), "{ key = id }: a stream of changes instead of rows"),
];
