//! Numbers as they are stored: real ones, or integers that stand for them.

use crate::buffer::as_unwritten;
use crate::quantize::dequantize_block;
use crate::{Isa, QuantizedSlice, isa};

/// A buffer of real numbers, in either form.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// Real numbers.
    Real(&'a [f32]),
    /// Integers that stand for `(q - zero_point) * scale`.
    Quantized {
        /// The integers.
        q: QuantizedSlice<'a>,
        /// The distance of two real numbers.
        scale: f32,
        /// The integer that stands for 0.
        zero_point: i32,
    },
}

impl Numbers<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Real(values) => values.len(),
            Self::Quantized { q, .. } => q.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the real numbers.
    pub fn to_real(&self, out: &mut [f32]) {
        self.to_real_with_isa(isa(), out);
    }

    /// [`Numbers::to_real`] here and now, for one instruction set.
    pub(crate) fn to_real_with_isa(self, isa: Isa, out: &mut [f32]) {
        assert_eq!(out.len(), self.len(), "length of the output");
        match self {
            Self::Real(values) => out.copy_from_slice(values),
            Self::Quantized { q, scale, zero_point } => match q {
                QuantizedSlice::U8(q) => dequantize_block(isa, q, scale, zero_point, as_unwritten(out)),
                QuantizedSlice::I8(q) => dequantize_block(isa, q, scale, zero_point, as_unwritten(out)),
            },
        }
    }

    /// `len` elements from `start` on.
    #[must_use]
    pub fn part(&self, start: usize, len: usize) -> Self {
        match *self {
            Self::Real(values) => Self::Real(&values[start..][..len]),
            Self::Quantized { q, scale, zero_point } => Self::Quantized {
                q: q.part(start, len),
                scale,
                zero_point,
            },
        }
    }
}
