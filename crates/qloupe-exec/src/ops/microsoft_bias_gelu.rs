//! com.microsoft.BiasGelu: Gelu of a sum.

use qloupe_tensor::Tensor;

use super::cast::cast;
use super::composed::{MICROSOFT, plain, with_bias};
use super::gelu::Gelu;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = gelu(x + bias)`; the bias has one number for each column.
#[derive(Debug)]
pub(super) struct BiasGelu;

impl Operator for BiasGelu {
    fn op_type(&self) -> &'static str {
        "BiasGelu"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(0)?.dtype();
        let sum = with_bias(ctx, 1)?;
        Ok(vec![cast(&plain(&Gelu, &[(0, &sum)])?, dtype)?])
    }
}
