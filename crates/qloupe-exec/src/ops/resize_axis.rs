//! Resize along one axis: where an output lies in the input, and the taps it takes.
//!
//! Coordinates are f32, by the formulas of the specification in the order ONNX Runtime computes them, so that ties of
//! nearest neighbours fall on the same side.

use qloupe_ir::Node;

use crate::OpError;

/// How output coordinates become input coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfHalfPixelForNn,
    TfCropAndResize,
}

/// How a coordinate becomes a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
    /// Before opset 11: floor where the axis grows, ceil where it shrinks.
    FloorOrCeil,
}

/// The interpolation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    Nearest(Nearest),
    Linear,
    /// With the coefficient `a`.
    Cubic(f32),
}

/// The attributes that concern a single axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Method {
    pub(super) mode: Mode,
    pub(super) coordinates: Coordinates,
    pub(super) antialias: bool,
    pub(super) exclude_outside: bool,
}

fn unknown(name: &'static str, got: &str) -> OpError {
    OpError::attribute(
        name,
        format!("unknown, expected a mode of the specification, got {got}"),
    )
}

impl Method {
    /// Reads the attributes. Before opset 11 coordinates are asymmetric.
    pub(super) fn new(node: &Node, opset: i64) -> Result<Self, OpError> {
        let old = opset < 11;
        let text = |name: &str, default: &'static str| node.string(name).unwrap_or(default).to_owned();
        let nearest = match text("nearest_mode", "round_prefer_floor").as_str() {
            _ if old => Nearest::FloorOrCeil,
            "round_prefer_floor" => Nearest::RoundPreferFloor,
            "round_prefer_ceil" => Nearest::RoundPreferCeil,
            "floor" => Nearest::Floor,
            "ceil" => Nearest::Ceil,
            other => return Err(unknown("nearest_mode", other)),
        };
        let default = if old { "asymmetric" } else { "half_pixel" };
        let coordinates = match text("coordinate_transformation_mode", default).as_str() {
            "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            "tf_half_pixel_for_nn" => Coordinates::TfHalfPixelForNn,
            "tf_crop_and_resize" => Coordinates::TfCropAndResize,
            other => return Err(unknown("coordinate_transformation_mode", other)),
        };
        Ok(Self {
            mode: match text("mode", "nearest").as_str() {
                "nearest" => Mode::Nearest(nearest),
                "linear" | "bilinear" => Mode::Linear,
                "cubic" => Mode::Cubic(node.float("cubic_coeff_a").unwrap_or(-0.75)),
                other => return Err(unknown("mode", other)),
            },
            coordinates,
            antialias: node.int("antialias") == Some(1),
            exclude_outside: node.int("exclude_outside") == Some(1),
        })
    }
}

/// One axis: sizes, scale and the region of interest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) scale: f32,
    pub(super) roi: (f32, f32),
}

impl Axis {
    fn coordinate(&self, x: usize, coordinates: Coordinates) -> f32 {
        let (input, output, x) = (self.input as f32, self.output as f32, x as f32);
        let half_pixel = (x + 0.5) / self.scale - 0.5;
        match coordinates {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = output / (self.scale * input);
                input / 2.0 * (1.0 - adjustment) + half_pixel
            }
            Coordinates::PytorchHalfPixel if self.output > 1 => half_pixel,
            Coordinates::AlignCorners if self.output > 1 => x * (input - 1.0) / (output - 1.0),
            Coordinates::PytorchHalfPixel | Coordinates::AlignCorners => 0.0,
            Coordinates::Asymmetric => x / self.scale,
            Coordinates::TfHalfPixelForNn => (x + 0.5) / self.scale,
            Coordinates::TfCropAndResize if self.output > 1 => {
                let (start, end) = self.roi;
                start * (input - 1.0) + x * (end - start) * (input - 1.0) / (output - 1.0)
            }
            Coordinates::TfCropAndResize => 0.5 * (self.roi.0 + self.roi.1) * (input - 1.0),
        }
    }

    /// True where the output is the input itself.
    pub(super) fn is_identity(&self, method: &Method) -> bool {
        let unscaled = self.scale.to_bits() == 1_f32.to_bits() && self.input == self.output;
        unscaled
            && !matches!(
                method.coordinates,
                Coordinates::TfCropAndResize | Coordinates::TfHalfPixelForNn
            )
    }

    /// For each output whether it lies outside the input: with tf_crop_and_resize it is the extrapolation value.
    pub(super) fn outside(&self, method: &Method) -> Vec<bool> {
        let last = self.input as f32 - 1.0;
        let outside = |x: usize| {
            let at = self.coordinate(x, method.coordinates);
            method.coordinates == Coordinates::TfCropAndResize && !(at >= 0.0 && at <= last)
        };
        (0..self.output).map(outside).collect()
    }

    /// The nearest input pixel of each output.
    pub(super) fn nearest(&self, method: &Method, nearest: Nearest) -> Vec<usize> {
        let pixel = |x: usize| {
            let at = self.coordinate(x, method.coordinates);
            let rounded = match nearest {
                Nearest::RoundPreferFloor => (at - 0.5).ceil(),
                Nearest::RoundPreferCeil => (at + 0.5).floor(),
                Nearest::FloorOrCeil if self.scale < 1.0 => at.ceil(),
                Nearest::Floor | Nearest::FloorOrCeil => at.floor(),
                Nearest::Ceil => at.ceil(),
            };
            (rounded.max(0.0) as usize).min(self.input.saturating_sub(1))
        };
        (0..self.output).map(pixel).collect()
    }

    /// The pixels and weights of each output, in order.
    pub(super) fn taps(&self, method: &Method) -> Vec<Vec<(usize, f32)>> {
        (0..self.output).map(|x| self.taps_of(x, method)).collect()
    }

    fn taps_of(&self, x: usize, method: &Method) -> Vec<(usize, f32)> {
        let at = self.coordinate(x, method.coordinates);
        let shrink = if method.antialias {
            self.scale.min(1.0)
        } else {
            1.0
        };
        let support = if matches!(method.mode, Mode::Cubic(_)) {
            2.0
        } else {
            1.0
        };
        // The pixel on the left, even of a coordinate that is a pixel itself.
        let left = at.ceil() - 1.0;
        let first = (-support / shrink).floor() + 1.0;
        let count = (2.0 - 2.0 * first) as i64;
        let weight = |distance: f32| match method.mode {
            Mode::Cubic(a) => cubic(distance, a),
            _ => (1.0 - distance.abs()).max(0.0),
        };
        let last = self.input as f32 - 1.0;
        let mut taps: Vec<(usize, f32)> = (0..count)
            .map(|i| {
                let pixel = left + first + i as f32;
                let inside = (0.0..=last).contains(&pixel);
                let weight = if method.exclude_outside && !inside {
                    0.0
                } else {
                    weight((pixel - at) * shrink)
                };
                (pixel.clamp(0.0, last.max(0.0)) as usize, weight)
            })
            .collect();
        if method.antialias || method.exclude_outside {
            let sum = taps.iter().fold(0.0, |sum, (_, weight)| sum + weight);
            taps.iter_mut().for_each(|(_, weight)| *weight /= sum);
        }
        taps.retain(|(_, weight)| *weight != 0.0);
        taps
    }
}

/// The cubic convolution kernel.
pub(super) fn cubic(distance: f32, a: f32) -> f32 {
    let d = distance.abs();
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWICE: Axis = Axis {
        input: 2,
        output: 4,
        scale: 2.0,
        roi: (0.0, 1.0),
    };

    fn method(mode: Mode, coordinates: Coordinates) -> Method {
        Method {
            mode,
            coordinates,
            antialias: false,
            exclude_outside: false,
        }
    }

    #[test]
    fn linear_weights() {
        let taps = TWICE.taps(&method(Mode::Linear, Coordinates::HalfPixel));
        assert_eq!(taps[0], [(0, 0.25), (0, 0.75)]);
        assert_eq!(taps[1], [(0, 0.75), (1, 0.25)]);
    }

    #[test]
    fn nearest_pixels() {
        struct Case(Coordinates, Nearest, [usize; 4]);
        let cases = [
            Case(Coordinates::HalfPixel, Nearest::RoundPreferFloor, [0, 0, 1, 1]),
            Case(Coordinates::Asymmetric, Nearest::RoundPreferFloor, [0, 0, 1, 1]),
            Case(Coordinates::Asymmetric, Nearest::RoundPreferCeil, [0, 1, 1, 1]),
            Case(Coordinates::AlignCorners, Nearest::Ceil, [0, 1, 1, 1]),
        ];
        for Case(coordinates, nearest, expected) in cases {
            let got = TWICE.nearest(&method(Mode::Nearest(nearest), coordinates), nearest);
            assert_eq!(got, expected, "{coordinates:?} {nearest:?}");
        }
        let old = Method::new(&Node::default(), 10).unwrap();
        let shrunk = Axis {
            input: 4,
            output: 2,
            scale: 0.6,
            roi: (0.0, 1.0),
        };
        for (axis, expected) in [(TWICE, vec![0, 0, 1, 1]), (shrunk, vec![0, 2])] {
            assert_eq!(
                axis.nearest(&old, Nearest::FloorOrCeil),
                expected,
                "scale {}",
                axis.scale
            );
        }
    }

    #[test]
    fn cubic_weights_add_up() {
        let sum: f32 = [-1.25, -0.25, 0.75, 1.75].iter().map(|&d| cubic(d, -0.75)).sum();
        assert_eq!(sum.to_bits(), 1_f32.to_bits());
    }
}
