//! Which PostgreSQL types are read, and as what. A type that is not listed is refused by its name, never guessed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use lakehead_core::{Error, Result};
use tokio_postgres::types::{Kind as Shape, Type};

use crate::fault;
use crate::session::Session;

/// The greatest precision that a lake decimal holds.
const PRECISION_MAX: i32 = 38;
/// The deepest chain of domains that is followed; the server's own limit is its stack.
const DOMAIN_DEPTH_MAX: usize = 32;

/// How a binary value of a column is decoded; chosen once per column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric {
        precision: u8,
        scale: i8,
    },
    /// text, varchar, bpchar, name, and the labels of an enum
    Text,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
    Json,
    Jsonb,
    Array(Box<Kind>),
}

impl Kind {
    /// Returns the Arrow type of the column.
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Numeric { precision, scale } => DataType::Decimal128(*precision, *scale),
            Self::Text | Self::Uuid | Self::Json | Self::Jsonb => DataType::Utf8,
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Array(item) => DataType::List(Arc::new(Field::new("item", item.data_type(), true))),
        }
    }

    /// Returns whether a value may be stored out of line, so that an update which leaves it alone does not send it.
    pub(crate) fn may_be_unsent(&self) -> bool {
        matches!(self, Self::Text | Self::Bytea | Self::Json | Self::Jsonb | Self::Numeric { .. } | Self::Array(_))
    }

    /// Returns the column as a field.
    pub(crate) fn field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.data_type(), nullable);
        let label = match self {
            Self::Uuid => "uuid",
            Self::Json | Self::Jsonb => "json",
            _ => return field,
        };
        field.with_metadata([("lakehead.type".to_owned(), label.to_owned())].into())
    }
}

/// One row of pg_type.
#[derive(Clone, Debug)]
struct TypeRow {
    name: String,
    kind: i8,
    element: u32,
    is_array: bool,
    base: u32,
    typmod: i32,
}

/// The types that are not built in: enums, domains and their arrays, as the catalogue knows them.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypeMap(HashMap<u32, TypeRow>);

/// A column whose type cannot be read, and why.
#[derive(Debug)]
pub(crate) struct Unsupported {
    type_name: String,
    reason: &'static str,
    help: &'static str,
}

impl Unsupported {
    /// Returns the error for a column of a table.
    pub(crate) fn in_column(self, table: &str, column: &str) -> Error {
        Error::user(
            fault::COLUMN_TYPE,
            format!("column `{column}` of `{table}` has the type {}, {}", self.type_name, self.reason),
        )
        .with("table", table)
        .with("column", column)
        .help(self.help)
    }
}

const LEAVE_OUT: &str = "leave the column out with `exclude_columns`, or read the table with `capture = query` and a cast, as in column::text";

impl TypeMap {
    /// Asks the catalogue for every type among `oids` that is not built in and not known yet.
    pub(crate) async fn load(&mut self, session: &Session, oids: impl IntoIterator<Item = u32>) -> Result<()> {
        let unknown: Vec<u32> = oids.into_iter().filter(|oid| !self.knows(*oid)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let sql = "with recursive wanted(oid) as (
                select unnest($1::oid[])
                union
                select unnest(array[t.typelem, t.typbasetype]) from pg_catalog.pg_type t join wanted using (oid)
            )
            select t.oid, pg_catalog.format_type(t.oid, null), t.typtype, t.typelem,
                   t.typlen = -1 and t.typsend = 'pg_catalog.array_send'::regproc, t.typbasetype, t.typtypmod
            from pg_catalog.pg_type t join wanted using (oid)";
        for row in session.rows("reading the types", sql, &[&unknown]).await? {
            let (element, is_array) = (row.get(3), row.get(4));
            let type_row =
                TypeRow { name: row.get(1), kind: row.get(2), element, is_array, base: row.get(5), typmod: row.get(6) };
            self.0.insert(row.get(0), type_row);
        }
        Ok(())
    }

    /// Returns whether `kind` can be answered without asking the catalogue.
    pub(crate) fn knows(&self, oid: u32) -> bool {
        self.0.contains_key(&oid) || Type::from_oid(oid).is_some()
    }

    /// Returns how values of a type are decoded.
    pub(crate) fn kind(&self, oid: u32, typmod: i32) -> Result<Kind, Unsupported> {
        self.kind_at_depth(oid, typmod, 0)
    }

    fn kind_at_depth(&self, oid: u32, typmod: i32, depth: usize) -> Result<Kind, Unsupported> {
        if let Some(known) = Type::from_oid(oid) {
            return match known.kind() {
                Shape::Array(item) if *known.name() == *format!("_{}", item.name()) => {
                    Ok(Kind::Array(Box::new(builtin(item, typmod)?)))
                }
                _ => builtin(&known, typmod),
            };
        }
        let refuse = |name: &str, reason| Unsupported { type_name: name.to_owned(), reason, help: LEAVE_OUT };
        let Some(row) = self.0.get(&oid) else {
            return Err(refuse(&format!("with oid {oid}"), "which the catalogue no longer knows"));
        };
        if depth > DOMAIN_DEPTH_MAX {
            return Err(refuse(&row.name, "whose chain of domains is too long"));
        }
        match u8::try_from(row.kind).unwrap_or(0) {
            b'e' => Ok(Kind::Text),
            b'd' => {
                let typmod = if row.typmod >= 0 { row.typmod } else { typmod };
                self.kind_at_depth(row.base, typmod, depth + 1)
            }
            b'b' if row.is_array => match self.kind_at_depth(row.element, typmod, depth + 1)? {
                Kind::Array(_) => Err(refuse(&row.name, "an array of arrays, which has no column type in the lake")),
                item => Ok(Kind::Array(Box::new(item))),
            },
            _ => Err(refuse(&row.name, "which has no column type in the lake")),
        }
    }
}

fn builtin(known: &Type, typmod: i32) -> Result<Kind, Unsupported> {
    Ok(match *known {
        Type::BOOL => Kind::Bool,
        Type::INT2 => Kind::Int2,
        Type::INT4 => Kind::Int4,
        Type::INT8 => Kind::Int8,
        Type::FLOAT4 => Kind::Float4,
        Type::FLOAT8 => Kind::Float8,
        Type::NUMERIC => return numeric(typmod),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => Kind::Text,
        Type::BYTEA => Kind::Bytea,
        Type::DATE => Kind::Date,
        Type::TIME => Kind::Time,
        Type::TIMESTAMP => Kind::Timestamp,
        Type::TIMESTAMPTZ => Kind::TimestampTz,
        Type::UUID => Kind::Uuid,
        Type::JSON => Kind::Json,
        Type::JSONB => Kind::Jsonb,
        _ => {
            return Err(Unsupported {
                type_name: known.name().to_owned(),
                reason: "which has no column type in the lake",
                help: LEAVE_OUT,
            });
        }
    })
}

/// Reads precision and scale from a typmod, which holds them as `precision << 16 | scale in 11 bits, signed`, plus 4.
fn numeric(typmod: i32) -> Result<Kind, Unsupported> {
    let refuse = |type_name: String, reason| Unsupported {
        type_name,
        reason,
        help: "declare it as numeric(38, s) or narrower, cast it in a query as in amount::numeric(38, 9), or leave it \
               out with `exclude_columns`",
    };
    if typmod < 4 {
        return Err(refuse(
            "numeric without a declared precision".into(),
            "which no decimal of the lake holds in full",
        ));
    }
    let declared = (typmod - 4) >> 16 & 0xffff;
    let scale = ((typmod - 4) & 0x7ff ^ 1024) - 1024;
    // numeric(3, -2) holds whole hundreds up to 99900, and numeric(2, 5) holds 0.00099 at most.
    let precision = if scale < 0 { declared - scale } else { declared.max(scale) };
    if precision > PRECISION_MAX {
        return Err(refuse(format!("numeric({declared}, {scale})"), "which is wider than the 38 digits of a decimal"));
    }
    let fits = u8::try_from(precision).ok().zip(i8::try_from(scale.max(0)).ok());
    let (precision, scale) =
        fits.ok_or_else(|| refuse(format!("numeric({declared}, {scale})"), "which cannot be read"))?;
    Ok(Kind::Numeric { precision, scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typmod(precision: i32, scale: i32) -> i32 {
        (precision << 16 | scale & 0x7ff) + 4
    }

    #[test]
    fn a_numeric_keeps_its_precision_or_is_refused_with_the_choice() {
        let map = TypeMap::default();
        for (declared, expected) in [((12, 2), (12, 2)), ((38, 38), (38, 38)), ((3, -2), (5, 0)), ((2, 5), (5, 5))] {
            let kind = map.kind(Type::NUMERIC.oid(), typmod(declared.0, declared.1)).unwrap();
            assert_eq!(kind, Kind::Numeric { precision: expected.0, scale: expected.1 });
        }
        for typmod in [-1, typmod(39, 2), typmod(38, -1)] {
            let error = map.kind(Type::NUMERIC.oid(), typmod).unwrap_err().in_column("public.t", "n");
            assert!(error.helps()[0].contains("exclude_columns"), "{error}");
        }
    }

    #[test]
    fn types_without_a_column_type_in_the_lake_are_refused_by_name() {
        let map = TypeMap::default();
        for refused in [
            Type::INTERVAL,
            Type::MONEY,
            Type::TIMETZ,
            Type::INET,
            Type::OID,
            Type::INT4_RANGE,
            Type::POINT,
            Type::INT2_VECTOR,
        ] {
            let error = map.kind(refused.oid(), -1).unwrap_err().in_column("public.t", "c");
            assert!(error.message().contains(refused.name()), "{error}");
        }
    }

    #[test]
    fn an_array_is_a_list_of_its_item() {
        let kind = TypeMap::default().kind(Type::TEXT_ARRAY.oid(), -1).unwrap();
        assert_eq!(kind, Kind::Array(Box::new(Kind::Text)));
    }
}
