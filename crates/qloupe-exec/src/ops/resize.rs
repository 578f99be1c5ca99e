//! Resize: images enlarged or shrunk. `Upsample` is its name before opset 10.

use rayon::prelude::*;

use qloupe_ir::Node;
use qloupe_tensor::{DType, Tensor};

use super::axis_maps::{require_room, runs};
use super::bilinear::bilinear;
use super::cast::cast;
use super::float_tensor::{from_float32, to_float32};
use super::movement::{copy_runs, number};
use super::parameters::{integers, open_dim, resolve_axes};
use super::resize_axis::{Axis, Coordinates, Method, Mode};
use super::resize_gradient::resize_pullback;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, Layout, LayoutRule, OpError, Operator, Pullback,
    PullbackContext, SymDim,
};

/// The tensor resampled along its axes by `scales` or to `sizes`. Linear and cubic interpolation run axis by axis, the
/// last one first.
#[derive(Debug)]
pub(super) struct Resize;

/// The name of [`Resize`] before opset 10: `scales` only.
#[derive(Debug)]
pub(super) struct Upsample;

/// Larger outputs are mistakes.
const MAX_SIZE: usize = 1 << 31;

/// Inputs `scales`, `sizes` and `roi` by operator and opset.
fn input_indices(node: &Node, opset: i64) -> (usize, Option<usize>, Option<usize>) {
    if node.op_type == "Upsample" || opset < 11 {
        (1, None, None)
    } else {
        (2, Some(3), Some(1))
    }
}

/// The axes that scales and sizes are about.
fn axes_of(node: &Node, rank: usize) -> Result<Vec<usize>, OpError> {
    match node.ints("axes") {
        Some(axes) => resolve_axes(axes, rank),
        None => Ok((0..rank).collect()),
    }
}

fn require_length(what: &str, idx: usize, got: usize, expected: usize) -> Result<(), OpError> {
    if got == expected {
        return Ok(());
    }
    Err(OpError::input(
        idx,
        format!("{what} do not fit the axes, expected {expected}, got {got}"),
    ))
}

/// Every axis of the output, in ONNX order.
fn plan(ctx: &EvalContext<'_>, shape: &[usize]) -> Result<Vec<Axis>, OpError> {
    let (scales_idx, sizes_idx, roi_idx) = input_indices(ctx.node, ctx.opset);
    let axes = axes_of(ctx.node, shape.len())?;
    let mut plan: Vec<Axis> = shape
        .iter()
        .map(|&size| Axis {
            input: size,
            output: size,
            scale: 1.0,
            roi: (0.0, 1.0),
        })
        .collect();
    let present = |idx: Option<usize>| ctx.input(idx?).filter(|t| !t.is_empty());
    let scales = match (present(Some(scales_idx)), ctx.node.floats("scales")) {
        (Some(tensor), _) => Some(tensor.require::<f32>()?),
        (None, attribute) => attribute,
    };
    match (scales, sizes_idx.zip(present(sizes_idx))) {
        (Some(scales), _) => {
            require_length("scales", scales_idx, scales.len(), axes.len())?;
            for (&axis, &scale) in axes.iter().zip(scales) {
                plan[axis].scale = scale;
                plan[axis].output = scaled(shape[axis], scale).ok_or_else(|| {
                    OpError::input(
                        scales_idx,
                        format!("not a scale, expected a positive number, got {scale}"),
                    )
                })?;
            }
        }
        (None, Some((idx, sizes))) => {
            let sizes = integers(sizes, idx)?;
            require_length("sizes", idx, sizes.len(), axes.len())?;
            for (&axis, &size) in axes.iter().zip(&sizes) {
                let output = usize::try_from(size)
                    .ok()
                    .filter(|&s| s <= MAX_SIZE)
                    .ok_or_else(|| {
                        OpError::input(idx, format!("not a size, expected at least 0, got {size}"))
                    })?;
                plan[axis].output = output;
                plan[axis].scale = output as f32 / shape[axis] as f32;
            }
            keep_aspect_ratio(ctx.node, &axes, &mut plan)?;
        }
        (None, None) => {
            return Err(OpError::input(
                scales_idx,
                "neither scales nor sizes, expected one of them",
            ));
        }
    }
    if let (Some(idx), Some(roi)) = (roi_idx, present(roi_idx)) {
        let roi = to_float32(roi, idx)?;
        require_length("bounds of the region", idx, roi.len(), 2 * axes.len())?;
        for (i, &axis) in axes.iter().enumerate() {
            plan[axis].roi = (roi[i], roi[axes.len() + i]);
        }
    }
    if let Some(axis) = plan.iter().find(|a| a.input == 0 && a.output > 0) {
        return Err(OpError::input(
            0,
            format!("empty axis, expected elements to make {} of", axis.output),
        ));
    }
    Ok(plan)
}

/// `floor(size * scale)`.
fn scaled(size: usize, scale: f32) -> Option<usize> {
    let output = (size as f32 * scale).floor();
    (scale > 0.0 && output <= MAX_SIZE as f32).then_some(output as usize)
}

/// With `keep_aspect_ratio_policy` all axes take the smallest or the largest scale.
fn keep_aspect_ratio(node: &Node, axes: &[usize], plan: &mut [Axis]) -> Result<(), OpError> {
    let scales = axes.iter().map(|&axis| plan[axis].scale);
    let scale = match node.string("keep_aspect_ratio_policy").unwrap_or("stretch") {
        "stretch" => return Ok(()),
        "not_larger" => scales.fold(f32::INFINITY, f32::min),
        "not_smaller" => scales.fold(0.0, f32::max),
        other => {
            return Err(OpError::attribute(
                "keep_aspect_ratio_policy",
                format!("unknown, expected stretch, not_larger or not_smaller, got {other}"),
            ));
        }
    };
    for &axis in axes {
        plan[axis].scale = scale;
        plan[axis].output = ((plan[axis].input as f32 * scale + 0.5).floor() as usize).min(MAX_SIZE);
    }
    Ok(())
}

/// One axis of `[outer, size, inner]` interpolated.
fn interpolate(x: &[f32], inner: usize, size: usize, taps: &[Vec<(usize, f32)>]) -> Vec<f32> {
    let outer = x.len() / (size * inner).max(1);
    let mut y = vec![0.0; outer * taps.len() * inner];
    if y.is_empty() {
        return y;
    }
    y.par_chunks_mut(inner).enumerate().for_each(|(row, out)| {
        let base = row / taps.len() * size;
        for &(pixel, weight) in &taps[row % taps.len()] {
            let from = &x[(base + pixel) * inner..][..inner];
            for (out, &value) in out.iter_mut().zip(from) {
                *out += weight * value;
            }
        }
    });
    y
}

/// The method, and the axes in the order of the call.
///
/// # Errors
/// Attributes and inputs that do not fit.
pub(super) fn plan_of_call(ctx: &EvalContext<'_>) -> Result<(Method, Vec<Axis>), OpError> {
    let is_upsample = ctx.node.op_type == "Upsample";
    let method = Method::new(ctx.node, if is_upsample { 9 } else { ctx.opset })?;
    let axes = match *ctx.require(0)?.shape() {
        [n, h, w, c] if ctx.layout == Layout::Nhwc => {
            let plan = plan(ctx, &[n, c, h, w])?;
            vec![plan[0], plan[2], plan[3], plan[1]]
        }
        ref shape => plan(ctx, shape)?,
    };
    Ok((method, axes))
}

fn resample(ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.require(0)?;
    let (method, axes) = plan_of_call(ctx)?;
    let nhwc = ctx.layout == Layout::Nhwc;
    let shape: Vec<usize> = axes.iter().map(|a| a.output).collect();
    require_room(&shape)?;
    let extrapolation = ctx.float("extrapolation_value", 0.0);
    if let Mode::Nearest(nearest) = method.mode {
        let maps: Vec<Vec<Option<usize>>> = axes
            .iter()
            .map(|axis| {
                if axis.is_identity(&method) {
                    return (0..axis.output).map(Some).collect();
                }
                let pixels = axis.nearest(&method, nearest);
                let outside = axis.outside(&method);
                pixels
                    .into_iter()
                    .zip(outside)
                    .map(|(p, outside)| (!outside).then_some(p))
                    .collect()
            })
            .collect();
        let fill = match from_float32(x.dtype(), &[], vec![extrapolation])? {
            fill if fill.dtype() == x.dtype() => fill,
            _ => number(x.dtype(), 0)?,
        };
        return Ok(vec![copy_runs(&[x, &fill], &shape, runs(x.shape(), &maps))?]);
    }
    let is_integer = x.dtype().integer_range().is_some();
    let mut y = if is_integer {
        cast(x, DType::Float32)?.into_vec()?
    } else {
        to_float32(x, 0)?.into_owned()
    };
    // Integers are truncated, as in ONNX Runtime.
    let finish = |y: Vec<f32>| match is_integer {
        true => cast(&Tensor::new(&shape, y)?, x.dtype()),
        false => from_float32(x.dtype(), &shape, y),
    };
    if let (Mode::Linear, true, &[n, h, w, c]) = (method.mode, nhwc, x.shape())
        && !method.antialias
        && method.coordinates != Coordinates::TfCropAndResize
        && axes[0].is_identity(&method)
        && axes[3].is_identity(&method)
        && let Some(y) = bilinear(&y, [n, h, w, c], &axes[1].taps(&method), &axes[2].taps(&method))
    {
        return Ok(vec![finish(y)?]);
    }
    let mut inner = 1;
    for axis in axes.iter().rev() {
        if !axis.is_identity(&method) {
            y = interpolate(&y, inner, axis.input, &axis.taps(&method));
        }
        inner *= axis.output;
    }
    if method.coordinates == Coordinates::TfCropAndResize {
        let mut inner = 1;
        for axis in axes.iter().rev() {
            let outside = axis.outside(&method);
            for (row, values) in y.chunks_mut(inner.max(1)).enumerate() {
                if outside[row % outside.len()] {
                    values.fill(extrapolation);
                }
            }
            inner *= axis.output;
        }
    }
    Ok(vec![finish(y)?])
}

/// The output dimension of a dimension that may be open.
fn scaled_dim(dim: &SymDim, scale: f32) -> Option<SymDim> {
    if let Some(size) = dim.as_size() {
        return scaled(size, scale).map(SymDim::from);
    }
    let whole = |v: f32| ((1.0..=1024.0).contains(&v) && v.fract() == 0.0).then_some(SymDim::known(v as i64));
    match (whole(scale), whole(scale.recip())) {
        (Some(factor), _) => Some(dim.times(&factor)),
        (_, Some(divisor)) => Some(dim.floor_div(&divisor)),
        _ => None,
    }
}

fn infer_resized(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
    let x = ctx.require(0)?;
    let Some(shape) = &x.shape else {
        return Ok(vec![Fact::new(x.dtype, None)]);
    };
    let (scales_idx, sizes_idx, _) = input_indices(ctx.node, ctx.opset);
    let axes = axes_of(ctx.node, shape.len())?;
    let constant = ctx.input(scales_idx).and_then(|f| f.constant.as_ref());
    let scales = constant
        .and_then(|t| t.as_slice::<f32>())
        .or(ctx.node.floats("scales"));
    let stretch = ctx
        .node
        .string("keep_aspect_ratio_policy")
        .is_none_or(|p| p == "stretch");
    let sizes = sizes_idx.and_then(|idx| ctx.elements(idx)).filter(|_| stretch);
    let mut dims = shape.clone();
    for (i, &axis) in axes.iter().enumerate() {
        let dim = match (scales.filter(|s| !s.is_empty()), sizes) {
            (Some(scales), _) => scales.get(i).and_then(|&scale| scaled_dim(&shape[axis], scale)),
            (None, Some(sizes)) => sizes.get(i).cloned(),
            (None, None) => None,
        };
        dims[axis] = dim.unwrap_or_else(|| open_dim(ctx, 0, axis));
    }
    Ok(vec![Fact::new(x.dtype, Some(dims))])
}

impl Operator for Resize {
    fn op_type(&self) -> &'static str {
        "Resize"
    }

    fn since_version(&self) -> i64 {
        10
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_resized(ctx)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        resample(ctx)
    }
}

impl Differentiable for Resize {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        resize_pullback(self, ctx)
    }
}

impl Operator for Upsample {
    fn op_type(&self) -> &'static str {
        "Upsample"
    }

    fn since_version(&self) -> i64 {
        7
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_resized(ctx)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        resample(ctx)
    }
}

impl Differentiable for Upsample {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        resize_pullback(self, ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_dimensions_scale_by_whole_numbers() {
        let h = SymDim::symbol("h");
        assert_eq!(scaled_dim(&h, 2.0).unwrap().to_string(), "2*h");
        assert_eq!(scaled_dim(&h, 0.5).unwrap().to_string(), "floor(h/2)");
        assert_eq!(scaled_dim(&h, 1.5), None);
        assert_eq!(scaled_dim(&SymDim::known(5), 1.5), Some(SymDim::known(7)));
    }

    #[test]
    fn linear_in_both_orders() {
        let node = Node::new("Resize", "", &["x", "", "scales"], &["y"])
            .with_attribute("mode", qloupe_ir::AttributeValue::String(b"linear".to_vec()));
        let scales = Tensor::vector(vec![1_f32, 1.0, 1.0, 2.0]);
        for (shape, layout) in [([1, 1, 1, 2], Layout::Plain), ([1, 1, 2, 1], Layout::Nhwc)] {
            let x = Tensor::new(&shape, vec![1_f32, 5.0]).unwrap();
            let ctx = EvalContext {
                node: &node,
                opset: 19,
                layout,
                inputs: &[Some(&x), None, Some(&scales)],
            };
            let y = resample(&ctx).unwrap().remove(0);
            assert_eq!(y.as_slice::<f32>().unwrap(), [1.0, 2.0, 4.0, 5.0], "{layout:?}");
        }
    }
}
