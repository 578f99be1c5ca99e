//! RoiAlign: regions of an image pooled to a fixed size.

use qloupe_tensor::Tensor;

use super::float_tensor::{from_float32, to_float32};
use super::parameters::{integers, require_rank, resolve_index};
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// For each region and bin, the mean (or, `mode` max, the maximum) of bilinear samples on a regular grid.
#[derive(Debug)]
pub(super) struct RoiAlign;

/// One bilinear sample: four pixels and their weights.
type Sample = [(usize, f32); 4];

/// More samples in a bin are a mistake of the region.
const MAX_SAMPLES: usize = 1 << 12;

/// Two neighbouring pixels of a coordinate with the weight of the second; `None` outside.
fn neighbours(at: f32, size: usize) -> Option<(usize, usize, f32)> {
    if !(-1.0..=size as f32).contains(&at) {
        return None;
    }
    let at = at.max(0.0);
    let low = at as usize;
    Some(if low + 1 >= size {
        (size - 1, size - 1, 0.0)
    } else {
        (low, low + 1, at - low as f32)
    })
}

fn sample(y: f32, x: f32, height: usize, width: usize) -> Sample {
    let (Some((y0, y1, ly)), Some((x0, x1, lx))) = (neighbours(y, height), neighbours(x, width)) else {
        return [(0, 0.0); 4];
    };
    let (hy, hx) = (1.0 - ly, 1.0 - lx);
    [
        (y0 * width + x0, hy * hx),
        (y0 * width + x1, hy * lx),
        (y1 * width + x0, ly * hx),
        (y1 * width + x1, ly * lx),
    ]
}

/// A region along one axis.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: f32,
    bin: f32,
    samples: usize,
}

impl Extent {
    fn new(
        start: f32,
        end: f32,
        bins: usize,
        sampling_ratio: usize,
        half_pixel: bool,
    ) -> Result<Self, OpError> {
        let length = if half_pixel {
            end - start
        } else {
            (end - start).max(1.0)
        };
        let bin = length / bins as f32;
        let samples = if sampling_ratio > 0 {
            sampling_ratio
        } else {
            bin.ceil().max(0.0) as usize
        };
        if samples > MAX_SAMPLES {
            return Err(OpError::input(
                1,
                format!("too large a region, expected at most {MAX_SAMPLES} samples in a bin, got {samples}"),
            ));
        }
        Ok(Self { start, bin, samples })
    }

    fn at(&self, bin: usize, sample: usize) -> f32 {
        self.start + bin as f32 * self.bin + (sample as f32 + 0.5) * self.bin / self.samples as f32
    }
}

fn output_size(value: Option<i64>, name: &'static str) -> Result<usize, OpError> {
    let value = value.unwrap_or(1);
    usize::try_from(value)
        .ok()
        .filter(|v| (1..=1 << 16).contains(v))
        .ok_or_else(|| OpError::attribute(name, format!("not a size, expected at least 1, got {value}")))
}

impl Operator for RoiAlign {
    fn op_type(&self) -> &'static str {
        "RoiAlign"
    }

    fn since_version(&self) -> i64 {
        10
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let height = output_size(ctx.node.int("output_height"), "output_height")?;
        let width = output_size(ctx.node.int("output_width"), "output_width")?;
        let shape = match (x.shape.as_deref(), ctx.shape(1)) {
            (Some([_, c, ..]), Some([n, ..])) => Some(vec![
                n.clone(),
                c.clone(),
                SymDim::from(height),
                SymDim::from(width),
            ]),
            _ => None,
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, rois) = (ctx.require(0)?, ctx.require(1)?);
        require_rank(x, 0, 4)?;
        let batch = integers(ctx.require(2)?, 2)?;
        let &[n, c, height, width] = x.shape() else {
            return Err(OpError::input(0, "wrong rank, expected 4"));
        };
        if rois.shape() != [batch.len(), 4] || height * width == 0 {
            return Err(OpError::input(
                1,
                format!(
                    "wrong shape, expected [{}, 4], got {:?}",
                    batch.len(),
                    rois.shape()
                ),
            ));
        }
        let bins_h = output_size(ctx.node.int("output_height"), "output_height")?;
        let bins_w = output_size(ctx.node.int("output_width"), "output_width")?;
        let ratio = usize::try_from(ctx.int("sampling_ratio", 0)).unwrap_or(0);
        let default = if ctx.opset >= 16 {
            "half_pixel"
        } else {
            "output_half_pixel"
        };
        let half_pixel = ctx.string("coordinate_transformation_mode", default) == "half_pixel";
        let maximum = match ctx.string("mode", "avg") {
            "avg" => false,
            "max" => true,
            other => {
                return Err(OpError::attribute(
                    "mode",
                    format!("unknown, expected avg or max, got {other}"),
                ));
            }
        };
        let shift = if half_pixel { 0.5 } else { 0.0 };
        let scale = ctx.float("spatial_scale", 1.0);
        let values = to_float32(x, 0)?;
        let regions = to_float32(rois, 1)?;
        let mut y = Vec::with_capacity(batch.len() * c * bins_h * bins_w);
        for (region, &image) in regions.chunks_exact(4).zip(&batch) {
            let image = resolve_index(image, n, 2)?;
            let bound = |i: usize| region[i] * scale - shift;
            let rows = Extent::new(bound(1), bound(3), bins_h, ratio, half_pixel)?;
            let columns = Extent::new(bound(0), bound(2), bins_w, ratio, half_pixel)?;
            for channel in 0..c {
                let plane = &values[(image * c + channel) * height * width..][..height * width];
                for bin in 0..bins_h * bins_w {
                    let samples = (0..rows.samples * columns.samples).map(|i| {
                        let at_y = rows.at(bin / bins_w, i / columns.samples);
                        let at_x = columns.at(bin % bins_w, i % columns.samples);
                        sample(at_y, at_x, height, width).map(|(pixel, weight)| weight * plane[pixel])
                    });
                    y.push(if maximum {
                        samples.flatten().reduce(f32::max).unwrap_or(0.0)
                    } else {
                        let count = (rows.samples * columns.samples).max(1) as f32;
                        samples.fold(0.0, |sum, [a, b, c, d]| sum + (a + b + c + d)) / count
                    });
                }
            }
        }
        let shape = [batch.len(), c, bins_h, bins_w];
        Ok(vec![from_float32(x.dtype(), &shape, y)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_bilinear_and_zero_outside() {
        assert_eq!(sample(0.5, 1.0, 2, 3), [(1, 0.5), (2, 0.0), (4, 0.5), (5, 0.0)]);
        assert_eq!(sample(-2.0, 0.0, 2, 3), [(0, 0.0); 4]);
    }
}
