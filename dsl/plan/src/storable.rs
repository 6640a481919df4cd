//! Columns that tables have types for.

use arrow_schema::DataType;
use lakehead_core::column_type_name;
use lakehead_syntax::Diagnostic;

use crate::lowering::Lowering;
use crate::model::SinkPlan;

/// Refuses columns that no table has a type for: a run would, when its first rows come.
pub(crate) fn check(lowering: &mut Lowering<'_>, sink: &SinkPlan) {
    let role = lowering.input.connectors.iter().find(|one| one.name == sink.connector).and_then(|one| one.sink);
    // What keeps nothing shows everything.
    if role.is_none_or(|role| role.exists.is_none()) {
        return;
    }
    for field in sink.schema.fields().iter().filter(|field| has_no_column(field.data_type())) {
        let (name, data_type) = (field.name(), column_type_name(field.data_type()));
        lowering.found.push(
            Diagnostic::error("E0522", format!("tables have no type for `{name}`"))
                .primary(lowering.file, sink.span, format!("it is {data_type}"))
                .help(cure_of(name, field.data_type())),
        );
    }
}

/// Returns whether no table of ours holds such values.
fn has_no_column(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => true,
        DataType::Interval(_) | DataType::Duration(_) => true,
        DataType::List(item) | DataType::LargeList(item) => has_no_column(item.data_type()),
        _ => false,
    }
}

fn cure_of(name: &str, data_type: &DataType) -> String {
    match data_type {
        DataType::Struct(fields) if !fields.is_empty() => {
            let part = fields[0].name();
            format!(
                "derive {{ {name}['{part}'] as {name}_{part} }}   and   drop {{ {name} }}   keep what is needed of it"
            )
        }
        DataType::Map(..) => {
            format!(
                "derive {{ map_keys({name}) as {name}_keys, map_values({name}) as {name}_values }}   and   drop {{ {name} }}"
            )
        }
        _ => format!("derive {{ cast({name} as varchar) as {name} }}   or leave it out:   drop {{ {name} }}"),
    }
}
