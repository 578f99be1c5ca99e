//! ScatterND: slices written at coordinates.

use qloupe_tensor::Tensor;

use super::scatter::{Reduction, slice_positions, write_updates};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = data; y[indices[i..]..] = updates[i..]`, or combined by `reduction`.
#[derive(Debug)]
pub(super) struct ScatterND;

impl Operator for ScatterND {
    fn op_type(&self) -> &'static str {
        "ScatterND"
    }

    fn since_version(&self) -> i64 {
        11
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (data, indices, updates) = (ctx.require(0)?, ctx.require(1)?, ctx.require(2)?);
        let slices = slice_positions(data.shape(), indices, 0)?;
        let reduction = Reduction::of(ctx.node)?;
        Ok(vec![write_updates(
            data,
            updates,
            &slices.starts,
            slices.len,
            reduction,
        )?])
    }
}
