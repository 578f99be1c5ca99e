//! SequenceLength: the number of items of a sequence.

use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};
use qloupe_tensor::{DType, Tensor};

/// The number of items, an int64 scalar.
#[derive(Debug)]
pub(super) struct SequenceLength;

impl Operator for SequenceLength {
    fn op_type(&self) -> &'static str {
        "SequenceLength"
    }

    fn since_version(&self) -> i64 {
        11
    }

    fn infer(&self, _ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::new(Some(DType::Int64), Some(Vec::new()))])
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl ValueOperator for SequenceLength {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let len = i64::try_from(ctx.sequence(0)?.len()).unwrap_or(i64::MAX);
        Ok(vec![Tensor::scalar(len).into()])
    }
}
