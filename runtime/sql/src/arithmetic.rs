//! Arithmetic on whole numbers that says when a result does not fit, in whole queries too.
//!
//! The stock operators wrap, and only single expressions can be told not to. So an analyzer rule puts functions of ours
//! in their place once every operand has its type.

use std::sync::Arc;

use arrow::array::{ArrayRef, Datum, Scalar, new_null_array};
use arrow::compute::kernels::numeric::{add, mul, sub};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

type Kernel = fn(&dyn Datum, &dyn Datum) -> std::result::Result<ArrayRef, ArrowError>;

/// One checked operation on two whole numbers of one type.
#[derive(Debug)]
struct Checked {
    name: &'static str,
    kernel: Kernel,
    signature: Signature,
}

impl PartialEq for Checked {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Checked {}

impl std::hash::Hash for Checked {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(data_type) => Ok(data_type.clone()),
            None => plan_err!("{} takes two numbers", self.name),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else { return plan_err!("{} takes two numbers", self.name) };
        // Of two scalars or nothing at all there is one result; NULL makes it NULL.
        match (left, right) {
            (ColumnarValue::Array(left), ColumnarValue::Array(right)) => {
                Ok(ColumnarValue::Array((self.kernel)(left, right)?))
            }
            (ColumnarValue::Array(left), ColumnarValue::Scalar(right)) => {
                self.with_scalar(left, right, |scalar| (self.kernel)(left, scalar))
            }
            (ColumnarValue::Scalar(left), ColumnarValue::Array(right)) => {
                self.with_scalar(right, left, |scalar| (self.kernel)(scalar, right))
            }
            (ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)) => {
                let result = (self.kernel)(&left.to_array()?, &right.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
            }
        }
    }
}

impl Checked {
    fn with_scalar(
        &self,
        array: &ArrayRef,
        scalar: &ScalarValue,
        apply: impl FnOnce(&dyn Datum) -> std::result::Result<ArrayRef, ArrowError>,
    ) -> Result<ColumnarValue> {
        if scalar.is_null() {
            return Ok(ColumnarValue::Array(new_null_array(array.data_type(), array.len())));
        }
        Ok(ColumnarValue::Array(apply(&Scalar::new(scalar.to_array()?))?))
    }
}

/// Puts checked functions in place of `+`, `-`, `*` and the sign of whole numbers.
#[derive(Debug)]
pub(crate) struct CheckedArithmetic {
    add: Arc<ScalarUDF>,
    subtract: Arc<ScalarUDF>,
    multiply: Arc<ScalarUDF>,
}

impl Default for CheckedArithmetic {
    fn default() -> Self {
        let function = |name, kernel| {
            let signature = Signature::any(2, Volatility::Immutable);
            Arc::new(ScalarUDF::from(Checked { name, kernel, signature }))
        };
        Self {
            add: function("checked_add", add),
            subtract: function("checked_subtract", sub),
            multiply: function("checked_multiply", mul),
        }
    }
}

impl CheckedArithmetic {
    fn rewrite(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        expr.transform_up(|node| {
            let (function, left, right) = match &node {
                Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                    Operator::Plus => (&self.add, left.as_ref().clone(), right),
                    Operator::Minus => (&self.subtract, left.as_ref().clone(), right),
                    Operator::Multiply => (&self.multiply, left.as_ref().clone(), right),
                    _ => return Ok(Transformed::no(node)),
                },
                Expr::Negative(inner) => match inner.get_type(schema).and_then(|t| ScalarValue::new_zero(&t)) {
                    Ok(zero) => (&self.subtract, Expr::Literal(zero, None), inner),
                    Err(_) => return Ok(Transformed::no(node)),
                },
                _ => return Ok(Transformed::no(node)),
            };
            let types = (left.get_type(schema), right.get_type(schema));
            match types {
                (Ok(a), Ok(b)) if a == b && a.is_integer() => {
                    Ok(Transformed::yes(function.call(vec![left, right.as_ref().clone()])))
                }
                _ => Ok(Transformed::no(node)),
            }
        })
    }
}

impl AnalyzerRule for CheckedArithmetic {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|node| {
            let inputs = node.inputs();
            if inputs.is_empty() {
                return Ok(Transformed::no(node));
            }
            let schema = merge_schema(&inputs);
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(self.rewrite(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "checked_arithmetic"
    }
}
