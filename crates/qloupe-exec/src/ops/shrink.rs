//! Shrink: small values become zero, large ones smaller.

use qloupe_tensor::Tensor;

use super::cast::cast;
use super::elementwise::{float_map, map};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = x + bias` below `-lambd`, `x - bias` above `lambd`, else 0; by default `lambd` is 0.5 and `bias` 0.
#[derive(Debug)]
pub(super) struct Shrink;

impl Operator for Shrink {
    fn op_type(&self) -> &'static str {
        "Shrink"
    }

    fn since_version(&self) -> i64 {
        9
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let (lambd, bias) = (ctx.float("lambd", 0.5), ctx.float("bias", 0.0));
        let (wide_lambd, wide_bias) = (f64::from(lambd), f64::from(bias));
        let wide = |x: f64| {
            if x < -wide_lambd {
                x + wide_bias
            } else if x > wide_lambd {
                x - wide_bias
            } else {
                0.0
            }
        };
        if !x.dtype().is_float() {
            let values = x.to_f64_vec()?;
            return Ok(vec![cast(
                &Tensor::new(x.shape(), map(&values, wide))?,
                x.dtype(),
            )?]);
        }
        let narrow = |x: f32| {
            if x < -lambd {
                x + bias
            } else if x > lambd {
                x - bias
            } else {
                0.0
            }
        };
        float_map(ctx, narrow, wide)
    }
}
