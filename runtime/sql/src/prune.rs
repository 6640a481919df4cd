//! Which parts of a file a condition can be true in, by the least and greatest values of its columns there.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use std::sync::Arc;

use crate::Predicate;

/// Per column the least values, the greatest values and the numbers of NULLs, one of each per part.
pub type Extremes = BTreeMap<String, [ArrayRef; 3]>;

/// A condition as a question about parts.
#[derive(Debug)]
pub struct Pruner(PruningPredicate);

impl Predicate {
    /// Returns the same condition as a question about parts; `None` where it asks nothing that extremes could answer.
    pub fn pruner(&self, schema: &SchemaRef) -> Option<Pruner> {
        let pruning = PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(schema))
            .try_build(Arc::clone(self.expr()))
            .ok()?;
        (!pruning.always_true()).then_some(Pruner(pruning))
    }
}

impl Pruner {
    /// Says of each part whether the condition may be true for a row of it. A column without extremes leaves all in.
    pub fn keeps(&self, parts: usize, extremes: &Extremes) -> Vec<bool> {
        let kept = self.0.prune(&Parts { parts, extremes });
        kept.ok().filter(|kept| kept.len() == parts).unwrap_or_else(|| vec![true; parts])
    }
}

struct Parts<'a> {
    parts: usize,
    extremes: &'a Extremes,
}

impl Parts<'_> {
    fn array(&self, column: &Column, place: usize) -> Option<ArrayRef> {
        let arrays = self.extremes.get(&column.name)?;
        Some(Arc::clone(&arrays[place]))
    }
}

impl PruningStatistics for Parts<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, 0)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, 1)
    }

    fn num_containers(&self) -> usize {
        self.parts
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, 2)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
