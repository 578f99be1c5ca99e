//! Pow: `a` to the power of `b`.

use qloupe_ir::Node;
use qloupe_tensor::{DType, Tensor};

use super::broadcast::Broadcast;
use super::cast::{cast, computing_dtype};
use super::elementwise::zip_tensors;
use super::elementwise::{NUMBERS, infer_broadcast, map, wrong_dtype, zip};
use super::elementwise_gradient::{Factor, broadcast_pullback};
use super::number::{Castable, Exact, Number};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// `c = a^b`, broadcast, of the dtype of `a`; the exponent may have another dtype.
///
/// Exponents of one element that are 2, 3, 0.5 or -1 are computed as `a * a`, `a * a * a`, `sqrt(a)` and `1 / a`. Other
/// powers of integers by integers are exact (and wrap); all else is computed in f64 by the standard library and rounded
/// once.
#[derive(Debug)]
pub(super) struct Pow;

impl Operator for Pow {
    fn op_type(&self) -> &'static str {
        "Pow"
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
        let (a, b) = (ctx.require(0)?, ctx.require(1)?);
        let dtype = a.dtype();
        let computing = match computing_dtype(dtype) {
            DType::UInt64 | DType::Int64 if b.dtype().is_float() => DType::Float64,
            DType::UInt64 => DType::Int64,
            other => other,
        };
        let (a, b) = (
            cast(a, computing).map_err(|_| wrong_dtype(0, NUMBERS, dtype))?,
            cast(b, computing).map_err(|_| wrong_dtype(1, NUMBERS, b.dtype()))?,
        );
        let power = match computing {
            DType::Float32 => float_power(
                &a,
                &b,
                |a: f32, b| f64::from(a).powf(f64::from(b)) as f32,
                f32::sqrt,
            )?,
            DType::Float64 => float_power(&a, &b, f64::powf, f64::sqrt)?,
            DType::Int64 => integer_power(&a, &b)?,
            _ => return Err(wrong_dtype(0, NUMBERS, dtype)),
        };
        Ok(vec![cast(&power, dtype)?])
    }
}

impl Differentiable for Pow {
    fn covers(&self, _node: &Node, _input_idx: usize) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let (a, b) = (ctx.call.require(0)?.to_f32()?, ctx.call.require(1)?.to_f32()?);
        let power = |a: f32, b: f32| f64::from(a).powf(f64::from(b));
        let of_a = match b.require::<f32>()? {
            &[2.0] => Tensor::new(a.shape(), map(a.require()?, |a: f32| 2.0 * a))?,
            _ => zip_tensors(&a, &b, |a: f32, b: f32| b * power(a, b - 1.0) as f32)?,
        };
        let of_b = if ctx.wants(1) {
            let logarithm = |a: f32, b: f32| (power(a, b) * f64::from(a).ln()) as f32;
            Some(Factor::Tensor(zip_tensors(&a, &b, logarithm)?))
        } else {
            None
        };
        broadcast_pullback(ctx, vec![Some(Factor::Tensor(of_a)), of_b])
    }
}

fn float_power<T: Number>(
    a: &Tensor,
    b: &Tensor,
    power: impl Fn(T, T) -> T + Sync,
    sqrt: impl Fn(T) -> T + Sync,
) -> Result<Tensor, OpError> {
    let plan = Broadcast::new([a.shape(), b.shape()])?;
    let (a, b) = (a.require::<T>()?, b.require::<T>()?);
    let exponent = if let &[exponent] = b {
        f64::narrow(exponent.widen())
    } else {
        f64::NAN
    };
    let powers = match exponent {
        2.0 => map(a, |v| v.times(v)),
        3.0 => map(a, |v| v.times(v).times(v)),
        0.5 => map(a, sqrt),
        -1.0 => map(a, |v| T::narrow(Exact::Signed(1)).over(v)),
        _ => zip(&plan, a, b, power),
    };
    Ok(Tensor::new(plan.shape(), powers)?)
}

fn integer_power(a: &Tensor, b: &Tensor) -> Result<Tensor, OpError> {
    let plan = Broadcast::new([a.shape(), b.shape()])?;
    let powers = zip(
        &plan,
        a.require::<i64>()?,
        b.require::<i64>()?,
        |a: i64, b: i64| match u32::try_from(b) {
            Ok(b) => a.wrapping_pow(b),
            Err(_) => (a as f64).powf(b as f64) as i64,
        },
    );
    Ok(Tensor::new(plan.shape(), powers)?)
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    fn pow(a: &Tensor, b: &Tensor) -> Tensor {
        let node = Node::default();
        let ctx = EvalContext {
            node: &node,
            opset: 15,
            layout: Layout::Plain,
            inputs: &[Some(a), Some(b)],
        };
        Pow.eval(&ctx).unwrap().remove(0)
    }

    #[test]
    fn common_exponents_agree_with_the_general_power() {
        let a = Tensor::vector(vec![0.5_f32, 1.5, 4.0]);
        for exponent in [2.0_f32, 3.0, 0.5, -1.0] {
            let common = pow(&a, &Tensor::scalar(exponent));
            let general = pow(&a, &Tensor::vector(vec![exponent; 3]));
            let pairs = common
                .as_slice::<f32>()
                .unwrap()
                .iter()
                .zip(general.as_slice::<f32>().unwrap());
            for (c, g) in pairs {
                assert!(
                    (c - g).abs() <= f32::EPSILON * c.abs(),
                    "{c} and {g} for {exponent}"
                );
            }
        }
    }

    #[test]
    fn integers_are_exact_and_keep_the_dtype_of_the_base() {
        let cases = [
            (
                Tensor::scalar(3_i64),
                Tensor::scalar(39_i32),
                Tensor::scalar(4_052_555_153_018_976_267_i64),
            ),
            (
                Tensor::scalar(2_i32),
                Tensor::scalar(-1_i32),
                Tensor::scalar(0_i32),
            ),
            (
                Tensor::scalar(2_u8),
                Tensor::scalar(2.5_f32),
                Tensor::scalar(5_u8),
            ),
        ];
        for (a, b, expected) in cases {
            assert_eq!(pow(&a, &b), expected);
        }
    }
}
