//! From a real range to scale and zero point, with every special case named.

use crate::rounding::clip_to_i32;
use crate::{Granularity, QuantParams, QuantScheme, TensorError};

/// The smallest scale that is used. Below it, `1/scale` and products of two scales leave the normal f32 range.
const MIN_SCALE: f32 = 1e-20;

/// A closed range of real values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The smallest value.
    pub min: f32,
    /// The largest value.
    pub max: f32,
}

/// What happened when a range became a scale; `Normal` where nothing special did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RangeOutcome {
    /// The range was used as it is (extended to contain 0).
    Normal,
    /// All values are 0 (a dead channel or tensor): scale 1.
    AllZero,
    /// The range is so small that its scale was raised to the smallest usable one.
    TinyScale,
}

impl RangeOutcome {
    /// The name that plans and reports print.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::AllZero => "all_zero",
            Self::TinyScale => "tiny_scale",
        }
    }
}

/// Scale and zero point of each range.
///
/// Asymmetric: `scale = (max - min) / (quant_max - quant_min)`, `zero_point = round(quant_min - min / scale)`.
/// Symmetric: `scale = max(|min|, |max|) / quant_max`, zero_point the middle (0 for signed types).
/// The range is extended to contain 0 first.
///
/// # Edge cases
/// `[0, 0]`: scale 1 and [`RangeOutcome::AllZero`]. A scale below 1e-20: raised, [`RangeOutcome::TinyScale`].
/// # Errors
/// A range that is not finite, or as [`QuantParams::new`].
/// # Source
/// Jacob et al. 2018, equation 1 and section 3; the same rule as the vendor's for RK3588.
/// # Example
/// ```
/// use qloupe_tensor::*;
/// let scheme = QuantScheme::asymmetric(DType::Int8);
/// let (params, _) = params_from_range(&[Range { min: 0.0, max: 255.0 }], &scheme).unwrap();
/// assert_eq!(params.as_per_tensor(), Some((1.0, -128)));
/// ```
#[expect(
    clippy::as_conversions,
    reason = "quantized integers of at most 16 bits are exact in f32"
)]
pub fn params_from_range(
    ranges: &[Range],
    scheme: &QuantScheme,
) -> Result<(QuantParams, Vec<RangeOutcome>), TensorError> {
    let (quant_min, quant_max) = scheme
        .quant_range()
        .ok_or(TensorError::NotQuantizable { dtype: scheme.dtype })?;
    let mut scales = Vec::with_capacity(ranges.len());
    let mut zero_points = Vec::with_capacity(ranges.len());
    let mut outcomes = Vec::with_capacity(ranges.len());
    for (idx, range) in ranges.iter().enumerate() {
        if !(range.min.is_finite() && range.max.is_finite()) {
            return Err(TensorError::Scale {
                idx,
                value: range.max - range.min,
            });
        }
        let (min, max) = (range.min.min(0.0), range.max.max(0.0));
        let middle = if quant_min < 0 {
            0
        } else {
            i32::midpoint(quant_min, quant_max) + 1
        };
        let raw = if scheme.symmetric {
            max.max(-min) / (quant_max - middle) as f32
        } else {
            // In f64: max - min may overflow f32 although both are finite.
            ((f64::from(max) - f64::from(min)) / f64::from(quant_max - quant_min)) as f32
        };
        let (scale, outcome) = if max == 0.0 && min == 0.0 {
            (1.0, RangeOutcome::AllZero)
        } else if raw < MIN_SCALE {
            (MIN_SCALE, RangeOutcome::TinyScale)
        } else {
            (raw, RangeOutcome::Normal)
        };
        let zero_point = if scheme.symmetric {
            middle
        } else {
            let exact = scheme.rounding.round(quant_min as f32 - min / scale);
            clip_to_i32(exact, quant_min as f32, quant_max as f32)
        };
        scales.push(scale);
        zero_points.push(zero_point);
        outcomes.push(outcome);
    }
    let granularity = if ranges.len() == 1 && matches!(scheme.granularity, Granularity::PerTensor) {
        Granularity::PerTensor
    } else {
        scheme.granularity
    };
    Ok((
        QuantParams::new(scheme.dtype, granularity, scales, zero_points)?,
        outcomes,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn ranges_become_scales_as_worked_by_hand() {
        struct Case {
            range: (f32, f32),
            symmetric: bool,
            expected: (f32, i32, RangeOutcome),
        }
        let cases = [
            Case {
                range: (-1.0, 1.55),
                symmetric: false,
                expected: (0.01, -28, RangeOutcome::Normal),
            },
            Case {
                range: (2.0, 255.0),
                symmetric: false,
                expected: (1.0, -128, RangeOutcome::Normal),
            },
            Case {
                range: (-255.0, -3.0),
                symmetric: false,
                expected: (1.0, 127, RangeOutcome::Normal),
            },
            Case {
                range: (-127.0, 3.0),
                symmetric: true,
                expected: (1.0, 0, RangeOutcome::Normal),
            },
            Case {
                range: (0.0, 0.0),
                symmetric: true,
                expected: (1.0, 0, RangeOutcome::AllZero),
            },
            Case {
                range: (0.0, 1e-30),
                symmetric: true,
                expected: (1e-20, 0, RangeOutcome::TinyScale),
            },
        ];
        for case in cases {
            let scheme = if case.symmetric {
                QuantScheme::symmetric(DType::Int8, Granularity::PerTensor)
            } else {
                QuantScheme::asymmetric(DType::Int8)
            };
            let range = Range {
                min: case.range.0,
                max: case.range.1,
            };
            let (params, outcomes) = params_from_range(&[range], &scheme).unwrap();
            let (scale, zero_point) = params.as_per_tensor().unwrap();
            assert_eq!((scale, zero_point, outcomes[0]), case.expected, "range {range:?}");
        }
    }

    #[test]
    fn an_infinite_range_is_an_error() {
        let range = Range {
            min: 0.0,
            max: f32::INFINITY,
        };
        let error = params_from_range(&[range], &QuantScheme::asymmetric(DType::UInt8)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "scale 0 is inf, expected a positive finite number"
        );
    }
}
