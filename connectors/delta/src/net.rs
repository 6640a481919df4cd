//! Nets the changes of a round to one per key, in staging order (cases 34, 36, 39).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use lakehead_core::{Error, IS_DELETED, OP, Op, Result, UNCHANGED};
use lakehead_keyindex::KeyHash;

use crate::hash::KeyHasher;
use crate::schema::to_lake;

/// One key's net change: where its values stand, by column.
#[derive(Clone, Debug)]
struct Net {
    deleted: bool,
    /// Whether the row stays with the values it had, and says that its source has deleted it.
    kept: bool,
    /// The row that the change came with.
    at: (usize, usize),
    /// Columns whose value stands in an earlier row of this round.
    earlier: Vec<(usize, (usize, usize))>,
    /// Columns whose value only the table knows.
    unsent: Vec<usize>,
    /// The row that holds the key under which the table knows them, where the key itself changed.
    from: Option<(usize, usize)>,
}

/// The delete that came just before: a changed key is a delete of the old and a create of the new, side by side, and
/// what the create leaves unsent stands under the old key.
#[derive(Debug)]
struct Left {
    at: (usize, usize),
    before: Option<Net>,
}

/// The columns of a patch that hold the key to look up are called so, with the key column's name behind.
pub(crate) const FROM: &str = "_from_";

/// Takes a key's hash as it is: it is one of good quality already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        // The other half tells apart what shares this one.
        self.0 = u64::try_from(hash >> 64).unwrap_or(0);
    }
}

/// The changes of a round, by key.
pub(crate) struct NetChanges {
    schema: SchemaRef,
    keys: KeyHasher,
    batches: Vec<RecordBatch>,
    nets: HashMap<KeyHash, Net, BuildHasherDefault<Hashed>>,
    order: Vec<KeyHash>,
    left: Option<Left>,
    bytes: usize,
    /// Whether rows that are deleted stay.
    keeps_deleted: bool,
}

/// Rows that are gathered anew, and where each stands then.
#[derive(Default)]
struct Packed {
    batches: Vec<RecordBatch>,
    places: Vec<(usize, usize)>,
}

impl Packed {
    fn push(&mut self, rows: RecordBatch) {
        let batch = self.batches.len();
        self.places.extend((0..rows.num_rows()).map(|row| (batch, row)));
        self.batches.push(rows);
    }
}

impl Net {
    /// Stands for a row as it came.
    fn of_row(at: (usize, usize)) -> Self {
        Self { deleted: false, kept: false, at, earlier: Vec::new(), unsent: Vec::new(), from: None }
    }

    /// Takes over that all its values stand in one row now.
    fn move_to(&mut self, at: (usize, usize)) {
        self.at = at;
        self.earlier.clear();
    }

    /// Takes the values of unsent columns from an earlier change of this round, as far as it has them.
    fn inherit(&mut self, before: &Net, unsent: Vec<usize>) {
        self.from = before.from;
        for column in unsent {
            if before.unsent.contains(&column) {
                self.unsent.push(column);
            } else {
                let earlier = before.earlier.iter().find(|(n, _)| *n == column);
                self.earlier.push((column, earlier.map_or(before.at, |(_, at)| *at)));
            }
        }
    }
}

/// What a round comes to.
pub(crate) struct Netted {
    /// Whole rows that replace their key's row.
    pub(crate) rows: Vec<RecordBatch>,
    /// Rows of which the columns named in `_unchanged` stay as the table has them under the key in the `_from_` columns.
    pub(crate) patches: Vec<RecordBatch>,
    /// Keys whose rows go; the key columns alone.
    pub(crate) deletes: Vec<RecordBatch>,
}

/// Rows of one batch that netting hands on.
const NETTED_ROWS: usize = 65_536;

impl NetChanges {
    pub(crate) fn new(schema: &SchemaRef, key: &[String]) -> Result<Self> {
        Ok(Self {
            schema: schema.clone(),
            keys: KeyHasher::new(schema, key)?,
            batches: Vec::new(),
            nets: HashMap::default(),
            order: Vec::new(),
            left: None,
            bytes: 0,
            keeps_deleted: false,
        })
    }

    /// Has rows that are deleted stay: what came in the same round is their last value.
    pub(crate) fn keep_deleted(&mut self) {
        self.keeps_deleted = true;
    }

    /// Returns about how many bytes are held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        // New ones: those that were grown hold their memory.
        (self.batches, self.nets, self.order) = (Vec::new(), HashMap::default(), Vec::new());
        (self.left, self.bytes) = (None, 0);
    }

    /// Takes over added columns: what was netted before they came has no value in them.
    pub(crate) fn evolve(&mut self, schema: &SchemaRef) -> Result<()> {
        self.batches = self.batches.iter().map(|batch| to_lake(batch, schema)).collect::<Result<_>>()?;
        self.schema = schema.clone();
        Ok(())
    }

    /// Takes changes in their order. A change without a key value is refused: NULL names no row.
    pub(crate) fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let ops = text_column(rows, OP)?;
        let unchanged = text_column(rows, UNCHANGED)?;
        let data = to_lake(rows, &self.schema)?;
        refuse_null_keys(self.keys.columns(), &data)?;
        let keys = self.keys.hashes(&data)?;
        let batch = self.batches.len();
        self.bytes += data.get_array_memory_size() + rows.num_rows() * size_of::<Net>() * 2;
        self.nets.reserve(keys.len());
        self.order.reserve(keys.len());
        for (row, key) in keys.into_iter().enumerate() {
            let letter = ops.as_ref().filter(|ops| ops.is_valid(row)).map(|ops| ops.value(row));
            let op = Op::parse(letter).ok_or_else(|| Error::bug("a change of an unknown kind reached a sink"))?;
            let unsent = unchanged.as_ref().filter(|column| column.is_valid(row)).map(|column| column.value(row));
            self.add_one(key, op, (batch, row), unsent.unwrap_or(""));
        }
        self.batches.push(data);
        Ok(())
    }

    fn add_one(&mut self, key: KeyHash, op: Op, at: (usize, usize), unsent: &str) {
        let unsent: Vec<usize> = unsent
            .split(',')
            .filter(|name| !name.is_empty())
            .filter_map(|name| self.schema.index_of(name).ok())
            .collect();
        let left = self.left.take();
        if op == Op::Delete
            && self.keeps_deleted
            && let Some(before) = self.nets.get_mut(&key).filter(|before| !before.deleted)
        {
            self.left = (!before.kept).then(|| Left { at, before: Some(before.clone()) });
            before.kept = true;
            return;
        }
        let mut net =
            Net { deleted: op == Op::Delete, kept: false, at, earlier: Vec::new(), unsent: Vec::new(), from: None };
        let known = self.nets.get(&key).filter(|before| !before.deleted && !before.kept);
        match (known, &left) {
            (Some(before), _) => net.inherit(before, unsent),
            (None, Some(Left { at: old, before })) if op == Op::Create && !unsent.is_empty() => match before {
                Some(before) => {
                    net.inherit(before, unsent);
                    net.from = before.from.or(Some(*old));
                }
                None => (net.unsent, net.from) = (unsent, Some(*old)),
            },
            _ => net.unsent = unsent,
        }
        let before = self.nets.insert(key, net);
        if before.is_none() {
            self.order.push(key);
        }
        if op == Op::Delete {
            self.left = Some(Left { at, before: before.filter(|before| !before.deleted) });
        }
    }

    /// Lets go of rows that later changes have overtaken: what is held is then one row a key.
    pub(crate) fn compact(&mut self) -> Result<()> {
        let keys = std::mem::take(&mut self.order);
        let mut packed = Packed::default();
        for chunk in keys.chunks(NETTED_ROWS) {
            let nets: Vec<&Net> = chunk.iter().filter_map(|key| self.nets.get(key)).collect();
            packed.push(self.gather(&nets)?);
        }
        // Rows that are named beside those of the nets: old keys, and what came just before.
        let mut named: Vec<Net> = keys.iter().filter_map(|key| self.nets.get(key)?.from).map(Net::of_row).collect();
        if let Some(Left { at, before }) = &self.left {
            named.push(Net::of_row(*at));
            named.extend(before.iter().flat_map(|before| before.from).map(Net::of_row));
            named.extend(before.clone());
        }
        for chunk in named.chunks(NETTED_ROWS) {
            packed.push(self.gather(&chunk.iter().collect::<Vec<_>>())?);
        }
        let mut places = packed.places.into_iter();
        let mut next = || places.next().ok_or_else(|| Error::bug("a netted row was lost"));
        for key in &keys {
            if let Some(net) = self.nets.get_mut(key) {
                net.move_to(next()?);
            }
        }
        for key in &keys {
            if let Some(from) = self.nets.get_mut(key).and_then(|net| net.from.as_mut()) {
                *from = next()?;
            }
        }
        if let Some(Left { at, before }) = &mut self.left {
            *at = next()?;
            if let Some(from) = before.as_mut().and_then(|before| before.from.as_mut()) {
                *from = next()?;
            }
            if let Some(before) = before {
                before.move_to(next()?);
            }
        }
        self.order = keys;
        self.bytes = packed.batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>()
            + self.nets.len() * size_of::<Net>() * 2;
        self.batches = packed.batches;
        Ok(())
    }

    /// Returns the net changes as changes again, which come to the same, and forgets them; none where a key was changed
    /// that the table knows an unsent value under.
    pub(crate) fn take_as_changes(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        if self.nets.values().any(|net| net.from.is_some()) {
            return Ok(None);
        }
        let mut changes = Vec::new();
        let order = std::mem::take(&mut self.order);
        for chunk in order.chunks(NETTED_ROWS) {
            let nets: Vec<&Net> = chunk.iter().filter_map(|key| self.nets.get(key)).collect();
            let (gone, live): (Vec<&Net>, Vec<&Net>) = nets.into_iter().partition(|net| net.deleted);
            let kept: Vec<&Net> = live.iter().copied().filter(|net| net.kept).collect();
            for (nets, op) in [(live, Op::Update), (kept, Op::Delete), (gone, Op::Delete)] {
                if !nets.is_empty() {
                    changes.push(self.with_op(&nets, op)?);
                }
            }
        }
        self.clear();
        Ok(Some(changes))
    }

    fn with_op(&self, nets: &[&Net], op: Op) -> Result<RecordBatch> {
        let rows = self.gather(nets)?;
        let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
        fields.extend([OP, UNCHANGED].map(|name| std::sync::Arc::new(lakehead_core::reserved_field(name))));
        let mut columns = rows.columns().to_vec();
        columns.push(std::sync::Arc::new(StringArray::from(vec![op.letter(); nets.len()])));
        columns.push(std::sync::Arc::new(nets.iter().map(|net| self.unsent_names(net)).collect::<StringArray>()));
        Ok(RecordBatch::try_new(std::sync::Arc::new(arrow::datatypes::Schema::new(fields)), columns)?)
    }

    fn unsent_names(&self, net: &Net) -> Option<String> {
        let names: Vec<&str> = net.unsent.iter().map(|&n| self.schema.field(n).name().as_str()).collect();
        Some(names.join(","))
    }

    /// Returns the net changes and forgets them.
    pub(crate) fn take(&mut self) -> Result<Netted> {
        let mut netted = Netted { rows: Vec::new(), patches: Vec::new(), deletes: Vec::new() };
        let order = std::mem::take(&mut self.order);
        for chunk in order.chunks(NETTED_ROWS) {
            let nets: Vec<&Net> = chunk.iter().filter_map(|key| self.nets.get(key)).collect();
            let (gone, live): (Vec<&Net>, Vec<&Net>) = nets.into_iter().partition(|net| net.deleted);
            let (whole, partial): (Vec<&Net>, Vec<&Net>) = live.into_iter().partition(|net| net.unsent.is_empty());
            if !whole.is_empty() {
                netted.rows.push(self.gather(&whole)?);
            }
            if !partial.is_empty() {
                netted.patches.push(self.with_unsent(&partial)?);
            }
            if !gone.is_empty() {
                let key_indices = self.key_indices()?;
                netted.deletes.push(self.gather(&gone)?.project(&key_indices)?);
            }
        }
        self.clear();
        Ok(netted)
    }

    fn key_indices(&self) -> Result<Vec<usize>> {
        let index = |column: &String| Ok(self.schema.index_of(column)?);
        self.keys.columns().iter().map(index).collect()
    }

    fn gather(&self, nets: &[&Net]) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for (column, field) in self.schema.fields().iter().enumerate() {
            if self.keeps_deleted && field.name() == IS_DELETED {
                columns.push(std::sync::Arc::new(nets.iter().map(|net| Some(net.kept)).collect::<BooleanArray>()));
                continue;
            }
            let arrays: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            let at: Vec<(usize, usize)> = nets
                .iter()
                .map(|net| net.earlier.iter().find(|(n, _)| *n == column).map_or(net.at, |(_, at)| *at))
                .collect();
            columns.push(interleave(&arrays, &at)?);
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn with_unsent(&self, nets: &[&Net]) -> Result<RecordBatch> {
        let rows = self.gather(nets)?;
        let names: StringArray = nets.iter().map(|net| self.unsent_names(net)).collect();
        let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
        fields.push(std::sync::Arc::new(lakehead_core::reserved_field(UNCHANGED)));
        let mut columns = rows.columns().to_vec();
        columns.push(std::sync::Arc::new(names));
        let at: Vec<(usize, usize)> = nets.iter().map(|net| net.from.unwrap_or(net.at)).collect();
        for column in self.key_indices()? {
            let field = self.schema.field(column);
            let arrays: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            fields.push(std::sync::Arc::new(field.clone().with_name(format!("{FROM}{}", field.name()))));
            columns.push(interleave(&arrays, &at)?);
        }
        Ok(RecordBatch::try_new(std::sync::Arc::new(arrow::datatypes::Schema::new(fields)), columns)?)
    }
}

/// Refuses a row without a value in its key: NULL names no row.
pub(crate) fn refuse_null_keys(key: &[String], rows: &RecordBatch) -> Result<()> {
    for column in key {
        if rows.column_by_name(column).is_some_and(|array| array.null_count() > 0) {
            return Err(Error::user("R0210", "a row has no value in its key")
                .with("column", column)
                .help("add `expect … { key is not null } else dead_letter` before the sink"));
        }
    }
    Ok(())
}

/// Returns a reserved text column, if the rows have it.
pub(crate) fn text_column(rows: &RecordBatch, name: &str) -> Result<Option<StringArray>> {
    match rows.column_by_name(name) {
        None => Ok(None),
        Some(column) => match column.as_any().downcast_ref::<StringArray>() {
            Some(texts) => Ok(Some(texts.clone())),
            None => Err(Error::bug("a reserved column is not text").with("column", name)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn changes(rows: &[(&str, i64, Option<&str>, Option<&str>)]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("body", DataType::Utf8, true),
            lakehead_core::reserved_field(OP),
            lakehead_core::reserved_field(UNCHANGED),
        ]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
                Arc::new(rows.iter().map(|row| row.2).collect::<StringArray>()),
                Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>()),
                Arc::new(rows.iter().map(|row| row.3).collect::<StringArray>()),
            ],
        )
        .unwrap()
    }

    fn net(batches: &[RecordBatch]) -> (Vec<(i64, Option<String>)>, usize, usize) {
        let schema = Arc::new(lakehead_core::data_fields(&batches[0].schema()));
        let mut nets = NetChanges::new(&schema, &["id".into()]).unwrap();
        for batch in batches {
            nets.add(batch).unwrap();
        }
        let netted = nets.take().unwrap();
        let mut rows = Vec::new();
        for batch in &netted.rows {
            let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
            let bodies = batch.column(1).as_any().downcast_ref::<StringArray>().unwrap();
            for row in 0..batch.num_rows() {
                rows.push((ids.value(row), bodies.is_valid(row).then(|| bodies.value(row).to_owned())));
            }
        }
        let count = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum();
        (rows, count(&netted.patches), count(&netted.deletes))
    }

    #[test]
    fn the_last_change_of_a_key_wins_case_39() {
        let (rows, patches, deletes) = net(&[
            changes(&[("c", 1, Some("a"), None), ("u", 1, Some("b"), None), ("c", 2, Some("x"), None)]),
            changes(&[("d", 2, None, None), ("d", 3, None, None), ("c", 3, Some("new"), None)]),
        ]);
        assert_eq!(rows, [(1, Some("b".into())), (3, Some("new".into()))]);
        assert_eq!((patches, deletes), (0, 1));
    }

    #[test]
    fn an_unsent_value_is_taken_from_an_earlier_change_of_the_round_case_34() {
        let (rows, patches, _) = net(&[
            changes(&[("c", 1, Some("large"), None)]),
            changes(&[("u", 1, None, Some("body")), ("u", 1, None, Some("body"))]),
        ]);
        assert_eq!((rows, patches), (vec![(1, Some("large".into()))], 0));
    }

    #[test]
    fn an_unsent_value_that_no_change_holds_is_left_to_the_table_case_33() {
        let (rows, patches, _) = net(&[changes(&[("u", 1, None, Some("body"))])]);
        assert_eq!((rows.len(), patches), (0, 1));
    }

    #[test]
    fn a_changed_key_finds_its_unsent_value_under_the_old_one_cases_33_and_36() {
        let schema = Arc::new(lakehead_core::data_fields(&changes(&[]).schema()));
        let mut nets = NetChanges::new(&schema, &["id".into()]).unwrap();
        nets.add(&changes(&[("d", 1, None, None), ("c", 2, None, Some("body"))])).unwrap();
        let netted = nets.take().unwrap();
        let from = netted.patches[0].column_by_name("_from_id").unwrap();
        assert_eq!(from.as_any().downcast_ref::<Int64Array>().unwrap().value(0), 1);
        // Where the old row came in the same round, its value is there already.
        let (rows, patches, deletes) = net(&[
            changes(&[("c", 1, Some("large"), None)]),
            changes(&[
                ("d", 1, None, None),
                ("c", 2, None, Some("body")),
                ("d", 2, None, None),
                ("c", 3, None, Some("body")),
            ]),
        ]);
        assert_eq!((rows, patches, deletes), (vec![(3, Some("large".into()))], 0, 2));
    }

    #[test]
    fn a_row_without_a_key_is_refused() {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![None]))]).unwrap();
        let mut nets = NetChanges::new(&schema, &["id".into()]).unwrap();
        assert_eq!(nets.add(&rows).unwrap_err().code(), "R0210");
    }
}
