//! From exact int32 accumulators to quantized outputs.

use qloupe_tensor::Requantize;

/// Quantized activations to read.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the variants are the dtypes")]
pub enum QuantizedSlice<'a> {
    U8(&'a [u8]),
    I8(&'a [i8]),
}

/// Quantized activations to write.
#[derive(Debug)]
#[expect(missing_docs, reason = "the variants are the dtypes")]
pub enum QuantizedSliceMut<'a> {
    U8(&'a mut [u8]),
    I8(&'a mut [i8]),
}

impl QuantizedSlice<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(x) => x.len(),
            Self::I8(x) => x.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn range(&self) -> (i32, i32) {
        match self {
            Self::U8(_) => (0, 255),
            Self::I8(_) => (-128, 127),
        }
    }

    /// `len` elements from `start` on.
    #[must_use]
    pub fn part(&self, start: usize, len: usize) -> Self {
        match self {
            Self::U8(x) => Self::U8(&x[start..][..len]),
            Self::I8(x) => Self::I8(&x[start..][..len]),
        }
    }

    pub(crate) fn at(&self, idx: usize) -> i32 {
        match self {
            Self::U8(x) => i32::from(x[idx]),
            Self::I8(x) => i32::from(x[idx]),
        }
    }
}

impl QuantizedSliceMut<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(x) => x.len(),
            Self::I8(x) => x.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements of a range.
    pub fn part(&mut self, range: std::ops::Range<usize>) -> QuantizedSliceMut<'_> {
        match self {
            Self::U8(x) => QuantizedSliceMut::U8(&mut x[range]),
            Self::I8(x) => QuantizedSliceMut::I8(&mut x[range]),
        }
    }

    /// Copies elements of the same dtype and number.
    pub fn copy_from(&mut self, from: QuantizedSlice<'_>) {
        match (self, from) {
            (Self::U8(to), QuantizedSlice::U8(from)) => to.copy_from_slice(from),
            (Self::I8(to), QuantizedSlice::I8(from)) => to.copy_from_slice(from),
            (to, from) => panic!("dtype of {from:?}, expected that of {to:?}"),
        }
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        match self {
            Self::U8(x) => x.as_mut_ptr(),
            Self::I8(x) => x.as_mut_ptr().cast(),
        }
    }

    fn range(&self) -> (i32, i32) {
        match self {
            Self::U8(_) => (0, 255),
            Self::I8(_) => (-128, 127),
        }
    }
}

/// How accumulators become quantized outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Epilogue {
    /// `input_scale * weight_scale / output_scale`: one, or one for each output channel.
    pub multiplier: Vec<f32>,
    /// The zero point of the output.
    pub zero_point: i32,
    /// The smallest output: of the dtype, or of a fused Relu or Clip.
    pub min: i32,
    /// The largest output.
    pub max: i32,
    /// The rounding policy of the target.
    pub policy: Requantize,
}

impl Epilogue {
    /// Checks the epilogue against `oc` channels and the dtype of `out`.
    pub(crate) fn check(&self, oc: usize, out: &QuantizedSliceMut<'_>) {
        let n = self.multiplier.len();
        assert!(
            n == 1 || n == oc,
            "number of multipliers, expected 1 or {oc}, got {n}"
        );
        let (low, high) = out.range();
        assert!(
            low <= self.min && self.min <= self.max && self.max <= high,
            "clip [{}, {}] is outside the output dtype",
            self.min,
            self.max
        );
    }

    /// For the float-scale policies, whether the zero point is added before rounding; `None` too for a zero point that
    /// no 8-bit output has.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn float_scale(&self) -> Option<bool> {
        if !(-128..=255).contains(&self.zero_point) {
            return None;
        }
        match self.policy {
            Requantize::FloatScaleZeroPointAfter => Some(false),
            Requantize::FloatScaleZeroPointBefore => Some(true),
            _ => None,
        }
    }

    /// Requantizes accumulators `[.., oc]` with `Requantize::apply`.
    pub fn apply(&self, acc: &[i32], oc: usize, out: &mut QuantizedSliceMut<'_>) {
        if oc == 0 {
            return;
        }
        let value = |channel: usize, acc: i32| {
            let multiplier = self.multiplier[if self.multiplier.len() == 1 { 0 } else { channel }];
            self.policy
                .apply(acc, multiplier, self.zero_point, (self.min, self.max))
        };
        match out {
            QuantizedSliceMut::U8(out) => {
                for (i, (q, &acc)) in out.iter_mut().zip(acc).enumerate() {
                    *q = value(i % oc, acc) as u8;
                }
            }
            QuantizedSliceMut::I8(out) => {
                for (i, (q, &acc)) in out.iter_mut().zip(acc).enumerate() {
                    *q = value(i % oc, acc) as i8;
                }
            }
        }
    }
}
