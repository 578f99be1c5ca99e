//! The pullback of Resize: each output gives its gradient back to the pixels that it was made of.

use rayon::prelude::*;

use qloupe_tensor::Tensor;

use super::movement_gradient::moved;
use super::resize::plan_of_call;
use super::resize_axis::{Axis, Coordinates, Method, Mode};
use crate::{OpError, Operator, Pullback, PullbackContext};

/// The pullback at the inputs of a call.
///
/// # Errors
/// As [`Operator::eval`]; a region that reaches outside the input.
pub(super) fn resize_pullback<'a>(
    operator: &dyn Operator,
    ctx: &PullbackContext<'a>,
) -> Result<Pullback<'a>, OpError> {
    let (method, axes) = plan_of_call(&ctx.call)?;
    if matches!(method.mode, Mode::Nearest(_)) {
        return moved(operator, &ctx.call);
    }
    if method.coordinates == Coordinates::TfCropAndResize {
        return Err(OpError::unsupported("the gradient of tf_crop_and_resize"));
    }
    let shape = ctx.call.require(0)?.shape();
    let steps: Vec<(usize, Vec<Vec<(usize, f32)>>)> = axes
        .iter()
        .enumerate()
        .filter(|(_, axis)| !axis.is_identity(&method))
        .map(|(idx, axis)| (idx, turned(axis, &method)))
        .collect();
    Ok(Pullback::of_first(move |gradient| {
        let mut dims: Vec<usize> = axes.iter().map(|axis| axis.output).collect();
        let mut values = gradient.into_vec::<f32>()?;
        for (axis, taps) in &steps {
            let inner: usize = dims[axis + 1..].iter().product();
            values = gather(&values, inner, dims[*axis], taps);
            dims[*axis] = taps.len();
        }
        Ok(Tensor::new(shape, values)?)
    }))
}

/// For each pixel of the input the outputs that it is part of, with their weights.
fn turned(axis: &Axis, method: &Method) -> Vec<Vec<(usize, f32)>> {
    let mut turned = vec![Vec::new(); axis.input];
    for (output, taps) in axis.taps(method).iter().enumerate() {
        for &(pixel, weight) in taps {
            turned[pixel].push((output, weight));
        }
    }
    turned
}

/// `[outer, size, inner]` to `[outer, taps.len(), inner]`, each row a weighted sum.
fn gather(x: &[f32], inner: usize, size: usize, taps: &[Vec<(usize, f32)>]) -> Vec<f32> {
    let outer = x.len() / (size * inner).max(1);
    let mut y = vec![0.0; outer * taps.len() * inner];
    y.par_chunks_mut(inner.max(1))
        .with_min_len(16)
        .enumerate()
        .for_each(|(row, out)| {
            let base = row / taps.len() * size;
            for &(from, weight) in &taps[row % taps.len()] {
                let values = &x[(base + from) * inner..][..inner];
                for (out, &value) in out.iter_mut().zip(values) {
                    *out += weight * value;
                }
            }
        });
    y
}
