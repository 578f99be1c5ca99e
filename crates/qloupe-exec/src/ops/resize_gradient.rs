//! The pullback of Resize: each output gives its gradient back to the pixels that it was made of.

use rayon::prelude::*;

use qloupe_tensor::Tensor;

use super::movement_gradient::moved;
use super::resize::plan_of_call;
use super::resize_axis::{Axis, Coordinates, Method, Mode};
use crate::{OpError, Operator, Pullback, PullbackContext};

/// For each element along an axis the elements that it is made of, with their weights.
type Taps = Vec<Vec<(usize, f32)>>;

/// The pullback at the inputs of a call.
///
/// # Errors
/// As [`Operator::eval`]; a region that reaches outside the input.
pub(super) fn resize_pullback<'a>(
    operator: &dyn Operator,
    ctx: &PullbackContext<'a>,
) -> Result<Pullback<'a>, OpError> {
    let (method, axes) = plan_of_call(&ctx.call)?;
    if method.coordinates == Coordinates::TfCropAndResize {
        // What lies outside of the input is a constant, which only moving elements knows.
        return match method.mode {
            Mode::Nearest(_) => moved(operator, &ctx.call),
            _ => Err(OpError::unsupported("the gradient of tf_crop_and_resize")),
        };
    }
    let shape = ctx.call.require(0)?.shape();
    let steps: Vec<(usize, Taps)> = axes
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
fn turned(axis: &Axis, method: &Method) -> Taps {
    let mut turned = vec![Vec::new(); axis.input];
    if let Mode::Nearest(nearest) = method.mode {
        for (output, pixel) in axis.nearest(method, nearest).into_iter().enumerate() {
            turned[pixel].push((output, 1.0));
        }
        return turned;
    }
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
