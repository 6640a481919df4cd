//! Column types in SQL words, as `columns = { … }` and `lakehead.lock` write them.

use std::sync::Arc;

use arrow_schema::{DataType, Field, TimeUnit};

/// The greatest precision of a decimal that every lake format can hold.
const DECIMAL_PRECISION_MAX: u8 = 38;

/// Reads one column of the lock file, `name type [not null]`.
pub fn parse_column(text: &str) -> Result<Field, String> {
    let text = text.trim();
    let (name, rest) = if let Some(quoted) = text.strip_prefix('"') {
        quoted.split_once('"').ok_or_else(|| format!("`{text}` lacks a closing quote"))?
    } else {
        text.split_once(char::is_whitespace).ok_or_else(|| format!("`{text}` lacks a type"))?
    };
    let rest = rest.trim();
    let (type_text, nullable) = match rest.strip_suffix("not null") {
        Some(type_text) => (type_text.trim(), false),
        None => (rest, true),
    };
    let data_type = parse_column_type(type_text)?;
    let field = Field::new(name, data_type, nullable);
    Ok(match type_text {
        "uuid" | "json" => field.with_metadata([("lakehead.type".to_owned(), type_text.to_owned())].into()),
        _ => field,
    })
}

/// Reads a type in SQL words; the error says what is known.
pub fn parse_column_type(text: &str) -> Result<DataType, String> {
    let text = text.trim().to_ascii_lowercase();
    let (word, arguments) = match text.split_once('(') {
        Some((word, rest)) => {
            let inner = rest.strip_suffix(')').ok_or_else(|| format!("`{text}` lacks a closing parenthesis"))?;
            (word.trim(), Some(inner.trim()))
        }
        None => (text.as_str(), None),
    };
    match word {
        "bool" | "boolean" => Ok(DataType::Boolean),
        "smallint" => Ok(DataType::Int16),
        "int" | "integer" => Ok(DataType::Int32),
        "bigint" => Ok(DataType::Int64),
        "real" => Ok(DataType::Float32),
        "double" | "double precision" => Ok(DataType::Float64),
        "decimal" | "numeric" => parse_decimal(&text, arguments),
        "varchar" | "text" | "char" | "uuid" | "json" => Ok(DataType::Utf8),
        "bytea" | "binary" => Ok(DataType::Binary),
        "date" => Ok(DataType::Date32),
        "time" => Ok(DataType::Time64(TimeUnit::Microsecond)),
        "timestamp" => Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
        "timestamptz" => Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        "list" => {
            let item = parse_column_type(arguments.ok_or("`list` needs its element, as in list(varchar)")?)?;
            Ok(DataType::List(Arc::new(Field::new("item", item, true))))
        }
        _ => Err(format!(
            "`{text}` is not a type; types are bool, smallint, int, bigint, real, double, decimal(p, s), varchar, text, \
             bytea, date, time, timestamp, timestamptz, uuid, json, list(type)"
        )),
    }
}

fn parse_decimal(text: &str, arguments: Option<&str>) -> Result<DataType, String> {
    let arguments = arguments.ok_or_else(|| format!("`{text}` needs precision and scale, as in decimal(12, 2)"))?;
    let mut numbers = arguments.split(',').map(|number| number.trim().parse::<u8>());
    let (Some(Ok(precision)), scale, None) = (numbers.next(), numbers.next(), numbers.next()) else {
        return Err(format!("`{text}` needs precision and scale, as in decimal(12, 2)"));
    };
    let scale = match scale {
        None => 0,
        Some(Ok(scale)) => scale,
        Some(Err(_)) => return Err(format!("`{text}` has no whole number as scale")),
    };
    if precision == 0 || precision > DECIMAL_PRECISION_MAX || scale > precision {
        return Err(format!("`{text}` is outside decimal(1..=38, 0..=precision)"));
    }
    Ok(DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX)))
}

/// The greatest number of buckets of a table: Spark refuses more (`spark.sql.sources.bucketing.maxBuckets`).
pub const BUCKETS_MAX: u32 = 100_000;

/// Returns whether rows can be put into buckets by a column of this type: Hive and Spark both have a hash for it.
pub fn has_bucket_hash(data_type: &DataType) -> bool {
    use DataType as T;
    match data_type {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 => true,
        T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Binary | T::LargeBinary | T::BinaryView => true,
        T::Date32 | T::Timestamp(..) => true,
        // A negative scale is a type that neither engine has.
        T::Decimal128(_, scale) => *scale >= 0,
        _ => false,
    }
}

/// Returns the SQL words for a type, the inverse of [`parse_column_type`] for every type it can return.
pub fn column_type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "bool".into(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".into(),
        DataType::Int32 | DataType::UInt16 => "int".into(),
        DataType::Int64 | DataType::UInt32 => "bigint".into(),
        DataType::UInt64 => "decimal(20, 0)".into(),
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision}, {scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "varchar".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytea".into(),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time".into(),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".into(),
        DataType::List(item) | DataType::LargeList(item) => format!("list({})", column_type_name(item.data_type())),
        DataType::Null => "null".into(),
        DataType::Struct(fields) => {
            let parts = fields.iter().map(|field| format!("{} {}", field.name(), column_type_name(field.data_type())));
            format!("struct({})", parts.collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => {
                let parts = pair.iter().map(|field| column_type_name(field.data_type()));
                format!("map({})", parts.collect::<Vec<_>>().join(", "))
            }
            other => format!("map({})", column_type_name(other)),
        },
        other => other.to_string().to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_back_as_it_is_written() {
        for text in [
            "bool",
            "smallint",
            "int",
            "bigint",
            "real",
            "double",
            "decimal(12, 2)",
            "varchar",
            "bytea",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "list(varchar)",
            "list(decimal(38, 10))",
        ] {
            assert_eq!(column_type_name(&parse_column_type(text).unwrap()), text);
        }
    }

    #[test]
    fn a_type_that_is_not_one_says_what_types_there_are() {
        assert!(parse_column_type("money").unwrap_err().contains("types are bool"));
        assert!(parse_column_type("decimal(39, 2)").unwrap_err().contains("outside"));
        assert!(parse_column_type("decimal").unwrap_err().contains("decimal(12, 2)"));
    }

    #[test]
    fn a_line_of_the_lock_file_is_a_field() {
        let field = parse_column("id          bigint not null").unwrap();
        assert_eq!((field.name().as_str(), field.is_nullable()), ("id", false));
        assert_eq!(parse_column("\"odd name\" varchar(20)").unwrap().name(), "odd name");
    }
}
