//! Conv: the convolution of images, signals and volumes.

use qloupe_ir::Node;
use qloupe_kernels::{ConvF32, ConvGeometry, nchw_to_nhwc, nhwc_to_nchw};
use qloupe_tensor::{DType, Tensor};

use super::conv_gradient::ConvGradient;
use super::float_tensor::{from_float32, to_float32};
use super::parameters::open_dim;
use super::volume::conv_volume;
use super::window::{Applied, Window, spatial};
use crate::chain::{ChainHead, HeadKernel};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, Layout, LayoutRule, OpError, Operator, PrepareContext,
    Prepared, PreparedPullback, Pullback, PullbackContext, SymDim,
};

/// `y[n, o, ..] = b[o] + sum over kh, kw, i of w[o, i, kh, kw] * x[n, i, ..]`, by groups.
///
/// Each output is one chain of fused multiply-adds in the order (kh, kw, ic), from the bias on.
#[derive(Debug)]
pub(super) struct Conv;

impl Operator for Conv {
    fn op_type(&self) -> &'static str {
        "Conv"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let weight = ctx.require(1)?;
        let (Some(shape), Some(weight)) = (&x.shape, &weight.shape) else {
            return Ok(vec![Fact::new(x.dtype, None)]);
        };
        let input = spatial(shape)?;
        let kernel: Option<Vec<usize>> = spatial(weight)?.iter().map(SymDim::as_size).collect();
        let open = |axis: usize| open_dim(ctx, 0, axis + 2);
        let output = match kernel {
            Some(kernel) if kernel.len() == input.len() => {
                Window::new(ctx.node, input.len(), Some(&kernel))?.infer(input, open)?
            }
            _ => (0..input.len()).map(open).collect(),
        };
        let dims = [&[shape[0].clone(), weight[0].clone()], output.as_slice()].concat();
        Ok(vec![Fact::new(x.dtype, Some(dims))])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let weight = ctx.require(1)?;
        PreparedConv::new(ctx.node, weight, ctx.input(2))?.eval(ctx)
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let constant = |idx: usize| ctx.constants.get(idx).and_then(Option::as_ref);
        let computed_bias = ctx.node.input(2).is_some() && constant(2).is_none();
        let Some(weight) = constant(1).filter(|_| !computed_bias) else {
            return Ok(None);
        };
        Ok(Some(Box::new(PreparedConv::new(ctx.node, weight, constant(2))?)))
    }
}

impl Differentiable for Conv {
    fn prepare_pullback(
        &self,
        ctx: &PrepareContext<'_>,
    ) -> Result<Option<Box<dyn PreparedPullback>>, OpError> {
        match ctx.constants.get(1).and_then(Option::as_ref) {
            Some(weight) if weight.rank() < 5 => Ok(Some(Box::new(ConvGradient::new(ctx.node, weight)?))),
            _ => Ok(None),
        }
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let weight = ctx.call.require(1)?;
        ConvGradient::new(ctx.call.node, weight)?.once(ctx.call.require(0)?.shape(), ctx.call.layout)
    }
}

/// A convolution with its weight packed.
#[derive(Debug)]
struct PreparedConv {
    dtype: DType,
    window: Window,
    oc: usize,
    ic_per_group: usize,
    group: usize,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    /// One or two spatial axes.
    Packed(ConvF32),
    /// More spatial axes: weight and bias as they are.
    Volume(Tensor, Vec<f32>),
}

impl PreparedConv {
    fn new(node: &Node, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self, OpError> {
        let &[oc, ic_per_group, ref kernel @ ..] = weight.shape() else {
            return Err(wrong_weight(weight));
        };
        if kernel.is_empty() {
            return Err(wrong_weight(weight));
        }
        let window = Window::new(node, kernel.len(), Some(kernel))?;
        let group = group_of(node, oc)?;
        let values = to_float32(weight, 1)?;
        let bias = match bias {
            Some(bias) => require_bias(bias, oc)?,
            None => vec![0.0; oc],
        };
        let weights = match *kernel {
            [kw] => Weights::Packed(ConvF32::new(&values, Some(&bias), oc, ic_per_group, 1, kw, group)),
            [kh, kw] => Weights::Packed(ConvF32::new(
                &values,
                Some(&bias),
                oc,
                ic_per_group,
                kh,
                kw,
                group,
            )),
            _ => Weights::Volume(Tensor::new(weight.shape(), values.into_owned())?, bias),
        };
        Ok(Self {
            dtype: weight.dtype(),
            window,
            oc,
            ic_per_group,
            group,
            weights,
        })
    }

    /// Batch, spatial shape of the input, and the window on it.
    fn fit<'s>(&self, shape: &'s [usize], layout: Layout) -> Result<(usize, Vec<usize>, Applied), OpError> {
        let wrong = || {
            OpError::input(
                0,
                format!(
                    "does not fit the weight, expected {} channels and {} spatial axes, got shape {shape:?}",
                    self.ic_per_group * self.group,
                    self.window.rank()
                ),
            )
        };
        let (n, ic, input): (usize, usize, &'s [usize]) = match (layout, shape) {
            (Layout::Nhwc, [n, spatial @ .., c]) => (*n, *c, spatial),
            (_, [n, c, spatial @ ..]) => (*n, *c, spatial),
            _ => return Err(wrong()),
        };
        if input.len() != self.window.rank() || ic != self.ic_per_group * self.group {
            return Err(wrong());
        }
        Ok((n, input.to_vec(), self.window.apply(input)?))
    }
}

impl Prepared for PreparedConv {
    fn has_chain_head(&self) -> bool {
        matches!(self.weights, Weights::Packed(_)) && self.window.rank() == 2 && self.dtype == DType::Float32
    }

    fn chain_head<'a>(&'a self, ctx: &EvalContext<'a>) -> Result<Option<ChainHead<'a>>, OpError> {
        let x = ctx.require(0)?;
        let (Weights::Packed(packed), Some(values), Layout::Nhwc) =
            (&self.weights, x.as_slice::<f32>(), ctx.layout)
        else {
            return Ok(None);
        };
        let (n, input, applied) = self.fit(x.shape(), ctx.layout)?;
        let channels = (self.ic_per_group * self.group, self.oc, self.group);
        let geometry = conv_geometry(&self.window, &applied, n, &input, channels);
        Ok(Some(ChainHead {
            shape: vec![n, applied.output[0], applied.output[1], self.oc],
            kernel: HeadKernel::Conv(packed, values, geometry),
        }))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let (n, input, applied) = self.fit(x.shape(), ctx.layout)?;
        let ic = self.ic_per_group * self.group;
        let values = to_float32(x, 0)?;
        let packed = match &self.weights {
            Weights::Packed(packed) => packed,
            Weights::Volume(weight, bias) => {
                let y = conv_volume(
                    &values,
                    x.shape(),
                    weight,
                    bias,
                    self.group,
                    &self.window,
                    &applied,
                )?;
                let shape = [&[n, self.oc], applied.output.as_slice()].concat();
                return Ok(vec![from_float32(self.dtype, &shape, y)?]);
            }
        };
        let geometry = conv_geometry(&self.window, &applied, n, &input, (ic, self.oc, self.group));
        let mut y = vec![0.0; geometry.n_outputs()];
        let clamp = (f32::NEG_INFINITY, f32::INFINITY);
        if ctx.layout == Layout::Nhwc {
            packed.run(&values, &geometry, clamp, &mut y);
            let shape = [n, applied.output[0], applied.output[1], self.oc];
            return Ok(vec![from_float32(self.dtype, &shape, y)?]);
        }
        let (pixels, output_pixels) = (input.iter().product(), applied.output.iter().product());
        packed.run(&pixels_last(&values, n, ic, pixels), &geometry, clamp, &mut y);
        let shape = [&[n, self.oc], applied.output.as_slice()].concat();
        Ok(vec![from_float32(
            self.dtype,
            &shape,
            channels_second(&y, n, self.oc, output_pixels),
        )?])
    }
}

/// `[n, c, pixels]` to `[n, pixels, c]`.
pub(super) fn pixels_last(x: &[f32], n: usize, c: usize, pixels: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    nchw_to_nhwc(x, n, c, pixels, &mut out);
    out
}

/// `[n, pixels, c]` to `[n, c, pixels]`.
pub(super) fn channels_second(x: &[f32], n: usize, c: usize, pixels: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    nhwc_to_nchw(x, n, c, pixels, &mut out);
    out
}

/// The kernel's geometry for one or two spatial axes.
pub(super) fn conv_geometry(
    window: &Window,
    applied: &Applied,
    n: usize,
    input: &[usize],
    (ic, oc, group): (usize, usize, usize),
) -> ConvGeometry {
    let (width, two) = (window.rank() - 1, window.rank() == 2);
    let height = |list: &[usize], absent: usize| if two { list[0] } else { absent };
    let pads = if two { applied.pads[0] } else { (0, 0) };
    ConvGeometry {
        n,
        ih: height(input, 1),
        iw: input[width],
        ic,
        oc,
        kh: height(&window.kernel, 1),
        kw: window.kernel[width],
        stride_h: height(&window.strides, 1),
        stride_w: window.strides[width],
        dilation_h: height(&window.dilations, 1),
        dilation_w: window.dilations[width],
        pad_top: pads.0,
        pad_left: applied.pads[width].0,
        pad_bottom: pads.1,
        pad_right: applied.pads[width].1,
        group,
    }
}

/// The geometry of a two-dimensional convolution node, for kernels of other element types.
#[derive(Debug)]
pub(crate) struct Geometry2d {
    window: Window,
    oc: usize,
    group: usize,
}

impl Geometry2d {
    /// Reads the attributes of a Conv whose weight has `oc` output channels.
    ///
    /// # Errors
    /// An attribute that does not fit.
    pub(crate) fn new(node: &Node, oc: usize, kernel: [usize; 2]) -> Result<Self, OpError> {
        Ok(Self {
            window: Window::new(node, 2, Some(&kernel))?,
            oc,
            group: group_of(node, oc)?,
        })
    }

    pub(crate) fn group(&self) -> usize {
        self.group
    }

    /// The geometry on an input of `[n, ih, iw, ic]`.
    ///
    /// # Errors
    /// A window that is larger than the padded input.
    pub(crate) fn on(&self, [n, ih, iw, ic]: [usize; 4]) -> Result<ConvGeometry, OpError> {
        let applied = self.window.apply(&[ih, iw])?;
        Ok(conv_geometry(
            &self.window,
            &applied,
            n,
            &[ih, iw],
            (ic, self.oc, self.group),
        ))
    }
}

/// The `group` attribute, which must divide `channels`.
pub(super) fn group_of(node: &Node, channels: usize) -> Result<usize, OpError> {
    let group = node.int("group").unwrap_or(1);
    usize::try_from(group)
        .ok()
        .filter(|&g| g > 0 && channels.is_multiple_of(g))
        .ok_or_else(|| {
            OpError::attribute(
                "group",
                format!("does not divide the channels, expected a divisor of {channels}, got {group}"),
            )
        })
}

/// The bias, one number for each output channel.
pub(super) fn require_bias(bias: &Tensor, oc: usize) -> Result<Vec<f32>, OpError> {
    if bias.shape() == [oc] {
        return Ok(to_float32(bias, 2)?.into_owned());
    }
    Err(OpError::input(
        2,
        format!(
            "does not fit the weight, expected shape [{oc}], got {:?}",
            bias.shape()
        ),
    ))
}

/// A weight without spatial axes.
pub(super) fn wrong_weight(weight: &Tensor) -> OpError {
    OpError::input(
        1,
        format!("wrong rank, expected at least 3, got shape {:?}", weight.shape()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ones of shape `x` convolved with ones of shape `weight`.
    fn run(node: &Node, x: &[usize], weight: &[usize], layout: Layout) -> Result<Tensor, OpError> {
        let ones = |shape: &[usize]| Tensor::new(shape, vec![1_f32; shape.iter().product()]).unwrap();
        let (x, weight) = (ones(x), ones(weight));
        let ctx = EvalContext {
            node,
            opset: 22,
            layout,
            inputs: &[Some(&x), Some(&weight)],
        };
        Ok(Conv.eval(&ctx)?.remove(0))
    }

    #[test]
    fn one_two_and_three_axes() {
        let node = Node::default();
        let y = run(&node, &[1, 2, 4], &[1, 2, 3], Layout::Plain).unwrap();
        assert_eq!(
            (y.shape(), y.as_slice::<f32>().unwrap()),
            (&[1, 1, 2][..], &[6.0; 2][..])
        );
        let y = run(&node, &[1, 3, 3, 2], &[1, 2, 3, 2], Layout::Nhwc).unwrap();
        assert_eq!(
            (y.shape(), y.as_slice::<f32>().unwrap()),
            (&[1, 1, 2, 1][..], &[12.0; 2][..])
        );
        let y = run(&node, &[1, 1, 2, 2, 2], &[1, 1, 2, 2, 2], Layout::Plain).unwrap();
        assert_eq!(
            (y.shape(), y.as_slice::<f32>().unwrap()),
            (&[1, 1, 1, 1, 1][..], &[8.0][..])
        );
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let node = Node::default();
        let error = run(&node, &[1, 3, 4], &[1, 2, 3], Layout::Plain).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input 0: does not fit the weight, expected 2 channels and 1 spatial axes, got shape [1, 3, 4]"
        );
        let error = run(&node, &[1, 3], &[1, 2], Layout::Plain).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input 1: wrong rank, expected at least 3, got shape [1, 2]"
        );
    }
}
