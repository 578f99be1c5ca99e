//! OptionalHasElement: whether an optional holds something.

use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};
use qloupe_tensor::{DType, Tensor};

/// A bool scalar: false for an empty optional and for an absent input.
#[derive(Debug)]
pub(super) struct OptionalHasElement;

impl Operator for OptionalHasElement {
    fn op_type(&self) -> &'static str {
        "OptionalHasElement"
    }

    fn since_version(&self) -> i64 {
        15
    }

    fn infer(&self, _ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::new(Some(DType::Bool), Some(Vec::new()))])
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl ValueOperator for OptionalHasElement {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let holds = ctx.input(0).is_some_and(|value| !matches!(value, Value::Absent));
        Ok(vec![Tensor::scalar(holds).into()])
    }
}
