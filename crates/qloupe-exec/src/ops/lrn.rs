//! LRN: local response normalization over neighbouring channels.

use qloupe_tensor::Tensor;

use super::normalization::{floats, rounded};
use super::rows::for_each_row;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = x / (bias + alpha / size * sum of x^2)^beta`, the sum over `size` channels around the own one.
///
/// # Numerics
/// In f64 with the power of the standard library, rounded once.
#[derive(Debug)]
pub(super) struct Lrn;

impl Operator for Lrn {
    fn op_type(&self) -> &'static str {
        "LRN"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let [_, channels, spatial @ ..] = x.shape() else {
            return Err(OpError::input(
                0,
                format!("wrong rank, expected at least 2, got {}", x.rank()),
            ));
        };
        let given = ctx.int("size", 0);
        let size = usize::try_from(given)
            .ok()
            .filter(|&size| size > 0)
            .ok_or_else(|| OpError::attribute("size", format!("expected at least 1, got {given}")))?;
        let alpha = f64::from(ctx.float("alpha", 1e-4)) / size as f64;
        let (beta, bias) = (
            f64::from(ctx.float("beta", 0.75)),
            f64::from(ctx.float("bias", 1.0)),
        );
        let inner: usize = spatial.iter().product();
        let values = floats(ctx, 0)?;
        let mut out = vec![0.0; values.len()];
        for_each_row(&mut out, inner, values.len(), &|row, out| {
            let (sample, channel) = (row / channels, row % channels);
            let first = channel.saturating_sub((size - 1) / 2);
            let last = channels.min(&(channel + size / 2 + 1)).to_owned();
            let at = |c: usize, i: usize| values[(sample * channels + c) * inner + i];
            for (i, out) in out.iter_mut().enumerate() {
                let squares = (first..last).fold(0.0, |sum, c| sum + at(c, i) * at(c, i));
                *out = at(channel, i) / (bias + alpha * squares).powf(beta);
            }
        });
        Ok(vec![rounded(x.shape(), out, x.dtype())?])
    }
}
