//! Floats of eight and four bits: the number that a code stands for, and the code of a number.

use crate::DType;

/// A floating-point format of at most eight bits with a sign: `(-1)^sign * mantissa * 2^(exponent - bias)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmallFloat {
    mantissa_bits: i32,
    bias: i32,
    sign: u8,
    /// The magnitude of the largest finite number.
    max: u8,
    /// The magnitude of infinity, if there is one.
    infinity: Option<u8>,
    nan: Nan,
}

/// How a format spells NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nan {
    /// Every magnitude above the finite ones and infinity; this one is written.
    Magnitude(u8),
    /// Only the code of -0, which does not exist.
    NegativeZero,
    /// There is none: NaN becomes -0.
    Absent,
}

const E4M3FN: SmallFloat = SmallFloat {
    mantissa_bits: 3,
    bias: 7,
    sign: 0x80,
    max: 0x7e,
    infinity: None,
    nan: Nan::Magnitude(0x7f),
};
const E4M3FNUZ: SmallFloat = SmallFloat {
    mantissa_bits: 3,
    bias: 8,
    sign: 0x80,
    max: 0x7f,
    infinity: None,
    nan: Nan::NegativeZero,
};
const E5M2: SmallFloat = SmallFloat {
    mantissa_bits: 2,
    bias: 15,
    sign: 0x80,
    max: 0x7b,
    infinity: Some(0x7c),
    nan: Nan::Magnitude(0x7e),
};
const E5M2FNUZ: SmallFloat = SmallFloat {
    mantissa_bits: 2,
    bias: 16,
    sign: 0x80,
    max: 0x7f,
    infinity: None,
    nan: Nan::NegativeZero,
};
const E2M1: SmallFloat = SmallFloat {
    mantissa_bits: 1,
    bias: 1,
    sign: 0x08,
    max: 0x07,
    infinity: None,
    nan: Nan::Absent,
};

impl SmallFloat {
    /// The format of a dtype, if it is one of these.
    pub fn of(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::Float8E4M3FN => E4M3FN,
            DType::Float8E4M3FNUZ => E4M3FNUZ,
            DType::Float8E5M2 => E5M2,
            DType::Float8E5M2FNUZ => E5M2FNUZ,
            DType::Float4E2M1 => E2M1,
            _ => return None,
        })
    }

    /// The number that a code stands for, exactly.
    pub fn decode(self, code: u8) -> f64 {
        let (negative, magnitude) = (code & self.sign != 0, code & (self.sign - 1));
        let is_nan = match self.nan {
            Nan::Magnitude(_) => magnitude > self.infinity.unwrap_or(self.max),
            Nan::NegativeZero => negative && magnitude == 0,
            Nan::Absent => false,
        };
        if is_nan {
            return f64::NAN;
        }
        let value = if self.infinity == Some(magnitude) {
            f64::INFINITY
        } else {
            self.magnitude(magnitude)
        };
        if negative { -value } else { value }
    }

    /// The number of a finite magnitude.
    fn magnitude(self, magnitude: u8) -> f64 {
        let (exponent, fraction) = (magnitude >> self.mantissa_bits, magnitude & self.fraction_mask());
        let hidden = if exponent == 0 {
            0
        } else {
            self.fraction_mask() + 1
        };
        let exponent = i32::from(exponent.max(1)) - self.bias - self.mantissa_bits;
        f64::from(hidden + fraction) * power_of_two(exponent)
    }

    fn fraction_mask(self) -> u8 {
        (1 << self.mantissa_bits) - 1
    }

    /// The code of the nearest number, ties to even. Beyond the largest number, infinity included, it is the largest
    /// number with `saturate`, else infinity, or NaN where the format has no infinity. Formats without NaN saturate.
    ///
    /// # Source
    /// ONNX Cast-19, the tables of float 8 types.
    pub fn encode(self, x: f64, saturate: bool) -> u8 {
        let sign = if x.is_sign_negative() { self.sign } else { 0 };
        if x.is_nan() {
            return match self.nan {
                Nan::Magnitude(magnitude) => sign | magnitude,
                Nan::NegativeZero | Nan::Absent => self.sign,
            };
        }
        let code = self.round(x.abs());
        let magnitude = match code {
            Some(magnitude) => magnitude,
            None if saturate || self.nan == Nan::Absent => self.max,
            None => match (self.infinity, self.nan) {
                (Some(infinity), _) | (None, Nan::Magnitude(infinity)) => infinity,
                (None, _) => return self.sign,
            },
        };
        if magnitude == 0 && self.nan == Nan::NegativeZero {
            return 0;
        }
        sign | magnitude
    }

    /// The magnitude nearest to `x >= 0`, ties to even; `None` beyond the largest.
    fn round(self, x: f64) -> Option<u8> {
        if x.is_infinite() {
            return None;
        }
        let smallest = 1 - self.bias;
        let exponent = exponent_of(x).max(smallest);
        // Between 2^exponent and the next power of two the numbers are multiples of one step.
        let steps = (x / power_of_two(exponent - self.mantissa_bits)).round_ties_even();
        let code = f64::from((exponent - smallest) << self.mantissa_bits) + steps;
        #[expect(clippy::as_conversions, reason = "a non-negative integer; `as` saturates")]
        let code = code as u32;
        u8::try_from(code).ok().filter(|&code| code <= self.max)
    }
}

/// How Cast rounds to float8e8m0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PowerRounding {
    /// To the next power of two that is not smaller.
    #[default]
    Up,
    /// To the next power of two that is not larger.
    Down,
    /// To the nearest power of two in value, halves up.
    Nearest,
}

/// The number of a float8e8m0 code: `2^(code - 127)`, NaN for 255.
pub(crate) fn decode_power(code: u8) -> f64 {
    if code == u8::MAX {
        return f64::NAN;
    }
    power_of_two(i32::from(code) - 127)
}

/// The float8e8m0 code of a number, taken through float32; the sign is dropped. With `saturate`, numbers beyond the
/// ends become the ends, else NaN. NaN stays NaN, and infinity becomes the largest number with `saturate`.
///
/// # Source
/// ONNX Cast-24.
pub(crate) fn encode_power(x: f32, rounding: PowerRounding, saturate: bool) -> u8 {
    const MAX: u8 = 254;
    let bits = x.to_bits() & 0x7fff_ffff;
    let (exponent, fraction) = (bits >> 23, bits & 0x007f_ffff);
    let exponent = u8::try_from(exponent).unwrap_or(u8::MAX);
    if x.is_nan() || (exponent == u8::MAX && !saturate) {
        return u8::MAX;
    }
    if bits == 0 {
        return if saturate { 0 } else { u8::MAX };
    }
    let up = match rounding {
        PowerRounding::Up => fraction > 0,
        PowerRounding::Down => false,
        PowerRounding::Nearest => fraction > 0x0040_0000 || (fraction == 0x0040_0000 && exponent > 0),
    };
    match exponent.saturating_add(u8::from(up)) {
        u8::MAX if saturate => MAX,
        code => code,
    }
}

/// The exponent of a finite `x >= 0`; that of subnormal numbers of f64 is below all others.
fn exponent_of(x: f64) -> i32 {
    let biased = i32::try_from(x.to_bits() >> 52).expect("invariant: the exponent has 11 bits");
    biased - 1023
}

/// `2^exponent` for exponents of normal f64 numbers.
fn power_of_two(exponent: i32) -> f64 {
    let biased =
        u64::try_from(exponent + 1023).expect("invariant: exponents of small floats are normal in f64");
    f64::from_bits(biased << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [DType; 5] = [
        DType::Float8E4M3FN,
        DType::Float8E4M3FNUZ,
        DType::Float8E5M2,
        DType::Float8E5M2FNUZ,
        DType::Float4E2M1,
    ];

    #[test]
    fn every_number_leads_back_to_its_code() {
        for dtype in ALL {
            let format = SmallFloat::of(dtype).unwrap();
            let last = u8::try_from((1_u32 << dtype.size_bits()) - 1).unwrap();
            for code in 0..=last {
                let x = format.decode(code);
                if !x.is_nan() {
                    assert_eq!(format.encode(x, false), code, "{dtype} {code:#x} {x}");
                }
            }
        }
        for code in 0..u8::MAX {
            #[expect(clippy::as_conversions, reason = "powers of two are exact in f32")]
            let x = decode_power(code) as f32;
            if code > 0 {
                assert_eq!(encode_power(x, PowerRounding::Nearest, true), code);
            }
        }
    }

    #[test]
    fn ends_of_the_formats() {
        // The largest and the smallest positive number.
        let ends = [
            (448.0, 2_f64.powi(-9)),
            (240.0, 2_f64.powi(-10)),
            (57_344.0, 2_f64.powi(-16)),
            (57_344.0, 2_f64.powi(-17)),
            (6.0, 0.5),
        ];
        for (dtype, (largest, smallest)) in ALL.into_iter().zip(ends) {
            let format = SmallFloat::of(dtype).unwrap();
            let saturated = |x| format.decode(format.encode(x, true));
            let got = [
                saturated(1e9),
                saturated(f64::NEG_INFINITY),
                format.decode(1),
                saturated(smallest / 2.0),
            ];
            let expected = [largest, -largest, smallest, 0.0];
            assert_eq!(got.map(f64::to_bits), expected.map(f64::to_bits), "{dtype}");
        }
    }

    #[test]
    fn codes_beyond_the_range_and_of_no_number() {
        // Codes of the package ml_dtypes 0.5 that ONNX's reference evaluator uses.
        let codes = |dtype, x| {
            ALL.contains(&dtype)
                .then(|| SmallFloat::of(dtype).unwrap().encode(x, false))
        };
        let cases = [
            (DType::Float8E4M3FN, 464.0, 0x7e),
            (DType::Float8E4M3FN, 465.0, 0x7f),
            (DType::Float8E4M3FN, f64::NEG_INFINITY, 0xff),
            (DType::Float8E4M3FNUZ, 1e6, 0x80),
            (DType::Float8E4M3FNUZ, -1e-7, 0),
            (DType::Float8E5M2, -1e6, 0xfc),
            (DType::Float8E5M2, f64::NAN, 0x7e),
            (DType::Float4E2M1, 9.0, 0x07),
            (DType::Float4E2M1, 0.25, 0),
            (DType::Float4E2M1, 0.75, 0x02),
        ];
        for (dtype, x, code) in cases {
            assert_eq!(codes(dtype, x), Some(code), "{dtype} {x}");
        }
    }

    #[test]
    fn powers_round_as_asked() {
        let cases = [
            (0.0, PowerRounding::Up, true, 0),
            (0.0, PowerRounding::Nearest, false, 255),
            (1.1, PowerRounding::Up, true, 128),
            (1.1, PowerRounding::Down, true, 127),
            (1.5, PowerRounding::Nearest, true, 128),
            (1.4, PowerRounding::Nearest, true, 127),
            (f32::MAX, PowerRounding::Up, true, 254),
            (f32::MAX, PowerRounding::Up, false, 255),
            (f32::INFINITY, PowerRounding::Up, true, 254),
            (f32::NAN, PowerRounding::Up, true, 255),
        ];
        for (x, rounding, saturate, code) in cases {
            assert_eq!(
                encode_power(x, rounding, saturate),
                code,
                "{x} {rounding:?} {saturate}"
            );
        }
    }
}
