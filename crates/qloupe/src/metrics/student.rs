//! How sure a mean over samples is.

/// The 97.5% quantile of the normal distribution: 95% lie between both tails.
const Z: f64 = 1.959_963_984_540_054_2;

/// The 97.5% quantiles of Student's t distribution with 1 to 30 degrees of freedom.
const QUANTILES: [f64; 30] = [
    12.706_204_736_174_694,
    4.302_652_729_749_462,
    3.182_446_305_283_708,
    2.776_445_105_197_793,
    2.570_581_835_636_315,
    2.446_911_851_144_979,
    2.364_624_251_592_784,
    2.306_004_135_204_166,
    2.262_157_162_798_205,
    2.228_138_851_986_274,
    2.200_985_160_091_64,
    2.178_812_829_667_229,
    2.160_368_656_462_791,
    2.144_786_687_917_804,
    2.131_449_545_559_776,
    2.119_905_299_221_255,
    2.109_815_577_833_316,
    2.100_922_040_241_038,
    2.093_024_054_408_308,
    2.085_963_447_265_864,
    2.079_613_844_727_68,
    2.073_873_067_904_025,
    2.068_657_610_419_049,
    2.063_898_561_628_024,
    2.059_538_552_753_297,
    2.055_529_438_642_873,
    2.051_830_516_480_285,
    2.048_407_141_795_245,
    2.045_229_642_132_703,
    2.042_272_456_301_238,
];

/// The 95% confidence interval of the mean of `n` samples, which have this standard deviation (divided by `n`).
///
/// `mean +- t(n - 1) std / sqrt(n - 1)`, with t the 97.5% quantile of Student's distribution.
///
/// # Edge cases
/// `None` for fewer than two samples: one tells nothing about the spread.
///
/// # Source
/// Student, 1908. Beyond 30 degrees of freedom the quantile is the expansion of Fisher and Cornish, 1960, to the fourth
/// order: right to 3e-8.
pub(super) fn mean_interval(mean: f64, std: f64, n: u64) -> Option<(f64, f64)> {
    if n < 2 {
        return None;
    }
    let freedom = (n - 1) as f64;
    let half = quantile(n - 1) * std / freedom.sqrt();
    Some((mean - half, mean + half))
}

fn quantile(freedom: u64) -> f64 {
    let listed = usize::try_from(freedom - 1)
        .ok()
        .and_then(|idx| QUANTILES.get(idx));
    if let Some(quantile) = listed {
        return *quantile;
    }
    let v = freedom as f64;
    // The coefficients of z, z^3, z^5, .. in each order of 1 / v.
    let odd = |coefficients: &[f64]| coefficients.iter().rev().fold(0.0, |sum, c| sum * Z * Z + c) * Z;
    Z + odd(&[1.0, 1.0]) / (4.0 * v)
        + odd(&[3.0, 16.0, 5.0]) / (96.0 * v.powi(2))
        + odd(&[-15.0, 17.0, 19.0, 3.0]) / (384.0 * v.powi(3))
        + odd(&[-945.0, -1920.0, 1482.0, 776.0, 79.0]) / (92_160.0 * v.powi(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of SciPy's `t.ppf(0.975, v)`.
    #[test]
    fn quantiles_are_students() {
        const TOLERANCE: f64 = 3e-8;
        let cases = [
            (1, 12.706_204_736_174_694),
            (30, 2.042_272_456_301_238),
            (31, 2.039_513_446_396_408),
            (60, 2.000_297_822_014_26),
            (1000, 1.962_339_080_826_408),
        ];
        for (freedom, expected) in cases {
            assert!(
                (quantile(freedom) - expected).abs() < TOLERANCE,
                "{freedom}: {}",
                quantile(freedom)
            );
        }
    }

    /// `t.interval(0.95, 3, loc=32, scale=std/2)` of SciPy for the samples 30, 31, 33, 34.
    #[test]
    fn the_interval_is_that_of_four_samples() {
        const TOLERANCE: f64 = 1e-9;
        let (low, high) = mean_interval(32.0, 2.5_f64.sqrt(), 4).unwrap();
        assert!((low - 29.094_837_284_245_234).abs() < TOLERANCE, "{low}");
        assert!((high - 34.905_162_715_754_75).abs() < TOLERANCE, "{high}");
        assert_eq!(mean_interval(32.0, 0.0, 1), None);
        assert_eq!(mean_interval(32.0, 0.0, 2), Some((32.0, 32.0)));
    }
}
