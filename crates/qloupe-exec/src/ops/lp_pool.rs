//! LpPool: the Lp norm under a window.

use qloupe_tensor::Tensor;

use super::float_tensor::{from_float32, to_float32};
use super::pooling::{Pool, infer_pool};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `(sum of |x|^p under the window)^(1/p)`.
#[derive(Debug)]
pub(super) struct LpPool;

/// The Lp norm of some values, summed in order in f64.
pub(super) fn lp_norm(values: impl Iterator<Item = f32>, p: i64) -> Result<f32, OpError> {
    let sizes = values.map(|v| f64::from(v.abs()));
    match p {
        1 => Ok(sizes.fold(0.0, |sum, v| sum + v) as f32),
        2 => Ok(sizes.fold(0.0, |sum, v| sum + v * v).sqrt() as f32),
        _ => Err(OpError::unsupported(format!(
            "the norm of order {p} (orders 1 and 2 are)"
        ))),
    }
}

impl Operator for LpPool {
    fn op_type(&self) -> &'static str {
        "LpPool"
    }

    fn since_version(&self) -> i64 {
        2
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![infer_pool(ctx)?])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let pool = Pool::new(ctx, x)?;
        let p = ctx.int("p", 2);
        let norms = pool.reduce(&to_float32(x, 0)?, |values, _| lp_norm(values.iter().copied(), p));
        let y = norms.into_iter().collect::<Result<Vec<f32>, _>>()?;
        Ok(vec![from_float32(x.dtype(), &pool.output_shape(), y)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms() {
        assert_eq!(lp_norm([3.0, -4.0].into_iter(), 1), Ok(7.0));
        assert_eq!(lp_norm([3.0, -4.0].into_iter(), 2), Ok(5.0));
        assert_eq!(
            lp_norm([1.0].into_iter(), 3).unwrap_err().to_string(),
            "the norm of order 3 (orders 1 and 2 are) is not supported"
        );
    }
}
