//! Binarizer: 0 or 1 by a threshold.

use qloupe_tensor::Tensor;

use super::cast::cast;
use super::elementwise::map;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = 1` where `x > threshold`, else 0.
#[derive(Debug)]
pub(super) struct Binarizer;

impl Operator for Binarizer {
    fn op_type(&self) -> &'static str {
        "Binarizer"
    }

    fn domain(&self) -> &'static str {
        "ai.onnx.ml"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let threshold = f64::from(ctx.float("threshold", 0.0));
        let above = map(&x.to_f64_vec()?, |x| x > threshold);
        Ok(vec![cast(&Tensor::new::<bool>(x.shape(), above)?, x.dtype())?])
    }
}
