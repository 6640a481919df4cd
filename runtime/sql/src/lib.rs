//! SQL for transforms: typed offline for `check`, evaluated on batches for `run` and `test`. The only crate that names
//! the engine behind it.

mod analyze;
mod arithmetic;
mod checks;
mod evaluate;
mod functions;
mod normal;
mod parse;
mod prune;
mod query;
mod sum;

pub use evaluate::{Parameters, Predicate, Projection};
pub use prune::{Extremes, Pruner};

use std::sync::Arc;

use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::AggregateUDF;
use datafusion::prelude::SessionConfig;

/// A SQL session with our dialect and functions.
pub struct Sql {
    context: SessionContext,
}

impl std::fmt::Debug for Sql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sql")
    }
}

impl Default for Sql {
    fn default() -> Self {
        Self::new()
    }
}

impl Sql {
    /// Starts a session: float literals are decimals, text is text, times are UTC.
    pub fn new() -> Self {
        let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
        let options = config.options_mut();
        options.sql_parser.parse_float_as_decimal = true;
        options.sql_parser.collect_spans = true;
        options.sql_parser.map_string_types_to_utf8view = false;
        options.execution.time_zone = Some("UTC".into());
        let context = SessionContext::new_with_config(config);
        functions::register(&context);
        context.register_udaf(AggregateUDF::from(sum::ExactSum::default()));
        context.add_analyzer_rule(Arc::new(arithmetic::CheckedArithmetic::default()));
        Self { context }
    }
}
