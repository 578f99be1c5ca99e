//! ConvTranspose: the gradient of a convolution, used to enlarge images.

use qloupe_ir::Node;
use qloupe_kernels::{ConvTransposeF32, ConvTransposeGeometry};
use qloupe_tensor::{DType, Tensor};

use super::conv::{channels_second, conv_geometry, group_of, pixels_last, require_bias, wrong_weight};
use super::conv_transpose_gradient::ConvTransposeGradient;
use super::float_tensor::{from_float32, to_float32};
use super::parameters::open_dim;
use super::volume::conv_transpose_volume;
use super::window::{Applied, AutoPad, Window, sizes, spatial, split_padding};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, Layout, LayoutRule, OpError, Operator, PrepareContext,
    Prepared, PreparedPullback, Pullback, PullbackContext, SymDim,
};

/// Each input pixel adds `w * x` to a window of the output; the padding is cut off.
#[derive(Debug)]
pub(super) struct ConvTranspose;

/// The window with what only a transposed one has.
#[derive(Debug)]
pub(super) struct TransposedWindow {
    pub(super) window: Window,
    output_padding: Vec<usize>,
    output_shape: Option<Vec<usize>>,
}

impl TransposedWindow {
    pub(super) fn new(node: &Node, kernel: &[usize]) -> Result<Self, OpError> {
        let rank = kernel.len();
        // Some exporters list all axes.
        let output_shape = match node.ints("output_shape") {
            Some(list) if list.len() == rank + 2 => {
                let tail = list[2..]
                    .iter()
                    .filter_map(|&v| usize::try_from(v).ok())
                    .collect();
                Some(tail)
            }
            Some(_) => Some(sizes(node, "output_shape", rank, 1, 1)?),
            None => None,
        };
        Ok(Self {
            window: Window::new(node, rank, Some(kernel))?,
            output_padding: sizes(node, "output_padding", rank, 0, 0)?,
            output_shape: output_shape.filter(|s: &Vec<usize>| s.len() == rank),
        })
    }

    /// `stride * (size - 1) + output_padding + extent`: the size before padding is cut off.
    fn full(&self, axis: usize, size: &SymDim) -> SymDim {
        let stride = SymDim::from(self.window.strides[axis]);
        let rest = SymDim::from(self.output_padding[axis] + self.window.extent(axis));
        size.minus(&SymDim::known(1)).times(&stride).plus(&rest)
    }

    /// What `output_shape` or SAME padding ask for.
    fn asked(&self, axis: usize, size: &SymDim) -> Option<SymDim> {
        match (&self.output_shape, self.window.auto_pad) {
            (Some(shape), _) => Some(SymDim::from(shape[axis])),
            (None, AutoPad::SameUpper | AutoPad::SameLower) => {
                Some(size.times(&SymDim::from(self.window.strides[axis])))
            }
            _ => None,
        }
    }

    fn output_dim(&self, axis: usize, size: &SymDim) -> SymDim {
        let (begin, end) = self.window.pads[axis];
        self.asked(axis, size)
            .unwrap_or_else(|| self.full(axis, size).minus(&SymDim::from(begin + end)))
    }

    pub(super) fn apply(&self, input: &[usize]) -> Result<Applied, OpError> {
        let mut applied = Applied {
            pads: Vec::new(),
            output: Vec::new(),
        };
        for (axis, &size) in input.iter().enumerate() {
            let size = SymDim::from(size);
            let output = self.output_dim(axis, &size);
            let fits = |dim: &SymDim| dim.as_size().filter(|&d| d > 0 || input[axis] == 0);
            let too_small = || {
                OpError::attribute(
                    "pads",
                    format!(
                        "leaves nothing on spatial axis {axis}, expected an output of at least 1, got {output}"
                    ),
                )
            };
            let pads = match self.asked(axis, &size) {
                Some(asked) => {
                    let total = self
                        .full(axis, &size)
                        .minus(&asked)
                        .as_known()
                        .unwrap_or(0)
                        .max(0);
                    split_padding(total as usize, self.asked_padding())
                }
                None => self.window.pads[axis],
            };
            applied.output.push(fits(&output).ok_or_else(too_small)?);
            applied.pads.push(pads);
        }
        Ok(applied)
    }

    /// Where the odd element of a derived padding goes. The specification and ONNX Runtime agree for SAME_UPPER; for
    /// everything else the larger half comes first.
    fn asked_padding(&self) -> AutoPad {
        if self.window.auto_pad == AutoPad::SameUpper {
            AutoPad::SameUpper
        } else {
            AutoPad::SameLower
        }
    }
}

impl Operator for ConvTranspose {
    fn op_type(&self) -> &'static str {
        "ConvTranspose"
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
        let group = SymDim::known(ctx.node.int("group").unwrap_or(1));
        let mut dims = vec![shape[0].clone(), weight[1].times(&group)];
        match kernel {
            Some(kernel) if kernel.len() == input.len() => {
                let window = TransposedWindow::new(ctx.node, &kernel)?;
                dims.extend(
                    input
                        .iter()
                        .enumerate()
                        .map(|(axis, dim)| window.output_dim(axis, dim)),
                );
            }
            _ => dims.extend((0..input.len()).map(|axis| open_dim(ctx, 0, axis + 2))),
        }
        Ok(vec![Fact::new(x.dtype, Some(dims))])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let weight = ctx.require(1)?;
        PreparedConvTranspose::new(ctx.node, weight, ctx.input(2))?.eval(ctx)
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let constant = |idx: usize| ctx.constants.get(idx).and_then(Option::as_ref);
        let computed_bias = ctx.node.input(2).is_some() && constant(2).is_none();
        let Some(weight) = constant(1).filter(|_| !computed_bias) else {
            return Ok(None);
        };
        Ok(Some(Box::new(PreparedConvTranspose::new(
            ctx.node,
            weight,
            constant(2),
        )?)))
    }
}

impl Differentiable for ConvTranspose {
    fn prepare_pullback(
        &self,
        ctx: &PrepareContext<'_>,
    ) -> Result<Option<Box<dyn PreparedPullback>>, OpError> {
        match ctx.constants.get(1).and_then(Option::as_ref) {
            Some(weight) if weight.rank() < 5 => {
                Ok(Some(Box::new(ConvTransposeGradient::new(ctx.node, weight)?)))
            }
            _ => Ok(None),
        }
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let weight = ctx.call.require(1)?;
        ConvTransposeGradient::new(ctx.call.node, weight)?.once(ctx.call.require(0)?.shape(), ctx.call.layout)
    }
}

/// A transposed convolution with its weight packed.
#[derive(Debug)]
struct PreparedConvTranspose {
    dtype: DType,
    window: TransposedWindow,
    ic: usize,
    oc: usize,
    group: usize,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    /// One or two spatial axes.
    Packed(ConvTransposeF32),
    /// More spatial axes: weight and bias as they are.
    Volume(Tensor, Vec<f32>),
}

impl PreparedConvTranspose {
    fn new(node: &Node, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self, OpError> {
        let &[ic, oc_per_group, ref kernel @ ..] = weight.shape() else {
            return Err(wrong_weight(weight));
        };
        if kernel.is_empty() {
            return Err(wrong_weight(weight));
        }
        let window = TransposedWindow::new(node, kernel)?;
        let group = group_of(node, ic)?;
        let oc = oc_per_group * group;
        let values = to_float32(weight, 1)?;
        let bias = match bias {
            Some(bias) => require_bias(bias, oc)?,
            None => vec![0.0; oc],
        };
        let pack = |kh, kw| ConvTransposeF32::new(&values, Some(&bias), ic, oc_per_group, kh, kw, group);
        let weights = match *kernel {
            [kw] => Weights::Packed(pack(1, kw)),
            [kh, kw] => Weights::Packed(pack(kh, kw)),
            _ => Weights::Volume(Tensor::new(weight.shape(), values.to_vec())?, bias),
        };
        Ok(Self {
            dtype: weight.dtype(),
            window,
            ic,
            oc,
            group,
            weights,
        })
    }
}

impl Prepared for PreparedConvTranspose {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let window = &self.window.window;
        let (n, ic, input) = match (ctx.layout, x.shape()) {
            (Layout::Nhwc, [n, spatial @ .., c]) => (*n, *c, spatial),
            (_, [n, c, spatial @ ..]) => (*n, *c, spatial),
            _ => (0, 0, &[][..]),
        };
        if input.len() != window.rank() || ic != self.ic {
            return Err(OpError::input(
                0,
                format!(
                    "does not fit the weight, expected {} channels and {} spatial axes, got shape {:?}",
                    self.ic,
                    window.rank(),
                    x.shape()
                ),
            ));
        }
        let applied = self.window.apply(input)?;
        let values = to_float32(x, 0)?;
        let plain_shape = [&[n, self.oc], applied.output.as_slice()].concat();
        let packed = match &self.weights {
            Weights::Packed(packed) => packed,
            Weights::Volume(weight, bias) => {
                let y =
                    conv_transpose_volume(&values, x.shape(), weight, bias, self.group, window, &applied)?;
                return Ok(vec![from_float32(self.dtype, &plain_shape, y)?]);
            }
        };
        let conv = conv_geometry(window, &applied, n, input, (ic, self.oc, self.group));
        // The kernel derives its output size; what is asked beyond it is output padding.
        let beyond = |got: usize, asked: usize| asked.saturating_sub(got);
        let mut geometry = ConvTransposeGeometry {
            conv,
            output_padding_h: 0,
            output_padding_w: 0,
        };
        let width = applied.output[window.rank() - 1];
        let height = if window.rank() == 2 { applied.output[0] } else { 1 };
        geometry.output_padding_h = beyond(geometry.oh(), height);
        geometry.output_padding_w = beyond(geometry.ow(), width);
        if (geometry.oh(), geometry.ow()) != (height, width) {
            return Err(OpError::unsupported(format!(
                "an output of {height} x {width} from a window that gives {} x {}",
                geometry.oh(),
                geometry.ow()
            )));
        }
        let mut y = vec![0.0; geometry.n_outputs()];
        let clamp = (f32::NEG_INFINITY, f32::INFINITY);
        if ctx.layout == Layout::Nhwc {
            packed.run(&values, &geometry, clamp, &mut y);
            return Ok(vec![from_float32(self.dtype, &[n, height, width, self.oc], y)?]);
        }
        let pixels = input.iter().product();
        packed.run(&pixels_last(&values, n, ic, pixels), &geometry, clamp, &mut y);
        let y = channels_second(&y, n, self.oc, height * width);
        Ok(vec![from_float32(self.dtype, &plain_shape, y)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qloupe_ir::AttributeValue;

    #[test]
    fn a_derived_padding_and_its_odd_element() {
        struct Case(&'static str, (usize, usize));
        for Case(auto_pad, pads) in [Case("SAME_UPPER", (0, 1)), Case("SAME_LOWER", (1, 0))] {
            let node = Node::default()
                .with_attribute("auto_pad", AttributeValue::String(auto_pad.as_bytes().to_vec()))
                .with_attribute("strides", AttributeValue::Ints(vec![2]));
            let applied = TransposedWindow::new(&node, &[3]).unwrap().apply(&[4]).unwrap();
            assert_eq!((applied.output[0], applied.pads[0]), (8, pads), "{auto_pad}");
        }
    }

    #[test]
    fn a_pixel_spreads_over_its_window() {
        let x = Tensor::new(&[1, 1, 2], vec![1_f32, 10.0]).unwrap();
        let weight = Tensor::new(&[1, 1, 3], vec![1_f32, 2.0, 3.0]).unwrap();
        let node = Node::default();
        let ctx = EvalContext {
            node: &node,
            opset: 22,
            layout: Layout::Plain,
            inputs: &[Some(&x), Some(&weight)],
        };
        let y = ConvTranspose.eval(&ctx).unwrap().remove(0);
        assert_eq!(y.as_slice::<f32>().unwrap(), [1.0, 12.0, 23.0, 30.0]);
    }
}
