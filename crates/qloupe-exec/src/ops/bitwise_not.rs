//! BitwiseNot: every bit inverted.

use qloupe_tensor::{DType, Tensor};

use super::{
    cast::cast,
    elementwise::{INTEGERS, map, widened, wrong_dtype},
};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = ~x`.
#[derive(Debug)]
pub(super) struct BitwiseNot;

impl Operator for BitwiseNot {
    fn op_type(&self) -> &'static str {
        "BitwiseNot"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(0)?.dtype();
        if dtype.is_float() || dtype == DType::Bool {
            return Err(wrong_dtype(0, INTEGERS, dtype));
        }
        let bits = cast(&widened(ctx, 0, dtype)?, DType::UInt64)?;
        let inverted = Tensor::new(bits.shape(), map(bits.require::<u64>()?, |v| !v))?;
        Ok(vec![cast(&inverted, dtype)?])
    }
}
