//! Arithmetic in the element type of a tensor: what `+`, `max` or a cast mean for each dtype.
//!
//! Every dtype casts, four types compute: f32, f64, i64 and u64. The other types are widened to one of them and narrowed
//! afterwards, so half types round once and integers wrap. Loops and shapes are in `elementwise` and `reduction`.

use half::{bf16, f16};
use qloupe_tensor::Element;

/// Any numeric element without loss: what a cast starts from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Exact {
    /// A floating-point value.
    Float(f64),
    /// A signed integer, or a bool as 0 or 1.
    Signed(i64),
    /// An unsigned integer.
    Unsigned(u64),
}

/// An element that casts from and to every other one.
pub(super) trait Castable: Element {
    /// The same number, without loss.
    fn widen(self) -> Exact;
    /// The nearest number of this type: floats round once, ties to even; floats to integers truncate and saturate;
    /// integers wrap; anything but 0 is `true`.
    fn narrow(exact: Exact) -> Self;
}

macro_rules! castable {
    ($($ty:ty: $variant:ident($wide:ty)),* $(,)?) => {$(
        impl Castable for $ty {
            #[inline(always)]
            fn widen(self) -> Exact {
                Exact::$variant(<$wide>::from(self))
            }
            #[inline(always)]
            fn narrow(exact: Exact) -> Self {
                match exact {
                    Exact::Float(v) => v as $ty,
                    Exact::Signed(v) => v as $ty,
                    Exact::Unsigned(v) => v as $ty,
                }
            }
        }
    )*};
}
castable! {
    f32: Float(f64), f64: Float(f64), i8: Signed(i64), i16: Signed(i64), i32: Signed(i64), i64: Signed(i64),
    u8: Unsigned(u64), u16: Unsigned(u64), u32: Unsigned(u64), u64: Unsigned(u64),
}

macro_rules! castable_half {
    ($($ty:ty),*) => {$(
        impl Castable for $ty {
            #[inline(always)]
            fn widen(self) -> Exact {
                Exact::Float(f64::from(self))
            }
            #[inline(always)]
            fn narrow(exact: Exact) -> Self {
                Self::from_f64(match exact {
                    Exact::Float(v) => v,
                    Exact::Signed(v) => v as f64,
                    Exact::Unsigned(v) => v as f64,
                })
            }
        }
    )*};
}
castable_half!(f16, bf16);

impl Castable for bool {
    #[inline(always)]
    fn widen(self) -> Exact {
        Exact::Signed(i64::from(self))
    }

    #[inline(always)]
    fn narrow(exact: Exact) -> Self {
        match exact {
            Exact::Float(v) => v != 0.0,
            Exact::Signed(v) => v != 0,
            Exact::Unsigned(v) => v != 0,
        }
    }
}

/// A type that computes.
pub(super) trait Number: Castable + PartialOrd {
    /// Zero.
    const ZERO: Self;
    /// `self + other`.
    fn plus(self, other: Self) -> Self;
    /// `self - other`.
    fn minus(self, other: Self) -> Self;
    /// `self * other`.
    fn times(self, other: Self) -> Self;
    /// `self / other`; integers truncate. The caller guarantees that an integer divisor is not 0.
    fn over(self, other: Self) -> Self;
    /// `self - other * trunc(self / other)`: the sign of `self`. The caller guarantees that an integer divisor is not 0.
    fn remainder(self, other: Self) -> Self;
    /// `-self`.
    fn negated(self) -> Self;
    /// `|self|`.
    fn magnitude(self) -> Self;
    /// -1, 0 or 1.
    fn sign(self) -> Self;
    /// True for NaN.
    fn is_not_a_number(self) -> bool;

    /// The larger one; NaN if one of them is.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self.is_not_a_number() || self > other {
            self
        } else {
            other
        }
    }

    /// The smaller one; NaN if one of them is.
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        if self.is_not_a_number() || self < other {
            self
        } else {
            other
        }
    }

    /// `self - other * floor(self / other)`: the sign of `other`, as `%` in Python.
    #[inline(always)]
    fn modulo(self, other: Self) -> Self {
        let rest = self.remainder(other);
        if rest != Self::ZERO && (rest < Self::ZERO) != (other < Self::ZERO) {
            rest.plus(other)
        } else {
            rest
        }
    }
}

macro_rules! float_number {
    ($($ty:ty: $zero:expr, $one:expr);* $(;)?) => {$(
        impl Number for $ty {
            const ZERO: Self = $zero;
            #[inline(always)]
            fn plus(self, other: Self) -> Self { self + other }
            #[inline(always)]
            fn minus(self, other: Self) -> Self { self - other }
            #[inline(always)]
            fn times(self, other: Self) -> Self { self * other }
            #[inline(always)]
            fn over(self, other: Self) -> Self { self / other }
            #[inline(always)]
            fn remainder(self, other: Self) -> Self { self % other }
            #[inline(always)]
            fn negated(self) -> Self { -self }
            #[inline(always)]
            fn magnitude(self) -> Self { if self.is_sign_negative() { -self } else { self } }
            #[inline(always)]
            fn sign(self) -> Self {
                if self > $zero { $one } else if self < $zero { -$one } else { self }
            }
            #[inline(always)]
            fn is_not_a_number(self) -> bool { self.is_nan() }
        }
    )*};
}
float_number! { f32: 0.0, 1.0; f64: 0.0, 1.0 }

macro_rules! integer_number {
    ($($ty:ty: $magnitude:ident, $sign:expr);* $(;)?) => {$(
        impl Number for $ty {
            const ZERO: Self = 0;
            #[inline(always)]
            fn plus(self, other: Self) -> Self { self.wrapping_add(other) }
            #[inline(always)]
            fn minus(self, other: Self) -> Self { self.wrapping_sub(other) }
            #[inline(always)]
            fn times(self, other: Self) -> Self { self.wrapping_mul(other) }
            #[inline(always)]
            fn over(self, other: Self) -> Self { self.wrapping_div(other) }
            #[inline(always)]
            fn remainder(self, other: Self) -> Self { self.wrapping_rem(other) }
            #[inline(always)]
            fn negated(self) -> Self { self.wrapping_neg() }
            #[inline(always)]
            fn magnitude(self) -> Self { self.$magnitude() }
            #[inline(always)]
            fn sign(self) -> Self { $sign(self) }
            #[inline(always)]
            fn is_not_a_number(self) -> bool { false }
        }
    )*};
}
integer_number! { i64: wrapping_abs, i64::signum; u64: into, |v: u64| v.min(1) }

/// Runs a block with `$T` as the Rust type of a dtype that casts: numbers and bool.
macro_rules! each_castable {
    ($dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        match $dtype {
            qloupe_tensor::DType::Float32 => {
                type $T = f32;
                $body
            }
            qloupe_tensor::DType::Float64 => {
                type $T = f64;
                $body
            }
            qloupe_tensor::DType::Float16 => {
                type $T = half::f16;
                $body
            }
            qloupe_tensor::DType::BFloat16 => {
                type $T = half::bf16;
                $body
            }
            qloupe_tensor::DType::UInt8 => {
                type $T = u8;
                $body
            }
            qloupe_tensor::DType::Int8 => {
                type $T = i8;
                $body
            }
            qloupe_tensor::DType::UInt16 => {
                type $T = u16;
                $body
            }
            qloupe_tensor::DType::Int16 => {
                type $T = i16;
                $body
            }
            qloupe_tensor::DType::UInt32 => {
                type $T = u32;
                $body
            }
            qloupe_tensor::DType::Int32 => {
                type $T = i32;
                $body
            }
            qloupe_tensor::DType::UInt64 => {
                type $T = u64;
                $body
            }
            qloupe_tensor::DType::Int64 => {
                type $T = i64;
                $body
            }
            qloupe_tensor::DType::Bool => {
                type $T = bool;
                $body
            }
            _ => $other,
        }
    };
}

/// Runs a block with `$T` as the Rust type of a dtype that computes: see [`super::cast::computing_dtype`].
macro_rules! each_number {
    ($dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        match $dtype {
            qloupe_tensor::DType::Float32 => {
                type $T = f32;
                $body
            }
            qloupe_tensor::DType::Float64 => {
                type $T = f64;
                $body
            }
            qloupe_tensor::DType::UInt64 => {
                type $T = u64;
                $body
            }
            qloupe_tensor::DType::Int64 => {
                type $T = i64;
                $body
            }
            _ => $other,
        }
    };
}

pub(super) use {each_castable, each_number};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modulo_takes_the_sign_of_the_divisor_and_remainder_of_the_dividend() {
        struct Case {
            a: i64,
            b: i64,
            modulo: i64,
            remainder: i64,
        }
        let case = |a: i64, b: i64, modulo: i64, remainder: i64| Case {
            a,
            b,
            modulo,
            remainder,
        };
        for c in [
            case(7, 3, 1, 1),
            case(-7, 3, 2, -1),
            case(7, -3, -2, 1),
            case(-7, -3, -1, -1),
            case(6, 3, 0, 0),
        ] {
            assert_eq!(c.a.modulo(c.b), c.modulo, "{} mod {}", c.a, c.b);
            assert_eq!(c.a.remainder(c.b), c.remainder, "{} rem {}", c.a, c.b);
        }
    }

    #[test]
    fn nan_wins_on_both_sides() {
        assert!(
            f32::NAN.larger(1.0).is_nan() && 1.0_f32.larger(f32::NAN).is_nan(),
            "larger"
        );
        assert!(
            f32::NAN.smaller(1.0).is_nan() && 1.0_f32.smaller(f32::NAN).is_nan(),
            "smaller"
        );
    }

    #[test]
    fn casts_round_once_truncate_saturate_or_wrap() {
        assert_eq!(i8::narrow(300.7_f32.widen()), 127);
        assert_eq!(i32::narrow((-2.9_f32).widen()), -2);
        assert_eq!(u8::narrow((-1_i32).widen()), 255);
        assert_eq!(
            f32::narrow(16_777_217_i64.widen()).to_bits(),
            16_777_216_f32.to_bits()
        );
        assert_eq!(f16::narrow(70_000_i32.widen()), f16::INFINITY);
        assert!(bool::narrow(0.1_f32.widen()), "0.1 is not 0");
    }
}
