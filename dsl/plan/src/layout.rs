//! `partition_by`: columns, and transforms of columns.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use lakehead_core::{Settings, Value, column_type_name};
use lakehead_syntax::{Span, ast};

use crate::lowering::Lowering;
use crate::model::{Layout, LayoutTransform};
use crate::sinks::no_column;

const TRANSFORMS: &str = "year(c), month(c), day(c), hour(c), truncate(c, 3)";

/// Reads `partition_by`; returns the partition columns, and the columns of the table with those that transforms add.
pub(crate) fn of_sink(
    lowering: &mut Lowering<'_>,
    stage: &ast::Sink,
    settings: &Settings,
    schema: &SchemaRef,
) -> Option<(Vec<Layout>, SchemaRef)> {
    let written = match settings.get("partition_by") {
        Some(Value::List(items)) => items.clone(),
        Some(single) => vec![single.clone()],
        None => return Some((Vec::new(), Arc::clone(schema))),
    };
    let span = stage.settings.get("partition_by").map_or(stage.span, |setting| setting.value.span);
    let mut layout = Vec::new();
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    for value in written {
        let (column, transform) = match &value {
            Value::Call(name, arguments) => {
                let column = arguments.first().and_then(Value::as_text).unwrap_or("").to_owned();
                (column, transform(lowering, name, arguments, span)?)
            }
            other => (other.as_text().unwrap_or("").to_owned(), LayoutTransform::Identity),
        };
        let Ok(field) = schema.field_with_name(&column) else {
            no_column(lowering, &column, schema, span);
            return None;
        };
        check_type(lowering, transform, field, span)?;
        let part = part(&column, transform, field.data_type());
        if transform != LayoutTransform::Identity && schema.field_with_name(&part.name).is_err() {
            fields.push(Arc::new(Field::new(&part.name, part.data_type.clone(), true)));
        }
        layout.push(part);
    }
    Some((layout, Arc::new(Schema::new(fields))))
}

fn transform(lowering: &mut Lowering<'_>, name: &str, arguments: &[Value], span: Span) -> Option<LayoutTransform> {
    let count = if name == "truncate" { 2 } else { 1 };
    let transform = match name {
        "year" => LayoutTransform::Year,
        "month" => LayoutTransform::Month,
        "day" => LayoutTransform::Day,
        "hour" => LayoutTransform::Hour,
        "truncate" => match arguments.get(1) {
            Some(Value::Int(width)) if u32::try_from(*width).is_ok_and(|width| width > 0) => {
                LayoutTransform::Truncate(u32::try_from(*width).unwrap_or(1))
            }
            _ => {
                lowering
                    .error("E0510", "`truncate` needs a column and a width".into(), span, "a whole number above 0")
                    .help_last("truncate(code, 3)   keeps three characters;   truncate(id, 1000)   keeps thousands");
                return None;
            }
        },
        _ => {
            lowering
                .error("E0510", format!("`{name}` is not a transform of a partition"), span, "not known")
                .help_last(TRANSFORMS);
            return None;
        }
    };
    if arguments.len() > count {
        lowering
            .error("E0510", format!("`{name}` takes {count} and got {}", arguments.len()), span, "too many")
            .help_last(TRANSFORMS);
        return None;
    }
    Some(transform)
}

fn check_type(lowering: &mut Lowering<'_>, transform: LayoutTransform, field: &Field, span: Span) -> Option<()> {
    use DataType as T;
    let column = field.name();
    match (transform, field.data_type()) {
        (LayoutTransform::Identity, _) => Some(()),
        (LayoutTransform::Truncate(_), T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Utf8 | T::Decimal128(..)) => {
            Some(())
        }
        (LayoutTransform::Truncate(_), other) => {
            let label = format!("it is {}", column_type_name(other));
            lowering.error("E0510", format!("`{column}` is neither text nor a whole number"), span, &label);
            None
        }
        (_, T::Timestamp(..) | T::Date32) => Some(()),
        _ => {
            lowering.error("E0510", format!("`{column}` is not a time"), span, "needs a timestamp or a date");
            None
        }
    }
}

fn part(column: &str, transform: LayoutTransform, data_type: &DataType) -> Layout {
    let (suffix, data_type) = match transform {
        LayoutTransform::Identity => ("", data_type.clone()),
        LayoutTransform::Year => ("_year", DataType::Int32),
        LayoutTransform::Month => ("_month", DataType::Utf8),
        LayoutTransform::Day => ("_day", DataType::Date32),
        LayoutTransform::Hour => ("_hour", DataType::Int32),
        LayoutTransform::Truncate(_) => ("_truncate", data_type.clone()),
    };
    Layout { source: column.to_owned(), transform, name: format!("{column}{suffix}"), data_type }
}
