//! MeanVarianceNormalization: standardizes over any axes.

use qloupe_tensor::Tensor;

use super::movement::View;
use super::normalization::{each_row, floats, mean_and_variance, rounded};
use super::parameters::resolve_axes;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// What the deviation is raised by, so that a constant group gives 0 (ONNX reference function).
const EPSILON: f64 = 1e-9;

/// `y = (x - mean) / (sqrt(variance) + 1e-9)` over `axes`, `[0, 2, 3]` by default.
#[derive(Debug)]
pub(super) struct MeanVarianceNormalization;

impl Operator for MeanVarianceNormalization {
    fn op_type(&self) -> &'static str {
        "MeanVarianceNormalization"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let reduced = resolve_axes(ctx.node.ints("axes").unwrap_or(&[0, 2, 3]), x.rank())?;
        let kept = (0..x.rank()).filter(|axis| !reduced.contains(axis));
        let permutation: Vec<usize> = kept
            .chain((0..x.rank()).filter(|axis| reduced.contains(axis)))
            .collect();
        let permuted: Vec<usize> = permutation.iter().map(|&axis| x.shape()[axis]).collect();
        let n = reduced.iter().map(|&axis| x.shape()[axis]).product();
        let values = Tensor::new(x.shape(), floats(ctx, 0)?)?;
        let mut rows = View::transposed(x.shape(), &permutation)
            .copy(&values, &permuted)?
            .into_vec::<f64>()?;
        each_row(&mut rows, n, |_, row| {
            let (mean, variance) = mean_and_variance(row);
            let deviation = variance.sqrt() + EPSILON;
            row.iter_mut().for_each(|v| *v = (*v - mean) / deviation);
        });
        let mut back = vec![0; x.rank()];
        for (to, &from) in permutation.iter().enumerate() {
            back[from] = to;
        }
        let rows = Tensor::new(&permuted, rows)?;
        let values = View::transposed(&permuted, &back).copy(&rows, x.shape())?;
        Ok(vec![rounded(x.shape(), values.into_vec()?, x.dtype())?])
    }
}
