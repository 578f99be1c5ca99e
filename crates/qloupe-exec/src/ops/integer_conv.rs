//! The convolution of 8-bit integers with exact int32 sums: what ConvInteger and QLinearConv share.

use std::borrow::Cow;

use qloupe_ir::Node;
use qloupe_kernels::{ConvGeometry, ConvI8, Epilogue};
use qloupe_tensor::{DType, Tensor};

use super::conv::conv_geometry;
use super::integer_parts::Parts;
use super::parameters::open_dim;
use super::quant_parameters::{accumulator, differences, integers, require_8_bit};
use super::rows::for_each_row;
use super::window::{Applied, Window, spatial};
use crate::integer::{quantized_slice, write_quantized};
use crate::stored::permute;
use crate::{Fact, InferContext, Layout, OpError, PrepareContext, SymDim};

/// Which inputs of the node hold what.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConvInputs {
    /// The weight.
    pub(super) weight: usize,
    /// The zero point of the weight: one, or one for each output channel.
    pub(super) weight_zero_point: usize,
    /// The int32 bias, for operators that have one.
    pub(super) bias: Option<usize>,
}

/// `sum of (x - x_zero_point) * (w - w_zero_point) + bias`, padded with `x_zero_point`, with its weight packed.
#[derive(Debug)]
pub(super) struct IntegerConv {
    window: Window,
    oc: usize,
    ic_per_group: usize,
    group: usize,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    /// One or two spatial axes, and sums that int32 holds whatever the input is.
    Packed(Box<Parts<ConvI8>>),
    /// All others: differences to the zero point and bias; each sum is checked.
    Checked(Vec<i16>, Vec<i32>),
}

/// The convolution on an input of known shape.
struct Fit {
    n: usize,
    input: Vec<usize>,
    applied: Applied,
    channels_last: bool,
}

impl Fit {
    fn pixels(&self) -> usize {
        self.applied.output.iter().product()
    }
}

impl IntegerConv {
    /// Packs the weight of a node.
    ///
    /// # Errors
    /// Shapes, groups, dtypes or zero points that do not fit.
    pub(super) fn new<'a>(
        node: &Node,
        inputs: ConvInputs,
        input: impl Fn(usize) -> Option<&'a Tensor>,
    ) -> Result<Self, OpError> {
        let weight = input(inputs.weight).ok_or(OpError::MissingInput { idx: inputs.weight })?;
        let wrong =
            |what: &str| OpError::input(inputs.weight, format!("{what}, got shape {:?}", weight.shape()));
        let &[oc, ic_per_group, ref kernel @ ..] = weight.shape() else {
            return Err(wrong("wrong rank, expected at least 3"));
        };
        if kernel.is_empty() {
            return Err(wrong("wrong rank, expected at least 3"));
        }
        let group = usize::try_from(node.int("group").unwrap_or(1)).unwrap_or(0);
        if group == 0 || !oc.is_multiple_of(group) {
            return Err(wrong(&format!("does not fit {group} groups")));
        }
        let window = Window::new(node, kernel.len(), Some(kernel))?;
        let per_channel: usize = weight.shape()[1..].iter().product();
        let zero_point = (inputs.weight_zero_point, input(inputs.weight_zero_point));
        let differences = differences(inputs.weight, weight, zero_point, oc, |i| i / per_channel)?;
        let bias = match inputs.bias.and_then(|idx| Some((idx, input(idx)?))) {
            Some((idx, bias)) => integers(idx, bias, oc)?.to_vec(),
            None => vec![0; oc],
        };
        let (kh, kw) = match *kernel {
            [kw] => (1, kw),
            [kh, kw] => (kh, kw),
            _ => (0, 0),
        };
        let packed = if kh * kw * oc * ic_per_group == 0 {
            None
        } else {
            let pack = |w: &[i8], bias: Option<&[i32]>| ConvI8::new(w, bias, oc, ic_per_group, kh, kw, group);
            Parts::new(&differences, Some(&bias), pack, ConvI8::max_abs_accumulator_bound)
        };
        Ok(Self {
            window,
            oc,
            ic_per_group,
            group,
            weights: packed.map_or_else(
                || Weights::Checked(differences, bias),
                |parts| Weights::Packed(Box::new(parts)),
            ),
        })
    }

    /// [`IntegerConv::new`] for a node whose weight, zero point and bias are constants; `None` when they are not.
    ///
    /// # Errors
    /// As [`IntegerConv::new`].
    pub(super) fn prepare(ctx: &PrepareContext<'_>, inputs: ConvInputs) -> Result<Option<Self>, OpError> {
        let constant = |idx: usize| ctx.constants.get(idx).and_then(Option::as_ref);
        let packable = [Some(inputs.weight), Some(inputs.weight_zero_point), inputs.bias];
        let computed = |idx: usize| ctx.node.input(idx).is_some() && constant(idx).is_none();
        if packable.into_iter().flatten().any(computed) {
            return Ok(None);
        }
        Self::new(ctx.node, inputs, constant).map(Some)
    }

    /// The number of output channels.
    pub(super) fn n_outputs(&self) -> usize {
        self.oc
    }

    /// The sums as an int32 tensor, in the order of x.
    ///
    /// # Errors
    /// An x that does not fit the weight; a sum that int32 does not hold.
    pub(super) fn sums(&self, x: &Tensor, zero_point: i32, channels_last: bool) -> Result<Tensor, OpError> {
        let fit = self.fit(x, channels_last)?;
        let x = self.pixels_last(x, &fit)?;
        let sums = self.accumulate(&x, &fit, zero_point)?;
        self.in_order(Tensor::vector(sums), &fit)
    }

    /// The requantized sums, in the order of x.
    ///
    /// # Errors
    /// As [`IntegerConv::sums`].
    pub(super) fn requantized(
        &self,
        x: &Tensor,
        zero_point: i32,
        channels_last: bool,
        epilogue: &Epilogue,
        dtype: DType,
    ) -> Result<Tensor, OpError> {
        let fit = self.fit(x, channels_last)?;
        let x = self.pixels_last(x, &fit)?;
        let len = fit.n * fit.pixels() * self.oc;
        let y = write_quantized(dtype, &[len], |mut out| {
            match &self.weights {
                Weights::Packed(parts) if let Some(packed) = parts.whole() => {
                    packed.run(
                        quantized_slice(&x)?,
                        &self.geometry(&fit),
                        zero_point,
                        epilogue,
                        out,
                    );
                }
                _ => epilogue.apply(&self.accumulate(&x, &fit, zero_point)?, self.oc, &mut out),
            }
            Ok(())
        })?;
        self.in_order(y, &fit)
    }

    fn fit(&self, x: &Tensor, channels_last: bool) -> Result<Fit, OpError> {
        require_8_bit(0, x)?;
        let (n, ic, input) = match *x.shape() {
            [n, ref input @ .., c] if channels_last => (n, c, input),
            [n, c, ref input @ ..] => (n, c, input),
            _ => (0, 0, &[][..]),
        };
        if input.len() != self.window.rank() || ic != self.ic_per_group * self.group {
            return Err(OpError::input(
                0,
                format!(
                    "does not fit the weight, expected {} channels and {} spatial axes, got shape {:?}",
                    self.ic_per_group * self.group,
                    self.window.rank(),
                    x.shape()
                ),
            ));
        }
        Ok(Fit {
            n,
            input: input.to_vec(),
            applied: self.window.apply(input)?,
            channels_last,
        })
    }

    fn geometry(&self, fit: &Fit) -> ConvGeometry {
        let channels = (self.ic_per_group * self.group, self.oc, self.group);
        conv_geometry(&self.window, &fit.applied, fit.n, &fit.input, channels)
    }

    /// `[n, pixels, ic]`.
    fn pixels_last<'x>(&self, x: &'x Tensor, fit: &Fit) -> Result<Cow<'x, Tensor>, OpError> {
        if fit.channels_last {
            return Ok(Cow::Borrowed(x));
        }
        let shape = [
            fit.n,
            self.ic_per_group * self.group,
            fit.input.iter().product(),
            1,
        ];
        Ok(Cow::Owned(permute(&x.clone().reshape(&shape)?, Layout::Nhwc)))
    }

    /// A result `[n, pixels, oc]` in the order of the input.
    fn in_order(&self, y: Tensor, fit: &Fit) -> Result<Tensor, OpError> {
        let output = fit.applied.output.as_slice();
        if fit.channels_last {
            return Ok(y.reshape(&[&[fit.n], output, &[self.oc]].concat())?);
        }
        let y = permute(&y.reshape(&[fit.n, fit.pixels(), 1, self.oc])?, Layout::Plain);
        Ok(y.reshape(&[&[fit.n, self.oc], output].concat())?)
    }

    fn accumulate(&self, x: &Tensor, fit: &Fit, zero_point: i32) -> Result<Vec<i32>, OpError> {
        match &self.weights {
            Weights::Packed(parts) => {
                let (x, geometry) = (quantized_slice(x)?, self.geometry(fit));
                Ok(parts.accumulate(|packed| packed.accumulate(x, &geometry, zero_point)))
            }
            Weights::Checked(weight, bias) => self.accumulate_checked(x, fit, zero_point, weight, bias),
        }
    }

    fn accumulate_checked(
        &self,
        x: &Tensor,
        fit: &Fit,
        zero_point: i32,
        weight: &[i16],
        bias: &[i32],
    ) -> Result<Vec<i32>, OpError> {
        let x = differences(0, x, (0, Some(&Tensor::scalar(zero_point))), 1, |_| 0)?;
        let (oc, per_group, ic) = (self.oc, self.ic_per_group, self.ic_per_group * self.group);
        let (pixels, taps): (usize, usize) = (fit.pixels(), self.window.kernel.iter().product());
        let image: usize = fit.input.iter().product();
        let mut sums = vec![0_i64; fit.n * pixels * oc];
        let work = sums.len().saturating_mul(per_group * taps);
        for_each_row(&mut sums, oc, work, &|row, sums| {
            let (sample, pixel) = (row / pixels, row % pixels);
            for (o, sum) in sums.iter_mut().enumerate() {
                *sum = i64::from(bias[o]);
                let first_channel = o / (oc / self.group) * per_group;
                for tap in 0..taps {
                    let Some(at) = source(&self.window, fit, pixel, tap) else {
                        continue;
                    };
                    for c in 0..per_group {
                        let x = x[(sample * image + at) * ic + first_channel + c];
                        *sum += i64::from(x) * i64::from(weight[(o * per_group + c) * taps + tap]);
                    }
                }
            }
        });
        sums.into_iter().enumerate().map(accumulator).collect()
    }
}

/// Where a tap of the kernel reads for an output pixel; `None` in the padding.
fn source(window: &Window, fit: &Fit, pixel: usize, tap: usize) -> Option<usize> {
    let (mut pixel, mut tap, mut at, mut stride) = (pixel, tap, 0, 1);
    for axis in (0..fit.input.len()).rev() {
        let (output, kernel) = (fit.applied.output[axis], window.kernel[axis]);
        let position = pixel % output * window.strides[axis] + tap % kernel * window.dilations[axis];
        let position = position
            .checked_sub(fit.applied.pads[axis].0)
            .filter(|&p| p < fit.input[axis])?;
        at += position * stride;
        stride *= fit.input[axis];
        pixel /= output;
        tap /= kernel;
    }
    Some(at)
}

/// The fact of a convolution of integers.
///
/// # Errors
/// A window that does not fit the input.
pub(super) fn infer_conv(
    ctx: &InferContext<'_>,
    weight: usize,
    dtype: Option<DType>,
    channels_last: bool,
) -> Result<Vec<Fact>, OpError> {
    let (Some(shape), Some(w_shape)) = (&ctx.require(0)?.shape, &ctx.require(weight)?.shape) else {
        return Ok(vec![Fact::new(dtype, None)]);
    };
    let mut shape = shape.clone();
    if channels_last && shape.len() > 2 {
        shape[1..].rotate_right(1);
    }
    let input = spatial(&shape)?;
    let kernel: Option<Vec<usize>> = spatial(w_shape)?.iter().map(SymDim::as_size).collect();
    let open = |axis: usize| open_dim(ctx, 0, axis + if channels_last { 1 } else { 2 });
    let output = match kernel {
        Some(kernel) if kernel.len() == input.len() => {
            Window::new(ctx.node, input.len(), Some(&kernel))?.infer(input, open)?
        }
        _ => (0..input.len()).map(open).collect(),
    };
    let mut dims = [&[shape[0].clone(), w_shape[0].clone()], output.as_slice()].concat();
    if channels_last {
        dims[1..].rotate_left(1);
    }
    Ok(vec![Fact::new(dtype, Some(dims))])
}

#[cfg(test)]
mod tests {
    use qloupe_ir::AttributeValue;

    use super::*;

    /// A number between 0 and 255 that looks random.
    fn byte(i: usize) -> u8 {
        ((i * 2_654_435_761) >> 7) as u8
    }

    #[test]
    fn packed_weights_equal_checked_sums() {
        struct Case {
            x: [usize; 4],
            weight: [usize; 4],
            group: i64,
            zero_point: Vec<u8>,
            dilation: i64,
        }
        let cases = [
            Case {
                x: [2, 3, 6, 5],
                weight: [4, 3, 3, 2],
                group: 1,
                zero_point: vec![128],
                dilation: 1,
            },
            Case {
                x: [1, 4, 7, 7],
                weight: [4, 1, 3, 3],
                group: 4,
                zero_point: vec![0],
                dilation: 1,
            },
            Case {
                x: [1, 4, 7, 7],
                weight: [6, 2, 1, 3],
                group: 2,
                zero_point: (0..6).map(|i| i * 50).collect(),
                dilation: 2,
            },
        ];
        for (idx, case) in cases.into_iter().enumerate() {
            let tensor = |shape: &[usize], salt: usize| {
                let n: usize = shape.iter().product();
                Tensor::new(shape, (0..n).map(|i| byte(i + salt)).collect()).unwrap()
            };
            let (x, weight) = (tensor(&case.x, 1), tensor(&case.weight, 1000));
            let (zero_point, bias) = (
                Tensor::vector(case.zero_point),
                Tensor::vector(vec![-7_i32; case.weight[0]]),
            );
            let node = Node::new("QLinearConv", "", &[], &["y"])
                .with_attribute("group", AttributeValue::Int(case.group))
                .with_attribute("pads", AttributeValue::Ints(vec![1, 0, 1, 2]))
                .with_attribute("dilations", AttributeValue::Ints(vec![1, case.dilation]));
            let inputs = ConvInputs {
                weight: 0,
                weight_zero_point: 1,
                bias: Some(2),
            };
            let constants = [&weight, &zero_point, &bias];
            let mut conv = IntegerConv::new(&node, inputs, |i| constants.get(i).copied()).unwrap();
            assert!(matches!(conv.weights, Weights::Packed(_)), "case {idx}");
            let packed = conv.sums(&x, 3, false).unwrap();
            let swapped = conv.sums(&permute(&x, Layout::Nhwc), 3, true).unwrap();
            assert_eq!(permute(&swapped, Layout::Plain), packed, "case {idx}");
            let per_channel: usize = case.weight[1..].iter().product();
            let all = differences(0, &weight, (1, Some(&zero_point)), case.weight[0], |i| {
                i / per_channel
            })
            .unwrap();
            conv.weights = Weights::Checked(all, bias.as_slice().unwrap().to_vec());
            assert_eq!(conv.sums(&x, 3, false).unwrap(), packed, "case {idx}");
        }
    }
}
