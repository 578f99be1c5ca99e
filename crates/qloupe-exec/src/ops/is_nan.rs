//! IsNaN: which elements are NaN.

use qloupe_tensor::{DType, Tensor};

use super::{
    cast::cast,
    elementwise::{FLOATS, map, wrong_dtype},
};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = true` where `x` is NaN.
#[derive(Debug)]
pub(super) struct IsNaN;

impl Operator for IsNaN {
    fn op_type(&self) -> &'static str {
        "IsNaN"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::new(Some(DType::Bool), ctx.require(0)?.shape.clone())])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let dtype = x.dtype();
        let found = if dtype == DType::Float64 {
            map(x.require::<f64>()?, f64::is_nan)
        } else if dtype.is_float() {
            map(cast(x, DType::Float32)?.require::<f32>()?, f32::is_nan)
        } else {
            return Err(wrong_dtype(0, FLOATS, dtype));
        };
        Ok(vec![Tensor::new(x.shape(), found)?])
    }
}
