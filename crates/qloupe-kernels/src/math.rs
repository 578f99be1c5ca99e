//! Transcendental functions built from fused multiply-adds and bit operations only, so that every instruction set
//! computes the same bits; written without branches, so that loops over them vectorize.

#![expect(
    clippy::float_cmp,
    reason = "exact comparisons with 0, 1 and infinity are meant"
)]

/// 1.5 * 2^23: adding it rounds a small float to an integer, ties to even, into the low mantissa bits.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has few bits, so that products with small integers are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

#[inline(always)]
fn select(condition: bool, yes: f32, no: f32) -> f32 {
    if condition { yes } else { no }
}

/// `2^n` for `-126 <= n <= 127`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// `a + b * x + ...`, highest coefficient first.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    let mut i = 1;
    while i < N {
        sum = sum.mul_add(x, coefficients[i]);
        i += 1;
    }
    sum
}

/// e^x within 1.1 ulp, subnormal results within one subnormal step; +inf above 88.73, 0 below -103.98.
///
/// # Source
/// Cephes `expf` (Moshier): Cody-Waite reduction and its polynomial.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = select(x > 89.0, 89.0, x);
    let x = select(x < -104.0, -104.0, x);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let whole = shifted - ROUND;
    let r = (-whole).mul_add(LN2_LOW, (-whole).mul_add(LN2_HIGH, x));
    let p = polynomial(
        r,
        [
            1.987_569_2e-4,
            1.398_2e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            5e-1,
        ],
    );
    let p = p.mul_add(r * r, r) + 1.0;
    // In two steps, so that 2^128 and subnormal results are reached.
    let half = n.wrapping_shr(1).clamp(-126, 127);
    let rest = n.wrapping_sub(half).clamp(-126, 127);
    p * power_of_two(half) * power_of_two(rest)
}

/// Natural logarithm within 1 ulp; -inf at 0, NaN below.
///
/// # Source
/// Cephes `logf` (Moshier).
#[inline(always)]
pub(crate) fn log(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let scaled = select(subnormal, x * 8_388_608.0, x);
    // The mantissa is taken in [sqrt(1/2), sqrt(2)).
    let bits = (scaled.to_bits() as i32).wrapping_sub(0x3f35_04f3);
    let exponent = (bits >> 23) - if subnormal { 23 } else { 0 };
    let mantissa = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3) as u32);
    let e = exponent as f32;
    let r = mantissa - 1.0;
    let z = r * r;
    let p = polynomial(
        r,
        [
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    );
    let tail = (-0.5_f32).mul_add(z, e.mul_add(LN2_LOW, r * z * p));
    let y = e.mul_add(LN2_HIGH, r + tail);
    let y = select(x == f32::INFINITY, f32::INFINITY, y);
    let y = select(x == 0.0, f32::NEG_INFINITY, y);
    select(x >= 0.0, y, f32::NAN)
}

/// `1 / (1 + e^-x)` within 2.5 ulp, without overflow on either side.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    select(x < 0.0, e, 1.0) / (1.0 + e)
}

/// Hyperbolic tangent within 2 ulp.
///
/// # Source
/// Cephes `tanhf` (Moshier).
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let t = x.abs();
    let z = x * x;
    let p = polynomial(
        z,
        [
            -5.704_988_7e-3,
            2.063_909e-2,
            -5.373_971_6e-2,
            1.333_144_2e-1,
            -3.333_328e-1,
        ],
    );
    let small = p.mul_add(z * x, x);
    let large = (1.0 - 2.0 / (exp(t + t) + 1.0)).copysign(x);
    select(t < 0.625, small, large)
}

/// Error function within 2 ulp.
///
/// # Source
/// N. Juffa, "Fast and accurate error function", two minimax polynomials split at 0.9277.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let t = x.abs();
    let s = x * x;
    let r = (-1.728_534_7e-5_f32).mul_add(t, 3.831_979_7e-4);
    let u = (-3.883_964_4e-3_f32).mul_add(t, 2.425_462_2e-2);
    let r = r.mul_add(s, u);
    let r = r.mul_add(t, -1.067_778_5e-1);
    let r = r.mul_add(t, -6.348_467e-1);
    let r = r.mul_add(t, -1.287_175_1e-1);
    let large = (1.0 - exp(r.mul_add(t, -t))).copysign(x);
    let small = polynomial(
        s,
        [
            -5.967_617e-4,
            4.991_194e-3,
            -2.676_813_5e-2,
            1.128_199_25e-1,
            -3.761_253_4e-1,
            1.283_791_7e-1,
        ],
    );
    let small = small.mul_add(x, x);
    let large = select(t > 4.0, 1.0_f32.copysign(x), large);
    select(t > 0.927_734_4, large, select(t.is_nan(), x, small))
}

/// `log(1 + e^x)` as `max(x, 0) + log(1 + e^-|x|)`.
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    let e = exp(-x.abs());
    // log1p by the correction term of the rounded sum.
    let sum = 1.0 + e;
    let log1p = select(sum == 1.0, e, log(sum) * (e / (sum - 1.0)));
    select(x > 0.0, x, select(x.is_nan(), x, 0.0)) + log1p
}

#[cfg(test)]
mod tests {
    use super::*;

    fn erf_f64(x: f64) -> f64 {
        // All terms are positive: 2/sqrt(pi) e^(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!.
        let mut term = x;
        let mut sum = x;
        for n in 1..200 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
    }

    /// The distance of `got` from `exact` in steps of the f32 nearest to `exact`.
    fn error_ulp(got: f32, exact: f64) -> f64 {
        if f64::from(got) == exact || (got.is_infinite() && exact.abs() > f64::from(f32::MAX)) {
            return 0.0;
        }
        let nearest = (exact as f32).abs().max(f32::MIN_POSITIVE);
        let step = f64::from(nearest.next_up()) - f64::from(nearest);
        (f64::from(got) - exact).abs() / step
    }

    struct Case {
        name: &'static str,
        fast: fn(f32) -> f32,
        exact: fn(f64) -> f64,
        from: f32,
        to: f32,
        max_error_ulp: f64,
    }

    #[test]
    fn errors_stay_within_the_stated_bounds() {
        let cases = [
            Case {
                name: "exp",
                fast: exp,
                exact: f64::exp,
                from: -103.9,
                to: 88.7,
                max_error_ulp: 1.1,
            },
            Case {
                name: "log",
                fast: log,
                exact: f64::ln,
                from: 1e-45,
                to: f32::MAX,
                max_error_ulp: 1.0,
            },
            Case {
                name: "log",
                fast: log,
                exact: f64::ln,
                from: 0.4,
                to: 2.5,
                max_error_ulp: 1.0,
            },
            Case {
                name: "sigmoid",
                fast: sigmoid,
                exact: |x| 1.0 / (1.0 + (-x).exp()),
                from: -87.0,
                to: 20.0,
                max_error_ulp: 2.5,
            },
            Case {
                name: "tanh",
                fast: tanh,
                exact: f64::tanh,
                from: -10.0,
                to: 10.0,
                max_error_ulp: 2.0,
            },
            Case {
                name: "erf",
                fast: erf,
                exact: erf_f64,
                from: -4.5,
                to: 4.5,
                max_error_ulp: 2.0,
            },
            Case {
                name: "softplus",
                fast: softplus,
                exact: |x| x.exp().ln_1p(),
                from: -80.0,
                to: 30.0,
                max_error_ulp: 3.0,
            },
        ];
        for case in cases {
            let n = 400_001;
            let mut worst = (0.0, 0.0);
            for i in 0..n {
                let t = i as f32 / (n - 1) as f32;
                let x = if case.to == f32::MAX {
                    f32::from_bits((t * 2_139_095_039.0) as u32)
                } else {
                    case.from + (case.to - case.from) * t
                };
                if x == 0.0 {
                    continue;
                }
                let error = error_ulp((case.fast)(x), (case.exact)(f64::from(x)));
                if error > worst.0 {
                    worst = (error, x);
                }
            }
            println!("{}: {:.3} ulp at {}", case.name, worst.0, worst.1);
            assert!(
                worst.0 <= case.max_error_ulp,
                "{}: {} ulp at {}",
                case.name,
                worst.0,
                worst.1
            );
        }
    }

    #[test]
    fn ends_and_nan() {
        assert_eq!((exp(-200.0), exp(200.0), exp(0.0)), (0.0, f32::INFINITY, 1.0));
        assert_eq!(
            (log(0.0), log(f32::INFINITY), log(1.0)),
            (f32::NEG_INFINITY, f32::INFINITY, 0.0)
        );
        assert_eq!(
            (sigmoid(-200.0), sigmoid(200.0), tanh(-50.0), erf(9.0)),
            (0.0, 1.0, -1.0, 1.0)
        );
        assert_eq!((softplus(200.0), softplus(-200.0)), (200.0, 0.0));
        for f in [exp, log, sigmoid, tanh, erf, softplus] {
            assert!(f(f32::NAN).is_nan(), "NaN must stay NaN");
        }
        assert!(log(-1.0).is_nan(), "the logarithm of a negative number");
    }
}
