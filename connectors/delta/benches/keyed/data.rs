//! Rows that look like an order's, the same ones every time.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use lakehead_core::{OP, reserved_field};

/// Whose rows change.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys {
    /// Any, alike.
    Uniform,
    /// A few often and most seldom (exponent 1.1).
    Zipf,
}

impl Keys {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        }
    }
}

/// Numbers that look like chance (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("amount", DataType::Decimal128(12, 2), true),
        Field::new("changed_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

const WORDS: [&str; 16] = [
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll", "ledge",
    "marsh", "north", "ocean", "pines",
];

fn batch(ids: Vec<i64>, ops: Vec<&'static str>, seed: u64) -> RecordBatch {
    let mut dice = Dice(seed);
    let amounts: Vec<i128> = ids.iter().map(|_| i128::from(dice.next() % 50_000)).collect();
    let times: Vec<i64> =
        ids.iter().map(|_| 1_750_000_000_000_000 + i64::try_from(dice.next() % 31_536_000_000_000).unwrap()).collect();
    let notes: Vec<String> = ids
        .iter()
        .map(|_| (0..6).map(|_| WORDS[usize::try_from(dice.next() % 16).unwrap()]).collect::<Vec<_>>().join(" "))
        .collect();
    let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
    fields.push(Arc::new(reserved_field(OP)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(Decimal128Array::from(amounts).with_precision_and_scale(12, 2).unwrap()),
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(StringArray::from(notes)),
        Arc::new(StringArray::from(ops)),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// New rows, as a snapshot reads them.
pub(crate) fn snapshot(first: u64, count: u64) -> RecordBatch {
    let ids: Vec<i64> = (first..first + count).map(|id| i64::try_from(id).unwrap()).collect();
    let ops = vec!["r"; ids.len()];
    batch(ids, ops, first)
}

/// Rounds of changes over a table of rows `0..rows`.
pub(crate) struct Changes {
    rows: u64,
    next: u64,
    dice: Dice,
}

impl Changes {
    pub(crate) fn new(rows: u64) -> Self {
        Self { rows, next: rows, dice: Dice(42) }
    }

    /// Of `count` changes six in ten update, two insert, two delete.
    pub(crate) fn round(&mut self, count: u64, keys: Keys) -> RecordBatch {
        let (mut ids, mut ops) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (id, op) = match self.dice.next() % 10 {
                0..=5 => (self.key(keys), "u"),
                6 | 7 => {
                    self.next += 1;
                    (self.next, "c")
                }
                _ => (self.key(keys), "d"),
            };
            ids.push(i64::try_from(id).unwrap());
            ops.push(op);
        }
        let seed = self.dice.next();
        batch(ids, ops, seed)
    }

    /// Deletes `count` rows, each once.
    pub(crate) fn deletes(&mut self, count: u64) -> RecordBatch {
        let mut ids = HashSet::new();
        while (ids.len() as u64) < count {
            ids.insert(i64::try_from(self.dice.next() % self.rows).unwrap());
        }
        let ids: Vec<i64> = ids.into_iter().collect();
        let ops = vec!["d"; ids.len()];
        batch(ids, ops, 0)
    }

    fn key(&mut self, keys: Keys) -> u64 {
        match keys {
            Keys::Uniform => self.dice.next() % self.rows,
            // The inverse of the distribution's continuous form.
            Keys::Zipf => {
                let rows = self.rows as f64;
                let share = self.dice.share();
                let place = (1.0 - share * (1.0 - rows.powf(-0.1))).powf(-10.0);
                // Spread over the table, as hot keys are.
                (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.rows
            }
        }
    }
}
