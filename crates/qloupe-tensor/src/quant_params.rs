//! The result of quantization: checked scales and zero points.

use std::fmt;

use crate::{DType, TensorError};

/// Which elements share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// One scale for all elements.
    PerTensor,
    /// One scale for each index of `axis`: `[A, B]`, axis 0 has A scales.
    PerChannel {
        /// The axis, not negative.
        axis: usize,
    },
    /// One scale for each block of `block_size` elements along `axis`: `[A, B]`, axis 1 has A x B/block_size scales.
    PerBlock {
        /// The axis, not negative.
        axis: usize,
        /// Elements of a block.
        block_size: usize,
    },
}

impl Granularity {
    /// How many scales a tensor of `shape` has; `None` where the axis or the size of blocks does not fit.
    pub fn n_scales(self, shape: &[usize]) -> Option<usize> {
        match self {
            Self::PerTensor => Some(1),
            Self::PerChannel { axis } => shape.get(axis).copied(),
            Self::PerBlock { axis, block_size } => {
                let along = shape.get(axis)?.checked_add(block_size.checked_sub(1)?)? / block_size;
                let others = shape.iter().enumerate().filter(|(i, _)| *i != axis);
                others.map(|(_, &dim)| dim).try_fold(along, usize::checked_mul)
            }
        }
    }

    /// How many consecutive elements of a tensor of `shape` surely share a scale, from every multiple of that on.
    pub fn run_length(self, shape: &[usize]) -> usize {
        let run: usize = match self {
            Self::PerTensor => shape.iter().product(),
            Self::PerChannel { axis } => shape[axis + 1..].iter().product(),
            Self::PerBlock { .. } => 1,
        };
        run.max(1)
    }

    /// The index of the scale of element `element` (row-major) of a tensor of `shape`.
    pub fn idx_of(self, element: usize, shape: &[usize]) -> usize {
        match self {
            Self::PerTensor => 0,
            Self::PerChannel { axis } => {
                let inner: usize = shape[axis + 1..].iter().product();
                element / inner.max(1) % shape[axis]
            }
            Self::PerBlock { axis, block_size } => {
                let inner: usize = shape[axis + 1..].iter().product::<usize>().max(1);
                let along = element / inner % shape[axis];
                let outer = element / inner / shape[axis];
                (outer * shape[axis].div_ceil(block_size) + along / block_size) * inner + element % inner
            }
        }
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerTensor => f.write_str("per_tensor"),
            Self::PerChannel { axis } => write!(f, "per_channel(axis {axis})"),
            Self::PerBlock { axis, block_size } => {
                write!(f, "per_block(axis {axis}, block_size {block_size})")
            }
        }
    }
}

/// Scales and zero points of a quantized tensor: `real = (q - zero_point) * scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantParams {
    dtype: DType,
    granularity: Granularity,
    scale: Vec<f32>,
    zero_point: Vec<i32>,
}

impl QuantParams {
    /// Checked parameters.
    ///
    /// # Errors
    /// A scale that is not positive and finite, a zero point outside the dtype, different lengths, more than one scale
    /// for `PerTensor`, or a dtype that holds no integers.
    pub fn new(
        dtype: DType,
        granularity: Granularity,
        scale: Vec<f32>,
        zero_point: Vec<i32>,
    ) -> Result<Self, TensorError> {
        let (min, max) = dtype
            .integer_range()
            .ok_or(TensorError::NotQuantizable { dtype })?;
        let wrong_count = scale.len() != zero_point.len()
            || scale.is_empty()
            || (granularity == Granularity::PerTensor && scale.len() != 1);
        if wrong_count {
            return Err(TensorError::ParamsLength {
                n_scales: scale.len(),
                n_zero_points: zero_point.len(),
                granularity,
            });
        }
        if let Some((idx, &value)) = scale
            .iter()
            .enumerate()
            .find(|(_, s)| !(s.is_finite() && **s > 0.0))
        {
            return Err(TensorError::Scale { idx, value });
        }
        if let Some((idx, &value)) = zero_point
            .iter()
            .enumerate()
            .find(|(_, z)| i64::from(**z) < min || i64::from(**z) > max)
        {
            return Err(TensorError::ZeroPoint { idx, value, dtype });
        }
        Ok(Self {
            dtype,
            granularity,
            scale,
            zero_point,
        })
    }

    /// Checked parameters with one scale for the whole tensor.
    ///
    /// # Errors
    /// As [`QuantParams::new`].
    pub fn per_tensor(dtype: DType, scale: f32, zero_point: i32) -> Result<Self, TensorError> {
        Self::new(dtype, Granularity::PerTensor, vec![scale], vec![zero_point])
    }

    /// The integer type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Which elements share a scale.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// The scales.
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// The zero points, one for each scale.
    pub fn zero_point(&self) -> &[i32] {
        &self.zero_point
    }

    /// Scale and zero point, if there is one for the whole tensor.
    pub fn as_per_tensor(&self) -> Option<(f32, i32)> {
        (self.granularity == Granularity::PerTensor).then(|| (self.scale[0], self.zero_point[0]))
    }

    /// The smallest and the largest integer of the dtype.
    pub fn quant_range(&self) -> (i32, i32) {
        let (min, max) = self
            .dtype
            .integer_range()
            .expect("invariant: checked by the constructor");
        let narrow = |x: i64| i32::try_from(x).unwrap_or(if x < 0 { i32::MIN } else { i32::MAX });
        (narrow(min), narrow(max))
    }

    /// The smallest and the largest real value that parameter `idx` can represent.
    pub fn real_range(&self, idx: usize) -> (f64, f64) {
        let (min, max) = self.quant_range();
        let real = |q: i32| (f64::from(q) - f64::from(self.zero_point[idx])) * f64::from(self.scale[idx]);
        (real(min), real(max))
    }

    /// How elements of `shape` map to scales: runs of `stride` consecutive elements share one scale, and the scales
    /// repeat after `n` of them. Blocks are mapped element-wise by [`QuantParams::idx_of`].
    ///
    /// # Errors
    /// [`TensorError::ParamsShape`] when the parameters do not fit the shape.
    pub fn check_shape(&self, shape: &[usize]) -> Result<(), TensorError> {
        if self.granularity.n_scales(shape) == Some(self.scale.len()) {
            return Ok(());
        }
        Err(TensorError::ParamsShape {
            n_scales: self.scale.len(),
            granularity: self.granularity,
            shape: shape.to_vec(),
        })
    }

    /// The index of the scale of element `element` (row-major) of a tensor of `shape`.
    pub fn idx_of(&self, element: usize, shape: &[usize]) -> usize {
        self.granularity.idx_of(element, shape)
    }

    /// The parameters with every scale rounded to float16, the type in which a float16 model keeps them.
    ///
    /// # Edge cases
    /// A scale below the smallest number of float16 becomes that number, one beyond the largest becomes the largest.
    #[must_use]
    pub fn with_float16_scales(&self) -> Self {
        let smallest = half::f16::from_bits(1);
        let rounded = |&scale: &f32| {
            let half = half::f16::from_f32(scale);
            half.clamp(smallest, half::f16::MAX).to_f32()
        };
        Self {
            scale: self.scale.iter().map(rounded).collect(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_parameters_are_named() {
        let case = |scale: Vec<f32>, zero_point: Vec<i32>, dtype| {
            QuantParams::new(dtype, Granularity::PerTensor, scale, zero_point)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            case(vec![0.0], vec![0], DType::Int8),
            "scale 0 is 0, expected a positive finite number"
        );
        assert_eq!(
            case(vec![f32::NAN], vec![0], DType::Int8),
            "scale 0 is NaN, expected a positive finite number"
        );
        assert_eq!(
            case(vec![1.0], vec![128], DType::Int8),
            "zero_point 0 is 128, expected a value of int8"
        );
        assert_eq!(
            case(vec![1.0, 2.0], vec![0, 0], DType::Int8),
            "2 scales and 2 zero points do not fit per_tensor"
        );
        assert_eq!(
            case(vec![1.0], vec![0], DType::Float32),
            "float32 cannot hold quantized values, expected an integer type of at most 32 bits"
        );
    }

    #[test]
    fn blocks_and_channels_find_their_scale() {
        let channels = QuantParams::new(
            DType::Int8,
            Granularity::PerChannel { axis: 1 },
            vec![1.0; 3],
            vec![0; 3],
        )
        .unwrap();
        assert_eq!(
            (0..6).map(|i| channels.idx_of(i, &[2, 3])).collect::<Vec<_>>(),
            [0, 1, 2, 0, 1, 2]
        );
        let blocks = QuantParams::new(
            DType::Int8,
            Granularity::PerBlock {
                axis: 1,
                block_size: 2,
            },
            vec![1.0; 4],
            vec![0; 4],
        )
        .unwrap();
        assert!(blocks.check_shape(&[2, 3]).is_ok());
        assert_eq!(
            (0..6).map(|i| blocks.idx_of(i, &[2, 3])).collect::<Vec<_>>(),
            [0, 0, 1, 2, 2, 3]
        );
        assert_eq!(blocks.granularity().n_scales(&[2, 3]), Some(4));
        assert_eq!(blocks.granularity().n_scales(&[2]), None);
        let error = channels.check_shape(&[2, 4]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "per_channel(axis 1) with 3 scales does not fit shape [2, 4]"
        );
    }

    #[test]
    fn scales_are_rounded_to_float16_and_stay_positive() {
        let scale = vec![0.1, 1e-9, 1e6, 0.5];
        let params = QuantParams::new(
            DType::Int4,
            Granularity::PerChannel { axis: 0 },
            scale,
            vec![0; 4],
        );
        let rounded = params.unwrap().with_float16_scales();
        assert_eq!(rounded.scale(), [0.099_975_586, 5.960_464_5e-8, 65504.0, 0.5]);
    }
}
