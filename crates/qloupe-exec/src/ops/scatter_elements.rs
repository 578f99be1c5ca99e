//! ScatterElements: updates at one index per element. `Scatter` is its name before opset 11.

use qloupe_tensor::Tensor;

use super::scatter::{Reduction, element_positions, write_updates};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = data; y[indices[i][j]][j] = updates[i][j]` for axis 0, likewise for the others; or combined by `reduction`.
#[derive(Debug)]
pub(super) struct ScatterElements;

impl Operator for ScatterElements {
    fn op_type(&self) -> &'static str {
        "ScatterElements"
    }

    fn since_version(&self) -> i64 {
        11
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (data, indices, updates) = (ctx.require(0)?, ctx.require(1)?, ctx.require(2)?);
        let positions = element_positions(data.shape(), indices, ctx.int("axis", 0))?;
        let reduction = Reduction::of(ctx.node)?;
        Ok(vec![write_updates(data, updates, &positions, 1, reduction)?])
    }
}

/// The name of [`ScatterElements`] before opset 11.
#[derive(Debug)]
pub(super) struct Scatter;

impl Operator for Scatter {
    fn op_type(&self) -> &'static str {
        "Scatter"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        ScatterElements.eval(ctx)
    }
}
