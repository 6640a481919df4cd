//! From messages to batches: rows of whole transactions are collected per table and handed out as events.
//!
//! ```text
//!            Begin                     Commit
//!   between ───────▶ in a transaction ────────▶ between, `done` moved to the end of the transaction
//!      ▲                    │ budget used up: Changes without Progress; the commit flushes, so that one follows
//!      └── flush: Changes per table, then Progress(done)
//!      └── give_up: the same without the rows of the open transaction, before an error
//! ```

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use lakehead_core::{BatchBudget, ChangeBatch, Error, Micros, Op, Result, SourceEvent, TableSpec};

use crate::catalog::ReplicaIdentity;
use crate::column::ValueFault;
use crate::fault;
use crate::layout;
use crate::lsn::Lsn;
use crate::pgoutput::{Datum, Message, OldTuple, Tuple};
use crate::rows::{Change, Rows};
use crate::type_map::Kind;

/// One of our tables.
#[derive(Debug)]
struct Table {
    name: String,
    oid: u32,
    key: Vec<String>,
    schema: SchemaRef,
    rows: Rows,
    /// The commit of the last transaction with rows here, and how many rows of earlier ones were waiting then.
    before: (Lsn, usize),
}

impl Table {
    /// Notes, before a transaction's first row, where the rows of earlier ones end.
    fn begin(&mut self, open: &Open) {
        if self.before.0 != open.commit {
            self.before = (open.commit, self.rows.count());
        }
    }
}

/// How the columns of a relation message map to a table's.
#[derive(Debug)]
struct Binding {
    table: usize,
    /// Per column of the table: its place in the relation, its decoder, and whether a delete and an old key carry it.
    columns: Vec<BoundColumn>,
    width: usize,
}

#[derive(Debug)]
struct BoundColumn {
    name: String,
    at: usize,
    kind: Kind,
    /// Whether a delete carries it.
    is_key: bool,
    /// Whether it belongs to the replica identity, so that an old key holds its value.
    is_identity: bool,
}

/// What a relation message says, with the types looked up.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) oid: u32,
    pub(crate) name: String,
    pub(crate) identity: ReplicaIdentity,
    /// Name, decoder, and whether it belongs to the replica identity; `None` for a column that is left out.
    pub(crate) columns: Vec<Option<(String, Kind, bool)>>,
}

#[derive(Debug)]
struct Open {
    commit: Lsn,
    committed_at: Micros,
    ordinal: u64,
    /// Already delivered before: the server sends it again after a restart.
    is_known: bool,
    /// A part of it has been made ready: no position lies behind what is ready until it ends.
    is_cut: bool,
}

/// Collects the changes of a stream.
#[derive(Debug)]
pub(crate) struct Assembler {
    tables: Vec<Table>,
    by_name: HashMap<String, usize>,
    bindings: HashMap<u32, Option<Binding>>,
    open: Option<Open>,
    ready: VecDeque<Delivery>,
    /// The end of the last whole transaction, or of the log known to hold nothing for us.
    done: Lsn,
    /// Where the last `Progress` stood.
    announced: Lsn,
    /// A cut transaction has ended: without a flush at its end, a busy stream whose budget is always used up within
    /// transactions would never come to a `Progress`.
    owes_progress: bool,
    collected: Collected,
    position: String,
    unchanged: String,
}

/// What all tables together hold.
#[derive(Clone, Copy, Debug, Default)]
struct Collected {
    rows: usize,
    bytes: usize,
}

impl Collected {
    fn add_row(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
    }
}

/// What is handed out: an event, or a position that becomes a `Progress`.
#[derive(Debug)]
pub(crate) enum Delivery {
    Event(SourceEvent),
    Progress(Lsn),
}

impl Assembler {
    /// Creates an assembler that stands at `from`; `oids` are the tables' oids in the catalogue.
    pub(crate) fn new(specs: &[TableSpec], oids: &[u32], from: Lsn) -> Result<Self> {
        let mut tables = Vec::with_capacity(specs.len());
        for (spec, oid) in specs.iter().zip(oids) {
            let rows = Rows::changes(&spec.schema)?;
            let (name, key, schema) = (spec.name.clone(), spec.key.clone(), Arc::clone(&spec.schema));
            tables.push(Table { name, oid: *oid, key, schema, rows, before: (Lsn::default(), 0) });
        }
        let by_name = tables.iter().enumerate().map(|(index, table)| (table.name.clone(), index)).collect();
        Ok(Self {
            tables,
            by_name,
            bindings: HashMap::new(),
            open: None,
            ready: VecDeque::new(),
            done: from,
            announced: from,
            owes_progress: false,
            collected: Collected::default(),
            position: String::new(),
            unchanged: String::new(),
        })
    }

    /// Takes what is ready to be handed out.
    pub(crate) fn take(&mut self) -> Option<Delivery> {
        self.ready.pop_front()
    }

    /// Returns the end of the last whole transaction.
    pub(crate) fn done(&self) -> Lsn {
        self.done
    }

    /// Returns whether a transaction has begun and not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns whether something waits to be flushed.
    pub(crate) fn has_pending(&self) -> bool {
        self.announced < self.done || self.collected.rows > 0
    }

    /// Returns whether the collected rows have used up the budget, or are to be handed out without delay.
    pub(crate) fn is_full(&self, budget: BatchBudget) -> bool {
        self.owes_progress || self.collected.rows >= budget.rows_max || self.collected.bytes >= budget.bytes_max
    }

    /// Learns that the log holds nothing for us up to `end`. Only true between transactions.
    pub(crate) fn nothing_until(&mut self, end: Lsn) {
        if self.open.is_none() {
            self.done = self.done.max(end);
        }
    }

    /// Makes every collected row ready, and a `Progress` where no transaction is open.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.collected = Collected::default();
        self.owes_progress = false;
        for table in &mut self.tables {
            if let Some(rows) = table.rows.finish()? {
                let batch = ChangeBatch { table: table.name.clone(), rows };
                self.ready.push_back(Delivery::Event(SourceEvent::Changes(batch)));
            }
        }
        if let Some(open) = &mut self.open {
            open.is_cut |= open.ordinal > 0;
        }
        if self.open.is_none() && self.announced < self.done {
            self.announced = self.done;
            self.ready.push_back(Delivery::Progress(self.done));
        }
        Ok(())
    }

    /// Makes ready what whole transactions hold, with a `Progress`, and drops the rest: nothing can be read on from here.
    pub(crate) fn give_up(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return self.flush();
        };
        if open.is_cut {
            // What is ready ends within the open transaction, so that no position can follow.
            return Ok(());
        }
        for table in &mut self.tables {
            let Some(rows) = table.rows.finish()? else {
                continue;
            };
            let whole = if table.before.0 == open.commit { table.before.1 } else { rows.num_rows() };
            if whole > 0 {
                let batch = ChangeBatch { table: table.name.clone(), rows: rows.slice(0, whole) };
                self.ready.push_back(Delivery::Event(SourceEvent::Changes(batch)));
            }
        }
        self.flush()
    }

    /// Takes in one message. A relation comes through [`Assembler::describe`] instead.
    pub(crate) fn apply(&mut self, message: &Message<'_>) -> Result<()> {
        match message {
            Message::Begin { commit, committed_at } => {
                if self.open.is_some() {
                    return Err(fault::unreadable("a transaction begins within another"));
                }
                // Positions lie between records, so a commit record that begins before one also ends before it.
                let is_known = *commit < self.done;
                self.open =
                    Some(Open { commit: *commit, committed_at: *committed_at, ordinal: 0, is_known, is_cut: false });
            }
            Message::Commit { commit, end } => match self.open.take() {
                Some(open) if open.commit == *commit => {
                    self.done = self.done.max(*end);
                    self.owes_progress |= open.is_cut;
                }
                _ => {
                    return Err(
                        fault::unreadable("a commit does not belong to the open transaction").with("commit", commit)
                    );
                }
            },
            Message::Origin | Message::Type | Message::Logical => {}
            Message::Relation(_) => return Err(Error::bug("a relation was not described")),
            Message::Insert { relation, new } => {
                if let Some(table) = self.begin_row(*relation)? {
                    self.add_new(table, Op::Create, *new, None)?;
                }
            }
            Message::Update { relation, old, new } => {
                if let Some(table) = self.begin_row(*relation)? {
                    self.update(table, *old, *new)?;
                }
            }
            Message::Delete { relation, old } => {
                if let Some(table) = self.begin_row(*relation)? {
                    self.add_delete(table, *old)?;
                }
            }
            Message::Truncate { relations } => self.truncate(relations)?,
        }
        Ok(())
    }

    /// Returns whether a relation is a table of ours. The changes of any other are passed over, whatever its columns:
    /// a publication may hold tables of others.
    pub(crate) fn recognize(&mut self, name: &str, oid: u32) -> Result<bool> {
        Ok(self.find(name, oid)?.is_some())
    }

    fn find(&mut self, name: &str, oid: u32) -> Result<Option<usize>> {
        let Some(index) = self.by_name.get(name).copied() else {
            if let Some(table) = self.tables.iter().find(|table| table.oid == oid) {
                return Err(incident(&table.name, "was renamed").with("new_name", name));
            }
            self.bindings.insert(oid, None);
            return Ok(None);
        };
        let table = &self.tables[index];
        if table.oid != oid {
            return Err(incident(&table.name, "was dropped and made again")
                .with("expected_oid", table.oid)
                .with("found_oid", oid));
        }
        Ok(Some(index))
    }

    /// Takes in the columns of a table for the changes that follow.
    pub(crate) fn describe(&mut self, described: Described) -> Result<()> {
        let oid = described.oid;
        let Some(index) = self.find(&described.name, oid)? else {
            return Ok(());
        };
        let table = &self.tables[index];
        check_identity(table, &described)?;
        let found: Vec<(String, Kind)> =
            described.columns.iter().flatten().map(|(name, kind, _)| (name.clone(), kind.clone())).collect();
        let layout = layout::reconcile(&table.name, &table.schema, &found)?;
        if layout.has_grown {
            self.grow(index, layout.schema)?;
        }
        let mut columns: Vec<(usize, BoundColumn)> = Vec::with_capacity(found.len());
        let sent =
            described.columns.iter().enumerate().filter_map(|(at, column)| column.as_ref().map(|column| (at, column)));
        let key = &self.tables[index].key;
        for (place, (at, (name, kind, is_identity))) in layout.places.into_iter().zip(sent) {
            // Without a key the whole old row is what tells rows apart.
            let is_key = key.is_empty() || key.contains(name);
            let (name, kind, is_identity) = (name.clone(), kind.clone(), *is_identity);
            columns.push((place, BoundColumn { name, at, kind, is_key, is_identity }));
        }
        columns.sort_by_key(|(place, _)| *place);
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        self.bindings.insert(oid, Some(Binding { table: index, columns, width: described.columns.len() }));
        Ok(())
    }

    /// Hands out what the table's old columns hold, then the new columns.
    fn grow(&mut self, index: usize, schema: SchemaRef) -> Result<()> {
        if let Some(open) = &mut self.open {
            open.is_cut |= open.ordinal > 0;
        }
        let table = &mut self.tables[index];
        self.collected.rows -= table.rows.count();
        self.collected.bytes -= table.rows.bytes();
        if let Some(rows) = table.rows.finish()? {
            let batch = ChangeBatch { table: table.name.clone(), rows };
            self.ready.push_back(Delivery::Event(SourceEvent::Changes(batch)));
        }
        table.rows = Rows::changes(&schema)?;
        table.schema = Arc::clone(&schema);
        self.ready.push_back(Delivery::Event(SourceEvent::Schema { table: table.name.clone(), schema }));
        Ok(())
    }

    /// Returns the relation of a row that is to be delivered, having given it its ordinal.
    fn begin_row(&mut self, relation: u32) -> Result<Option<u32>> {
        let open = self.open.as_mut().ok_or_else(|| fault::unreadable("a change lies outside every transaction"))?;
        open.ordinal += 1;
        match self.bindings.get(&relation) {
            Some(Some(_)) => Ok((!open.is_known).then_some(relation)),
            Some(None) => Ok(None),
            None => Err(fault::unreadable("a change of a table comes before its columns").with("relation", relation)),
        }
    }

    fn update(&mut self, relation: u32, old: Option<OldTuple<'_>>, new: Tuple<'_>) -> Result<()> {
        let Some(Some(binding)) = self.bindings.get(&relation) else {
            return Ok(());
        };
        let moved = old.is_some_and(|old| {
            let (OldTuple::Key(old) | OldTuple::Full(old)) = old;
            // Without a key there is nothing that an update could keep: the old row goes and a new one comes.
            if self.tables[binding.table].key.is_empty() {
                return true;
            }
            let (old, new): (Vec<_>, Vec<_>) = (old.values().collect(), new.values().collect());
            binding.columns.iter().filter(|column| column.is_key).any(|column| {
                let (before, after) = (old.get(column.at), new.get(column.at));
                after != Some(&Datum::Unchanged) && before != after
            })
        });
        match old.filter(|_| moved) {
            None => self.add_new(relation, Op::Update, new, old),
            Some(before) => {
                self.add_delete(relation, before)?;
                if let Some(open) = &mut self.open {
                    open.ordinal += 1;
                }
                self.add_new(relation, Op::Create, new, old)
            }
        }
    }

    /// Adds a new row. A value that was not sent is taken from what there is of the old row, or named in `_unchanged`.
    fn add_new(&mut self, relation: u32, op: Op, new: Tuple<'_>, old: Option<OldTuple<'_>>) -> Result<()> {
        let (Some(Some(binding)), Some(open)) = (self.bindings.get(&relation), &self.open) else {
            return Ok(());
        };
        let table = &mut self.tables[binding.table];
        table.begin(open);
        let values = sent(&table.name, new, binding.width)?;
        let (old, is_whole) = match old {
            Some(OldTuple::Full(full)) => (sent(&table.name, full, binding.width)?, true),
            Some(OldTuple::Key(key)) => (sent(&table.name, key, binding.width)?, false),
            None => (Vec::new(), false),
        };
        self.unchanged.clear();
        for (bound, column) in binding.columns.iter().zip(&mut table.rows.columns) {
            let value = match values[bound.at] {
                Datum::Unchanged if is_whole || bound.is_identity => {
                    old.get(bound.at).copied().unwrap_or(Datum::Unchanged)
                }
                value => value,
            };
            let appended = match value {
                Datum::Null => {
                    column.append_null();
                    Ok(())
                }
                Datum::Binary(bytes) => column.append(&bound.kind, bytes),
                Datum::Text(bytes) => column.append_text(&bound.kind, bytes),
                Datum::Unchanged => {
                    if !self.unchanged.is_empty() {
                        self.unchanged.push(',');
                    }
                    self.unchanged.push_str(&bound.name);
                    column.append_null();
                    Ok(())
                }
            };
            appended.map_err(|reason| reason.in_change(&table.name, &bound.name))?;
        }
        write_position(&mut self.position, open);
        let (position, unchanged) = (self.position.as_str(), self.unchanged.as_str());
        let bytes =
            table.rows.end_row(new.bytes(), Some(Change { op, position, committed_at: open.committed_at, unchanged }));
        self.collected.add_row(bytes);
        Ok(())
    }

    /// Adds a delete, which carries the key and nothing else, whatever the server sent.
    fn add_delete(&mut self, relation: u32, old: OldTuple<'_>) -> Result<()> {
        let (Some(Some(binding)), Some(open)) = (self.bindings.get(&relation), &self.open) else {
            return Ok(());
        };
        let (OldTuple::Key(old) | OldTuple::Full(old)) = old;
        let table = &mut self.tables[binding.table];
        table.begin(open);
        let values = sent(&table.name, old, binding.width)?;
        for (bound, column) in binding.columns.iter().zip(&mut table.rows.columns) {
            let appended = match values[bound.at] {
                Datum::Binary(bytes) if bound.is_key => column.append(&bound.kind, bytes),
                Datum::Text(bytes) if bound.is_key => column.append_text(&bound.kind, bytes),
                Datum::Null | Datum::Unchanged if bound.is_key && !table.key.is_empty() => Err(ValueFault::Malformed),
                _ => {
                    column.append_null();
                    Ok(())
                }
            };
            appended.map_err(|reason| reason.in_change(&table.name, &bound.name))?;
        }
        write_position(&mut self.position, open);
        let position = self.position.as_str();
        let change = Change { op: Op::Delete, position, committed_at: open.committed_at, unchanged: "" };
        let bytes = table.rows.end_row(old.bytes(), Some(change));
        self.collected.add_row(bytes);
        Ok(())
    }

    fn truncate(&mut self, relations: &[u32]) -> Result<()> {
        let mut names = Vec::new();
        for relation in relations {
            if self.begin_row(*relation)?.is_some()
                && let Some(Some(binding)) = self.bindings.get(relation)
            {
                names.push(self.tables[binding.table].name.clone());
            }
        }
        if names.is_empty() {
            return Ok(());
        }
        // Rows collected so far were there before the truncate, and the transaction is still open: no progress here.
        self.flush()?;
        for table in names {
            self.ready.push_back(Delivery::Event(SourceEvent::Truncate { table }));
        }
        Ok(())
    }
}

fn write_position(text: &mut String, open: &Open) {
    text.clear();
    // Writing into a String cannot fail.
    let _ = write!(text, "{}.{}", open.commit, open.ordinal);
}

fn sent<'a>(table: &str, tuple: Tuple<'a>, width: usize) -> Result<Vec<Datum<'a>>> {
    if tuple.len() != width {
        return Err(fault::unreadable("a row of the stream has another number of columns").with("table", table));
    }
    Ok(tuple.values().collect())
}

/// Refuses a replica identity under which deletes and updates would not say which row they mean.
fn check_identity(table: &Table, described: &Described) -> Result<()> {
    if table.key.is_empty() || described.identity == ReplicaIdentity::Full {
        return Ok(());
    }
    let carried: Vec<&str> =
        described.columns.iter().flatten().filter(|(_, _, is_key)| *is_key).map(|(name, _, _)| name.as_str()).collect();
    if table.key.iter().all(|name| carried.contains(&name.as_str())) {
        return Ok(());
    }
    let words = described.identity.words();
    Err(Error::incident(
        fault::REPLICA_IDENTITY,
        format!("the replica identity of `{}` does not hold its key any more", table.name),
    )
    .with("table", &table.name)
    .with("identity", words)
    .with("key", table.key.join(", "))
    .help("give the table its primary key and `REPLICA IDENTITY DEFAULT` back, or use `REPLICA IDENTITY FULL`"))
}

fn incident(table: &str, what: &str) -> Error {
    Error::incident(fault::SCHEMA_CHANGED, format!("the table `{table}` {what}"))
        .with("table", table)
        .help("undo the change, or run `lakehead lock` and plan the pipeline again to decide what becomes of it")
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;

    use super::*;

    /// A table `public.t (id int4)` with oid 9, described, with nothing delivered up to `from`.
    fn assembler(from: u64) -> Assembler {
        let schema = Arc::new(Schema::new(vec![Kind::Int4.field("id", false)]));
        let spec = TableSpec { name: "public.t".into(), schema, key: vec!["id".into()] };
        let mut assembler = Assembler::new(&[spec], &[9], Lsn(from)).unwrap();
        assembler.describe(described("public.t", 9, ReplicaIdentity::Default)).unwrap();
        assembler
    }

    fn described(name: &str, oid: u32, identity: ReplicaIdentity) -> Described {
        let is_key = identity == ReplicaIdentity::Default;
        Described { oid, name: name.into(), identity, columns: vec![Some(("id".into(), Kind::Int4, is_key))] }
    }

    fn begin(commit: u64) -> Message<'static> {
        Message::Begin { commit: Lsn(commit), committed_at: 0 }
    }

    fn commit(commit: u64, end: u64) -> Message<'static> {
        Message::Commit { commit: Lsn(commit), end: Lsn(end) }
    }

    const INSERT: &[u8] = b"I\0\0\0\x09N\0\x01b\0\0\0\x04\0\0\0\x07";

    fn run(assembler: &mut Assembler, messages: &[Message<'_>]) {
        for message in messages {
            assembler.apply(message).unwrap();
        }
    }

    /// Flushes and returns what comes, as `rows` or the position of a progress.
    fn delivered(assembler: &mut Assembler) -> Vec<String> {
        assembler.flush().unwrap();
        std::iter::from_fn(|| assembler.take())
            .map(|delivery| match delivery {
                Delivery::Event(SourceEvent::Changes(batch)) => {
                    format!("{} rows", batch.rows.num_rows())
                }
                Delivery::Event(event) => format!("{event:?}"),
                Delivery::Progress(end) => end.to_string(),
            })
            .collect()
    }

    #[test]
    fn case_2_a_position_moves_only_past_whole_transactions() {
        let mut assembler = assembler(5);
        let insert = crate::pgoutput::parse(INSERT).unwrap();
        run(&mut assembler, &[begin(16), crate::pgoutput::parse(INSERT).unwrap(), commit(16, 24), begin(32), insert]);
        assembler.nothing_until(Lsn(99));
        assert_eq!(delivered(&mut assembler), ["2 rows"], "the second transaction is open");
        run(&mut assembler, &[commit(32, 40)]);
        assert_eq!(delivered(&mut assembler), ["0/28"]);
        assembler.nothing_until(Lsn(99));
        assembler.nothing_until(Lsn(50));
        assert_eq!(delivered(&mut assembler), ["0/63"]);
        assert!(delivered(&mut assembler).is_empty());
    }

    #[test]
    fn a_transaction_that_was_delivered_before_is_dropped_whole() {
        let mut assembler = assembler(24);
        let insert = || crate::pgoutput::parse(INSERT).unwrap();
        run(&mut assembler, &[begin(16), insert(), commit(16, 24), begin(24), insert(), insert(), commit(24, 48)]);
        assert_eq!(delivered(&mut assembler), ["2 rows", "0/30"]);
    }

    #[test]
    fn what_cannot_be_is_an_error_and_never_a_skip() {
        let insert = || crate::pgoutput::parse(INSERT).unwrap();
        assert!(assembler(0).apply(&insert()).is_err(), "outside every transaction");
        assert!(assembler(0).apply(&commit(16, 24)).is_err());
        let mut open = assembler(0);
        run(&mut open, &[begin(16)]);
        assert!(open.apply(&begin(32)).is_err());
        assert!(open.apply(&commit(17, 24)).is_err());
        let mut unknown = assembler(0);
        run(&mut unknown, &[begin(16)]);
        assert!(unknown.apply(&Message::Truncate { relations: vec![77] }).is_err(), "a table without its columns");
    }

    #[test]
    fn case_46_a_table_that_was_renamed_or_made_anew_or_lost_its_key_stops() {
        for (name, oid, identity, code) in [
            ("public.renamed", 9, ReplicaIdentity::Default, "R0318"),
            ("public.t", 10, ReplicaIdentity::Default, "R0318"),
            ("public.t", 9, ReplicaIdentity::Nothing, "R0324"),
        ] {
            let error = assembler(0).describe(described(name, oid, identity)).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
        }
        let mut others = assembler(0);
        others.describe(described("public.of_others", 11, ReplicaIdentity::Default)).unwrap();
        run(&mut others, &[begin(16), Message::Truncate { relations: vec![11] }, commit(16, 24)]);
        assert_eq!(delivered(&mut others), ["0/18"]);
    }
}
