//! LpPool: the Lp norm under a window.

use qloupe_tensor::Tensor;

use super::float_tensor::{from_float32, to_float32};
use super::pooling::{Pool, infer_pool};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `(sum of |x|^p under the window)^(1/p)`.
#[derive(Debug)]
pub(super) struct LpPool;

/// The Lp norm of some values, summed in order in f64. Powers and roots are made of products and quotients only, so
/// that every machine gives the same bits.
pub(super) fn lp_norm(values: impl Iterator<Item = f32>, p: i64) -> Result<f32, OpError> {
    let order = u32::try_from(p)
        .ok()
        .filter(|&p| (1..=64).contains(&p))
        .ok_or_else(|| {
            OpError::attribute("p", format!("not an order of a norm, expected 1 to 64, got {p}"))
        })?;
    let power = |base: f64, n: u32| (0..n).fold(1.0, |product, _| product * base);
    let sum = values.fold(0.0, |sum, v| sum + power(f64::from(v.abs()), order));
    Ok(match order {
        1 => sum as f32,
        2 => sum.sqrt() as f32,
        _ if sum <= 0.0 || !sum.is_finite() => sum as f32,
        _ => {
            // Newton's method falls monotonically to the root from any larger number.
            let n = f64::from(order);
            let mut root = sum.max(1.0);
            loop {
                let next = ((n - 1.0) * root + sum / power(root, order - 1)) / n;
                if next.is_nan() || next >= root {
                    break root as f32;
                }
                root = next;
            }
        }
    })
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
        assert_eq!(lp_norm([3.0, 4.0, -5.0].into_iter(), 3), Ok(6.0));
        assert_eq!(
            lp_norm([1.0].into_iter(), 0).unwrap_err().to_string(),
            "attribute \"p\": not an order of a norm, expected 1 to 64, got 0"
        );
    }
}
