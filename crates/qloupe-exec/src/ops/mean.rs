//! Mean: the mean of all inputs.

use qloupe_ir::Node;
use qloupe_tensor::{DType, Tensor};

use super::cast::cast;
use super::elementwise::{FLOATS, arithmetic, infer_broadcast, map, wrong_dtype};
use super::elementwise_gradient::{Factor, broadcast_pullback};
use super::sum::Sum;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// `y = (x0 + x1 + ...) / n` in this order, broadcast.
#[derive(Debug)]
pub(super) struct Mean;

impl Operator for Mean {
    fn op_type(&self) -> &'static str {
        "Mean"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_broadcast(ctx, ctx.dtype(0))
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(0)?.dtype();
        if !dtype.is_float() {
            return Err(wrong_dtype(0, FLOATS, dtype));
        }
        let sum = &arithmetic::<Sum>(ctx)?[0];
        let n = ctx.inputs.len() as f64;
        let mean = if let Some(sum) = sum.as_slice::<f64>() {
            Tensor::vector(map(sum, |v| v / n))
        } else {
            let sum = cast(sum, DType::Float32)?;
            cast(
                &Tensor::vector(map(sum.require::<f32>()?, |v| v / n as f32)),
                dtype,
            )?
        };
        Ok(vec![mean.reshape(sum.shape())?])
    }
}

impl Differentiable for Mean {
    fn covers(&self, _node: &Node, _input_idx: usize) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let share = 1.0 / ctx.call.inputs.len() as f32;
        let factors = ctx.call.inputs.iter().map(|_| Some(Factor::Number(share)));
        broadcast_pullback(ctx, factors.collect())
    }
}
