//! Mean: the mean of all inputs.

use qloupe_tensor::{DType, Tensor};

use super::cast::cast;
use super::elementwise::{FLOATS, arithmetic, infer_broadcast, map, wrong_dtype};
use super::sum::Sum;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

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
