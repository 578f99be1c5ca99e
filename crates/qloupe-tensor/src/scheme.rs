//! The intent of a quantizer: how a value shall be quantized, before its range is known.

use crate::{DType, Granularity, Rounding};

/// How a value shall be quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantScheme {
    /// The integer type.
    pub dtype: DType,
    /// True: zero_point is the middle of the integer range and the real range is symmetric around 0.
    pub symmetric: bool,
    /// One scale for the tensor, for each channel, or for each block.
    pub granularity: Granularity,
    /// The rounding of values.
    pub rounding: Rounding,
    /// True: the lowest integer is not used (`[-127, 127]`), as symmetric weights mostly are.
    pub narrow_range: bool,
}

impl QuantScheme {
    /// Asymmetric, per tensor, ties-even: the usual activation.
    pub fn asymmetric(dtype: DType) -> Self {
        Self {
            dtype,
            symmetric: false,
            granularity: Granularity::PerTensor,
            rounding: Rounding::TiesEven,
            narrow_range: false,
        }
    }

    /// Symmetric with narrow range, ties-even: the usual weight.
    pub fn symmetric(dtype: DType, granularity: Granularity) -> Self {
        Self {
            dtype,
            symmetric: true,
            granularity,
            rounding: Rounding::TiesEven,
            narrow_range: true,
        }
    }

    /// The smallest and the largest integer that the scheme uses; `None` for a dtype that cannot be quantized to.
    pub fn quant_range(&self) -> Option<(i32, i32)> {
        let (min, max) = self.dtype.integer_range()?;
        let min = if self.narrow_range && min < 0 {
            min + 1
        } else {
            min
        };
        Some((i32::try_from(min).ok()?, i32::try_from(max).ok()?))
    }
}
