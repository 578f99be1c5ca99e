//! ReduceLogSumExp: the logarithm of the sum of exponentials over axes.

use qloupe_tensor::{DType, Tensor};

use super::cast::cast;
use super::reduction::{Axes, fold_axis, infer_reduction, widened};
use super::reduction_gradient::Reduced;
use super::rows::Around;
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// The opset from which on the axes are an input.
const AXES_INPUT_SINCE: i64 = 18;

/// `y = ln(sum of e^x)`, computed as `m + ln(sum of e^(x - m))` with the largest `m`, which does not overflow.
///
/// # Numerics
/// In f64 in document order, with the functions of the standard library, rounded once.
/// # Edge cases
/// -inf of no elements and of -inf only; infinite where an element is.
#[derive(Debug)]
pub(super) struct ReduceLogSumExp;

impl Operator for ReduceLogSumExp {
    fn op_type(&self) -> &'static str {
        "ReduceLogSumExp"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_reduction(ctx, AXES_INPUT_SINCE)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let axes = Axes::of_call(ctx, AXES_INPUT_SINCE)?;
        let (rows, around) = axes.rows_of(&cast(&widened(x)?, DType::Float64)?)?;
        let rows = around.gather(rows.require::<f64>()?);
        let flat = Around {
            outer: around.outer * around.inner,
            n: around.n,
            inner: 1,
        };
        let largest = fold_axis(
            &rows,
            flat,
            || f64::NEG_INFINITY,
            |m: f64, x: f64| {
                if x > m || x.is_nan() { x } else { m }
            },
        );
        let results: Vec<f64> = largest
            .iter()
            .enumerate()
            .map(|(row, &m)| {
                if m.is_infinite() {
                    return m;
                }
                let row = &rows[row * around.n..][..around.n];
                m + row.iter().fold(0.0, |sum, &x| sum + (x - m).exp()).ln()
            })
            .collect();
        Ok(vec![cast(&Tensor::new(&axes.output, results)?, x.dtype())?])
    }
}

impl Differentiable for ReduceLogSumExp {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let reduced = Reduced::new(ctx, AXES_INPUT_SINCE)?;
        reduced.by(ctx.output(0)?, |x, y| (f64::from(x) - f64::from(y)).exp() as f32)
    }
}
