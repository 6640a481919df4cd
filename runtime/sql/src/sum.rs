//! `sum` that is exact: of whole numbers and decimals it is added up in 128 bits, and a result that does not fit is an
//! error. The stock one wraps.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
};

/// The stock `sum`, but for whole numbers and decimals.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ExactSum(Arc<AggregateUDF>);

impl Default for ExactSum {
    fn default() -> Self {
        Self(sum_udaf())
    }
}

/// Returns the scale of the numbers that are added up here; `None` for those that the stock function adds up.
fn exact_scale(result: &DataType) -> Option<i8> {
    match result {
        DataType::Int64 => Some(0),
        DataType::Decimal128(_, scale) => Some(*scale),
        _ => None,
    }
}

impl AggregateUDFImpl for ExactSum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.return_type(types)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match exact_scale(args.return_field.data_type()) {
            Some(scale) => Ok(Box::new(Exact {
                result: args.return_field.data_type().clone(),
                scale,
                distinct: args.is_distinct.then(HashSet::new),
                sum: 0,
                values: 0,
            })),
            None => self.0.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match exact_scale(args.return_field.data_type()) {
            Some(_) => self.accumulator(args),
            None => self.0.create_sliding_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let Some(scale) = exact_scale(args.return_type()) else { return self.0.state_fields(args) };
        let partial = DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale);
        Ok(vec![Arc::new(if args.is_distinct {
            let item = Field::new_list_field(partial, true);
            Field::new_list(format_state_name(args.name, "sum distinct"), item, true)
        } else {
            Field::new(format_state_name(args.name, "sum"), partial, true)
        })])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        exact_scale(args.return_field.data_type()).is_none() && self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.0.create_groups_accumulator(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// A sum so far.
#[derive(Debug)]
struct Exact {
    result: DataType,
    scale: i8,
    /// The values so far, where each counts once.
    distinct: Option<HashSet<i128>>,
    sum: i128,
    /// Values that are not NULL.
    values: u64,
}

impl Exact {
    fn each(array: &ArrayRef, mut take: impl FnMut(i128) -> Result<()>) -> Result<()> {
        match array.data_type() {
            DataType::Int64 => array.as_primitive::<Int64Type>().iter().flatten().try_for_each(|n| take(n.into())),
            DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().iter().flatten().try_for_each(take),
            other => internal_err!("a sum of {other}"),
        }
    }

    fn take(&mut self, number: i128) -> Result<()> {
        if let Some(distinct) = &mut self.distinct
            && !distinct.insert(number)
        {
            return Ok(());
        }
        self.values += 1;
        match self.sum.checked_add(number) {
            Some(sum) => self.sum = sum,
            None => return exec_err!("overflow: a sum is too large"),
        }
        Ok(())
    }
}

impl Accumulator for Exact {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Self::each(&values[0], |number| self.take(number))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Self::each(&values[0], |number| {
            self.values = self.values.saturating_sub(1);
            match self.sum.checked_sub(number) {
                Some(sum) => self.sum = sum,
                None => return exec_err!("overflow: a sum is too large"),
            }
            Ok(())
        })
    }

    fn supports_retract_batch(&self) -> bool {
        self.distinct.is_none()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = (self.values > 0).then_some(self.sum);
        match self.result {
            DataType::Decimal128(precision, scale) => {
                let fits = |sum: &i128| sum.unsigned_abs() < 10_u128.pow(u32::from(precision));
                match sum {
                    Some(sum) if !fits(&sum) => exec_err!("overflow: a sum has more than {precision} digits"),
                    sum => Ok(ScalarValue::Decimal128(sum, precision, scale)),
                }
            }
            _ => match sum.map(i64::try_from).transpose() {
                Ok(sum) => Ok(ScalarValue::Int64(sum)),
                Err(_) => exec_err!("overflow: a sum does not fit bigint; sum(cast(… as decimal(38, 0))) does"),
            },
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.distinct.as_ref().map_or(0, |values| values.capacity() * size_of::<i128>())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let partial = |sum| ScalarValue::Decimal128(sum, DECIMAL128_MAX_PRECISION, self.scale);
        if let Some(distinct) = &self.distinct {
            let values: Vec<ScalarValue> = distinct.iter().map(|value| partial(Some(*value))).collect();
            let data_type = DataType::Decimal128(DECIMAL128_MAX_PRECISION, self.scale);
            return Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &data_type))]);
        }
        Ok(vec![partial((self.values > 0).then_some(self.sum))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        if self.distinct.is_none() {
            return Self::each(&states[0], |number| self.take(number));
        }
        for values in states[0].as_list::<i32>().iter().flatten() {
            Self::each(&values, |number| self.take(number))?;
        }
        Ok(())
    }
}
