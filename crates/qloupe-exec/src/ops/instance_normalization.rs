//! InstanceNormalization: standardizes each channel of each sample.

use qloupe_tensor::Tensor;

use super::normalization::{each_row, floats, floats_of_length, rounded, standardize};
use super::normalization_gradient::{Center, standardized};
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y = scale * (x - mean) / sqrt(variance + epsilon) + bias` for each sample and channel.
///
/// # Shapes
/// x: `[N, C, ..]`; scale, bias: `[C]`.
#[derive(Debug)]
pub(super) struct InstanceNormalization;

impl Operator for InstanceNormalization {
    fn op_type(&self) -> &'static str {
        "InstanceNormalization"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let [_, channels, spatial @ ..] = x.shape() else {
            return Err(OpError::input(
                0,
                format!("wrong rank, expected at least 2, got {}", x.rank()),
            ));
        };
        let scale = floats_of_length(ctx, 1, *channels)?;
        let bias = floats_of_length(ctx, 2, *channels)?;
        let epsilon = f64::from(ctx.float("epsilon", 1e-5));
        let mut values = floats(ctx, 0)?;
        each_row(&mut values, spatial.iter().product(), |row_idx, row| {
            standardize(row, epsilon);
            let (scale, bias) = (scale[row_idx % channels], bias[row_idx % channels]);
            row.iter_mut().for_each(|v| *v = *v * scale + bias);
        });
        Ok(vec![rounded(x.shape(), values, x.dtype())?])
    }
}

impl Differentiable for InstanceNormalization {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let x = ctx.call.require(0)?;
        let channels = x.shape().get(1).copied().unwrap_or(1).max(1);
        let n = x.shape().iter().skip(2).product();
        let scale = floats_of_length(&ctx.call, 1, channels)?;
        let epsilon = f64::from(ctx.call.float("epsilon", 1e-5));
        standardized(x, n, epsilon, Center::Mean, move |row, _| scale[row % channels])
    }
}
