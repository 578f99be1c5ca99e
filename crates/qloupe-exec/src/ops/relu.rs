//! Relu: `max(x, 0)`.

use qloupe_tensor::Tensor;

use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = max(x, 0)`; NaN stays NaN.
#[derive(Debug)]
pub(super) struct Relu;

impl Operator for Relu {
    fn op_type(&self) -> &'static str {
        "Relu"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let y: Vec<f32> = x
            .require::<f32>()?
            .iter()
            .map(|&v| if v < 0.0 { 0.0 } else { v })
            .collect();
        Ok(vec![Tensor::new(x.shape(), y)?])
    }
}
