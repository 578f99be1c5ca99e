//! Range: numbers at equal distances.

use half::{bf16, f16};
use qloupe_tensor::{Element, Tensor};

use super::parameters::{elements_fact, open_dim};
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `start + i * delta` for `i` in `0 .. max(ceil((limit - start) / delta), 0)`.
#[derive(Debug)]
pub(super) struct Range;

/// More elements have no name: the conversion to an integer would not be exact.
const MAX_ELEMENTS: f64 = 9e15;

fn count(start: f64, limit: f64, delta: f64) -> Result<usize, OpError> {
    let n = ((limit - start) / delta).ceil();
    if delta == 0.0 || n.is_nan() || n > MAX_ELEMENTS {
        return Err(OpError::input(
            2,
            format!(
                "no such range, expected finite numbers and a step that is not 0, got {start}..{limit} by {delta}"
            ),
        ));
    }
    Ok(n.max(0.0) as usize)
}

impl Operator for Range {
    fn op_type(&self) -> &'static str {
        "Range"
    }

    fn since_version(&self) -> i64 {
        11
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = ctx.require(0)?.dtype;
        let one = |idx: usize| ctx.elements(idx)?.first().cloned();
        let parts = (one(0), one(1), one(2));
        let (Some(start), Some(limit), Some(delta)) = parts else {
            let real = |idx: usize| {
                ctx.input(idx)?
                    .constant
                    .as_ref()?
                    .to_f64_vec()
                    .ok()?
                    .first()
                    .copied()
            };
            let dim = match (real(0), real(1), real(2)) {
                (Some(start), Some(limit), Some(delta)) => SymDim::from(count(start, limit, delta)?),
                _ => open_dim(ctx, 0, 0),
            };
            return Ok(vec![Fact::new(dtype, Some(vec![dim]))]);
        };
        let known = (start.as_known(), limit.as_known(), delta.as_known());
        Ok(vec![match known {
            (Some(start), Some(limit), Some(delta)) => {
                let n = count(start as f64, limit as f64, delta as f64)?;
                let dims = vec![SymDim::from(n)];
                if n > 64 {
                    Fact::new(dtype, Some(dims))
                } else {
                    let elements =
                        (0..n as i64).map(|i| SymDim::known(start.wrapping_add(i.wrapping_mul(delta))));
                    elements_fact(dtype, dims, elements.collect())
                }
            }
            (_, _, Some(delta)) if delta > 0 => {
                let span = limit.minus(&start).plus(&SymDim::known(delta - 1));
                Fact::new(dtype, Some(vec![span.floor_div(&SymDim::known(delta))]))
            }
            _ => Fact::new(dtype, Some(vec![open_dim(ctx, 0, 0)])),
        }])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let bounds = [ctx.require(0)?, ctx.require(1)?, ctx.require(2)?];
        macro_rules! by_type {
            ($(($ty:ty, $step:expr)),*) => {
                $(if bounds[0].as_slice::<$ty>().is_some() {
                    return numbers::<$ty>(bounds, $step);
                })*
            };
        }
        by_type!(
            (f32, |s, d, i| s + i as f32 * d),
            (f64, |s, d, i| s + i as f64 * d),
            (i16, |s, d, i| s.wrapping_add(d.wrapping_mul(i as i16))),
            (i32, |s, d, i| s.wrapping_add(d.wrapping_mul(i as i32))),
            (i64, |s, d, i| s.wrapping_add(d.wrapping_mul(i as i64))),
            (f16, |s, d, i| f16::from_f32(s.to_f32() + i as f32 * d.to_f32())),
            (bf16, |s, d, i| bf16::from_f32(s.to_f32() + i as f32 * d.to_f32()))
        );
        Err(OpError::input(
            0,
            format!("wrong dtype, expected a number, got {}", bounds[0].dtype()),
        ))
    }
}

fn numbers<T: Element>(
    bounds: [&Tensor; 3],
    step: impl Fn(T, T, usize) -> T,
) -> Result<Vec<Tensor>, OpError> {
    let mut ends = [T::default(); 3];
    let mut reals = [0.0; 3];
    for (idx, bound) in bounds.into_iter().enumerate() {
        let values = bound
            .require::<T>()
            .map_err(|e| OpError::input(idx, e.to_string()))?;
        let &[value] = values else {
            return Err(OpError::input(
                idx,
                format!("wrong number of elements, expected 1, got {}", values.len()),
            ));
        };
        ends[idx] = value;
        reals[idx] = bound.to_f64_vec()?[0];
    }
    let n = count(reals[0], reals[1], reals[2])?;
    let values = (0..n).map(|i| step(ends[0], ends[2], i)).collect();
    Ok(vec![Tensor::vector::<T>(values)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_lies_before_the_limit() {
        assert_eq!(count(0.0, 7.0, 3.0), Ok(3));
        assert_eq!(count(10.0, 4.0, -2.0), Ok(3));
        assert_eq!(count(4.0, 0.0, 1.0), Ok(0));
        assert_eq!(
            count(0.0, 1.0, 0.0).unwrap_err().to_string(),
            "input 2: no such range, expected finite numbers and a step that is not 0, got 0..1 by 0"
        );
    }
}
