//! The pullback of convolutions: the gradient of the input is itself a convolution of the gradient of the output.
//!
//! Without strides it is one with the kernel turned around; with strides a transposed one, which a depthwise convolution
//! does as one without strides over a gradient that is spread apart.

use std::borrow::Cow;

use qloupe_ir::Node;
use qloupe_kernels::{ConvF32, ConvGeometry, ConvTransposeF32, ConvTransposeGeometry, Head, run_chain};
use qloupe_tensor::Tensor;

use super::conv::{channels_second, conv_geometry, group_of, pixels_last, wrong_weight};
use super::window::Window;
use crate::{Layout, OpError, PreparedPullback, Pullback, PullbackContext};

const NO_CLAMP: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// A convolution with its weight packed for the way back.
#[derive(Debug)]
pub(super) struct ConvGradient {
    window: Window,
    oc: usize,
    ic: usize,
    group: usize,
    kernel: Kernel,
}

#[derive(Debug)]
enum Kernel {
    /// A convolution without strides, with input and output channels exchanged and the taps in reverse order.
    Turned(ConvF32),
    /// A transposed convolution.
    Transposed(ConvTransposeF32),
}

impl ConvGradient {
    /// Packs the weight of a Conv node.
    ///
    /// # Errors
    /// A weight or attribute that does not fit; more than two spatial axes.
    pub(super) fn new(node: &Node, weight: &Tensor) -> Result<Self, OpError> {
        let &[oc, ic_per_group, ref kernel @ ..] = weight.shape() else {
            return Err(wrong_weight(weight));
        };
        let (kh, kw) = match *kernel {
            [kw] => (1, kw),
            [kh, kw] => (kh, kw),
            [] => return Err(wrong_weight(weight)),
            _ => {
                return Err(OpError::unsupported(format!(
                    "the gradient of a convolution of {} axes",
                    kernel.len()
                )));
            }
        };
        let window = Window::new(node, kernel.len(), Some(kernel))?;
        let group = group_of(node, oc)?;
        let values = weight.to_f32()?;
        let values = values.require::<f32>()?;
        let ic = ic_per_group * group;
        let is_strided = window.strides.iter().any(|&stride| stride > 1);
        let is_depthwise = ic_per_group == 1 && oc == group && group > 1;
        // A border wider than the kernel has outputs that no tap reaches from inside.
        let is_narrow = (0..window.rank()).all(|axis| {
            let (begin, end) = window.pads[axis];
            begin.max(end) < window.extent(axis)
        });
        let kernel = if is_narrow && (is_depthwise || !is_strided) {
            let turned = turned(values, (oc, ic_per_group, kh * kw, group));
            Kernel::Turned(ConvF32::new(&turned, None, ic, oc / group, kh, kw, group))
        } else {
            Kernel::Transposed(ConvTransposeF32::new(
                values,
                None,
                oc,
                ic_per_group,
                kh,
                kw,
                group,
            ))
        };
        Ok(Self {
            window,
            oc,
            ic,
            group,
            kernel,
        })
    }

    /// The pullback at an input of a shape, in the order of the call.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub(super) fn at<'a>(&'a self, shape: &'a [usize], layout: Layout) -> Result<Pullback<'a>, OpError> {
        let forward = self.forward(shape, layout)?;
        Ok(Pullback::of_first(move |gradient| {
            self.apply(&forward, shape, layout, &gradient)
        }))
    }

    /// [`ConvGradient::at`] of a weight that is packed for one call.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub(super) fn once(self, shape: &[usize], layout: Layout) -> Result<Pullback<'_>, OpError> {
        let forward = self.forward(shape, layout)?;
        Ok(Pullback::of_first(move |gradient| {
            self.apply(&forward, shape, layout, &gradient)
        }))
    }

    /// The geometry of the convolution itself.
    fn forward(&self, shape: &[usize], layout: Layout) -> Result<ConvGeometry, OpError> {
        let (n, input) = match (layout, shape) {
            (Layout::Nhwc, &[n, h, w, _]) => (n, vec![h, w]),
            (_, [n, _, spatial @ ..]) if spatial.len() == self.window.rank() => (*n, spatial.to_vec()),
            _ => {
                return Err(OpError::input(
                    0,
                    format!("does not fit the weight, got shape {shape:?}"),
                ));
            }
        };
        let applied = self.window.apply(&input)?;
        let channels = (self.ic, self.oc, self.group);
        Ok(conv_geometry(&self.window, &applied, n, &input, channels))
    }

    fn apply(
        &self,
        forward: &ConvGeometry,
        shape: &[usize],
        layout: Layout,
        gradient: &Tensor,
    ) -> Result<Tensor, OpError> {
        let g = forward;
        let values = gradient.require::<f32>()?;
        let (outputs, pixels) = (g.oh() * g.ow(), g.ih * g.iw);
        if values.len() != g.n_outputs() {
            return Err(OpError::input(
                0,
                format!(
                    "has a gradient that does not fit, expected {} elements, got {}",
                    g.n_outputs(),
                    values.len()
                ),
            ));
        }
        if layout == Layout::Nhwc {
            return Ok(Tensor::new(shape, self.run(g, values)?)?);
        }
        let x = self.run(g, &pixels_last(values, g.n, g.oc, outputs))?;
        Ok(Tensor::new(shape, channels_second(&x, g.n, g.ic, pixels))?)
    }

    /// From `[n, oh, ow, oc]` to `[n, ih, iw, ic]`.
    fn run(&self, g: &ConvGeometry, gradient: &[f32]) -> Result<Vec<f32>, OpError> {
        if g.n_inputs() == 0 {
            return Ok(Vec::new());
        }
        let (oh, ow) = (g.oh(), g.ow());
        let backward = ConvGeometry {
            ih: oh,
            iw: ow,
            ic: g.oc,
            oc: g.ic,
            ..*g
        };
        match &self.kernel {
            Kernel::Turned(conv) => {
                let spread = |n: usize, stride: usize| n.saturating_sub(1) * stride + n.min(1);
                let (height, width) = (spread(oh, g.stride_h), spread(ow, g.stride_w));
                let (eh, ew) = ((g.kh - 1) * g.dilation_h, (g.kw - 1) * g.dilation_w);
                let border = |extent: usize, pad: usize| extent.checked_sub(pad).ok_or_else(too_wide);
                let (top, left) = (border(eh, g.pad_top)?, border(ew, g.pad_left)?);
                let geometry = ConvGeometry {
                    ih: height,
                    iw: width,
                    stride_h: 1,
                    stride_w: 1,
                    pad_top: top,
                    pad_left: left,
                    pad_bottom: border(g.ih + eh, height + top)?,
                    pad_right: border(g.iw + ew, width + left)?,
                    ..backward
                };
                let apart = if (height, width) == (oh, ow) {
                    Cow::Borrowed(gradient)
                } else {
                    Cow::Owned(spread_apart(gradient, g, (height, width)))
                };
                // A chain of nothing but its head: the result is not filled with zeros before.
                let mut results = run_chain(Head::Conv(conv, &apart, &geometry), &[], &[], &[true], None);
                Ok(results.pop().flatten().unwrap_or_default())
            }
            Kernel::Transposed(conv) => {
                let mut geometry = ConvTransposeGeometry {
                    conv: backward,
                    output_padding_h: 0,
                    output_padding_w: 0,
                };
                geometry.output_padding_h = g.ih.checked_sub(geometry.oh()).ok_or_else(too_wide)?;
                geometry.output_padding_w = g.iw.checked_sub(geometry.ow()).ok_or_else(too_wide)?;
                if (geometry.oh(), geometry.ow()) != (g.ih, g.iw) {
                    return Err(too_wide());
                }
                let mut x = vec![0.0; g.n_inputs()];
                conv.run(gradient, &geometry, NO_CLAMP, &mut x);
                Ok(x)
            }
        }
    }
}

impl PreparedPullback for ConvGradient {
    fn pullback<'a>(&'a self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        self.at(ctx.call.require(0)?.shape(), ctx.call.layout)
    }
}

fn too_wide() -> OpError {
    OpError::unsupported("the gradient of a convolution whose padding is wider than its kernel")
}

/// `w[o, i, tap]` as `w'[i, o, last - tap]`, group by group.
fn turned(weight: &[f32], (oc, icg, taps, group): (usize, usize, usize, usize)) -> Vec<f32> {
    let ocg = oc / group;
    let mut turned = Vec::with_capacity(weight.len());
    for input in 0..icg * group {
        for o in 0..ocg {
            let from = ((input / icg * ocg + o) * icg + input % icg) * taps;
            turned.extend(weight[from..from + taps].iter().rev());
        }
    }
    turned
}

/// A gradient `[n, oh, ow, c]` with zeros between its pixels, as many as the strides leave out.
fn spread_apart(gradient: &[f32], g: &ConvGeometry, (height, width): (usize, usize)) -> Vec<f32> {
    let (oh, ow, c) = (g.oh(), g.ow(), g.oc);
    let mut apart = vec![0.0; g.n * height * width * c];
    for (row, pixels) in gradient.chunks_exact((ow * c).max(1)).enumerate() {
        let to = (row / oh * height + row % oh * g.stride_h) * width * c;
        let step = g.stride_w * c;
        for (pixel, values) in pixels.chunks_exact(c).enumerate() {
            apart[to + pixel * step..][..c].copy_from_slice(values);
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_turn_around_and_channels_change_places() {
        let weight: Vec<f32> = (0..8_u8).map(f32::from).collect();
        assert_eq!(
            turned(&weight, (2, 2, 2, 1)),
            [1.0, 0.0, 5.0, 4.0, 3.0, 2.0, 7.0, 6.0]
        );
        assert_eq!(
            turned(&weight[..4], (2, 1, 2, 2)),
            [1.0, 0.0, 3.0, 2.0],
            "depthwise"
        );
    }
}
