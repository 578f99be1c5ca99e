//! What the pools share: the input as planes, the taps of an output, inference.

use qloupe_kernels::PoolGeometry;
use qloupe_tensor::Tensor;

use super::movement::strides_of;
use super::parameters::open_dim;
use super::scatter::advance;
use super::window::{Applied, Window, spatial};
use crate::{EvalContext, Fact, InferContext, Layout, OpError};

/// A pool on an input: `[outer, spatial.., inner]`, where the channels are `outer` in ONNX order and `inner` in NHWC.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(super) window: Window,
    pub(super) applied: Applied,
    pub(super) input: Vec<usize>,
    pub(super) n: usize,
    pub(super) channels: usize,
    layout: Layout,
}

impl Pool {
    pub(crate) fn new(ctx: &EvalContext<'_>, x: &Tensor) -> Result<Self, OpError> {
        let (n, channels, input) = planes(x.shape(), ctx.layout)?;
        let window = Window::new(ctx.node, input.len(), None)?;
        let applied = window.apply(&input)?;
        Ok(Self {
            window,
            applied,
            input,
            n,
            channels,
            layout: ctx.layout,
        })
    }

    /// The shape of the output, in the order of the call.
    pub(crate) fn output_shape(&self) -> Vec<usize> {
        shape_of(self.n, self.channels, &self.applied.output, self.layout)
    }

    /// The geometry for the 2-D kernels, which take NHWC.
    pub(crate) fn nhwc_geometry(&self) -> Option<PoolGeometry> {
        let (Layout::Nhwc, 2) = (self.layout, self.input.len()) else {
            return None;
        };
        Some(PoolGeometry {
            n: self.n,
            ih: self.input[0],
            iw: self.input[1],
            c: self.channels,
            oh: self.applied.output[0],
            ow: self.applied.output[1],
            kh: self.window.kernel[0],
            kw: self.window.kernel[1],
            stride_h: self.window.strides[0],
            stride_w: self.window.strides[1],
            dilation_h: self.window.dilations[0],
            dilation_w: self.window.dilations[1],
            pad_top: self.applied.pads[0].0,
            pad_left: self.applied.pads[1].0,
            pad_bottom: self.applied.pads[0].1,
            pad_right: self.applied.pads[1].1,
        })
    }

    /// Any reduction over any number of axes: `reduce` gets the values under the window and where they are.
    pub(crate) fn reduce<T: Copy, U>(&self, x: &[T], mut reduce: impl FnMut(&[T], &Taps) -> U) -> Vec<U> {
        let pixels: usize = self.input.iter().product();
        let (outer, inner) = match self.layout {
            Layout::Plain => (self.n * self.channels, 1),
            Layout::Nhwc => (self.n, self.channels),
        };
        let mut y = Vec::new();
        let mut values = Vec::new();
        for o in 0..outer {
            let mut at = vec![0; self.input.len()];
            for _ in 0..self.applied.output.iter().product::<usize>() {
                let mut taps = self.taps(&at);
                for i in 0..inner {
                    taps.plane = o * inner + i;
                    values.clear();
                    values.extend(
                        taps.pixels
                            .iter()
                            .map(|pixel| x[(o * pixels + pixel) * inner + i]),
                    );
                    y.push(reduce(&values, &taps));
                }
                advance(&mut at, &self.applied.output);
            }
        }
        y
    }

    pub(super) fn taps(&self, at: &[usize]) -> Taps {
        let strides = strides_of(&self.input);
        let mut taps = Taps {
            pixels: Vec::new(),
            n_padded: 0,
            plane: 0,
        };
        let mut tap = vec![0; at.len()];
        for _ in 0..self.window.kernel.iter().product::<usize>() {
            let mut pixel = Some(0);
            let mut in_padding = true;
            for axis in 0..at.len() {
                let position = at[axis] * self.window.strides[axis] + tap[axis] * self.window.dilations[axis];
                let (begin, end) = self.applied.pads[axis];
                in_padding &= position < begin + self.input[axis] + end;
                let inside = position.checked_sub(begin).filter(|&p| p < self.input[axis]);
                pixel = pixel.zip(inside).map(|(sum, p)| sum + p * strides[axis]);
            }
            taps.pixels.extend(pixel);
            taps.n_padded += usize::from(in_padding);
            advance(&mut tap, &self.window.kernel);
        }
        taps
    }
}

/// What lies under the window of an output.
#[derive(Debug)]
pub(crate) struct Taps {
    /// Flat positions in the plane.
    pub(super) pixels: Vec<usize>,
    /// Taps in the padded input.
    pub(crate) n_padded: usize,
    /// Which plane: `n * channels + channel`.
    pub(super) plane: usize,
}

/// Batch, channels and spatial shape of an input.
pub(super) fn planes(shape: &[usize], layout: Layout) -> Result<(usize, usize, Vec<usize>), OpError> {
    if let (Layout::Nhwc, [n, h, w, c]) = (layout, shape) {
        return Ok((*n, *c, vec![*h, *w]));
    }
    Ok((
        shape.first().copied().unwrap_or(0),
        shape.get(1).copied().unwrap_or(0),
        spatial(shape)?.to_vec(),
    ))
}

/// The inverse of [`planes`].
pub(super) fn shape_of(n: usize, channels: usize, spatial: &[usize], layout: Layout) -> Vec<usize> {
    match layout {
        Layout::Plain => [&[n, channels], spatial].concat(),
        Layout::Nhwc => [&[n], spatial, &[channels]].concat(),
    }
}

/// The fact of a pooled output.
pub(super) fn infer_pool(ctx: &InferContext<'_>) -> Result<Fact, OpError> {
    let x = ctx.require(0)?;
    let Some(shape) = &x.shape else {
        return Ok(Fact::new(x.dtype, None));
    };
    let input = spatial(shape)?;
    let window = Window::new(ctx.node, input.len(), None)?;
    let output = window.infer(input, |axis| open_dim(ctx, 0, axis + 2))?;
    Ok(Fact::new(x.dtype, Some([&shape[..2], &output].concat())))
}

/// The fact of a global pool: one number for each channel.
pub(super) fn infer_global(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
    let x = ctx.require(0)?;
    let shape = match &x.shape {
        Some(shape) => {
            let ones = vec![crate::SymDim::known(1); spatial(shape)?.len()];
            Some([&shape[..2], &ones].concat())
        }
        None => None,
    };
    Ok(vec![Fact::new(x.dtype, shape)])
}
