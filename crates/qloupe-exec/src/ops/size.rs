//! Size: the number of elements.

use qloupe_tensor::{DType, Tensor};

use super::parameters::elements_fact;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// The number of elements of `x`, an int64 of rank 0.
#[derive(Debug)]
pub(super) struct Size;

impl Operator for Size {
    fn op_type(&self) -> &'static str {
        "Size"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.require(0)?;
        Ok(vec![match ctx.shape(0) {
            Some(shape) => {
                let n = shape.iter().fold(SymDim::known(1), |n, dim| n.times(dim));
                elements_fact(Some(DType::Int64), Vec::new(), vec![n])
            }
            None => Fact::new(Some(DType::Int64), Some(Vec::new())),
        }])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![Tensor::scalar(ctx.require(0)?.len() as i64)])
    }
}
