//! GridSample: an image sampled at given coordinates.

use qloupe_tensor::{Rounding, Tensor};

use super::float_tensor::{from_float32, to_float32};
use super::movement::strides_of;
use super::resize_axis::cubic;
use super::scatter::advance;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y[n, c, ..] = x[n, c]` at `grid[n, ..]`, whose last axis holds coordinates from -1 to 1, the last spatial axis first.
#[derive(Debug)]
pub(super) struct GridSample;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// The coefficient that PyTorch and the specification use.
const CUBIC_COEFFICIENT: f32 = -0.75;

#[derive(Clone, Copy, Debug)]
struct Sampler {
    mode: Mode,
    padding: Padding,
    align_corners: bool,
}

impl Sampler {
    fn new(ctx: &EvalContext<'_>) -> Result<Self, OpError> {
        let unknown = |name: &'static str, got: &str| {
            OpError::attribute(
                name,
                format!("unknown, expected a mode of the specification, got {got}"),
            )
        };
        Ok(Self {
            mode: match ctx.string("mode", "linear") {
                "nearest" => Mode::Nearest,
                "linear" | "bilinear" => Mode::Linear,
                "cubic" | "bicubic" => Mode::Cubic,
                other => return Err(unknown("mode", other)),
            },
            padding: match ctx.string("padding_mode", "zeros") {
                "zeros" => Padding::Zeros,
                "border" => Padding::Border,
                "reflection" => Padding::Reflection,
                other => return Err(unknown("padding_mode", other)),
            },
            align_corners: ctx.int("align_corners", 0) == 1,
        })
    }

    fn bounds(self, size: usize) -> (f32, f32) {
        if self.align_corners {
            (0.0, size as f32 - 1.0)
        } else {
            (-0.5, size as f32 - 0.5)
        }
    }

    /// The pixel at a position that may lie outside; `None` is 0.
    fn pixel(self, at: f32, size: usize) -> Option<usize> {
        let last = size as f32 - 1.0;
        let inside = (0.0..=last).contains(&at);
        match self.padding {
            _ if at.is_nan() => None,
            Padding::Zeros => inside.then_some(at as usize),
            Padding::Border => Some(at.clamp(0.0, last) as usize),
            Padding::Reflection => Some(reflect(at, self.bounds(size)).clamp(0.0, last) as usize),
        }
    }

    /// Pixels and weights along one axis for a coordinate from -1 to 1.
    fn taps(self, normalized: f32, size: usize) -> Vec<(Option<usize>, f32)> {
        let length = size as f32;
        let mut at = if self.align_corners {
            (normalized + 1.0) / 2.0 * (length - 1.0)
        } else {
            ((normalized + 1.0) * length - 1.0) / 2.0
        };
        if self.mode == Mode::Nearest {
            at = Rounding::TiesEven.round(at);
        }
        let bounds = self.bounds(size);
        if at < bounds.0 || at > bounds.1 {
            at = match self.padding {
                Padding::Zeros => at,
                // As in PyTorch and ONNX Runtime, the pixels of a cubic are moved to the border one by one.
                Padding::Border if self.mode == Mode::Cubic => at,
                Padding::Border => at.clamp(0.0, length - 1.0),
                Padding::Reflection => reflect(at, bounds),
            };
        }
        let left = at.floor();
        let tap = |step: f32, weight: f32| (self.pixel(left + step, size), weight);
        let share = at - left;
        match self.mode {
            Mode::Nearest => vec![(self.pixel(at, size), 1.0)],
            Mode::Linear => vec![tap(0.0, 1.0 - share), tap(1.0, share)],
            Mode::Cubic => [-1.0, 0.0, 1.0, 2.0]
                .into_iter()
                .map(|step| tap(step, cubic(share - step, CUBIC_COEFFICIENT)))
                .collect(),
        }
    }
}

/// Mirrors a position at the bounds until it lies between them.
fn reflect(at: f32, (low, high): (f32, f32)) -> f32 {
    let range = high - low;
    if range <= 0.0 || !at.is_finite() {
        return low;
    }
    let phase = (at - low).rem_euclid(2.0 * range);
    low + phase.min(2.0 * range - phase)
}

impl Operator for GridSample {
    fn op_type(&self) -> &'static str {
        "GridSample"
    }

    fn since_version(&self) -> i64 {
        16
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let shape = match (x.shape.as_deref(), ctx.shape(1)) {
            (Some([n, c, ..]), Some([_, output @ .., _])) => Some([&[n.clone(), c.clone()], output].concat()),
            _ => None,
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, grid) = (ctx.require(0)?, ctx.require(1)?);
        let sampler = Sampler::new(ctx)?;
        let misfit = || {
            OpError::input(
                1,
                format!(
                    "does not fit the image, expected [N, .., {}] for {:?}, got {:?}",
                    x.rank().saturating_sub(2),
                    x.shape(),
                    grid.shape()
                ),
            )
        };
        let (&[n, c, ref input @ ..], &[grid_n, ref output @ .., axes]) = (x.shape(), grid.shape()) else {
            return Err(misfit());
        };
        if grid_n != n || axes != input.len() || output.len() != axes || input.contains(&0) {
            return Err(misfit());
        }
        let (values, coordinates) = (to_float32(x, 0)?, to_float32(grid, 1)?);
        let strides = strides_of(input);
        let (pixels, outputs): (usize, usize) = (input.iter().product(), output.iter().product());
        let mut y = vec![0.0; n * c * outputs];
        for image in 0..n {
            for o in 0..outputs {
                let point = &coordinates[(image * outputs + o) * axes..][..axes];
                let taps: Vec<Vec<(Option<usize>, f32)>> = (0..axes)
                    .map(|axis| sampler.taps(point[axes - 1 - axis], input[axis]))
                    .collect();
                let counts: Vec<usize> = taps.iter().map(Vec::len).collect();
                let mut at = vec![0; axes];
                for _ in 0..counts.iter().product::<usize>() {
                    let chosen = || (0..axes).map(|axis| (axis, taps[axis][at[axis]]));
                    let pixel: Option<usize> = chosen().map(|(axis, (p, _))| Some(p? * strides[axis])).sum();
                    let weight = chosen().fold(1.0, |product, (_, (_, weight))| product * weight);
                    if let Some(pixel) = pixel {
                        for channel in 0..c {
                            let plane = image * c + channel;
                            y[plane * outputs + o] += weight * values[plane * pixels + pixel];
                        }
                    }
                    advance(&mut at, &counts);
                }
            }
        }
        Ok(vec![from_float32(x.dtype(), &[&[n, c], output].concat(), y)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflections() {
        let reflected: Vec<f32> = [1.0, -1.0, 4.0, 7.0].map(|at| reflect(at, (0.0, 3.0))).to_vec();
        assert_eq!(reflected, [1.0, 1.0, 2.0, 1.0]);
        assert_eq!(reflect(5.0, (0.0, 0.0)).to_bits(), 0);
    }

    #[test]
    fn linear_taps() {
        let sampler = Sampler {
            mode: Mode::Linear,
            padding: Padding::Zeros,
            align_corners: true,
        };
        assert_eq!(sampler.taps(0.0, 4), [(Some(1), 0.5), (Some(2), 0.5)]);
        assert_eq!(sampler.taps(1.0, 4), [(Some(3), 1.0), (None, 0.0)]);
    }
}
