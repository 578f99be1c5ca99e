//! SequenceConstruct: a sequence of its inputs.

use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};
use qloupe_tensor::Tensor;

/// The inputs, in order.
#[derive(Debug)]
pub(super) struct SequenceConstruct;

impl Operator for SequenceConstruct {
    fn op_type(&self) -> &'static str {
        "SequenceConstruct"
    }

    fn since_version(&self) -> i64 {
        11
    }

    fn infer(&self, _ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::default()])
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl ValueOperator for SequenceConstruct {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let items: Vec<Tensor> = (0..ctx.inputs.len())
            .map(|idx| Ok(ctx.tensor(idx)?.clone()))
            .collect::<Result<_, OpError>>()?;
        Ok(vec![items.into()])
    }
}
