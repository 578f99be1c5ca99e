//! LayerNormalization: standardizes the elements from an axis on.

use qloupe_tensor::{DType, Tensor};

use super::broadcast::Broadcast;
use super::elementwise::zip;
use super::normalization::{each_row, floats, mean_and_variance, rounded, standardize};
use super::normalization_gradient::{Center, standardized};
use super::rows::Around;
use crate::operator::resolve_axis;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext, SymDim,
};

/// `y = (x - mean) / sqrt(variance + epsilon) * scale + bias` over the axes `axis..`; outputs 1 and 2 are the mean and the
/// inverse of the divisor, as float32.
#[derive(Debug)]
pub(super) struct LayerNormalization;

impl Operator for LayerNormalization {
    fn op_type(&self) -> &'static str {
        "LayerNormalization"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let statistics = x
            .shape
            .as_ref()
            .map(|shape| {
                let axis = resolve_axis(ctx.node.int("axis").unwrap_or(-1), shape.len())?;
                let dims = shape.iter().enumerate();
                Ok::<_, OpError>(
                    dims.map(|(a, dim)| if a < axis { dim.clone() } else { SymDim::known(1) })
                        .collect(),
                )
            })
            .transpose()?;
        let statistics = Fact::new(Some(statistics_dtype(x.dtype)), statistics);
        Ok(vec![
            Fact::new(x.dtype, x.shape.clone()),
            statistics.clone(),
            statistics,
        ])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let (dtype, shape) = (x.dtype(), x.shape());
        let axis = resolve_axis(ctx.int("axis", -1), x.rank())?;
        let n = Around::axes(shape, axis, x.rank()).n;
        let epsilon = f64::from(ctx.float("epsilon", 1e-5));
        let mut values = floats(ctx, 0)?;
        let statistics_wanted = ctx.node.output(1).is_some() || ctx.node.output(2).is_some();
        let statistics = if statistics_wanted {
            let rows = values.chunks(n.max(1)).map(mean_and_variance);
            rows.map(|(mean, variance)| (mean, 1.0 / (variance + epsilon).sqrt()))
                .unzip()
        } else {
            (Vec::new(), Vec::new())
        };
        let (scale, bias) = (affine(ctx, 1, &shape[axis..])?, affine(ctx, 2, &shape[axis..])?);
        each_row(&mut values, n, |_, row| {
            standardize(row, epsilon);
            scale_and_shift(row, scale.as_deref(), bias.as_deref());
        });
        let mut outputs = vec![rounded(shape, values, dtype)?];
        if statistics_wanted {
            let dims: Vec<usize> = (0..x.rank())
                .map(|a| if a < axis { shape[a] } else { 1 })
                .collect();
            let dtype = statistics_dtype(Some(dtype));
            outputs.push(rounded(&dims, statistics.0, dtype)?);
            outputs.push(rounded(&dims, statistics.1, dtype)?);
        }
        Ok(outputs)
    }
}

impl Differentiable for LayerNormalization {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let x = ctx.call.require(0)?;
        let axis = resolve_axis(ctx.call.int("axis", -1), x.rank())?;
        let n = Around::axes(x.shape(), axis, x.rank()).n;
        let epsilon = f64::from(ctx.call.float("epsilon", 1e-5));
        let scale = affine(&ctx.call, 1, &x.shape()[axis..])?.unwrap_or_else(|| vec![1.0; n]);
        standardized(x, n, epsilon, Center::Mean, move |_, i| scale[i])
    }
}

fn statistics_dtype(x: Option<DType>) -> DType {
    if x == Some(DType::Float64) {
        DType::Float64
    } else {
        DType::Float32
    }
}

/// An optional scale or bias, broadcast to the shape of a row.
///
/// # Errors
/// Another dtype than floating-point, a shape that does not broadcast.
pub(super) fn affine(ctx: &EvalContext<'_>, idx: usize, row: &[usize]) -> Result<Option<Vec<f64>>, OpError> {
    let Some(tensor) = ctx.input(idx) else {
        return Ok(None);
    };
    let values = floats(ctx, idx)?;
    if tensor.shape() == row {
        return Ok(Some(values));
    }
    let plan = Broadcast::new([tensor.shape(), row])
        .ok()
        .filter(|plan| plan.shape() == row)
        .ok_or_else(|| {
            OpError::input(
                idx,
                format!(
                    "does not broadcast to a row, expected a shape that fits {row:?}, got {:?}",
                    tensor.shape()
                ),
            )
        })?;
    let row = vec![0.0; row.iter().product()];
    Ok(Some(zip(&plan, &values, &row, |v: f64, _| v)))
}

/// `row * scale + bias`
pub(super) fn scale_and_shift(row: &mut [f64], scale: Option<&[f64]>, bias: Option<&[f64]>) {
    if let Some(scale) = scale {
        row.iter_mut().zip(scale).for_each(|(v, s)| *v *= s);
    }
    if let Some(bias) = bias {
        row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn a_scale_that_does_not_fit_is_named() {
        let x = Tensor::new(&[2, 3], vec![0.0_f32; 6]).unwrap();
        let scale = Tensor::vector(vec![1.0_f32; 2]);
        let error = LayerNormalization
            .eval(&EvalContext {
                node: &Node::new("LayerNormalization", "", &["x", "scale"], &["y"]),
                opset: 17,
                layout: Layout::Plain,
                inputs: &[Some(&x), Some(&scale)],
            })
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "input 1: does not broadcast to a row, expected a shape that fits [3], got [2]"
        );
    }
}
