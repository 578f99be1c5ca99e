//! Matrix products of 8-bit integers that end in real numbers.

use qloupe_tensor::Tensor;

use super::elementwise::typed;
use super::integer_matrix::{IntegerMatrix, Sums};
use super::quant_parameters::scales_for;
use crate::{EvalContext, OpError};

/// `y = f32((a - a_zero_point) * (b - b_zero_point)) * (a_scale * b_scale) + bias`, the scale of b one or one for each
/// column. Inputs of the node: the scale of b, and the bias, which may be absent.
///
/// # Errors
/// Shapes, dtypes or numbers of scales that do not fit.
pub(super) fn scaled_product(
    ctx: &EvalContext<'_>,
    a: &Tensor,
    (a_scale, a_zero_point): (f32, i32),
    b: &IntegerMatrix,
    (b_scale_idx, bias_idx): (usize, usize),
) -> Result<Tensor, OpError> {
    let n = b.n_columns();
    let scale: Vec<f32> = scales_for(ctx, b_scale_idx, n)?
        .iter()
        .map(|b| a_scale * b)
        .collect();
    let bias = match ctx.input(bias_idx) {
        Some(_) => Some(typed::<f32>(ctx, bias_idx)?),
        None => None,
    };
    if let Some(bias) = bias.filter(|bias| bias.len() != n) {
        return Err(OpError::input(
            bias_idx,
            format!("wrong number of elements, expected {n}, got {}", bias.len()),
        ));
    }
    let Sums { sums, product } = b.sums(a, &[a_zero_point])?;
    let real = |(i, &sum): (usize, &i32)| {
        let column = i % n.max(1);
        let product = sum as f32 * scale[column % scale.len().max(1)];
        bias.map_or(product, |bias| product + bias[column])
    };
    let y = sums.iter().enumerate().map(real).collect();
    Ok(Tensor::new(&product.output, y)?)
}
