//! Functions of ours: masks, addresses, JSON.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Adds our functions to a session.
pub(crate) fn register(context: &SessionContext) {
    for function in [
        TextFunction::new("mask_phone", mask_phone),
        TextFunction::new("mask_email", mask_email),
        TextFunction::new("mask_card", mask_card),
    ] {
        context.register_udf(ScalarUDF::from(function));
    }
    context.register_udf(ScalarUDF::from(IpToInt(Signature::exact(vec![DataType::Utf8], Volatility::Immutable))));
    context.register_udf(json_text());
    if let Err(error) = register_planner(context) {
        debug_assert!(false, "{error}");
    }
}

fn register_planner(context: &SessionContext) -> Result<()> {
    use datafusion::execution::FunctionRegistry;
    let state = context.state_ref();
    let mut state = state.write();
    state.register_expr_planner(Arc::new(JsonArrow))
}

/// A function of one text to one text; NULL stays NULL.
#[derive(Debug)]
struct TextFunction {
    name: &'static str,
    apply: fn(&str) -> String,
    signature: Signature,
}

impl TextFunction {
    fn new(name: &'static str, apply: fn(&str) -> String) -> Self {
        Self { name, apply, signature: Signature::exact(vec![DataType::Utf8], Volatility::Immutable) }
    }
}

impl PartialEq for TextFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for TextFunction {}

impl std::hash::Hash for TextFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for TextFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let texts = texts(&arrays[0])?;
        let mapped: StringArray = texts.iter().map(|text| text.map(self.apply)).collect();
        Ok(ColumnarValue::Array(Arc::new(mapped)))
    }
}

fn texts(array: &ArrayRef) -> Result<&StringArray> {
    match array.as_any().downcast_ref::<StringArray>() {
        Some(texts) => Ok(texts),
        None => exec_err!("needs text"),
    }
}

/// Keeps the country code and the last two digits: `+44 20 79460` becomes `+44 ** ***60`.
fn mask_phone(text: &str) -> String {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let code = match text.strip_prefix('+') {
        Some(rest) => rest.chars().take_while(char::is_ascii_digit).count().min(3),
        None => 0,
    };
    let mut seen = 0;
    text.chars()
        .map(|c| {
            if !c.is_ascii_digit() {
                return c;
            }
            seen += 1;
            if seen <= code || seen > digits.saturating_sub(2).max(code) { c } else { '*' }
        })
        .collect()
}

/// Keeps the first letter and the domain: `a***@acme.test`.
fn mask_email(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((name, domain)) => format!("{}***@{domain}", name.chars().next().map_or(String::new(), String::from)),
        None => "*".repeat(text.chars().count()),
    }
}

/// Keeps the last four characters.
fn mask_card(text: &str) -> String {
    let length = text.chars().count();
    let hidden = length.saturating_sub(4);
    text.chars().enumerate().map(|(n, c)| if n < hidden { '*' } else { c }).collect()
}

/// `ip_to_int('10.0.0.9')`: an IPv4 address as a number; NULL for anything else.
#[derive(Debug, PartialEq, Eq, Hash)]
struct IpToInt(Signature);

impl ScalarUDFImpl for IpToInt {
    fn name(&self) -> &str {
        "ip_to_int"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let number = |text: &str| text.parse::<std::net::Ipv4Addr>().ok().map(|ip| i64::from(u32::from(ip)));
        let numbers: Int64Array = texts(&arrays[0])?.iter().map(|text| text.and_then(number)).collect();
        Ok(ColumnarValue::Array(Arc::new(numbers)))
    }
}

/// `json_text(document, 'key')`, which `document ->> 'key'` means: the value as text, NULL where there is none.
#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonText(Signature);

fn json_text() -> ScalarUDF {
    ScalarUDF::from(JsonText(Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable)))
}

impl ScalarUDFImpl for JsonText {
    fn name(&self) -> &str {
        "json_text"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (documents, keys) = (texts(&arrays[0])?, texts(&arrays[1])?);
        let mut values = Vec::with_capacity(documents.len());
        for (document, key) in documents.iter().zip(keys) {
            let (Some(document), Some(key)) = (document, key) else {
                values.push(None);
                continue;
            };
            let Ok(value) = serde_json::from_str::<serde_json::Value>(document) else {
                return exec_err!("a text is not JSON");
            };
            values.push(match value.get(key) {
                None | Some(serde_json::Value::Null) => None,
                Some(serde_json::Value::String(text)) => Some(text.clone()),
                Some(other) => Some(other.to_string()),
            });
        }
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(values))))
    }
}

/// Plans `->>`.
#[derive(Debug)]
struct JsonArrow;

impl ExprPlanner for JsonArrow {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        _schema: &datafusion::common::DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        match expr.op {
            BinaryOperator::LongArrow => {
                let function = ScalarFunction::new_udf(Arc::new(json_text()), vec![expr.left, expr.right]);
                Ok(PlannerResult::Planned(Expr::ScalarFunction(function)))
            }
            BinaryOperator::Arrow => plan_err!("`->` is not known; `->>` gives text"),
            _ => Ok(PlannerResult::Original(expr)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_what_helps_and_hide_the_rest() {
        assert_eq!(mask_phone("+44 20 79460"), "+44 ** ***60");
        assert_eq!(mask_phone("0171 23"), "**** 23");
        assert_eq!(mask_card("4111111111111111"), "************1111");
        assert_eq!(mask_card("42"), "42");
        assert_eq!(mask_email("ann@acme.test"), "a***@acme.test");
    }
}
