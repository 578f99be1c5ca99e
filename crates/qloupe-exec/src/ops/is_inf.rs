//! IsInf: which elements are infinite.

use qloupe_tensor::{DType, Tensor};

use super::{
    cast::cast,
    elementwise::{FLOATS, map, wrong_dtype},
};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = true` where `x` is infinite; the attributes `detect_positive` and `detect_negative` select the signs.
#[derive(Debug)]
pub(super) struct IsInf;

impl Operator for IsInf {
    fn op_type(&self) -> &'static str {
        "IsInf"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::new(Some(DType::Bool), ctx.require(0)?.shape.clone())])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let positive = ctx.int("detect_positive", 1) != 0;
        let negative = ctx.int("detect_negative", 1) != 0;
        let x = ctx.require(0)?;
        let dtype = x.dtype();
        let found = if dtype == DType::Float64 {
            map(x.require::<f64>()?, |x: f64| {
                x.is_infinite() && if x > 0.0 { positive } else { negative }
            })
        } else if dtype.is_float() {
            map(cast(x, DType::Float32)?.require::<f32>()?, |x: f32| {
                x.is_infinite() && if x > 0.0 { positive } else { negative }
            })
        } else {
            return Err(wrong_dtype(0, FLOATS, dtype));
        };
        Ok(vec![Tensor::new(x.shape(), found)?])
    }
}
