//! The pullback of transposed convolutions: the convolution that they transpose.

use qloupe_ir::Node;
use qloupe_kernels::{ConvF32, ConvGeometry};
use qloupe_tensor::Tensor;

use super::conv::{channels_second, conv_geometry, group_of, pixels_last, wrong_weight};
use super::conv_transpose::TransposedWindow;
use crate::{Layout, OpError, PreparedPullback, Pullback, PullbackContext};

/// A transposed convolution with its weight packed for the way back.
#[derive(Debug)]
pub(super) struct ConvTransposeGradient {
    window: TransposedWindow,
    conv: ConvF32,
    ic: usize,
    oc: usize,
    group: usize,
}

impl ConvTransposeGradient {
    /// Packs the weight of a ConvTranspose node.
    ///
    /// # Errors
    /// A weight or attribute that does not fit; more than two spatial axes.
    pub(super) fn new(node: &Node, weight: &Tensor) -> Result<Self, OpError> {
        let &[ic, oc_per_group, ref kernel @ ..] = weight.shape() else {
            return Err(wrong_weight(weight));
        };
        let (kh, kw) = match *kernel {
            [kw] => (1, kw),
            [kh, kw] => (kh, kw),
            _ => {
                return Err(OpError::unsupported(format!(
                    "the gradient of a transposed convolution of {} axes",
                    kernel.len()
                )));
            }
        };
        let group = group_of(node, ic)?;
        let values = weight.to_f32()?;
        // `[ic, oc / group, ..]` is the weight of a convolution from oc to ic channels as it stands.
        let conv = ConvF32::new(values.require()?, None, ic, oc_per_group, kh, kw, group);
        Ok(Self {
            window: TransposedWindow::new(node, kernel)?,
            conv,
            ic,
            oc: oc_per_group * group,
            group,
        })
    }

    /// The pullback of a weight that is packed for one call.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub(super) fn once(self, shape: &[usize], layout: Layout) -> Result<Pullback<'_>, OpError> {
        let geometry = self.geometry(shape, layout)?;
        Ok(Pullback::of_first(move |gradient| {
            self.apply(&geometry, shape, layout, &gradient)
        }))
    }

    fn geometry(&self, shape: &[usize], layout: Layout) -> Result<ConvGeometry, OpError> {
        let window = &self.window.window;
        let (n, input) = match (layout, shape) {
            (Layout::Nhwc, &[n, h, w, _]) => (n, vec![h, w]),
            (_, [n, _, spatial @ ..]) if spatial.len() == window.rank() => (*n, spatial.to_vec()),
            _ => {
                return Err(OpError::input(
                    0,
                    format!("does not fit the weight, got shape {shape:?}"),
                ));
            }
        };
        let applied = self.window.apply(&input)?;
        let channels = (self.oc, self.ic, self.group);
        let mut g = conv_geometry(window, &applied, n, &applied.output, channels);
        let (height, width) = if window.rank() == 2 {
            (input[0], input[1])
        } else {
            (1, input[0])
        };
        // Output padding is a part of the output that no tap reaches; the padding at the end follows from the sizes.
        let end = |size: usize, stride: usize, extent: usize, output: usize, begin: usize| {
            (stride * size.saturating_sub(1) + extent).saturating_sub(output + begin)
        };
        let (eh, ew) = ((g.kh - 1) * g.dilation_h + 1, (g.kw - 1) * g.dilation_w + 1);
        g.pad_bottom = end(height, g.stride_h, eh, g.ih, g.pad_top);
        g.pad_right = end(width, g.stride_w, ew, g.iw, g.pad_left);
        if (g.oh(), g.ow()) == (height, width) {
            return Ok(g);
        }
        Err(OpError::unsupported(format!(
            "the gradient of a transposed convolution from {height} x {width} to {} x {}",
            g.ih, g.iw
        )))
    }

    fn apply(
        &self,
        g: &ConvGeometry,
        shape: &[usize],
        layout: Layout,
        gradient: &Tensor,
    ) -> Result<Tensor, OpError> {
        let values = gradient.require::<f32>()?;
        let mut x = vec![0.0; g.n_outputs()];
        let clamp = (f32::NEG_INFINITY, f32::INFINITY);
        if layout == Layout::Nhwc {
            self.conv.run(values, g, clamp, &mut x);
            return Ok(Tensor::new(shape, x)?);
        }
        let values = pixels_last(values, g.n, g.ic, g.ih * g.iw);
        self.conv.run(&values, g, clamp, &mut x);
        Ok(Tensor::new(
            shape,
            channels_second(&x, g.n, g.oc, g.oh() * g.ow()),
        )?)
    }
}

impl PreparedPullback for ConvTransposeGradient {
    fn pullback<'a>(&'a self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let (shape, layout) = (ctx.call.require(0)?.shape(), ctx.call.layout);
        let geometry = self.geometry(shape, layout)?;
        Ok(Pullback::of_first(move |gradient| {
            self.apply(&geometry, shape, layout, &gradient)
        }))
    }
}
