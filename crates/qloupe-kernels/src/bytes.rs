//! 8-bit integers as the bytes that hold them.

use crate::{QuantizedSlice, QuantizedSliceMut};

impl<'a> QuantizedSlice<'a> {
    /// The elements by their bit patterns.
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Self::U8(x) => x,
            // SAFETY: u8 and i8 have one size and alignment, and every byte is a value of both.
            Self::I8(x) => unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len()) },
        }
    }

    /// What takes the order of the integers to the order of their bytes: the top bit of signed ones is flipped.
    pub(crate) fn flip(self) -> u8 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 0x80,
        }
    }
}

impl<'a> QuantizedSliceMut<'a> {
    /// The elements by their bit patterns.
    pub(crate) fn bytes_mut(self) -> &'a mut [u8] {
        match self {
            Self::U8(x) => x,
            // SAFETY: u8 and i8 have one size and alignment, and every byte is a value of both.
            Self::I8(x) => unsafe { std::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), x.len()) },
        }
    }
}
