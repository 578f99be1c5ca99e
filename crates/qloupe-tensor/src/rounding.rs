//! The rounding modes of quantizers. Nobody else in the project rounds.

/// How a real number becomes an integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// To the nearest integer, ties to the even one (ONNX, IEEE 754 default).
    #[default]
    TiesEven,
    /// To the nearest integer, ties away from zero (C `round`).
    TiesAway,
}

impl Rounding {
    /// Rounds `x` to an integer, as a float. NaN stays NaN.
    ///
    /// # Example
    /// ```
    /// use qloupe_tensor::Rounding;
    /// assert_eq!(Rounding::TiesEven.round(2.5), 2.0);
    /// assert_eq!(Rounding::TiesAway.round(2.5), 3.0);
    /// ```
    #[inline]
    #[allow(clippy::disallowed_methods, reason = "this is the one place that rounds")]
    pub fn round(self, x: f32) -> f32 {
        match self {
            Self::TiesEven => x.round_ties_even(),
            Self::TiesAway => x.round(),
        }
    }
}

/// Clips a rounded float to `[min, max]` and converts it; NaN becomes `min`.
///
/// The bounds must be integers of at most 24 bits, or the ends of i32.
#[inline]
pub(crate) fn clip_to_i32(x: f32, min: f32, max: f32) -> i32 {
    #[expect(
        clippy::as_conversions,
        reason = "the value is an integer inside the bounds; `as` saturates at the ends of i32"
    )]
    let converted = x.max(min).min(max) as i32;
    converted
}
