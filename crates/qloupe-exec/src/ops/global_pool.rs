//! What the global pools share: one number for each channel.

use qloupe_tensor::Tensor;

use super::float_tensor::{from_float32, to_float32};
use super::pooling::{planes, shape_of};
use crate::{EvalContext, Layout, OpError};

/// Applies `reduce` to the elements of each channel, in ONNX order.
pub(super) fn reduce_channels(
    ctx: &EvalContext<'_>,
    mut reduce: impl FnMut(&mut dyn Iterator<Item = f32>) -> Result<f32, OpError>,
) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.require(0)?;
    let (n, channels, spatial) = planes(x.shape(), ctx.layout)?;
    let pixels: usize = spatial.iter().product();
    let values = to_float32(x, 0)?;
    let mut y = Vec::with_capacity(n * channels);
    for image in 0..n {
        for channel in 0..channels {
            let (start, stride) = match ctx.layout {
                Layout::Plain => ((image * channels + channel) * pixels, 1),
                Layout::Nhwc => (image * channels * pixels + channel, channels),
            };
            y.push(reduce(&mut (0..pixels).map(|i| values[start + i * stride]))?);
        }
    }
    let shape = shape_of(n, channels, &vec![1; spatial.len()], ctx.layout);
    Ok(vec![from_float32(x.dtype(), &shape, y)?])
}
